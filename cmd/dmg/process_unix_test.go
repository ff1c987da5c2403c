//go:build unix

package main

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// Tests of the command as a process of its own: signals, pipes, statuses. The
// process is this test's program, which TestMain makes the command.

// command prepares a process that runs dmg.
func command(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	cmd := dmgtest.Self(t, args...)
	cmd.Env = slices.DeleteFunc(os.Environ(), func(s string) bool { return strings.HasPrefix(s, heapVar+"=") })
	cmd.Env = append(cmd.Env, asCommand+"=1")
	return cmd
}

// wantStatus waits for the process to end as expected.
func wantStatus(t *testing.T, cmd *exec.Cmd, want int) {
	t.Helper()
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	select {
	case err := <-done:
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
	case <-time.After(time.Minute):
		_ = cmd.Process.Kill()
		t.Fatalf("%v does not end", cmd.Args[1:])
	}
	if got := cmd.ProcessState.ExitCode(); got != want {
		t.Errorf("%v: %v, want status %d", cmd.Args[1:], cmd.ProcessState, want)
	}
}

// longImage is a small file with a disk of 4 GiB, without holes, which takes
// minutes to extract: 65536 chunks share one run of data. With the race detector
// an eighth of that is as long. It is bzip2, which
// decodes slowly, lest the tests fill the system's buffers.
func longImage(t *testing.T) string {
	t.Helper()
	const sectors = 128
	count := uint64(1 << 16)
	if dmgtest.Raced() {
		count /= 8
	}
	data := bytes.Repeat(dmgtest.Random(1, sectors*sectorSize/4).Bytes(), 4)
	l, err := dmgtest.Build(data, dmgtest.Options{Codecs: []dmgtest.Method{dmgtest.Bzip2}})
	if err != nil {
		t.Fatal(err)
	}
	table := &l.Tables[0]
	first, end := table.Chunks[0], table.Chunks[1]
	table.Chunks = table.Chunks[:0]
	for i := range count {
		first.Sector = i * sectors
		table.Chunks = append(table.Chunks, first)
	}
	end.Sector = count * sectors
	table.Chunks = append(table.Chunks, end)
	table.Sectors, table.Count = count*sectors, uint32(count)+1
	if err := l.Seal(); err != nil {
		t.Fatal(err)
	}
	l.Koly.Sectors = count * sectors
	name := filepath.Join(t.TempDir(), "long.dmg")
	if err := os.WriteFile(name, l.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// startCommand starts a process that goes on until it is stopped, and waits for
// the condition, which shows that it is at work.
func startCommand(t *testing.T, cmd *exec.Cmd, what string, condition func() bool) (errOut *bytes.Buffer) {
	t.Helper()
	errOut = new(bytes.Buffer)
	cmd.Stderr = errOut
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); !condition(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
			t.Fatalf("no %s after a minute: %v, standard error %q", what, cmd.ProcessState, errOut)
		}
	}
	return errOut
}

func TestExtractInterrupted(t *testing.T) {
	t.Parallel()
	dmgtest.NotEmulated(t)
	image := longImage(t)
	signals := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP}
	if dmgtest.Raced() {
		signals = signals[:1]
	}
	for _, sig := range signals {
		t.Run(sig.String(), func(t *testing.T) {
			if signal.Ignored(sig) { // as nohup has it, for programs that are started from here too
				t.Skip("this process, and so the command, ignores ", sig)
			}
			dir := t.TempDir()
			cmd := command(t, "extract", image, filepath.Join(dir, "disk.img"))
			errOut := startCommand(t, cmd, "data in a temporary file", func() bool {
				parts, _ := filepath.Glob(filepath.Join(dir, "disk.img.*.part"))
				if len(parts) == 0 {
					return false
				}
				f, err := os.Open(parts[0])
				if err != nil {
					return false
				}
				defer f.Close()
				b := make([]byte, 1)
				_, err = f.Read(b)
				return err == nil && b[0] != 0
			})
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			wantStatus(t, cmd, statusInterrupted)
			if d := time.Since(start); d > 5*time.Second { // not what is left to extract, which is minutes
				t.Errorf("took %v to end", d)
			}
			if errOut.String() != "dmg: interrupted\n" {
				t.Errorf("standard error %q", errOut.String())
			}
			wantEmptyDir(t, dir)
		})
	}
}

