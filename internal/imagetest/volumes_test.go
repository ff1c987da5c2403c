package imagetest

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-dmg/dmg/hfsplus"
	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/dmgtest/hfsvol"
)

// What a hostile volume may cost the process that reads it.
const (
	volumeMemory  = 64 << 20        // resident, with the volume itself and the one before
	volumeCall    = 2 * time.Second // processor time of one call
	volumeWalk    = 4000            // names that the walk looks at
	volumeWalking = 5 * time.Second // processor time, after which it ends
	volumeRead    = 256 << 10       // of each file
)

// volumeEnv tells the process that reads volumes with which one to begin.
const volumeEnv = "DMG_TEST_HOSTILE_VOLUME"

// volumeTrial is what came of a volume.
type volumeTrial struct {
	trial
	Class   string
	Names   int            // that the walk saw
	Errors  map[string]int // by class
	Walking time.Duration  // processor time
}

// TestHostileVolumes walks thousands of hostile file systems, reads their files and
// asks for all that can be asked for. It does so in a process of its own, whose end is
// noticed and whose memory is bounded.
func TestHostileVolumes(t *testing.T) {
	dmgtest.Native(t)
	dmgtest.Long(t)
	t.Parallel()
	if from := os.Getenv(volumeEnv); from != "" {
		readVolumes(t, from)
		return
	}
	begun := time.Now()
	var trials []volumeTrial
	var mu sync.Mutex
	var wg sync.WaitGroup
	for shard := range hostileShards {
		wg.Add(1)
		go func() {
			defer wg.Done()
			from, crashes := shard, 0
			for {
				more, err := runTrials[volumeTrial](t, "TestHostileVolumes", volumeEnv+"="+strconv.Itoa(from))
				mu.Lock()
				trials = append(trials, more...)
				mu.Unlock()
				if err == nil {
					return
				}
				t.Errorf("the process ended at volume %d: %v", from+len(more)*hostileShards, err)
				if from += (len(more) + 1) * hostileShards; crashes == 5 {
					t.Error("enough of that")
					return
				}
				crashes++
			}
		}()
	}
	wg.Wait()
	reportVolumes(t, trials, time.Since(begun))
}

// handMade are the classes of few volumes, each of which is there for a reason.
var handMade = []string{"child", "names", "folders", "links"}

