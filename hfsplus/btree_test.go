package hfsplus

import (
	"bytes"
	"io"
	"io/fs"
	"sync"
	"testing"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"

	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/dmgtest/hfsvol"
	"github.com/go-dmg/dmg/internal/vfs"
)

var written = sync.OnceValue(hfsvol.Samples)

func openWritten(t testing.TB, name string) *FS {
	for _, s := range written() {
		if s.Name == name {
			v := hfsvol.Write(s.Root, s.Options)
			fsys, err := New(bytes.NewReader(v.Image), int64(len(v.Image)))
			if err != nil {
				t.Fatal(err)
			}
			return fsys
		}
	}
	t.Fatal(name)
	return nil
}

// TestTreeWalk walks trees from end to end. Every record must be found by its key,
// and the floor of what is just behind it is itself.
func TestTreeWalk(t *testing.T) {
	dmgtest.NotEmulated(t)
	for _, name := range []string{"deep-trees", "overflow-leaves", "attributes-overflow", "node-512", "map-nodes", "hfsx", "folding"} {
		fsys := openWritten(t, name)
		extents, err := fsys.extentsTree()
		if err != nil {
			t.Fatal(err)
		}
		attributes, err := fsys.attributesTree()
		if err != nil {
			t.Fatal(err)
		}
		for _, tree := range []*tree{fsys.catalog, extents, attributes} {
			n, leaves := walkTree(t, tree)
			t.Logf("%s: %s of depth %d: %d records in %d leaves", name, tree.name, tree.depth, n, leaves)
			if n == 0 && tree == fsys.catalog || leaves < tree.depth {
				t.Errorf("%s: %s: %d records in %d leaves", name, tree.name, n, leaves)
			}
		}
	}
}

func walkTree(t *testing.T, tree *tree) (records, leaves int) {
	p, err := tree.descend(make([]byte, attrKeyLen)) // below all keys
	if err == errEmpty {
		return 0, 0
	}
	if err != nil {
		t.Fatal(err)
	}
	var last []byte
	for leaves = 1; ; {
		if p.leafEnd() {
			if err := p.nextLeaf(); err == io.EOF {
				return records, leaves
			} else if err != nil {
				t.Fatal(err)
			}
			leaves++
			continue
		}
		top := p.top()
		key, data := top.node.record(top.i)
		if last != nil && tree.keys.compare(last, key) >= 0 {
			t.Errorf("%s: %x is behind %x", tree.name, key, last)
		}
		found, err := tree.find(key, func(d []byte) bool { return &d[0] == &data[0] })
		if err != nil || found.node != top.node || found.i != top.i {
			t.Errorf("%s: %x is not found: %v", tree.name, key, err)
		}
		floor, _, err := tree.floor(key)
		if err != nil || !bytes.Equal(floor, key) {
			t.Errorf("%s: the floor of %x is %x, %v", tree.name, key, floor, err)
		}
		last = key
		records++
		top.i++
	}
}

func TestCache(t *testing.T) {
	c := newCache()
	node := func(size int) *bnode { return &bnode{data: make([]byte, size)} }
	for i := range uint32(3000) {
		c.put(nodeKey{1, i}, node(4096))
		if c.get(nodeKey{1, 0}) == nil {
			t.Fatal("a node that is in use is dropped")
		}
		if c.bytes() > cacheLimit {
			t.Fatalf("%d bytes", c.bytes())
		}
	}
	if c.get(nodeKey{1, 2999}) == nil || c.get(nodeKey{1, 1}) != nil || c.get(nodeKey{2, 0}) != nil {
		t.Error("the cache does not hold the nodes that were used last")
	}
	if n := len(c.mu.nodes); n != cacheLimit/(4096+nodeCost) || c.bytes() != n*(4096+nodeCost) {
		t.Errorf("%d nodes, %d bytes", n, c.bytes())
	}
	c.put(nodeKey{1, 0}, node(4096)) // it is there
	ring := 0
	for s := c.mu.oldest; ring == 0 || s != c.mu.oldest; s = s.newer {
		ring++
	}
	if ring != len(c.mu.nodes) {
		t.Errorf("%d nodes in the ring, %d in the map", ring, len(c.mu.nodes))
	}
	var wg sync.WaitGroup
	for g := range uint32(8) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range uint32(2000) {
				k := nodeKey{g % 3, i * g % 1500}
				if c.get(k) == nil {
					c.put(k, node(8192))
				}
			}
		}()
	}
	wg.Wait()
	if c.bytes() > cacheLimit {
		t.Errorf("%d bytes", c.bytes())
	}
}

