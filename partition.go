package dmg

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/go-dmg/dmg/internal/crypt"
	"github.com/go-dmg/dmg/internal/partition"
)

// layout returns the chunks of the disk and its size in bytes, and sets what
// they are read from.
func (im *Image) layout(u *crypt.Unlocker) ([]Chunk, int64, error) {
	c := &im.plain
	if c.disk != nil {
		return c.chunks(), c.size, nil
	}
	k, err := findKoly(c.r, c.size)
	if err = c.passDamage(err); err != nil {
		return nil, 0, err
	}
	if k == nil || k.start > 0 {
		// A disk may end in a file that is an image.
		err := c.rawDisk()
		if k == nil || err == nil || !errors.Is(err, ErrFormat) {
			return c.chunks(), c.size, err
		}
		c.r, c.size = io.NewSectionReader(c.r, k.start, k.end-k.start), k.end-k.start
	}
	im.koly = k
	c.disk = c.r
	p := tableParser{dataFork: k.data.off, dataSize: c.size}
	im.dataFork.off = int64(min(k.data.off, uint64(c.size)))
	im.dataFork.length = int64(min(k.data.length, uint64(c.size-im.dataFork.off)))
	if k.segments <= 1 {
		return im.readTables(p)
	}
	s, first, err := c.joinSegments(k, u)
	if err != nil {
		return nil, 0, err
	}
	im.koly, c.disk = first, s
	im.dataFork.off, im.dataFork.length = 0, s.Size()
	chunks, size, err := im.readTables(tableParser{dataSize: s.Size()})
	return withoutData(chunks, s.Missing()), size, err
}

// readTables reads the block tables of a UDIF image: its chunks, and the size
// of its disk in bytes.
func (im *Image) readTables(p tableParser) ([]Chunk, int64, error) {
	k, c := im.koly, &im.plain
	if p.sectors = k.sectors; p.sectors > maxSectors {
		im.addDefect(&FormatError{Section: "koly", Offset: 0x1EC, Msg: fmt.Sprintf("%d sectors are more than a disk can have", k.sectors)})
		p.sectors = 0
	}
	// The tables are what is stored, and koly's count is not always theirs.
	b, err := k.blockTables(p, c.r, c.size, p.dataSize)
	if err != nil {
		return nil, 0, err
	}
	for _, err := range b.defects {
		im.addDefect(err)
	}
	im.tables = b.tables
	im.order = im.sortPartitions()
	for i := range b.chunks {
		if c := &b.chunks[i]; c.Partition >= 0 {
			c.Partition = im.order[c.Partition]
		}
	}
	return b.chunks, int64(b.sectors) * sectorSize, nil
}

// sortPartitions makes the partitions of the tables, in disk order. It returns
// each table's index among them, -1 of one that is lost.
func (im *Image) sortPartitions() []int {
	order := make([]int, len(im.tables))
	var byPlace []int
	for i := range im.tables {
		if order[i] = -1; !im.tables[i].lost {
			byPlace = append(byPlace, i)
		}
	}
	slices.SortStableFunc(byPlace, func(a, b int) int {
		return cmp.Compare(im.tables[a].first, im.tables[b].first)
	})
	for i, t := range byPlace {
		order[t] = i
		im.partitions = append(im.partitions, Partition{
			Name:   im.tables[t].name,
			Type:   typeInName(im.tables[t].name),
			Offset: int64(im.tables[t].first) * sectorSize,
			Length: int64(im.tables[t].count) * sectorSize,
			Table:  true,
			im:     im,
		})
	}
	return order
}

// tablePartitions returns the partitions that have a block table of their own. They
// are the first ones.
func (im *Image) tablePartitions() []Partition {
	n := 0
	for _, i := range im.order {
		n = max(n, i+1)
	}
	return im.partitions[:n]
}

// typeInName returns the type in a partition's name as hdiutil writes it: that
// of "disk image (Apple_HFS : 4)" is Apple_HFS. It calls a disk as a whole an
// "unknown partition".
func typeInName(name string) string {
	i := strings.LastIndexByte(name, '(')
	kind, _, ok := strings.Cut(name[i+1:], " : ")
	if i < 0 || !ok || kind == "unknown partition" {
		return ""
	}
	return kind
}

