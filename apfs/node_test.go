package apfs

import (
	"bytes"
	"errors"
	"testing"

	"github.com/go-dmg/dmg/internal/apfstest"
)

// FuzzNode takes any bytes for a node. If it is one, then its records are inside it and
// sorted, and looking for a key finds what looking at all keys finds.
func FuzzNode(f *testing.F) {
	kinds := []*treeKind{
		omapKind, extKind, snapKind,
		{name: "hashed", subtype: typeFSTree, key: fsKey(true), names: true},
		{name: "plain", subtype: typeFSTree, key: fsKey(false), names: true},
	}
	for kind, d := range map[int]*apfstest.Disk{3: smallDisk(false), 4: smallDisk(true)} {
		b := d.Bytes()
		for _, o := range d.Objects {
			block := b[int(o.Block)*4096:][:4096]
			switch o.What {
			case "node of object map":
				f.Add(uint8(0), block, []byte{})
			case "node of file system tree":
				f.Add(uint8(kind), block, []byte("key"))
			case "node of snapshot tree":
				f.Add(uint8(2), block, []byte{1, 2, 3})
			}
		}
	}
	f.Fuzz(func(t *testing.T, kind uint8, data, name []byte) {
		b := make([]byte, 4096)
		copy(b, data)
		n, err := parseNode(b, 1, kinds[int(kind)%len(kinds)])
		if err != nil {
			if !errors.Is(err, ErrFormat) && !errors.Is(err, ErrUnsupported) {
				t.Errorf("%v", err)
			}
			return
		}
		if n.n > 4096/4 {
			t.Fatalf("%d keys", n.n)
		}
		want := []treeKey{{}, {a: 1 << 60, b: 5, name: name}, {a: ^uint64(0), b: ^uint64(0)}}
		for i := range n.n {
			k := n.key(i)
			if i > 0 && n.key(i-1).compare(k) > 0 {
				t.Fatalf("key %d is out of order", i)
			}
			if i%7 == 0 {
				want = append(want, k, treeKey{a: k.a, b: k.b, name: name}, treeKey{a: k.a, b: k.b + 1})
			}
			key, val := n.record(i)
			parseEntry2(key, val)
			parseInode(val)
			if !n.leaf() && len(val) < 8 {
				t.Fatalf("child %d has %d bytes", i, len(val))
			}
		}
		for _, k := range want {
			if n.kind.names && k.name == nil {
				k.name = []byte{}
			}
			for _, orEqual := range []bool{false, true} {
				count := 0
				for i := range n.n {
					if c := n.key(i).compare(k); c < 0 || c == 0 && orEqual {
						count++
					}
				}
				if got := n.before(k, orEqual); got != count {
					t.Errorf("%d keys are before %+v, want %d", got, k, count)
				}
			}
		}
	})
}

func parseEntry2(k, v []byte) {
	for _, hashed := range []bool{true, false} {
		if len(k) >= 12 {
			parseEntry(k, v, hashed)
		}
	}
}

func smallDisk(exact bool) *apfstest.Disk {
	text := apfstest.Text("text", "text")
	text.Xattrs = []apfstest.Xattr{{Name: "attribute", Data: []byte("x")}, {Name: "stream", Data: []byte("x"), Stream: true}}
	return (&apfstest.Container{Compact: true, MaxKeys: 3, Volumes: []*apfstest.Volume{{
		Name: "Small", Exact: exact, MaxKeys: 5,
		Root:      []*apfstest.File{text, {Name: "other", LinkTo: text}, apfstest.Dir("folder", apfstest.Text("in", "in")), apfstest.Link("l", "text")},
		Snapshots: []apfstest.Snapshot{{Name: "s", XID: 3}},
	}}}).Write()
}

// FuzzRecords takes any bytes for keys and values of records.
func FuzzRecords(f *testing.F) {
	d := smallDisk(false)
	for _, o := range d.Objects {
		if o.What != "node of file system tree" {
			continue
		}
		n, err := parseNode(d.Bytes()[int(o.Block)*4096:][:4096], o.Block, &treeKind{key: fsKey(true), names: true})
		if err != nil {
			f.Fatal(err)
		}
		for i := range n.n {
			k, v := n.record(i)
			f.Add(k, v)
		}
	}
	f.Fuzz(func(t *testing.T, k, v []byte) {
		for _, hashed := range []bool{true, false} {
			key, ok := fsKey(hashed)(k)
			if !ok {
				continue
			}
			if key.a>>4 != le.Uint64(k)&idMask || key.a&0xF != le.Uint64(k)>>60 {
				t.Errorf("key %x is %+v", k, key)
			}
			if key.compare(key) != 0 || key.compare(treeKey{}) < 0 {
				t.Errorf("key %+v", key)
			}
			if key.a&0xF != recEntry {
				continue
			}
			if e, ok := parseEntry(k, v, hashed); ok && (!bytes.Contains(k, []byte(e.name)) || hashed && uint64(e.hash) != key.b || !hashed && e.name != string(key.name)) {
				t.Errorf("entry %+v of key %+v", e, key)
			}
		}
		if i, ok := parseInode(v); ok && (i.private != le.Uint64(v[8:]) || i.mode != le.Uint16(v[80:])) {
			t.Errorf("inode %+v", i)
		}
		total := 0
		if fields(v, func(_ byte, b []byte) bool { total += len(b); return true }) && total > len(v) {
			t.Errorf("fields of %d bytes in %d", total, len(v))
		}
	})
}

func TestFields(t *testing.T) {
	for _, tt := range []struct {
		name string
		b    []byte
		want []string
		ok   bool
	}{
		{"none", nil, nil, true},
		{"cut head", []byte{1, 0, 0}, nil, false},
		{"count of 0", []byte{0, 0, 0, 0}, nil, true},
		{"one", []byte{1, 0, 8, 0, 4, 2, 3, 0, 'a', 'b', 0, 0, 0, 0, 0, 0}, []string{"ab\x00"}, true},
		{"without padding", []byte{1, 0, 8, 0, 4, 2, 3, 0, 'a', 'b', 0}, []string{"ab\x00"}, true},
		{"two", []byte{2, 0, 16, 0, 4, 2, 1, 0, 8, 2, 2, 0, 'a', 0, 0, 0, 0, 0, 0, 0, 'b', 'c'}, []string{"a", "bc"}, true},
		{"value past the end", []byte{1, 0, 8, 0, 4, 2, 9, 0, 'a', 'b', 0, 0, 0, 0, 0, 0}, nil, false},
		{"heads past the end", []byte{9, 0, 8, 0, 4, 2, 1, 0}, nil, false},
	} {
		var got []string
		ok := fields(tt.b, func(_ byte, b []byte) bool { got = append(got, string(b)); return true })
		if ok != tt.ok || ok && len(got) != len(tt.want) {
			t.Errorf("%s: %q, %t", tt.name, got, ok)
		}
		for i := range tt.want {
			if got[i] != tt.want[i] {
				t.Errorf("%s: %q", tt.name, got)
			}
		}
	}
}