// FuzzNode reads any bytes as a node of a tree. If it passes, every record lies in
// it, and a search finds each key.
func FuzzNode(f *testing.F) {
	kinds := []keyKind{
		{valid: validCatalogKey, compare: compareFolded},
		{valid: validCatalogKey, compare: compareBinary},
		{valid: validExtentsKey, compare: compareExtents},
		{valid: validAttrKey, compare: compareAttr},
	}
	for i, name := range []string{"node-512", "hfsx", "overflow-leaves", "attributes-overflow"} {
		fsys := openWritten(f, name)
		extents, err := fsys.extentsTree()
		if err != nil {
			f.Fatal(err)
		}
		attributes, err := fsys.attributesTree()
		if err != nil {
			f.Fatal(err)
		}
		tree := []*tree{fsys.catalog, fsys.catalog, extents, attributes}[i]
		for n := range uint32(4) {
			if node, err := tree.node(n + 1); err == nil {
				f.Add(uint8(i), tree.varKeys, node.data)
			}
		}
	}
	v := &volume{block: 512}
	f.Fuzz(func(t *testing.T, kind uint8, varKeys bool, data []byte) {
		size := minNodeSize
		for size < len(data) && size < maxNodeSize {
			size *= 2
		}
		data = append(data, make([]byte, size)...)[:size]
		tr := &tree{name: "tree", fork: v.newFork(forkData{}, nil), keys: kinds[int(kind)%len(kinds)], nodeSize: size, varKeys: varKeys, maxKey: 10}
		n := &bnode{data: data, t: tr}
		if err := n.check(); err != nil {
			if !isFormat(err) {
				t.Error(err)
			}
			return
		}
		for i := range n.n {
			key, value := n.record(i)
			if !tr.keys.valid(key) || n.height > 1 && len(value) < 4 {
				t.Errorf("record %d: key %x, data %x", i, key, value)
			}
			if c := tr.keys.compare(key, key); c != 0 {
				t.Errorf("%x differs from itself", key)
			}
			j := n.search(key)
			if j == n.n || j > i || tr.keys.compare(n.key(j), key) < 0 || n.sorted && tr.keys.compare(n.key(j), key) != 0 {
				t.Errorf("record %d of %d is found at %d", i, n.n, j)
			}
		}
	})
}

// FuzzName turns UTF-16 into names and back.
func FuzzName(f *testing.F) {
	for _, s := range []string{"plain", "cafe\u0301", "\u00e9", "a/b:c", "%u0041", "%u", ".", "..", "\x00", "\u212b\u0301", "\U0001F600"} {
		f.Add(encode(s, asGiven))
	}
	f.Add([]byte{0xD8, 0, 0, 'a', 0xDC, 0, 0xD8, 1, 0xDC, 1})
	f.Fuzz(func(t *testing.T, units []byte) {
		units = units[:min(len(units), 2*maxName)&^1]
		name, exact := decodeName(units, norm.NFD)
		if !fs.ValidPath(name) || name == "." || bytes.ContainsAny([]byte(name), "/\\\x00") {
			t.Errorf("%x is given out as %q", units, name)
		}
		if exact && !bytes.Equal(encodeName(name, norm.NFD), units) {
			t.Errorf("%x → %q → %x", units, name, encodeName(name, norm.NFD))
		}
		escaped := escapeName(units)
		if len(units) > 0 && escaped != "." && escaped != ".." && escaped != vfs.Empty {
			if !bytes.Equal(encodeName(escaped, norm.NFD), units) || !bytes.Equal(encodeName(escaped, asGiven), units) {
				t.Errorf("%x → %q → %x", units, escaped, encodeName(escaped, norm.NFD))
			}
		} else if !exact {
			t.Errorf("%x → %q needs an escape", units, name)
		}
		if attr := decodeAttr(units); !utf8.ValidString(attr) || !bytes.Equal(encode(attr, asGiven), units) {
			t.Errorf("%x → %q → %x", units, attr, encode(attr, asGiven))
		}
		key := catalogKey(1, units)
		if compareFolded(key, key) != 0 || compareBinary(key, key) != 0 || !validCatalogKey(key) {
			t.Errorf("%x differs from itself", key)
		}
		other := catalogKey(1, encode("plain", asGiven))
		if compareFolded(key, other) != -compareFolded(other, key) {
			t.Errorf("%x is not ordered", key)
		}
	})
}
