package budget

import "testing"

var budgetTests = []struct {
	name  string
	limit int64
	take  [NumUses]int64 // in order, all of which must be granted
	more  int64          // then asked for
	ok    bool
}{
	{name: "nothing of nothing", limit: 0, more: 0, ok: true},
	{name: "one byte of nothing", limit: 0, more: 1},
	{name: "all", limit: 100, more: 100, ok: true},
	{name: "one too many", limit: 100, more: 101},
	{name: "the rest", limit: 100, take: [NumUses]int64{20, 30, 40}, more: 10, ok: true},
	{name: "more than the rest", limit: 100, take: [NumUses]int64{20, 30, 40}, more: 11},
	// What an image says may be anything: the sum must not wrap.
	{name: "huge", limit: 100, take: [NumUses]int64{50}, more: 1<<63 - 1},
	{name: "huge limit", limit: 1<<63 - 1, take: [NumUses]int64{1 << 62, 1 << 61}, more: 1 << 62},
}

func TestTake(t *testing.T) {
	for _, tt := range budgetTests {
		t.Run(tt.name, func(t *testing.T) {
			a := Budget{Limit: tt.limit}
			sum := int64(0)
			for u, n := range tt.take {
				if !a.Take(Use(u), n) {
					t.Fatalf("%d bytes for use %d are refused", n, u)
				}
				sum += n
			}
			for u := range NumUses {
				before := a
				if ok := a.Take(u, tt.more); ok != tt.ok {
					t.Fatalf("Take(%d, %d) = %v", u, tt.more, ok)
				} else if ok {
					if a.Total() != sum+tt.more {
						t.Errorf("%d bytes are in use, want %d", a.Total(), sum+tt.more)
					}
					a.Release(u, tt.more)
				}
				if a != before {
					t.Errorf("the budget is %+v, was %+v", a, before)
				}
			}
		})
	}
}

// Memory that changes its use must not be counted twice, nor be asked for
// where there is no more.
func TestMove(t *testing.T) {
	a := Budget{Limit: 10}
	if !a.Take(Cache, 10) {
		t.Fatal("the limit can't be used up")
	}
	a.Move(Cache, Checkpoints, 4)
	if want := [NumUses]int64{Checkpoints: 4, Cache: 6}; a.Used != want || a.Total() != 10 {
		t.Errorf("used %v, want %v", a.Used, want)
	}
	if a.Take(Decoders, 1) {
		t.Error("a byte above the limit is granted")
	}
}
