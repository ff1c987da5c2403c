package dmgtest

import (
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"testing"
)

// AllVar is the switch for tests that take long. Without it, most run a part that
// takes a fraction of a second: fewer rows, fewer rounds, smaller disks; some do not run.
// If it is "part", those run too. If it is "1", all run whole, also those that Native,
// NotRaced and NotEmulated leave out. If it is "long", tests of random damage and of
// hostile images go on for an hour.
const AllVar = "DMG_TEST_ALL"

// All reports whether tests are to run whole.
func All() bool { return os.Getenv(AllVar) != "" && os.Getenv(AllVar) != "part" }

// Part reports whether tests are to run a part of what they could: unless AllVar says
// otherwise, and where decoding is slow.
func Part() bool { return !All() || Slowed() }

// Times returns how often a random test tries: by the value of AllVar.
func Times(long, all, part int) int {
	switch {
	case os.Getenv(AllVar) == "long":
		return long
	case Part():
		return part
	}
	return all
}

// Long leaves a test that can't be made small to runs with AllVar.
func Long(tb testing.TB) {
	tb.Helper()
	if os.Getenv(AllVar) == "" {
		tb.Skipf("takes long: %s=1 runs it", AllVar)
	}
}

// LongOrRaced skips a test as Long does, but not where the race detector watches: what
// goroutines do to each other shows there.
func LongOrRaced(tb testing.TB) {
	tb.Helper()
	if !Raced() {
		Long(tb)
	}
}

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
	if Raced() && !All() {
		tb.Skip("one goroutine has nothing to race with")
	}
}

// NotEmulated skips the test in an emulator: it is for long tests of what depends
// on no order of bytes, or on one that other tests see.
func NotEmulated(tb testing.TB) {
	tb.Helper()
	if Emulated() && !All() {
		tb.Skip("not about the order of bytes")
	}
}
