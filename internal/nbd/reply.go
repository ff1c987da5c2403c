package nbd

import (
	"errors"
	"strings"
)

// maxMessage is the longest text sent with an error: strings should not be longer than 256 bytes.
const maxMessage = 256

// errAnswered stops the work on a request that has been answered with an error.
var errAnswered = errors.New("request answered with an error")

// putSimple writes the header of a simple reply.
func putSimple(b []byte, cookie uint64, e errno) {
	be.PutUint32(b, magicSimple)
	be.PutUint32(b[4:], uint32(e))
	be.PutUint64(b[8:], cookie)
}

// putChunk writes the header of a structured reply's chunk, which is the whole of b.
func putChunk(b []byte, cookie uint64, flags, typ uint16) {
	putChunkHeader(b, cookie, flags, typ, uint32(len(b)-structuredLen))
}

// putData writes the header of a chunk of n bytes of data, and where they belong. They follow, not all of them in b.
func putData(b []byte, cookie uint64, flags uint16, off uint64, n uint32) {
	putChunkHeader(b, cookie, flags, chunkOffsetData, chunkOffset+n)
	be.PutUint64(b[structuredLen:], off)
}

func putChunkHeader(b []byte, cookie uint64, flags, typ uint16, n uint32) {
	be.PutUint32(b, magicStructured)
	be.PutUint16(b[4:], flags)
	be.PutUint16(b[6:], typ)
	be.PutUint64(b[8:], cookie)
	be.PutUint32(b[16:], n)
}

// doneIf returns the flags of a chunk that may be the last of its reply.
func doneIf(last bool) uint16 {
	if last {
		return replyFlagDone
	}
	return 0
}

// succeed answers a request that has nothing to send.
func (c *conn) succeed(q *request) error {
	if !c.structured {
		b := make([]byte, simpleLen)
		putSimple(b, q.cookie, 0)
		return c.send(b)
	}
	b := make([]byte, structuredLen)
	putChunk(b, q.cookie, replyFlagDone, chunkNone)
	return c.send(b)
}

// fail answers a request with an error; structured replies carry its text.
func (c *conn) fail(q *request, e errno, msg string) error {
	if !c.structured {
		b := make([]byte, simpleLen)
		putSimple(b, q.cookie, e)
		return c.send(b)
	}
	b := appendError(make([]byte, structuredLen), e, msg)
	putChunk(b, q.cookie, replyFlagDone, chunkError)
	return c.send(b)
}

// failAt answers a read that failed at off. A structured reply says where: the data sent before stay good. It returns
// an error in any case.
func (c *conn) failAt(q *request, err error, off int64) error {
	msg := messageFor(err)
	if !c.structured {
		if err := c.fail(q, eIO, msg); err != nil {
			return err
		}
		return errAnswered
	}
	b := appendError(make([]byte, structuredLen), eIO, msg)
	b = be.AppendUint64(b, uint64(off)) // within the request, as it must: readAt failed before its end
	putChunk(b, q.cookie, replyFlagDone, chunkErrorOffset)
	if err := c.send(b); err != nil {
		return err
	}
	return errAnswered
}

// messageFor is what a client is told of an error. The value of a panic may be anything, and is for the log.
func messageFor(err error) string {
	var p *PanicError
	if errors.As(err, &p) {
		return "internal error of the server"
	}
	return err.Error()
}

// appendError appends an error number and its text, as valid as the protocol wants strings.
func appendError(b []byte, e errno, msg string) []byte {
	msg = strings.ReplaceAll(strings.ToValidUTF8(msg, "?"), "\x00", "?")
	msg = cutString(msg, maxMessage)
	b = be.AppendUint32(b, uint32(e))
	b = be.AppendUint16(b, uint16(len(msg)))
	return append(b, msg...)
}