// findPartitions reads the disk's partition table when the image is opened: where
// there are no block tables, or some that have no names, which errors are to say.
// Only an error of the source fails it.
func (im *Image) findPartitions() error {
	nameless := func(p Partition) bool { return p.Name == "" }
	if im.koly != nil && !slices.ContainsFunc(im.partitions, nameless) {
		return nil
	}
	found, err := im.readPartitionTable()
	if err == nil {
		im.partitions = im.withFound(im.partitions, found)
		im.inner.known = true
	}
	return err
}

// allPartitions returns the partitions, with those of the disk's partition table,
// which is read at the first call: if a chunk has to be decoded for it, those who
// only read the disk needn't wait for that. If the source fails it lacks them, and the
// next call tries again.
func (im *Image) allPartitions() ([]Partition, error) {
	untyped := func(p Partition) bool { return p.Type == "" }
	im.inner.Lock()
	known, found := im.inner.known, im.inner.found
	im.inner.Unlock()
	var err error
	if !known && slices.ContainsFunc(im.tablePartitions(), untyped) {
		if found, err = im.readPartitionTable(); err == nil {
			im.inner.Lock()
			im.inner.known, im.inner.found = true, found
			im.inner.Unlock()
		}
	}
	return im.withFound(im.partitions, found), err
}

// readPartitionTable returns what the disk's own partition table says. A disk that
// has none, or can't be read there, has no partitions; the error is the source's.
func (im *Image) readPartitionTable() ([]partition.Partition, error) {
	found, err := partition.Read(newBoundedReader(&im.engine, shallowBytes), im.size)
	var damaged *ChunkError
	if err != nil && !errors.As(err, &damaged) && err != errDeep {
		return nil, err
	}
	if im.koly == nil {
		im.noteCutDisk(found.End)
	}
	return found.Partitions, nil
}

// withFound returns parts and those of the disk's partition table. Those that have a
// block table give it what its name lacks; the others come behind.
func (im *Image) withFound(parts []Partition, found []partition.Partition) []Partition {
	parts = slices.Clone(parts)
	if len(found) == 0 {
		return parts
	}
	places := make(map[extent][]int)
	for i := range im.tablePartitions() {
		at := extent{uint64(parts[i].Offset), uint64(parts[i].Length)}
		places[at] = append(places[at], i)
	}
	for _, p := range found {
		same := places[extent{uint64(p.Offset), uint64(p.Length)}]
		for _, i := range same {
			if q := &parts[i]; q.Type == "" {
				q.Type = p.Type
				q.Name = cmp.Or(q.Name, p.Name)
			}
		}
		if len(same) == 0 {
			parts = append(parts, Partition{Name: p.Name, Type: p.Type, Offset: p.Offset, Length: p.Length, im: im})
		}
	}
	return parts
}

// boundedReader reads the disk where that takes little decoding: the last sector, where
// a backup partition table is, may be the end of a chunk that takes hours, and the
// entries of a table may be in a thousand chunks. Three or four are usual.
type boundedReader struct {
	e      *engine
	chunk  int   // compressed, of the last read; -1
	chunks int   // compressed ones that may be read from yet
	until  int64 // how far the count of the source's bytes may get
	deep   int64 // how far a read may get in a compressed chunk, in bytes
}

const (
	shallowChunks = 32
	shallowSource = 32 << 20
	shallowBytes  = 1 << 20
)

func newBoundedReader(e *engine, deep int64) *boundedReader {
	return &boundedReader{e, -1, shallowChunks, e.count.sum().SourceBytes + shallowSource, deep}
}

var errDeep = errors.New("deep inside a compressed chunk")

// ReadAt implements io.ReaderAt, for one goroutine.
func (s *boundedReader) ReadAt(p []byte, off int64) (int, error) {
	end := min(off+int64(len(p)), s.e.size)
	for i := s.e.find(off); i < len(s.e.chunks) && s.e.chunks[i].Offset < end; i++ {
		c := &s.e.chunks[i]
		if !c.Method.compressed() {
			continue
		}
		if i != s.chunk {
			s.chunk = i
			s.chunks--
		}
		if min(end, c.end())-c.Offset > s.deep || s.chunks < 0 || s.e.count.sum().SourceBytes > s.until {
			return 0, errDeep
		}
	}
	return s.e.readAt(context.Background(), p, off)
}
