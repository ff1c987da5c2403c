package main

import (
	"bufio"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/nbd"
)

// socketDir is a temporary folder with a short name: sockets' names are
// limited to about 100 bytes.
func socketDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "dmg")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return dir
}

// serve runs dmg nbd in this process, until the test ends. It returns the URI.
func serve(t *testing.T, args ...string) string {
	t.Helper()
	uri, said := serveVerbosely(t, args...)
	if said != "" {
		t.Errorf("said %q", said)
	}
	return uri
}

// serveVerbosely is serve that returns also what was said before the URI.
func serveVerbosely(t *testing.T, args ...string) (uri, said string) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	r, w := io.Pipe()
	done := make(chan int, 1)
	go func() {
		defer w.Close()
		done <- run(ctx, append([]string{"nbd"}, args...), strings.NewReader(""), io.Discard, w)
	}()
	t.Cleanup(func() {
		cancel()
		if status := <-done; status != statusOK {
			t.Errorf("status %d", status)
		}
	})
	announced := regexp.MustCompile(`^dmg: serving .* at (nbd\S*)\n$`)
	for lines := bufio.NewReader(r); ; {
		line, err := lines.ReadString('\n')
		if m := announced.FindStringSubmatch(line); m != nil {
			go io.Copy(io.Discard, r) // ends with the server
			return m[1], said
		}
		if said += line; err != nil {
			t.Fatalf("%q: %v", said, err)
		}
	}
}

// nbdcopy returns the SHA-256 of what the tool of that name reads.
func nbdcopy(t *testing.T, uri string) string {
	t.Helper()
	if _, err := exec.LookPath("nbdcopy"); err != nil {
		t.Skip(err)
	}
	h := sha256.New()
	cmd := exec.Command("nbdcopy", uri, "-")
	cmd.Stdout = h
	var errOut strings.Builder
	cmd.Stderr = &errOut
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s: %v: %s", uri, err, errOut.String())
	}
	return hex.EncodeToString(h.Sum(nil))
}

// TestServe reads served disks with the clients people use.
func TestServe(t *testing.T) {
	t.Parallel()
	info := imageInfoOf(t, images+"good-zlib.dmg")
	hfs := info.Partitions[2]
	disk := zlibDisk(t)
	part := sum(disk[hfs.Offset : hfs.Offset+hfs.Length])
	for _, tt := range []struct {
		args []string
		want string
	}{
		{[]string{images + "good-zlib.dmg", "--listen", "0"}, sum(disk)},
		{[]string{images + "good-mixed.dmg", "--listen", "localhost:0"}, sums(t)["good-mixed.dmg"]},
		{[]string{images + "good-gaps.dmg", "--socket", filepath.Join(socketDir(t), "a b&c")}, sums(t)["good-gaps.dmg"]},
		{[]string{images + "good-zlib.dmg", "--socket", filepath.Join(socketDir(t), "s"), "-p", "2"}, part},
		{[]string{images + "good-zlib.dmg", "--listen", "127.0.0.1:0", "-p", hfs.Name}, part},
	} {
		t.Run(strings.Join(tt.args[1:], " "), func(t *testing.T) {
			if got := nbdcopy(t, serve(t, tt.args...)); got != tt.want {
				t.Errorf("sum %s, want %s", got, tt.want)
			}
		})
	}
}

func TestServeRefuses(t *testing.T) {
	dir := socketDir(t)
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	used := filepath.Join(dir, "used")
	l, err := net.Listen("unix", used)
	if err != nil {
		t.Skip(err)
	}
	defer l.Close()
	for _, tt := range []struct{ args, errOut string }{
		{"--socket " + file, "dmg: .* exists and is no socket: give another name\n"},
		{"--socket " + used, "dmg: another server listens on .*\n"},
		{"--socket " + filepath.Join(dir, "none", "s"), "dmg: listen unix .*\n"},
		{"--listen 127.0.0.1:99999", "dmg: listen tcp: .*\n"},
		{"--listen a:b:c", "dmg: listen tcp: .*\n"},
		{"-p 9", "dmg: .* no partition 9: .*\n"},
	} {
		got := dmgRun(t, append([]string{"nbd", images + "good-zlib.dmg"}, strings.Fields(tt.args)...)...)
		if got.status == statusOK || !regexp.MustCompile("^"+tt.errOut+"$").MatchString(got.errOut) {
			t.Errorf("%s: %+v, want %q", tt.args, got, tt.errOut)
		}
	}
}

