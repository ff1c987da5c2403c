package main

import (
	"bytes"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

func TestRun(t *testing.T) {
	disk := dmgtest.Mixed(1, mib).Bytes()
	file := dmgtest.Image(t, disk, dmgtest.Options{Partitions: []dmgtest.Partition{{Name: "all of it"}}})
	url := serve(t, file).URL

	saved, err := os.Create(filepath.Join(t.TempDir(), "index"))
	if err != nil {
		t.Fatal(err)
	}
	defer saved.Close()
	if _, err := buildIndex(t, file, dmg.Options{}).WriteTo(saved); err != nil {
		t.Fatal(err)
	}

	info := "UDZO, a disk of 1048576 bytes\n           0      1048576  all of it\n"
	tests := []struct {
		name string
		args []string
		want string
		ok   bool
	}{
		{"info", []string{url}, info, true},
		{"range", []string{"-offset", "700000", "-length", "5000", url}, string(disk[700_000:705_000]), true},
		{"to the end", []string{"-offset", "1048000", "-length", "5000", url}, string(disk[1_048_000:]), true},
		{"index", []string{"-index", saved.Name(), "-offset", "700000", "-length", "5000", url}, string(disk[700_000:705_000]), true},
		{"no index there", []string{"-index", saved.Name() + "x", url}, info, true},
		{"bad index", []string{"-index", "main.go", url}, "", false},
		{"bad offset", []string{"-offset", "-1", "-length", "1", url}, "", false},
		{"bad length", []string{"-length", "-1", url}, "", false},
		{"no server", []string{"http://127.0.0.1:1"}, "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out bytes.Buffer
			if err := run(tt.args, &out); (err == nil) != tt.ok || out.String() != tt.want {
				t.Errorf("run(%q): %v, wrote %d bytes, want %d", tt.args, err, out.Len(), len(tt.want))
			}
		})
	}
}

// TestHostileText has a name in an image, and words of a server, that command a
// terminal.
func TestHostileText(t *testing.T) {
	const hostile = "c1\u009b31m del\x7f rtl\u202e zero\u200b line\u2028"
	const shown = "c1\ufffd31m del\ufffd rtl\ufffd zero\ufffd line\ufffd"
	file := dmgtest.Image(t, dmgtest.Text(1, 512).Bytes(), dmgtest.Options{Partitions: []dmgtest.Partition{{Name: hostile}}})
	var out bytes.Buffer
	if err := run([]string{serve(t, file).URL}, &out); err != nil {
		t.Fatal(err)
	}
	if want := "UDZO, a disk of 512 bytes\n           0          512  " + shown + "\n"; out.String() != want {
		t.Errorf("printed %+q, want %+q", out.String(), want)
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		conn, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			t.Error(err)
			return
		}
		defer conn.Close()
		fmt.Fprintf(conn, "HTTP/1.1 404 %s\r\nContent-Length: 0\r\n\r\n", hostile)
	}))
	defer server.Close()
	err := run([]string{server.URL}, &out)
	if err == nil || !strings.HasSuffix(printable(err.Error()), ": 404 "+shown) {
		t.Errorf("error %+q", err)
	}
}
