package bzip2

import "testing"

// TestRecord takes records apart that are whole, cut, or have a cursor that stands
// elsewhere.
func TestRecord(t *testing.T) {
	record := func(outs ...uint32) []byte {
		b, _ := Point{In: 32, Level: 9}.AppendBinary(nil)
		for _, out := range outs {
			b, _ = Cursor{Out: out, Pos: out}.AppendBinary(b)
		}
		return b
	}
	whole := record(CursorSpacing, 2*CursorSpacing)
	for _, tt := range []struct {
		name    string
		record  []byte
		point   bool
		cursors int // that it has
		good    bool
	}{
		{"no cursors", record(), true, 0, true},
		{"two cursors", whole, true, 2, true},
		{"nothing", nil, false, 0, false},
		{"a point cut", whole[:PointLen-1], false, 0, false},
		{"a cursor cut", whole[:len(whole)-1], true, 0, false},
		{"a cursor elsewhere", record(CursorSpacing, 2*CursorSpacing+1), true, 1, false},
		{"one left out", record(2 * CursorSpacing), true, 0, false},
		{"no point", append([]byte{8: 10}, whole[9:]...), false, 2, true},
	} {
		p, err := RecordPoint(tt.record)
		if (err == nil) != tt.point || err != nil && err != ErrCursor || err == nil && p.In != 32 {
			t.Errorf("%s: point %+v, %v", tt.name, p, err)
		}
		cursors, err := AppendRecordCursors(make([]Cursor, 1), tt.record)
		if (err == nil) != tt.good || err != nil && err != ErrCursor || len(cursors)-1 != tt.cursors {
			t.Errorf("%s: %d cursors, %v", tt.name, len(cursors)-1, err)
		}
		if n := RecordCursors(len(tt.record)); tt.good && n != tt.cursors {
			t.Errorf("%s: %d cursors by its length", tt.name, n)
		}
	}
}
