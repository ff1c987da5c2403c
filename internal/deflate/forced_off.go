//go:build !dmgparallel

package deflate

// Forced is 1 with the build tag dmgparallel, for tests: then a ParallelReader is used for
// streams that are hardly worth it, and on any number of cores.
const Forced = 0