// TestClosedPipe has a reader that has seen enough.
func TestClosedPipe(t *testing.T) {
	t.Parallel()
	image := longImage(t)
	for _, args := range [][]string{
		{"extract", image, "-"},
		{"extract", "--keep-going", image, "-"},
		{"cat", image},
	} {
		cmd := command(t, args...)
		var errOut bytes.Buffer
		cmd.Stderr = &errOut
		out, err := cmd.StdoutPipe()
		if err == nil {
			err = cmd.Start()
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.CopyN(io.Discard, out, 1<<16); err != nil {
			t.Error(err)
		}
		out.Close()
		wantStatus(t, cmd, statusPipe)
		if errOut.Len() > 0 {
			t.Errorf("%v: %q", args, errOut.String())
		}
	}
}

func TestStatus(t *testing.T) {
	if dmgtest.Raced() {
		t.Skip("processes of one thread")
	}
	for _, tt := range []struct {
		args   []string
		status int
	}{
		{[]string{"--help"}, statusOK},
		{[]string{"--version"}, statusOK},
		{[]string{"info", images + "good-zlib.dmg"}, statusOK},
		{[]string{"info", images + "bad-plist-range.dmg"}, statusDamaged},
		{[]string{"info"}, statusMisuse},
		{nil, statusMisuse},
	} {
		cmd := command(t, tt.args...)
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		wantStatus(t, cmd, tt.status)
	}
}

// TestStopServer stops a server that has a client.
func TestStopServer(t *testing.T) {
	signals := []syscall.Signal{syscall.SIGINT, syscall.SIGTERM}
	if dmgtest.Raced() {
		signals = signals[:1]
	}
	for _, sig := range signals {
		t.Run(sig.String(), func(t *testing.T) {
			dir := socketDir(t)
			socket := filepath.Join(dir, "s")
			cmd := command(t, "nbd", "--socket", socket, images+"good-zlib.dmg")
			var conn net.Conn
			errOut := startCommand(t, cmd, "server", func() (ok bool) {
				var err error
				conn, err = net.Dial("unix", socket)
				return err == nil
			})
			defer conn.Close()
			if _, err := io.CopyN(io.Discard, conn, 18); err != nil { // the greeting
				t.Error(err)
			}
			if err := cmd.Process.Signal(sig); err != nil {
				t.Fatal(err)
			}
			wantStatus(t, cmd, statusOK)
			want := "dmg: serving " + images + "good-zlib.dmg at nbd+unix:///?socket=" + socket + "\n"
			if errOut.String() != want {
				t.Errorf("standard error %q, want %q", errOut.String(), want)
			}
			wantEmptyDir(t, dir)
		})
	}
}

// TestSparse looks at how much of a file is stored.
func TestSparse(t *testing.T) {
	t.Parallel()
	size := int64(64 << 20)
	if dmgtest.Raced() {
		size /= 4
	}
	disk := dmgtest.Join(dmgtest.Text(1, 1<<20), dmgtest.Zeros(size-2<<20), dmgtest.Text(2, 1<<20))
	image := dmgtest.File(t, disk, size, dmgtest.Options{ChunkSectors: dmgtest.DefaultChunk})
	out := filepath.Join(t.TempDir(), "disk.img")
	if got := dmgRun(t, "extract", image, out); got != (result{}) {
		t.Fatalf("%+v", got)
	}
	info, err := os.Stat(out)
	if err != nil {
		t.Fatal(err)
	}
	stored := info.Sys().(*syscall.Stat_t).Blocks * 512
	if info.Size() != size || stored > size/4 {
		t.Errorf("%d of %d bytes are stored", stored, info.Size())
	}
	b, err := os.ReadFile(out)
	if err != nil || !bytes.Equal(b, disk.Bytes()) {
		t.Errorf("the disk differs (%v)", err)
	}
}

// TestSpecialOutput has outputs that must not be replaced by a file.
func TestSpecialOutput(t *testing.T) {
	const image = images + "good-zlib.dmg"
	want := zlibDisk(t)
	dir := t.TempDir()
	t.Run("fifo", func(t *testing.T) {
		fifo := filepath.Join(dir, "fifo")
		if err := syscall.Mkfifo(fifo, 0o600); err != nil {
			t.Skip(err)
		}
		read := make(chan []byte, 1)
		go func() {
			b, _ := os.ReadFile(fifo)
			read <- b
		}()
		if got := dmgRun(t, "extract", "-f", image, fifo); got != (result{}) {
			t.Fatalf("%+v", got)
		}
		if b := <-read; !bytes.Equal(b, want) {
			t.Errorf("%d bytes, want %d", len(b), len(want))
		}
	})
	t.Run("link", func(t *testing.T) {
		file, link := filepath.Join(dir, "file"), filepath.Join(dir, "link")
		if err := errors.Join(os.WriteFile(file, nil, 0o600), os.Symlink("file", link)); err != nil {
			t.Fatal(err)
		}
		if got := dmgRun(t, "extract", "-f", image, link); got != (result{}) {
			t.Fatalf("%+v", got)
		}
		if to, err := os.Readlink(link); err != nil || to != "file" {
			t.Errorf("the link is to %q (%v)", to, err)
		}
		if b, err := os.ReadFile(file); err != nil || !bytes.Equal(b, want) {
			t.Errorf("%d bytes, want %d (%v)", len(b), len(want), err)
		}
	})
	t.Run("null", func(t *testing.T) {
		if got := dmgRun(t, "extract", "-f", image, os.DevNull); got != (result{}) {
			t.Fatalf("%+v", got)
		}
		if info, err := os.Stat(os.DevNull); err != nil || info.Mode()&os.ModeCharDevice == 0 {
			t.Errorf("%v (%v)", info.Mode(), err)
		}
	})
	t.Run("full", func(t *testing.T) {
		if _, err := os.Stat("/dev/full"); err != nil {
			t.Skip(err)
		}
		if got := dmgRun(t, "extract", "-f", image, "/dev/full"); got.status != statusIO || !strings.Contains(got.errOut, syscall.ENOSPC.Error()) {
			t.Errorf("%+v", got)
		}
	})
}

// TestUnreadPipe has a pipe as output that nobody opens, or nobody reads from.
// The first interrupt ends the program.
func TestUnreadPipe(t *testing.T) {
	dmgtest.NotEmulated(t)
	if signal.Ignored(syscall.SIGINT) {
		t.Skip("this process, and so the command, ignores interrupts")
	}
	image := longImage(t)
	for _, args := range [][]string{
		{"extract", "-f", image},
		{"extract", "-f", "--keep-going", image},
		{"extract", "-f", "-p", "0", image},
		{"map", "-f", image, "-o"},
	} {
		for _, opened := range []bool{false, true} {
			if opened && args[0] == "map" {
				continue // the picture fits in a pipe
			}
			t.Run(fmt.Sprintf("%q, opened %v", args[:len(args)-1], opened), func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				fifo := filepath.Join(dir, "fifo")
				if err := syscall.Mkfifo(fifo, 0o600); err != nil {
					t.Skip(err)
				}
				if opened {
					f, err := os.OpenFile(fifo, os.O_RDWR, 0) // a reader, which waits for no writer
					if err != nil {
						t.Fatal(err)
					}
					defer f.Close()
				}
				cmd := command(t, append(slices.Clone(args), fifo)...)
				start := time.Now()
				errOut := startCommand(t, cmd, "time", func() bool { return time.Since(start) > time.Second })
				if err := cmd.Process.Signal(os.Interrupt); err != nil {
					t.Fatal(err)
				}
				start = time.Now()
				wantStatus(t, cmd, statusInterrupted)
				if d := time.Since(start); d > 5*time.Second {
					t.Errorf("took %v to end", d)
				}
				if errOut.String() != "dmg: interrupted\n" {
					t.Errorf("standard error %q", errOut.String())
				}
				wantFiles(t, dir, "fifo")
			})
		}
	}
}