// readVolumes is the other process: every volume in long tests, else every tenth, or
// every 100th in a part of them; and the first of each class. Of those made by hand it
// reads ten times as many.
func readVolumes(t *testing.T, first string) {
	from, err := strconv.Atoi(first)
	if err != nil {
		t.Fatal(err)
	}
	only := os.Getenv(packEnv + "_ONLY")
	w := bufio.NewWriter(os.Stdout)
	fmt.Fprintln(w)
	i, n, class := 0, 0, ""
	for h := range hfsvol.Hostile() {
		step := dmgtest.Times(1, 20, 100)
		if slices.Contains(handMade, h.Class) {
			step = dmgtest.Times(1, 2, 10)
		}
		i++
		wanted := (i%step == 0 || h.Class != class) && strings.Contains(h.Name, only)
		class = h.Class
		if !wanted {
			continue
		}
		n++
		if n-1 < from || (n-1-from)%hostileShards != 0 {
			continue
		}
		stuck := time.AfterFunc(time.Minute, func() {
			debug.SetTraceback("all")
			panic(h.Name + " takes more than a minute")
		})
		r := tryVolume(h)
		stuck.Stop()
		line, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		w.Write(append(line, '\n'))
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
}

// tryVolume opens a volume and does everything that can be done with it.
func tryVolume(h hfsvol.HostileVolume) (r volumeTrial) {
	r.Name, r.Class, r.Errors = h.Name, h.Class, make(map[string]int)
	resetPeak()
	begun := time.Now()
	defer func() {
		r.Total = time.Since(begun)
		r.Peak = peak()
	}()
	image := h.Image()
	var fsys *hfsplus.FS
	err := r.time("New", func() (err error) {
		fsys, err = hfsplus.New(bytes.NewReader(image), int64(len(image)))
		return err
	})
	if err != nil {
		r.Open = r.note("New", err)
		return r
	}
	r.Open = "well"
	cpu := cpuTime()
	fsys.Volume()
	r.try("Dirty", func() error {
		_, err := fsys.Dirty()
		return err
	})
	v := &volumeWalker{r: &r, fsys: fsys, begun: cpu}
	v.folder(".", nil)
	v.known()
	if n := fsys.CacheBytes(); n > 5<<20 {
		r.Bad = append(r.Bad, fmt.Sprintf("%d bytes in the cache", n))
	}
	r.Walking = cpuTime() - cpu
	return r
}

// note counts an error by its class. One without any is the reader's fault.
func (r *volumeTrial) note(what string, err error) string {
	if err == nil {
		return "well"
	}
	for _, c := range []struct {
		err  error
		name string
	}{
		{hfsplus.ErrUnsupported, "ErrUnsupported"},
		{hfsplus.ErrFormat, "ErrFormat"},
		{hfsplus.ErrLoop, "ErrLoop"},
		{hfsplus.ErrTooLarge, "ErrTooLarge"},
		{fs.ErrNotExist, "ErrNotExist"},
		{fs.ErrInvalid, "ErrInvalid"},
	} {
		if errors.Is(err, c.err) {
			r.Errors[c.name]++
			return c.name
		}
	}
	r.bad("%s: an error without a class: %.500v", what, err)
	return "other"
}

func (r *volumeTrial) bad(format string, args ...any) {
	if len(r.Bad) < 20 {
		r.Bad = append(r.Bad, fmt.Sprintf(format, args...))
	}
}

// try makes a call whose error must have a class.
func (r *volumeTrial) try(call string, f func() error) error {
	err := r.time(call, f)
	r.note(call, err)
	return err
}

// A volumeWalker goes through a volume's folders.
type volumeWalker struct {
	r     *volumeTrial
	fsys  *hfsplus.FS
	begun time.Duration
}

func (v *volumeWalker) enough() bool {
	return v.r.Names > volumeWalk || cpuTime()-v.begun > volumeWalking
}

// folder looks at all names in a folder, and below. It knows the ids of the folders
// above: one that is there again must not open.
func (v *volumeWalker) folder(name string, above []uint64) {
	r := v.r
	var list []fs.DirEntry
	err := r.try("ReadDir", func() (err error) {
		list, err = v.fsys.ReadDir(name)
		return err
	})
	v.pieces(name, list, err)
	if info, err := v.fsys.Lstat(name); err == nil {
		id := info.Sys().(*hfsplus.Stat).ID
		if slices.Contains(above, id) && len(list) > 0 {
			r.bad("%q contains itself, and is listed", name)
		}
		above = append(above, id)
	}
	depth := len(above)
	seen := make(map[string]bool)
	for _, d := range list {
		if r.Names++; v.enough() {
			return
		}
		if !fs.ValidPath(d.Name()) || strings.ContainsAny(d.Name(), "/\\\x00") || d.Name() == "." {
			r.bad("%q lists the name %q", name, d.Name())
			continue
		}
		if seen[d.Name()] {
			r.bad("%q lists %q twice", name, d.Name())
		}
		seen[d.Name()] = true
		full := path.Join(name, d.Name())
		v.entry(full, d)
		// Deeper ones are more of the same.
		if d.IsDir() && (depth < 200 || depth%100 == 0) {
			v.folder(full, above)
		}
	}
}

// pieces lists a folder again, by an open file: the same names must come.
func (v *volumeWalker) pieces(name string, list []fs.DirEntry, listErr error) {
	r := v.r
	var f fs.File
	err := r.try("Open", func() (err error) {
		f, err = v.fsys.Open(name)
		return err
	})
	if err != nil {
		if listErr == nil {
			r.bad("%q is listed, and can't be opened: %v", name, err)
		}
		return
	}
	defer f.Close()
	names := make([]string, 0, len(list))
	for _, d := range list {
		names = append(names, d.Name())
	}
	var again []string
	for err == nil && len(again) <= len(names) {
		var some []fs.DirEntry
		err = r.time("ReadDir(n)", func() (err error) {
			some, err = f.(fs.ReadDirFile).ReadDir(7)
			return err
		})
		for _, d := range some {
			again = append(again, d.Name())
		}
		if len(some) == 0 && err == nil {
			r.bad("%q: ReadDir(7) gives nothing and no error", name)
			break
		}
	}
	if err == io.EOF {
		err = nil
	}
	r.note("ReadDir(n)", err)
	slices.Sort(again)
	if !slices.Equal(names, again) || (err == nil) != (listErr == nil) {
		r.bad("%q: %d names and %v at once, %d and %v in pieces", name, len(names), listErr, len(again), err)
	}
}

// entry asks for all that there is to know about a name.
func (v *volumeWalker) entry(name string, d fs.DirEntry) {
	r := v.r
	var info fs.FileInfo
	err := r.try("Lstat", func() (err error) {
		info, err = v.fsys.Lstat(name)
		return err
	})
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, hfsplus.ErrLoop):
		r.bad("%q is listed, and can't be looked up: %v", name, err)
	case err == nil && (info.Mode().Type() != d.Type() || info.Name() != d.Name() || info.Size() < 0):
		r.bad("%q is listed as %v, and is %v, %d bytes", name, d.Type(), info.Mode(), info.Size())
	}
	r.try("Info", func() error {
		_, err := d.Info()
		return err
	})
	r.try("Stat", func() error {
		_, err := v.fsys.Stat(name)
		return err
	})
	var names []string
	r.try("ListXattr", func() (err error) {
		names, err = v.fsys.ListXattr(name)
		return err
	})
	for i, attr := range append([]string{"com.apple.decmpfs", "com.apple.ResourceFork", "none"}, names...) {
		if i > 200 {
			break
		}
		var value *io.SectionReader
		err := r.try("OpenXattr", func() (err error) {
			value, err = v.fsys.OpenXattr(name, attr)
			return err
		})
		if err == nil {
			v.content(name+" "+attr, value, value.Size())
		} else if i > 2 && errors.Is(err, fs.ErrNotExist) {
			r.bad("%q: attribute %q is listed, and is not there", name, attr)
		}
	}
	r.try("ReadLink", func() error {
		_, err := v.fsys.ReadLink(name)
		return err
	})
	if d.IsDir() {
		return
	}
	var f fs.File
	err = r.try("Open", func() (err error) {
		f, err = v.fsys.Open(name)
		return err
	})
	if err != nil {
		return
	}
	defer f.Close()
	if at, ok := f.(io.ReaderAt); ok && info != nil && d.Type() == 0 {
		v.content(name, at, info.Size())
	}
}

