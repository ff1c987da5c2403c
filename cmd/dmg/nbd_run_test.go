package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// A command sees where the server is, and its status is the server's.
func TestServeRun(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the commands are for sh")
	}
	dir := socketDir(t)
	t.Setenv("TMPDIR", dir)
	socket := filepath.Join(dir, "s")
	for _, tt := range []struct {
		args        []string
		status      int
		out, errOut string
	}{
		{[]string{"--run", `echo "$uri" "$unixsocket" "$port" "$exportname"`}, 0, `nbd\+unix:///\?socket=(/\S+/dmg-nbd\d+/socket) (/\S+/dmg-nbd\d+/socket)  \n`, ""},
		{[]string{"--run", `echo "$uri" "$unixsocket" "$port" "$exportname"`, "--socket", socket, "-p", "2"}, 0, `nbd\+unix:///2\?socket=` + socket + ` ` + socket + `  2\n`, ""},
		{[]string{"--run", `echo "$uri" "$unixsocket" "$port"`, "--listen", "0"}, 0, `nbd://127.0.0.1:\d+/  \d+\n`, ""},
		{[]string{"--run", "test -S $unixsocket && cat"}, 0, "input", ""},
		{[]string{"--run", "echo out; echo err >&2; exit 7"}, 7, "out\n", "err\n"},
		{[]string{"--run", "exit 130"}, 130, "", ""},
		{[]string{"--run", "kill -TERM $$"}, 143, "", ""},
		{[]string{"--run", "/nowhere/nothing"}, 127, "", ".+\n"},
		{[]string{"--run", "true", "--listen", "a:b:c"}, statusIO, "", "dmg: listen tcp: .*\n"},
		{[]string{"--run="}, statusMisuse, "", "dmg: --run: the value is empty\n.*\n"},
		{[]string{"--run", "true", "--ready-fd", "99"}, statusIO, "", "dmg: write file descriptor 99: .*\n"},
	} {
		got := dmgRunWith(t, "input", append([]string{"nbd", images + "good-zlib.dmg"}, tt.args...)...)
		if got.status != tt.status || !regexp.MustCompile("^"+tt.out+"$").MatchString(got.out) || !regexp.MustCompile("^"+tt.errOut+"$").MatchString(got.errOut) {
			t.Errorf("%q: %+v, want %d, %q, %q", tt.args, got, tt.status, tt.out, tt.errOut)
		}
	}
	if left, _ := filepath.Glob(filepath.Join(dir, "dmg-nbd*")); len(left) > 0 {
		t.Errorf("left %q", left)
	}
}

// QEMU converts the disk, each time.
func TestServeQEMU(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("qemu-img"); err != nil {
		t.Skip(err)
	}
	if runtime.GOOS == "windows" {
		t.Skip("the command is for sh")
	}
	want := sums(t)["good-mixed.dmg"]
	times := 20
	if dmgtest.Part() {
		times = 3
	}
	for i := range times {
		out := filepath.Join(t.TempDir(), "disk.img")
		got := dmgRun(t, "nbd", images+"good-mixed.dmg", "--run", `qemu-img convert -f raw -O raw "$uri" '`+out+`'`)
		b, err := os.ReadFile(out)
		if got != (result{}) || err != nil || sum(b) != want {
			t.Errorf("try %d: %+v, %v, %d bytes", i, got, err, len(b))
		}
	}
}