// TestSpecialInput has images that can't be read at any offset.
func TestSpecialInput(t *testing.T) {
	dir := socketDir(t)
	fifo, socket := filepath.Join(dir, "fifo"), filepath.Join(dir, "s")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Skip(err)
	}
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for name, what := range map[string]string{fifo: "a pipe", socket: "a socket", os.DevNull: "a character device"} {
		for _, args := range [][]string{
			{"info", name}, {"cat", name}, {"verify", name}, {"map", name}, {"index", name, "-o", "-"},
			{"extract", name, "-"}, {"extract", name, filepath.Join(dir, "x")}, {"nbd", name, "--socket", filepath.Join(dir, "n")},
		} {
			want := "dmg: " + name + " is " + what + ", not a regular file: an image must be in a file that can be read at any offset\n"
			if got := dmgRun(t, args...); got.status != statusUnsupported || got.errOut != want || got.out != "" {
				t.Errorf("%q: %+v, want %q", args, got, want)
			}
		}
	}
}

// TestVolumePassword types a password for a volume at the prompt.
func TestVolumePassword(t *testing.T) {
	script, err := exec.LookPath("script")
	if err != nil {
		t.Skip(err)
	}
	if about, _ := exec.Command(script, "--version").Output(); !strings.Contains(string(about), "util-linux") {
		t.Skip("a script that takes other arguments")
	}
	image := filepath.Join(t.TempDir(), "locked.img")
	if err := os.WriteFile(image, unpacked(t, "apfs-encrypted.img.gz"), 0o600); err != nil {
		t.Fatal(err)
	}
	for typed, want := range map[string]int{"wrong\nhunter2hunter2\n": statusOK, "1\n2\n3\n": statusPassword} {
		inner := command(t, "cat", image, "secret.txt")
		cmd := exec.Command(script, "-qec", "'"+strings.Join(inner.Args, "' '")+"'", "/dev/null")
		cmd.Env, cmd.Stdin = append(inner.Env, passwordVar+"="), strings.NewReader(typed)
		var out bytes.Buffer
		cmd.Stdout = &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		wantStatus(t, cmd, want)
		text := out.String()
		if !strings.Contains(text, `Password for APFS "Enc" in `+image+": ") || !strings.Contains(text, `Wrong password for APFS "Enc".`) {
			t.Errorf("%q", text)
		}
		end := "secret content for the encrypted volume"
		if want != statusOK {
			end = `locked.img: wrong password for APFS "Enc"`
		}
		if !strings.HasSuffix(strings.TrimSpace(text), end) {
			t.Errorf("%q, want %q at the end", text, end)
		}
	}
}