// content reads the start and the end of a file, and its start again in pieces.
func (v *volumeWalker) content(name string, f io.ReaderAt, size int64) {
	r := v.r
	if size == 0 {
		return
	}
	p := make([]byte, min(size, volumeRead))
	n := v.readAt(name, f, p, 0, size)
	q := make([]byte, 1000)
	for off := int64(0); off < int64(n); off += 7777 {
		if m := v.readAt(name, f, q[:min(int64(n)-off, 1000)], off, size); !bytes.Equal(q[:m], p[off:off+int64(m)]) {
			r.bad("%q: bytes from %d on differ by how they are read", name, off)
		}
	}
	for _, off := range []int64{size - 1, size / 2, size - min(size, 100_000), size, size - min(size, 1<<40)} {
		v.readAt(name, f, q, off, size)
	}
}

func (v *volumeWalker) readAt(name string, f io.ReaderAt, p []byte, off, size int64) int {
	r := v.r
	n := 0
	err := r.time("ReadAt", func() (err error) {
		n, err = f.ReadAt(p, off)
		return err
	})
	switch {
	case n < 0 || n > len(p) || n < len(p) && err == nil:
		r.bad("%q: ReadAt of %d bytes: %d, %v", name, len(p), n, err)
		return 0
	case err == io.EOF:
		if off < size && off+int64(n) != size {
			r.bad("%q: end of %d bytes at %d", name, size, off+int64(n))
		}
	default:
		r.note("ReadAt of "+name, err)
	}
	return n
}

