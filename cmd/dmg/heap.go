package main

import (
	"cmp"
	"math"
	"os"
	"runtime/debug"
	"runtime/metrics"

	"github.com/go-dmg/dmg"
)

// heapSlack is what the process may hold in bytes besides the memory limit and what
// opening the image took: buffers of the output or of dmg nbd's clients, stacks, and
// garbage. With the program's own pages it stays below 64 MiB.
const heapSlack = 32 << 20

// heapVar is the environment variable by which users of any Go program limit its heap.
const heapVar = "GOMEMLIMIT"

// limitHeap makes the garbage collector keep the process near the user's memory
// limit, 0 for the default. Without it the heap may grow to twice of what is in use
// before a collection. It is called when an image has been opened: its chunk map, its
// index and what else stays in memory come on top of the limit. A GOMEMLIMIT in the
// environment has the last word.
func limitHeap(memoryLimit int64) {
	if os.Getenv(heapVar) != "" {
		return
	}
	limit := cmp.Or(memoryLimit, dmg.DefaultMemoryLimit)
	objects := []metrics.Sample{{Name: "/memory/classes/heap/objects:bytes"}}
	metrics.Read(objects)
	slack := int64(objects[0].Value.Uint64()) + heapSlack
	debug.SetMemoryLimit(min(limit, math.MaxInt64-slack) + slack)
}

// keepHeapLimit returns a function that puts the process's limit back.
func keepHeapLimit() (restore func()) {
	limit := debug.SetMemoryLimit(-1)
	return func() { debug.SetMemoryLimit(limit) }
}
