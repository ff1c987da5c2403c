package dmgtest

import (
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
)

// AllVar has every test run under the race detector and in an emulator, those too
// that Native, NotRaced and NotEmulated leave out.
const AllVar = "DMG_TEST_ALL"

// Raced reports whether the race detector is built in.
var Raced = sync.OnceValue(func() bool {
	info, _ := debug.ReadBuildInfo()
	return info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
})

// Slowed reports whether decoding takes ten times as long as usual, or more: under
// the race detector, and in an emulator.
func Slowed() bool { return Raced() || Emulated() }

// Native leaves the test to the machine itself.
func Native(tb testing.TB) {
	tb.Helper()
	NotRaced(tb)
	NotEmulated(tb)
}

// NotRaced skips the test under the race detector: it is for long tests in which
// one goroutine reads, so that there is nothing to race with.
func NotRaced(tb testing.TB) {
	tb.Helper()
	if Raced() && os.Getenv(AllVar) == "" {
		tb.Skip("one goroutine has nothing to race with")
	}
}

// NotEmulated skips the test in an emulator: it is for long tests of what depends
// on no order of bytes, or on one that other tests see.
func NotEmulated(tb testing.TB) {
	tb.Helper()
	if Emulated() && os.Getenv(AllVar) == "" {
		tb.Skip("not about the order of bytes")
	}
}
