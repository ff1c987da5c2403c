package main

import (
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// A part without a checksum is not called good, unlike those beside it.
func TestVerifyUnchecked(t *testing.T) {
	l, err := dmgtest.Build(dmgtest.Text(1, 256<<10).Bytes(), dmgtest.Options{
		Partitions: []dmgtest.Partition{{Name: "one", Sectors: 256}, {Name: "two", First: 256}},
		MasterSum:  dmgtest.NoSum,
	})
	if err != nil {
		t.Fatal(err)
	}
	l.Tables[1].Checksum = dmgtest.Checksum{}
	if err := l.Seal(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "image.dmg")
	if err := os.WriteFile(name, l.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	got := dmgRun(t, "verify", "-q", name)
	want := `part +result +name
data fork +good
0 +good +one
1 +no checksum stored +two
master +no checksum stored
no checksum is stored for 2 parts of 4: that data can be read there is all that is known
`
	if got.status != 0 || got.errOut != "" || !regexp.MustCompile(`^`+want+`$`).MatchString(got.out) {
		t.Errorf("status %d, %q, output:\n%s", got.status, got.errOut, got.out)
	}
}
