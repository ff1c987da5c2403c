package apfs_test

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"runtime"
	"sort"
	"strings"
	"testing"
	"time"

	"github.com/go-dmg/dmg/apfs"
	"github.com/go-dmg/dmg/internal/apfstest"
	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/vfs"
)

const (
	// hostileMemory is what one hostile container may allocate in all, in bytes. The
	// reader's cache is 8 MiB of it.
	hostileMemory = 64 << 20
	// hostileTime is how long it may take to look at all of one, on a busy machine. Key
	// derivation is bounded by its iterations instead: see TestOpenKeybag.
	hostileTime = 20 * time.Second
)

// TestHostile looks at everything in thousands of containers that lie. None may make the
// reader panic, hang, or take memory; and all errors must have a class.
func TestHostile(t *testing.T) {
	dmgtest.NotEmulated(t)
	nth := dmgtest.Times(1, 8, 120)
	if dmgtest.Slowed() || testing.Short() {
		nth = 240
	}
	outcomes := make(map[string]int)
	for h := range apfstest.Hostile(nth) {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		start := time.Now()
		outcome, err := look(h.Disk, h.Disk.Size, h.Password)
		if err != nil {
			t.Errorf("%s: %v", h.Name, err)
		}
		outcomes[h.Class+": "+outcome]++
		runtime.ReadMemStats(&after)
		if took := time.Since(start); took > hostileTime && h.Class != "iterations" {
			t.Errorf("%s took %s", h.Name, took)
		}
		if n := after.TotalAlloc - before.TotalAlloc; n > hostileMemory {
			t.Errorf("%s allocated %d bytes", h.Name, n)
		}
	}
	var lines []string
	total := 0
	for k, n := range outcomes {
		lines = append(lines, fmt.Sprintf("%6d %s", n, k))
		total += n
	}
	sort.Strings(lines)
	for _, l := range lines {
		t.Log(l)
	}
	t.Logf("%d containers", total)
	if nth <= 24 && total < 3000 {
		t.Errorf("%d containers", total)
	}
}

// looker looks at all that a container has, and remembers the first error.
type looker struct {
	first error // of the reader
	wrong error // what the reader may not do
	left  int   // entries to look at
	seen  hash.Hash
}

func newLooker() *looker { return &looker{left: 300, seen: sha256.New()} }

// look returns what became of a container, and what the reader may not do.
func look(r io.ReaderAt, size int64, password string) (outcome string, err error) {
	l := newLooker()
	c, err := apfs.New(r, size, &apfs.Options{Password: password})
	l.note(err)
	if err == nil {
		l.volumes(c)
	}
	return class(l.first), l.wrong
}

// class names the class of an error.
func class(err error) string {
	for _, c := range []error{apfs.ErrNoPassword, apfs.ErrWrongPassword, apfs.ErrUnsupported, apfs.ErrChecksum, apfs.ErrFormat, fs.ErrNotExist, fs.ErrInvalid, vfs.ErrLoop, vfs.ErrTooLarge} {
		if errors.Is(err, c) {
			return c.Error()
		}
	}
	if err == nil {
		return "read"
	}
	return ""
}

func (l *looker) note(err error) {
	if err == nil {
		return
	}
	fmt.Fprintln(l.seen, err)
	if l.first == nil {
		l.first = err
	}
	if class(err) == "" {
		l.fault("error without a class: %v", err)
	}
}

func (l *looker) fault(format string, args ...any) {
	if l.wrong == nil {
		l.wrong = fmt.Errorf(format, args...)
	}
}

func (l *looker) volumes(c *apfs.Container) {
	list, err := c.Volumes()
	l.note(err)
	for _, v := range list {
		fsys, err := v.FS()
		l.note(err)
		if err == nil {
			l.files(fsys)
		}
		snapshots, err := v.Snapshots()
		l.note(err)
		for _, s := range snapshots[:min(len(snapshots), 3)] {
			fsys, err := s.FS()
			l.note(err)
			if err == nil {
				l.files(fsys)
			}
		}
	}
}

