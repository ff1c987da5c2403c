package nbd

// maxExtents is how many extents one block status reply tells of; a client asks again from where they end.
const maxExtents = 1024

// statusBuffer is the buffer for a block status reply: a context, and a length and flags for each extent. The header
// goes before it.
const statusBuffer = 4 + 8*maxExtents

// blockStatus answers a block status request: the extents of the range in base:allocation, none reaching beyond it.
func (c *conn) blockStatus(q *request, l *lease) error {
	most := maxExtents
	if q.flags&cmdFlagReqOne != 0 {
		most = 1
	}
	b := be.AppendUint32(l.message(structuredLen, 0), allocationID)
	walk := c.extents(int64(q.offset), q.end())
	for ; most > 0; most-- {
		e, ok := walk.next()
		if !ok {
			break
		}
		b = be.AppendUint32(b, uint32(e.end-e.off)) // at most q.length
		b = be.AppendUint32(b, e.state())
	}
	putChunk(b, q.cookie, replyFlagDone, chunkBlockStatus)
	return c.send(b)
}

// state is the extent's flags in base:allocation. Our holes all read as zeros.
func (e extent) state() uint32 {
	if e.hole {
		return stateHole | stateZero
	}
	return 0
}
