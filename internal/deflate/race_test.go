//go:build race

package deflate

// raced shrinks the tests where the race detector slows them tenfold.
const raced = true
