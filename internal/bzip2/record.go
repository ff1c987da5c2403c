package bzip2

// A block's record is what is kept to decode it again, and to begin anywhere in it: its
// Point, and cursors CursorSpacing apart in its output. The first cursor is the block's
// start, and not in the record.

// CursorSpacing is how many bytes of a block's output lie between the cursors of its
// record. Following the links for that many takes a third of a millisecond, where decoding
// the block takes eight; and cursors this close are half a percent of the image.
const CursorSpacing = 8 << 10

// MaxCursors is the most cursors that a block's record has.
const MaxCursors = maxOut / CursorSpacing

// Lengths of records, in bytes.
const (
	PointLen  = pointLen  // of a Point: first its In, PointIn bytes, then the rest
	PointIn   = 8         // of its In alone
	CursorLen = cursorLen // of a Cursor
	MaxRecord = PointLen + MaxCursors*CursorLen
)

// RecordCursors returns how many cursors are in a record of length bytes.
func RecordCursors(length int) int { return max(0, length-PointLen) / CursorLen }

// RecordPoint returns the point of a block's record, or ErrCursor.
func RecordPoint(record []byte) (p Point, err error) {
	if len(record) < PointLen {
		return p, ErrCursor
	}
	return p, p.UnmarshalBinary(record[:PointLen])
}

// AppendRecordCursors appends the cursors of a block's record to its first one. With
// ErrCursor it returns those before the first that is wrong.
func AppendRecordCursors(cursors []Cursor, record []byte) ([]Cursor, error) {
	if len(record) < PointLen || (len(record)-PointLen)%CursorLen != 0 {
		return cursors, ErrCursor
	}
	for b := record[PointLen:]; len(b) > 0; b = b[CursorLen:] {
		var c Cursor
		if c.UnmarshalBinary(b[:CursorLen]) != nil || int64(c.Out) != int64(len(cursors))*CursorSpacing {
			return cursors, ErrCursor
		}
		cursors = append(cursors, c)
	}
	return cursors, nil
}