// TestNoRoom has a file system, or a limit, that the disk doesn't fit in.
func TestNoRoom(t *testing.T) {
	t.Parallel()
	image := longImage(t)
	var old syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_FSIZE, &old); err != nil {
		t.Skip(err)
	}
	if old.Cur < math.MaxInt64 {
		t.Skip("there is a limit already")
	}
	dir := t.TempDir()
	self := command(t, "extract", image, filepath.Join(dir, "disk.img"))
	cmd := exec.Command("sh", append([]string{"-c", `ulimit -f 2048 && exec "$0" "$@"`}, self.Args...)...)
	cmd.Env = self.Env
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, cmd, statusIO)
	if !strings.Contains(errOut.String(), syscall.EFBIG.Error()) {
		t.Errorf("standard error %q", errOut.String())
	}
	wantEmptyDir(t, dir)
}

// An interrupt ends requests, too.
func TestURLInterrupted(t *testing.T) {
	t.Parallel()
	dmgtest.NotEmulated(t)
	image := dmgtest.Image(t, dmgtest.Random(1, 1<<20).Bytes(), dmgtest.Options{ChunkSectors: 128})
	asked := make(chan bool, 100)
	s := newSite(t, map[string][]byte{"/a.dmg": image})
	hanging := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) {
		if strings.HasPrefix(req.Header.Get("Range"), "bytes=0-") || strings.Contains(req.Header.Get("Range"), fmt.Sprint(len(image)-1)) {
			s.serve(w, req) // so that the image opens
			return
		}
		asked <- true
		<-req.Context().Done()
	}))
	defer hanging.Close()
	dir := t.TempDir()
	cmd := command(t, "extract", hanging.URL+"/a.dmg", filepath.Join(dir, "disk.img"))
	errOut := startCommand(t, cmd, "request", func() bool { return len(asked) > 0 })
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	wantStatus(t, cmd, statusInterrupted)
	if d := time.Since(start); d > 10*time.Second || errOut.String() != "dmg: interrupted\n" {
		t.Errorf("after %v: %q", d, errOut)
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left %v", left)
	}
}

