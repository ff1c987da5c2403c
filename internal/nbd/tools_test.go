package nbd

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// Tests with the clients people use. Each is skipped where its client is not installed.

// tool returns a client's path, or skips.
func tool(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err != nil {
		t.Skip(err)
	}
	return path
}

// run runs a client and returns what it printed.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	out, err := exec.Command(name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", filepath.Base(name), strings.Join(args, " "), err, out)
	}
	return string(out)
}

// uri names the server for every client.
func (r *running) uri() string {
	if r.addr.Network() == "unix" {
		return "nbd+unix:///?socket=" + r.addr.String()
	}
	return fmt.Sprintf("nbd://127.0.0.1:%d/", r.addr.(*net.TCPAddr).Port)
}

// mixedDisk has holes at its start, in its middle and at its end, and an end that is no multiple of a sector.
func mixedDisk() *disk {
	const size = 24<<20 + 777
	return newDisk(size,
		extent{off: 0, end: 1 << 20},
		extent{off: 5<<20 + 512, end: 12 << 20},
		extent{off: 13 << 20, end: 13<<20 + 4096},
		extent{off: 23 << 20, end: size})
}

// eachNetwork runs a test over a unix socket and over TCP.
func eachNetwork(t *testing.T, f func(t *testing.T, network string)) {
	for _, network := range []string{"unix", "tcp"} {
		t.Run(network, func(t *testing.T) { f(t, network) })
	}
}

// wantFile compares a copied file with the disk.
func wantFile(t *testing.T, path string, d *disk) {
	t.Helper()
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// qemu-img may round up to a sector.
	if len(got) > len(d.data) && len(bytes.Trim(got[len(d.data):], "\x00")) == 0 && len(got)-len(d.data) < 512 {
		got = got[:len(d.data)]
	}
	if sha256.Sum256(got) != sha256.Sum256(d.data) {
		t.Errorf("copy of %d bytes differs from the disk of %d", len(got), len(d.data))
	}
}

func TestNbdinfo(t *testing.T) {
	nbdinfo := tool(t, "nbdinfo")
	checkGoroutines(t)
	eachNetwork(t, func(t *testing.T, network string) {
		d := mixedDisk()
		r := serve(t, &Server{Export: d.export()}, network)
		out := run(t, nbdinfo, r.uri())
		for _, want := range []string{
			"newstyle-fixed", "structured packets", fmt.Sprintf("export-size: %d", len(d.data)),
			"is_read_only: true", "can_multi_conn: true", "can_df: true", "can_cache: true", "can_flush: false",
			"base:allocation", "block_size_minimum: 1", "block_size_preferred: 4096", "block_size_maximum: 33554432",
		} {
			if !strings.Contains(out, want) {
				t.Errorf("nbdinfo does not say %q:\n%s", want, out)
			}
		}
		if out := run(t, nbdinfo, "--list", r.uri()); !strings.Contains(out, `export="disk"`) ||
			!strings.Contains(out, "a test's disk") {
			t.Errorf("nbdinfo --list:\n%s", out)
		}
	})
}

func TestNbdinfoMap(t *testing.T) {
	nbdinfo := tool(t, "nbdinfo")
	eachNetwork(t, func(t *testing.T, network string) {
		d := mixedDisk()
		r := serve(t, &Server{Export: d.export()}, network)
		var got []extent
		line := regexp.MustCompile(`^\s*(\d+)\s+(\d+)\s+(\d)\s`)
		for _, l := range strings.Split(run(t, nbdinfo, "--map", r.uri()), "\n") {
			m := line.FindStringSubmatch(l)
			if m == nil {
				continue
			}
			var off, n int64
			fmt.Sscan(m[1], &off)
			fmt.Sscan(m[2], &n)
			got = append(got, extent{off, off + n, m[3] == "3"})
		}
		want := wholeMap(d)
		if fmt.Sprint(got) != fmt.Sprint(want) {
			t.Errorf("map %v, want %v", got, want)
		}
	})
}

// wholeMap is the disk's extents, made without the code under test.
func wholeMap(d *disk) []extent {
	var m []extent
	at := int64(0)
	for _, h := range d.holes {
		if h.off > at {
			m = append(m, extent{at, h.off, false})
		}
		m = append(m, h)
		at = h.end
	}
	if size := int64(len(d.data)); at < size {
		m = append(m, extent{at, size, false})
	}
	return m
}

func TestNbdcopy(t *testing.T) {
	dmgtest.NotEmulated(t)
	nbdcopy := tool(t, "nbdcopy")
	checkGoroutines(t)
	eachNetwork(t, func(t *testing.T, network string) {
		d := mixedDisk()
		r := serve(t, &Server{Export: d.export()}, network)
		for _, args := range [][]string{nil, {"--request-size=33554432"}, {"--connections=8"}, {"--synchronous"}} {
			out := filepath.Join(t.TempDir(), "copy")
			run(t, nbdcopy, append(args, r.uri(), out)...)
			wantFile(t, out, d)
		}
	})
}

func TestQemuImg(t *testing.T) {
	qemu := tool(t, "qemu-img")
	checkGoroutines(t)
	eachNetwork(t, func(t *testing.T, network string) {
		d := mixedDisk()
		r := serve(t, &Server{Export: d.export(), ErrorLog: func(err error) { t.Error(err) }}, network)
		out := filepath.Join(t.TempDir(), "copy")
		run(t, qemu, "convert", "-f", "raw", "-O", "raw", r.uri(), out)
		wantFile(t, out, d)
		if out := run(t, qemu, "map", "-f", "raw", "--output=json", r.uri()); strings.Count(out, `"zero": true`) < 4 {
			t.Errorf("qemu-img map shows no four holes:\n%s", out)
		}
		run(t, qemu, "bench", "-f", "raw", "-c", "2000", "-d", "64", "-s", "4096", "-S", "409600", r.uri())
	})
}
