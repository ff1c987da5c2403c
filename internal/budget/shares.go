package budget

// A Share is a part of a limit.
type Share struct{ num, den int64 }

// Of returns how many bytes of a limit the share is.
func (s Share) Of(limit int64) int64 { return limit / s.den * s.num }

// What the uses may take of the limit, at most. Shares overlap, because what one use
// doesn't take others may. Together they keep this balance of a limit of 16 parts:
//
//	checkpoints                   9
//	decoders, always              4
//	cache, if all others take theirs  3
//
// Output buffers and prefetches take from the cache's part first.
var (
	// More checkpoints would not make reads faster in proportion, since a read also
	// decodes what was asked for. They are thinned out then.
	ShareCheckpoints = Share{9, 16}
	// Of checkpoints, those of a saved index that stay compressed. The rest is for
	// what reads unpack and leave.
	ShareCompressed = Share{27, 64}

	// Decoders are made up to this part before idle ones are used again, and the
	// cache leaves it to them.
	ShareDecoders = Share{1, 4}
	// Fetch buffers beyond what every decoder has: while all decoders have no more
	// than this, or of codecs that decode whole blocks, or if there is one decoder.
	ShareFetch      = Share{1, 8}
	ShareFetchBlock = Share{1, 4}
	ShareFetchAlone = Share{1, 2}
	// The parallel reader leaves this much to others.
	ShareBesideParallel = Share{1, 8}

	// Output buffers of one run of whole-disk work, and of all runs before another
	// has to wait. What they hold is no one else's until the run is over.
	ShareRun  = Share{1, 16}
	ShareRuns = Share{1, 4}
	// Further output buffers of a run in order, whose workers decode ahead. They are
	// decoders' memory, and come free as they are delivered.
	ShareAhead = Share{1, 4}
	// Prefetches of a run, and each of them.
	SharePrefetch    = Share{1, 8}
	ShareOnePrefetch = Share{1, 32}

	// What the reader of an encrypted archive takes, before the engine's limit is what
	// is left; and where its segments are large.
	ShareArchive     = Share{15, 32}
	ShareArchiveMost = Share{3, 4}

	// A read of more than this is not cached: it would push out everything else.
	ShareRead = Share{1, 4}
)
