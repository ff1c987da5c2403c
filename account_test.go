package dmg

import "testing"

var accountTests = []struct {
	name  string
	limit int64
	take  [numUses]int64 // in order, all of which must be granted
	more  int64          // then asked for
	ok    bool
}{
	{name: "nothing of nothing", limit: 0, more: 0, ok: true},
	{name: "one byte of nothing", limit: 0, more: 1},
	{name: "all", limit: 100, more: 100, ok: true},
	{name: "one too many", limit: 100, more: 101},
	{name: "the rest", limit: 100, take: [numUses]int64{20, 30, 40}, more: 10, ok: true},
	{name: "more than the rest", limit: 100, take: [numUses]int64{20, 30, 40}, more: 11},
	// What an image says may be anything: the sum must not wrap.
	{name: "huge", limit: 100, take: [numUses]int64{50}, more: 1<<63 - 1},
	{name: "huge limit", limit: 1<<63 - 1, take: [numUses]int64{1 << 62, 1 << 61}, more: 1 << 62},
}

func TestAccount(t *testing.T) {
	for _, tt := range accountTests {
		t.Run(tt.name, func(t *testing.T) {
			a := account{limit: tt.limit}
			sum := int64(0)
			for u, n := range tt.take {
				if !a.take(use(u), n) {
					t.Fatalf("%d bytes for use %d are refused", n, u)
				}
				sum += n
			}
			for u := range numUses {
				before := a
				if ok := a.take(u, tt.more); ok != tt.ok {
					t.Fatalf("take(%d, %d) = %v", u, tt.more, ok)
				} else if ok {
					if a.total() != sum+tt.more {
						t.Errorf("%d bytes are in use, want %d", a.total(), sum+tt.more)
					}
					a.release(u, tt.more)
				}
				if a != before {
					t.Errorf("the account is %+v, was %+v", a, before)
				}
			}
		})
	}
}

// Memory that changes its use must not be counted twice, nor be asked for
// where there is no more.
func TestAccountMove(t *testing.T) {
	a := account{limit: 10}
	if !a.take(useCache, 10) {
		t.Fatal("the limit can't be used up")
	}
	a.move(useCache, useCheckpoints, 4)
	if want := [numUses]int64{useCheckpoints: 4, useCache: 6}; a.used != want || a.total() != 10 {
		t.Errorf("used %v, want %v", a.used, want)
	}
	if a.take(useDecoders, 1) {
		t.Error("a byte above the limit is granted")
	}
	if share := a.checkpointShare(); share < 0 || share >= a.limit {
		t.Errorf("checkpoints may take %d of %d", share, a.limit)
	}
}
