package dmgtest

import "testing"

// CheckProgress returns a progress function, and one that checks in the end that the
// first was called with numbers that grew, up to their total of at least so many.
func CheckProgress(tb testing.TB, least int64) (progress func(done, total int64), end func()) {
	var done, total int64
	progress = func(d, n int64) {
		if d < done || d > n || total != 0 && n != total {
			tb.Errorf("progress goes from %d to %d of %d", done, d, n)
		}
		done, total = d, n
	}
	return progress, func() {
		tb.Helper()
		if done != total || total < least {
			tb.Errorf("progress ends at %d of %d", done, total)
		}
	}
}