// known looks for names that some volumes have, without a list.
func (v *volumeWalker) known() {
	for _, name := range []string{
		"folder/deeper/b", "FOLDER/DEEPER/UP", "long", "packed", "small", "marked", "link", "folder link/inside", "sub/again/inside",
		"a/b/c/file", "x/x/x/x/x/x", "chain", "circle/next/next/next/next", "self", "up/up/up", "f1", "d1/inside", "l12", "l200",
		"%u", "%u002E", "%uD800", "none", strings.Repeat("x/", 1000) + "x", strings.Repeat("n", 70000),
	} {
		v.r.try("Stat", func() error {
			_, err := v.fsys.Stat(name)
			return err
		})
		v.r.try("ReadFile", func() error {
			_, err := v.fsys.ReadFile(name)
			var pe *fs.PathError
			if errors.As(err, &pe) && pe.Err.Error() == "is a directory" {
				return nil
			}
			return err
		})
	}
}

const volumeHead = `| class | volumes | New refuses | opens | errors while walking, volumes | memory | longest call | longest walk |
|---|---:|---|---:|---|---:|---:|---:|
`

// reportVolumes logs what came of each class, as the table that docs/SECURITY.md has,
// and holds each volume to the limits.
func reportVolumes(t *testing.T, trials []volumeTrial, took time.Duration) {
	type tally struct {
		n, opened        int
		open, errs       map[string]int
		peak             int64
		call             string
		longest, walking time.Duration
	}
	classes := make(map[string]*tally)
	for _, r := range trials {
		for _, bad := range r.Bad {
			t.Errorf("%s: %s", r.Name, bad)
		}
		if r.Longest > volumeCall {
			t.Errorf("%s: %s took %v", r.Name, r.Call, r.Longest)
		}
		if r.Peak > volumeMemory {
			t.Errorf("%s: %d MiB resident", r.Name, r.Peak>>20)
		}
		c := classes[r.Class]
		if c == nil {
			c = &tally{open: make(map[string]int), errs: make(map[string]int)}
			classes[r.Class] = c
		}
		c.n++
		if r.Open == "well" {
			c.opened++
			for name := range r.Errors {
				if name != "ErrNotExist" && name != "ErrInvalid" { // the caller asked for what isn't there
					c.errs[name]++
				}
			}
		} else {
			c.open[r.Open]++
		}
		c.peak, c.walking = max(c.peak, r.Peak), max(c.walking, r.Walking)
		if r.Longest > c.longest || c.call == "" {
			c.longest, c.call = r.Longest, r.Call
		}
	}
	if len(trials) < 100 && os.Getenv(packEnv+"_ONLY") == "" {
		t.Errorf("only %d hostile volumes", len(trials))
	}
	var table strings.Builder
	for _, name := range hfsvol.HostileClasses() {
		if c := classes[name]; c != nil {
			fmt.Fprintf(&table, "| %s | %d | %s | %d | %s | %d MiB | %s %.2f s | %.2f s |\n", name, c.n, counts(c.open), c.opened,
				counts(c.errs), c.peak>>20, c.call, c.longest.Seconds(), c.walking.Seconds())
		}
	}
	t.Logf("%d volumes in %v\n%s%s", len(trials), took.Round(time.Second), volumeHead, &table)
}
