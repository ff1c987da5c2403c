//go:build race

package main

// raceEnabled shrinks the tests that the race detector slows most: those that
// start processes, and those that copy much.
const raceEnabled = true