// TestStaleSocket has the socket of a server that was killed.
func TestStaleSocket(t *testing.T) {
	socket := filepath.Join(socketDir(t), "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket, Net: "unix"})
	if err != nil {
		t.Skip(err)
	}
	l.SetUnlinkOnClose(false)
	l.Close()
	if uri := serve(t, images+"good-zlib.dmg", "--socket", socket); !strings.HasSuffix(uri, socket) {
		t.Errorf("serves at %s", uri)
	}
}

func TestTCPAddr(t *testing.T) {
	for in, want := range map[string]string{
		"":                "127.0.0.1:10809",
		"10810":           "127.0.0.1:10810",
		":10810":          "127.0.0.1:10810",
		"localhost":       "localhost:10809",
		"0.0.0.0:1":       "0.0.0.0:1",
		"::1":             "[::1]:10809",
		"[::1]":           "[::1]:10809",
		"[::1]:7":         "[::1]:7",
		"[::]:7":          "[::]:7",
		"example.com:nbd": "example.com:nbd",
	} {
		if got := tcpAddr(in); got != want {
			t.Errorf("%q: %s, want %s", in, got, want)
		}
	}
}

func TestExportURI(t *testing.T) {
	tcp := func(s string) net.Addr {
		addr, err := net.ResolveTCPAddr("tcp", s)
		if err != nil {
			t.Fatal(err)
		}
		return addr
	}
	for _, tt := range []struct {
		addr net.Addr
		name string
		want string
	}{
		{tcp("127.0.0.1:10809"), "", "nbd://127.0.0.1:10809/"},
		{tcp("[::1]:7"), "", "nbd://[::1]:7/"},
		{tcp("127.0.0.1:7"), "disk image (Apple_HFS : 2)", "nbd://127.0.0.1:7/disk%20image%20%28Apple_HFS%20:%202%29"},
		{&net.UnixAddr{Name: "/tmp/a b&c?", Net: "unix"}, "x", "nbd+unix:///x?socket=/tmp/a%20b%26c%3F"},
	} {
		if got := exportURI(tt.addr, tt.name); got != tt.want {
			t.Errorf("%v %q: %s, want %s", tt.addr, tt.name, got, tt.want)
		}
	}
}

// TestExtents compares what is served as holes with the chunks.
func TestExtents(t *testing.T) {
	for _, name := range []string{"good-zlib.dmg", "good-gaps.dmg", "good-raw.dmg", "good-ignore.dmg"} {
		im, err := dmg.Open(images+name, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer im.Close()
		hole := make([]bool, im.Size()/sectorSize)
		for c := range im.Chunks() {
			for i := c.Offset; i < c.Offset+c.Length; i += sectorSize {
				hole[i/sectorSize] = isHole(c.Method)
			}
		}
		n := int64(len(hole))
		for _, r := range [][2]int64{{0, n}, {0, 1}, {n - 1, n}, {3, 70}, {64, n}, {n / 2, n/2 + 20}} {
			r := diskRange{r[0] * sectorSize, (r[1] - r[0]) * sectorSize}
			if err := checkExtents(newExtents(im.Chunks(), r), hole[r.off/sectorSize:r.end()/sectorSize]); err != nil {
				t.Errorf("%s, bytes %d to %d: %v", name, r.off, r.end(), err)
			}
		}
	}
}

// TestManyExtents: of an image with a hole at every other sector, there are as many runs as
// there is room for.
func TestManyExtents(t *testing.T) {
	const sectors = 3 * manyRuns
	chunks := func(yield func(dmg.Chunk) bool) {
		for i := range int64(sectors) {
			if !yield(dmg.Chunk{Method: dmg.Method(i % 2), Offset: i * sectorSize, Length: sectorSize}) {
				return
			}
		}
		yield(dmg.Chunk{Method: dmg.Zero, Offset: sectors * sectorSize, Length: shortHole})
	}
	x := newExtents(chunks, diskRange{0, sectors*sectorSize + shortHole})
	if n := len(x.ends); n > manyRuns+1 {
		t.Errorf("%d runs", n)
	}
	for _, tt := range []struct {
		off, end int64
		hole     bool
	}{
		{0, sectorSize, true}, {sectorSize, 2 * sectorSize, false}, // exact, at first
		{(sectors - 2) * sectorSize, sectors * sectorSize, false}, {sectors * sectorSize, sectors*sectorSize + shortHole, true},
	} {
		if end, hole := x.status(tt.off); end != tt.end || hole != tt.hole {
			t.Errorf("at %d: hole %v to %d, want %v to %d", tt.off, hole, end, tt.hole, tt.end)
		}
	}
}

// checkExtents asks at every sector's first and last byte.
func checkExtents(x *extents, hole []bool) error {
	for i := range hole {
		end := i + 1
		for end < len(hole) && hole[end] == hole[i] {
			end++
		}
		for _, off := range []int64{int64(i) * sectorSize, int64(i+1)*sectorSize - 1} {
			if gotEnd, got := x.status(off); got != hole[i] || gotEnd != int64(end)*sectorSize {
				return fmt.Errorf("at byte %d: hole %v to %d, want %v to %d", off, got, gotEnd, hole[i], end*sectorSize)
			}
		}
	}
	return nil
}

// TestServeHelp sees that the help's numbers are the server's.
func TestServeHelp(t *testing.T) {
	help := strings.Join(strings.Fields(nbdCmd{}.Help()), " ")
	for _, want := range []string{
		fmt.Sprintf("up to %d clients", nbd.DefaultMaxConns),
		fmt.Sprintf("for %g seconds", nbd.DefaultWriteTimeout.Seconds()),
	} {
		if !strings.Contains(help, want) {
			t.Errorf("help does not say %q", want)
		}
	}
}

// TestServeErrors sees which errors of the server a user is told.
func TestServeErrors(t *testing.T) {
	im, err := dmg.Open(images+"good-zlib.dmg", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	fault := fmt.Errorf("nbd: reading: %w", &nbd.PanicError{Value: "boom", Stack: []byte("goroutine 7")})
	for _, tt := range []struct {
		name          string
		err           error
		quiet, always string // without and with -v
	}{
		{"client", errors.New("nbd: client broke the protocol"), "", "dmg: nbd: client broke the protocol\n"},
		{"image", &dmg.ChunkError{Err: dmg.ErrFormat}, "dmg: .* not a valid disk image\n", "dmg: .* not a valid disk image\n"},
		{"fault", fault, "dmg: nbd: reading: .*: boom\ndmg: this is a fault .*\ngoroutine 7\n", "dmg: .*: boom\ndmg: .*\ngoroutine 7\n"},
	} {
		for _, verbose := range []bool{false, true} {
			want := tt.quiet
			if verbose {
				want = tt.always
			}
			var errOut strings.Builder
			c := &nbdCmd{}
			c.Verbose = verbose
			log := c.server(im, diskRange{0, im.Size()}, &stdio{err: &errOut}).ErrorLog
			log(tt.err)
			if got := errOut.String(); !regexp.MustCompile("^" + want + "$").MatchString(got) {
				t.Errorf("%s, verbose %v: %q, want %q", tt.name, verbose, got, want)
			}
			log(tt.err)
			if n := strings.Count(errOut.String(), "goroutine"); n > 1 {
				t.Errorf("%s: %d stacks", tt.name, n)
			}
		}
	}
}
