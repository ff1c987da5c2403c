package dmgtest

import (
	"errors"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"
)

// EmulatorVar names the program that runs the tests of another machine, as
// "go test -exec" is told: tests that start themselves have to start it, too.
const EmulatorVar = "DMG_TEST_EMULATOR"

// Emulated reports whether the tests are known to run in an emulator, whose own
// memory and time are all that can be measured from outside.
func Emulated() bool { return os.Getenv(EmulatorVar) != "" }

// Self prepares a process that runs the test's own program. It skips the test
// where the system can't run it.
func Self(tb testing.TB, args ...string) *exec.Cmd {
	tb.Helper()
	exe, err := os.Executable()
	if err != nil {
		tb.Fatal(err)
	}
	if emulator := os.Getenv(EmulatorVar); emulator != "" {
		return exec.Command(emulator, append([]string{exe}, args...)...)
	}
	if runnable() == syscall.ENOEXEC {
		tb.Skipf("this system does not run %s: it is for another machine, and %s names no emulator", exe, EmulatorVar)
	}
	return exec.Command(exe, args...)
}

// runnable returns the error of starting the test's own program, which is to do
// nothing.
var runnable = sync.OnceValue(func() error {
	exe, err := os.Executable()
	if err != nil {
		return err
	}
	err = exec.Command(exe, "-test.list=^$").Run()
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
})
