//go:build dmgparallel

package deflate

// Forced is 1: a ParallelReader is used for streams that are hardly worth it.
const Forced = 1
