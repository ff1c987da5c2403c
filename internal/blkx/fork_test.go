package blkx

import (
	"errors"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// FuzzFork decodes anything as a resource fork.
func FuzzFork(f *testing.F) {
	fork, err := dmgtest.ResourceFork([]dmgtest.Resource{
		{Type: "blkx", Name: "one", Data: []byte("mish")},
		{Type: "plst", Data: make([]byte, 10)},
		{Type: "blkx", ID: 1, Name: "two", Data: nil},
	})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(fork)
	f.Fuzz(func(t *testing.T, b []byte) {
		sum := 0
		others, _ := ForkResources(b, "plst", "blkx", "none")
		for _, all := range others {
			for _, r := range all {
				sum += len(r.Data)
			}
		}
		if sum > len(b) {
			t.Fatalf("%d bytes of data from %d", sum, len(b))
		}
		tables, err := ParseFork(b)
		var at *Error
		if err != nil && (!errors.As(err, &at) || at.Offset < 0) {
			t.Fatalf("an error without a place in the fork: %v", err)
		}
		for _, table := range tables {
			if len(table.Data) > len(b) {
				t.Fatalf("%d bytes of data from %d", len(table.Data), len(b))
			}
		}
	})
}
