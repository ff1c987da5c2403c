package main

import (
	"bytes"
	"os"
	"strings"
	"testing"
)

const samples = "../../../shared/samples/"

func TestVersions(t *testing.T) {
	for _, tt := range []struct{ image, want string }{
		{"fs/hfsplus-app.dmg", "\"org.sparkle-project.SparkleTestApp\" \"1.5\"\n"},
		{"fs/apfs-app.dmg", "\"org.sparkle-project.SparkleTestApp\" \"1.5\"\n"},
		{"fs/hfsplus-basic.dmg", ""}, // no application
	} {
		if _, err := os.Stat(samples + tt.image); err != nil {
			t.Skip("no samples")
		}
		var out bytes.Buffer
		if err := run(samples+tt.image, &out); err != nil || out.String() != tt.want {
			t.Errorf("%s: %q, %v, want %q", tt.image, out.String(), err, tt.want)
		}
	}
}

func TestErrors(t *testing.T) {
	for image, want := range map[string]string{
		"../../testdata/good-zlib.dmg": "no file system was found",
		"../../testdata/none.dmg":      "none.dmg",
		"main.go":                      "not", // an image
	} {
		var out bytes.Buffer
		if err := run(image, &out); err == nil || !strings.Contains(err.Error(), want) || out.Len() > 0 {
			t.Errorf("%s: %v, %q", image, err, out.String())
		}
	}
}