func (l *looker) files(fsys *apfs.FS) {
	l.note(fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		if err != nil {
			l.note(err)
			return nil
		}
		if l.left--; l.left < 0 {
			return fs.SkipAll
		}
		l.file(fsys, p, d)
		return nil
	}))
}

func (l *looker) file(fsys *apfs.FS, p string, d fs.DirEntry) {
	fmt.Fprintln(l.seen, p, d)
	if !fs.ValidPath(p) {
		l.fault("name %q", p)
	}
	info, err := d.Info()
	l.note(err)
	if err == nil {
		fmt.Fprintf(l.seen, "%+v\n", info.Sys())
		if info.Mode().Type() != d.Type() {
			l.fault("%q is %v, its folder says %v", p, info.Mode(), d.Type())
		}
	}
	_, err = fsys.Stat(p)
	l.note(err)
	names, err := fsys.ListXattr(p)
	l.note(err)
	for _, name := range names[:min(len(names), 20)] {
		a, err := fsys.OpenXattr(p, name)
		l.note(err)
		if err == nil {
			l.content(a, a.Size())
		}
	}
	switch d.Type() {
	case fs.ModeSymlink:
		target, err := fsys.ReadLink(p)
		l.note(err)
		fmt.Fprintln(l.seen, target)
	case 0:
		f, err := fsys.Open(p)
		l.note(err)
		if err == nil && info != nil {
			l.content(f.(io.ReaderAt), info.Size())
			f.Close()
		}
	}
}

// content reads some of a stream, once in one go and once in pieces.
func (l *looker) content(r io.ReaderAt, size int64) {
	for _, off := range []int64{0, size / 2, size - 5000} {
		if off < 0 {
			continue
		}
		whole, pieces := make([]byte, 20000), make([]byte, 20000)
		n, err := r.ReadAt(whole, off)
		l.seen.Write(whole[:n])
		if err != io.EOF {
			l.note(err)
		}
		if err == nil && n != len(whole) || err == io.EOF && int64(n) != size-off {
			l.fault("%d bytes at %d of %d, %v", n, off, size, err)
		}
		for at := 0; at < n; {
			m, err := r.ReadAt(pieces[at:min(at+777, n)], off+int64(at))
			if m == 0 {
				l.fault("no bytes at %d of %d, where there were some: %v", off+int64(at), size, err)
				return
			}
			at += m
		}
		if string(whole[:n]) != string(pieces[:n]) {
			l.fault("%d bytes at %d are others when they are read in pieces", n, off)
		}
	}
}

// FuzzContainer bends containers in several places at once: an edit is the number of an
// object, an offset in it, and a byte. All checksums are right afterwards. What is seen must
// be the same at the second look, when the nodes are in the cache, and by a new reader.
func FuzzContainer(f *testing.F) {
	var bases []apfstest.HostileContainer
	for h := range apfstest.Hostile(1 << 30) {
		if strings.HasSuffix(h.Name, "/as it is") {
			bases = append(bases, h)
		}
	}
	for i := range bases {
		f.Add(uint8(i), []byte{})
		f.Add(uint8(i), []byte{9, 0, 56, 1, 12, 1, 50, 3})
	}
	f.Fuzz(func(t *testing.T, base uint8, edits []byte) {
		h := bases[int(base)%len(bases)]
		d := h.Disk
		for i := 0; i+4 <= len(edits) && i < 4*32; i += 4 {
			o := d.Objects[int(edits[i])%len(d.Objects)]
			off := (int(edits[i+1])<<8 | int(edits[i+2])) % (int(o.Count) * d.BlockSize)
			d = d.Bend(o, func(b []byte) { b[off] = edits[i+3] })
		}
		var first []byte
		for range 2 {
			c, err := apfs.New(d, d.Size, &apfs.Options{Password: h.Password})
			if err != nil {
				if class(err) == "" {
					t.Errorf("error without a class: %v", err)
				}
				return
			}
			for range 2 {
				l := newLooker()
				l.volumes(c)
				if l.wrong != nil {
					t.Error(l.wrong)
				}
				sum := l.seen.Sum(nil)
				if first != nil && !bytes.Equal(first, sum) {
					t.Error("another look sees something else")
				}
				first = sum
			}
		}
	})
}