// Who has started the server learns when it can be used.
func TestServeReady(t *testing.T) {
	t.Parallel()
	dmgtest.NotEmulated(t)
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	cmd := command(t, "nbd", images+"good-zlib.dmg", "--listen", "0", "--ready-fd", "3")
	cmd.ExtraFiles = []*os.File{w}
	errOut := new(bytes.Buffer)
	cmd.Stderr = errOut
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	line, err := io.ReadAll(r) // to the end: it is closed
	uri, ok := strings.CutSuffix(string(line), "\n")
	if err != nil || !ok || !strings.HasPrefix(uri, "nbd://127.0.0.1:") {
		t.Errorf("%q, %v", line, err)
	}
	conn, err := net.Dial("tcp", strings.Trim(uri[len("nbd://"):], "/"))
	if err != nil {
		t.Error(err)
	} else {
		conn.Close()
	}
	_ = cmd.Process.Signal(syscall.SIGTERM)
	wantStatus(t, cmd, statusOK)
	if want := "dmg: serving " + images + "good-zlib.dmg at " + uri + "\n"; errOut.String() != want {
		t.Errorf("said %q, want %q", errOut, want)
	}
}

// An interrupt ends the command that the server runs, too.
func TestServeRunInterrupted(t *testing.T) {
	t.Parallel()
	dmgtest.NotEmulated(t)
	started := filepath.Join(t.TempDir(), "started")
	cmd := command(t, "nbd", images+"good-zlib.dmg", "--run", "trap 'exit 3' TERM; echo $$ >"+started+"; while :; do sleep 0.05; done")
	startCommand(t, cmd, "command", func() bool {
		b, _ := os.ReadFile(started)
		return len(b) > 0
	})
	if err := cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	wantStatus(t, cmd, statusInterrupted)
	b, _ := os.ReadFile(started)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b)))
	if err != nil || syscall.Kill(pid, 0) == nil {
		t.Errorf("the command %q (%v) goes on", b, err)
	}
}

// A proxy of the environment is asked.
func TestURLProxy(t *testing.T) {
	t.Parallel()
	s := newSite(t, map[string][]byte{"/a.dmg": read(t, "good-zlib.dmg")})
	cmd := command(t, "info", "http://nowhere.invalid/a.dmg")
	cmd.Env = append(cmd.Env, "http_proxy="+s.URL)
	out, err := cmd.CombinedOutput()
	if requests, _ := s.cost(); err != nil || len(requests) == 0 || !strings.HasPrefix(string(out), "http://nowhere.invalid/a.dmg: UDZO") {
		t.Errorf("%v, %q, %d requests", err, out, len(requests))
	}
}
