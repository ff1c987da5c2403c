// Package imagetest tests whole images through what package dmg exports, where that
// takes long.
package imagetest

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
	"github.com/go-dmg/dmg/internal/dmgtest/hfsvol"
)

// What a hostile image may cost the process that reads it.
const (
	hostileLimit    = 16 << 20 // MemoryLimit
	hostileMemory   = 64 << 20 // resident beyond it: the runtime, the chunk map, garbage
	hostileMetadata = 2        // and this often the metadata: the property list, which has 32 MiB at most, and the table in it
	hostileTags     = 32 << 20 // and this the 65,536 tags that a property list may have, parsed twice if it has a license
	hostileVirtual  = 2 << 20  // ulimit -v, in KiB

	// Processor time of one call. The longest is Open that derives keys in
	// the 10,000,000 iterations that a header may ask for.
	hostileCall = 10 * time.Second

	hostileVerify  = 500 * time.Millisecond // when Verify's context ends
	hostileWritten = 8 << 20
	hostileReads   = 50
	hostileReading = 2 * time.Second // after which no more reads begin: each finds damage anew
	hostileShards  = 2               // processes at a time
)

// packEnv names the file of hostile images to the process that reads them.
const packEnv = "DMG_TEST_HOSTILE"

// packed is a hostile image in the pack.
type packed struct {
	Name, Class string
	Files       []packedFile
	Names       []string // of the files in a bundle
	Index       packedFile
}

type packedFile struct{ Off, Len int64 }

// trial is what came of an image.
type trial struct {
	Name    string // of the image
	Open    string // the class of its error, or "well"
	Read    string // if opened, the class of the first error
	Verify  string // likewise
	Bad     []string
	Longest time.Duration // of one call
	Call    string        // which
	Total   time.Duration
	Peak    int64 // bytes resident at most
}

// TestHostile opens and reads thousands of hostile images in a process of its
// own, whose end is noticed, whose memory is bounded by the system, and whose
// peak is measured without what making the images takes.
func TestHostile(t *testing.T) {
	dmgtest.Native(t)
	dmgtest.Long(t)
	t.Parallel()
	if pack := os.Getenv(packEnv); pack != "" {
		readPack(t, pack)
		return
	}
	pack, images := makePack(t)
	if len(images) < 60 && os.Getenv(packEnv+"_ONLY") == "" {
		t.Fatalf("only %d hostile images", len(images))
	}
	begun := time.Now()
	trials := make([]trial, len(images))
	var wg sync.WaitGroup
	for shard := range hostileShards {
		wg.Add(1)
		go func() {
			defer wg.Done()
			runShard(t, pack, images, trials, shard)
		}()
	}
	wg.Wait()
	report(t, images, trials, time.Since(begun))
}

// runShard has every image of a shard read, with a new process after one that an
// image has ended.
func runShard(t *testing.T, pack string, images []packed, trials []trial, shard int) {
	crashes := 0
	for i := shard; i < len(images); {
		more, err := runPack(t, pack, i)
		for _, r := range more {
			trials[i] = r
			i += hostileShards
		}
		if i >= len(images) {
			return
		}
		t.Errorf("%s: the process ended: %v", images[i].Name, err)
		trials[i] = trial{Name: images[i].Name, Open: "a crash"}
		if i += hostileShards; crashes == 10 {
			t.Error("enough of that")
			return
		}
		crashes++
	}
}

// makePack writes the images to a file: every one in long tests, else every 20th, or
// every 400th in a part of them; and the first of each class.
func makePack(t *testing.T) (string, []packed) {
	step := dmgtest.Times(1, 20, 400)
	name := filepath.Join(t.TempDir(), "pack")
	f, err := os.Create(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	only := os.Getenv(packEnv + "_ONLY")
	w := &packWriter{f: f, names: make(map[string]bool)}
	i, class := 0, ""
	for h := range hostileImages(t) {
		if i++; (i%step == 0 || h.Class != class) && strings.Contains(h.Name, only) {
			w.add(t, h)
		}
		class = h.Class
	}
	all := w.all
	index, err := json.Marshal(all)
	if err == nil {
		err = os.WriteFile(name+".json", index, 0o666)
	}
	if err != nil {
		t.Fatal(err)
	}
	return name, all
}

// hostileImages are all that dmgtest bends, the index files last. Those are left
// out that take seconds to make if tests run in part, and where everything takes ten
// times as long those that take long to read.
func hostileImages(t *testing.T) iter.Seq[dmgtest.HostileImage] {
	var large []string
	if dmgtest.Part() {
		large = []string{"chunks", "tables", "plist size", "xz"}
	}
	if dmgtest.Slowed() {
		large = append(large, "bomb", "slow")
	}
	return func(yield func(dmgtest.HostileImage) bool) {
		for h := range dmgtest.Hostile(large...) {
			if !yield(h) {
				return
			}
		}
		image, index := indexedImage(t)
		for h := range dmgtest.HostileIndexes(image, index) {
			if !yield(h) {
				return
			}
		}
	}
}

// indexedImage is an image with a chunk of zlib and one of bzip2, and the
// checkpoints in them.
func indexedImage(t *testing.T) (image, index []byte) {
	t.Helper()
	const size = 400 << 10
	image = dmgtest.Image(t, dmgtest.Text(1, size).Bytes(), dmgtest.Options{
		Codecs: []dmgtest.Method{dmgtest.Zlib, dmgtest.Bzip2}, Level: 1, ChunkSectors: size / 2 / dmgtest.SectorSize,
	})
	im, err := dmg.NewImage(bytes.NewReader(image), int64(len(image)), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer im.Close()
	if err := im.BuildIndex(context.Background(), nil); err != nil {
		t.Fatal(err)
	}
	var w bytes.Buffer
	if ix, err := im.Index(); err != nil {
		t.Fatal(err)
	} else if _, err := ix.WriteTo(&w); err != nil {
		t.Fatal(err)
	}
	return image, w.Bytes()
}

// A packWriter writes images to a pack. An image that is the last one's too is
// there once.
type packWriter struct {
	f     io.Writer
	at    int64
	all   []packed
	names map[string]bool
	last  []byte
	where packedFile
}

func (w *packWriter) add(t *testing.T, h dmgtest.HostileImage) {
	t.Helper()
	if w.names[h.Name] {
		t.Errorf("two images are named %s", h.Name)
	}
	w.names[h.Name] = true
	p := packed{Name: h.Name, Class: h.Class, Index: w.write(t, h.Index)}
	for _, f := range h.Dir {
		p.Names = append(p.Names, f.Name)
		p.Files = append(p.Files, w.write(t, f.Data))
	}
	if len(h.Dir) == 0 {
		if len(h.Image) == 0 || len(w.last) == 0 || &h.Image[0] != &w.last[0] || len(h.Image) != len(w.last) {
			w.last, w.where = h.Image, w.write(t, h.Image)
		}
		p.Files = append(p.Files, w.where)
	}
	for _, b := range h.Rest {
		p.Files = append(p.Files, w.write(t, b))
	}
	w.all = append(w.all, p)
}

func (w *packWriter) write(t *testing.T, b []byte) packedFile {
	t.Helper()
	if _, err := w.f.Write(b); err != nil {
		t.Fatal(err)
	}
	f := packedFile{w.at, int64(len(b))}
	w.at += f.Len
	return f
}

// runPack reads the images of a shard from one on, in another process. It returns
// what came of those that were read before that process ended.
func runPack(t *testing.T, pack string, from int) ([]trial, error) {
	return runTrials[trial](t, "TestHostile", packEnv+"="+pack, packEnv+"_FROM="+strconv.Itoa(from))
}

// runTrials runs a test of this package in another process, with more in the environment.
// It returns the trials that the process printed, each as JSON in a line of its own, before
// it ended.
func runTrials[T any](t *testing.T, test string, env ...string) (trials []T, err error) {
	cmd := dmgtest.Self(t, "-test.run=^"+test+"$", "-test.timeout=20m")
	// The race detector reserves terabytes of addresses, and so may an emulator.
	if runtime.GOOS == "linux" && !dmgtest.Slowed() {
		args := append([]string{"-c", fmt.Sprintf(`ulimit -v %d && exec "$0" "$@"`, hostileVirtual)}, cmd.Args...)
		cmd = exec.Command("sh", args...)
	}
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "GOMEMLIMIT=") && !strings.HasPrefix(v, "GOGC=") && !strings.HasPrefix(v, "GODEBUG=") {
			cmd.Env = append(cmd.Env, v)
		}
	}
	// What is decoded ahead, and so the memory and the work, is by the cores.
	cmd.Env = append(append(cmd.Env, "GOMAXPROCS=2"), env...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	for line := range bytes.Lines(out) {
		var r T
		if bytes.HasPrefix(line, []byte("{")) && json.Unmarshal(line, &r) == nil {
			trials = append(trials, r)
		}
	}
	if err == nil {
		return trials, nil
	}
	said := append(out[bytes.LastIndexByte(out, '}')+1:], stderr.Bytes()...)
	return trials, fmt.Errorf("%w: %.3000s", err, said)
}

// A tally is what came of the images of a class.
type tally struct {
	images, opened     int
	open, read, verify map[string]int // errors by class
	slowest, largest   trial
}

// report logs what came of each class, as the table that docs/SECURITY.md has,
// and holds each image to the limits.
func report(t *testing.T, images []packed, trials []trial, took time.Duration) {
	classes := make(map[string]*tally)
	for i, r := range trials {
		checkTrial(t, images[i], r)
		class := classes[images[i].Class]
		if class == nil {
			class = &tally{open: make(map[string]int), read: make(map[string]int), verify: make(map[string]int)}
			classes[images[i].Class] = class
		}
		class.add(r)
	}
	var table strings.Builder
	for _, name := range dmgtest.HostileClasses() {
		if class := classes[name]; class != nil {
			fmt.Fprintf(&table, "| %s | %v |\n", name, class)
		}
	}
	t.Logf("%d images in %v\n%s%s", len(trials), took.Round(time.Second), tallyHead, &table)
}

const tallyHead = `| class | images | Open refuses | opens | a read fails | Verify fails | memory | longest call |
|---|---:|---|---:|---|---|---:|---:|
`

// Each class of hostile images and volumes has its row in a table of what became of
// them.
func TestSecurityOutcomes(t *testing.T) {
	doc, err := os.ReadFile("../../docs/SECURITY.md")
	if err != nil {
		t.Fatal(err)
	}
	for head, classes := range map[string][]string{
		tallyHead:  dmgtest.HostileClasses(),
		volumeHead: hfsvol.HostileClasses(),
	} {
		_, table, found := strings.Cut(string(doc), head)
		var rows []string
		for row := range strings.Lines(table) {
			if !strings.HasPrefix(row, "| ") {
				break
			}
			rows = append(rows, strings.Split(row, " | ")[0][len("| "):])
		}
		if !found || !slices.Equal(rows, classes) {
			t.Errorf("a table has the classes %q, want %q", rows, classes)
		}
	}
}

func (a *tally) add(r trial) {
	a.images++
	if r.Open == "well" {
		a.opened++
		a.read[r.Read]++
		a.verify[r.Verify]++
	} else {
		a.open[r.Open]++
	}
	if r.Longest > a.slowest.Longest || a.slowest.Call == "" {
		a.slowest = r
	}
	if r.Peak > a.largest.Peak {
		a.largest = r
	}
}

func (a *tally) String() string {
	return fmt.Sprintf("%d | %s | %d | %s | %s | %d MiB | %s %.2f s", a.images, counts(a.open), a.opened,
		counts(a.read), counts(a.verify), a.largest.Peak>>20, a.slowest.Call, a.slowest.Longest.Seconds())
}

// counts lists errors by class, the most frequent first.
func counts(of map[string]int) string {
	var line []string
	for _, name := range slices.SortedFunc(maps.Keys(of), func(a, b string) int { return cmp.Or(of[b]-of[a], strings.Compare(a, b)) }) {
		if name != "well" {
			line = append(line, fmt.Sprintf("%d %s", of[name], name))
		}
	}
	return cmp.Or(strings.Join(line, ", "), "–")
}

// checkTrial holds an image to the limits.
func checkTrial(t *testing.T, image packed, r trial) {
	for _, bad := range r.Bad {
		t.Errorf("%s: %s", r.Name, bad)
	}
	if dmgtest.Slowed() {
		return
	}
	if r.Longest > hostileCall {
		t.Errorf("%s: %s took %v", r.Name, r.Call, r.Longest)
	}
	most := int64(hostileLimit + hostileMemory)
	switch size := image.Files[0].Len; image.Class {
	case "plist size":
		most += hostileMetadata*min(size, 32<<20) + hostileTags
	case "fork":
		most += hostileMetadata * min(size, 32<<20)
	}
	if r.Peak > most {
		t.Errorf("%s: %d MiB resident", r.Name, r.Peak>>20)
	}
}

// readPack is the other process: it reads the images and writes a trial for each
// to its standard output.
func readPack(t *testing.T, name string) {
	index, err := os.ReadFile(name + ".json")
	if err != nil {
		t.Fatal(err)
	}
	var all []packed
	if err := json.Unmarshal(index, &all); err != nil {
		t.Fatal(err)
	}
	pack, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer pack.Close()
	from, err := strconv.Atoi(os.Getenv(packEnv + "_FROM"))
	if err != nil {
		t.Fatal(err)
	}
	w := bufio.NewWriter(os.Stdout)
	fmt.Fprintln(w)
	for i := from; i < len(all); i += hostileShards {
		p := all[i]
		// What an endless loop is busy with can be seen in its stack.
		stuck := time.AfterFunc(time.Minute, func() {
			debug.SetTraceback("all")
			panic(p.Name + " takes more than a minute")
		})
		r := try(t, pack, p)
		stuck.Stop()
		line, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := w.Write(append(line, '\n')); err != nil {
			t.Fatal(err)
		}
		if err := w.Flush(); err != nil {
			t.Fatal(err)
		}
	}
}

// try opens one image and does everything that can be done with it.
func try(t *testing.T, pack io.ReaderAt, p packed) (r trial) {
	r.Name = p.Name
	resetPeak()
	begun := time.Now()
	defer func() {
		r.Total = time.Since(begun)
		r.Peak = peak()
	}()
	var im *dmg.Image
	err := r.time("Open", func() (err error) {
		im, err = p.open(t, pack)
		return err
	})
	r.Open = r.class(err)
	if err != nil {
		return r
	}
	defer im.Close()
	r.chunks(im)
	im.Format()
	im.Partitions()
	reads, readErr := r.reads(im)
	w := &reader8{reads: reads}
	err = r.time("WriteTo", func() error {
		_, err := im.WriteTo(w)
		return err
	})
	// Whoever makes an index makes the bytes that a read resumes from, too.
	if w.wrong != "" && p.Class != "index" {
		r.Bad = append(r.Bad, w.wrong)
	}
	if err != nil && !errors.Is(err, errEnough) {
		r.class(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), hostileVerify)
	defer cancel()
	err = r.time("Verify", func() error { return im.Verify(ctx, nil) })
	indexErr := r.time("Index", func() error {
		_, err := im.Index()
		return err
	})
	r.class(indexErr)
	r.class(r.time("Licenses", func() error {
		_, err := im.Licenses()
		return err
	}))
	r.class(r.time("Signature", func() error {
		s, err := im.Signature()
		if s != nil {
			err = s.VerifyContent(ctx)
		}
		return err
	}))
	r.Read, r.Verify = r.class(readErr), r.class(err)
	return r
}

// open opens an image from the pack, or from files where it is more than one.
func (p *packed) open(t *testing.T, pack io.ReaderAt) (*dmg.Image, error) {
	opts := &dmg.Options{MemoryLimit: hostileLimit, Password: dmgtest.HostilePassword, Key: dmgtest.ArchiveKey}
	if p.Index.Len > 0 {
		var err error
		if opts.Index, err = dmg.ReadIndex(io.NewSectionReader(pack, p.Index.Off, p.Index.Len)); err != nil {
			return nil, err
		}
	}
	if f := p.Files[0]; len(p.Files) == 1 && p.Names == nil {
		return dmg.NewImage(io.NewSectionReader(pack, f.Off, f.Len), f.Len, opts)
	}
	return dmg.Open(unpack(t, pack, p), opts)
}

// unpack writes the files of a split image, or of a bundle, to a directory.
func unpack(t *testing.T, pack io.ReaderAt, p *packed) string {
	dir, name := t.TempDir(), "image.dmg"
	if p.Names != nil {
		name = "image.sparsebundle"
	}
	first := filepath.Join(dir, name)
	for i, f := range p.Files {
		file := dmgtest.SegmentName(first, i+1)
		if p.Names != nil {
			file = filepath.Join(first, filepath.FromSlash(p.Names[i]))
		}
		b := make([]byte, f.Len)
		_, err := io.ReadFull(io.NewSectionReader(pack, f.Off, f.Len), b)
		if err == nil {
			err = os.MkdirAll(filepath.Dir(file), 0o777)
		}
		if err == nil {
			err = os.WriteFile(file, b, 0o666)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return first
}

// time calls f and notes how long it took. A panic ends the process: what it leaves
// behind may make the next call wait for ever.
func (r *trial) time(call string, f func() error) error {
	begun, cpu := time.Now(), cpuTime()
	defer func() {
		if took := min(time.Since(begun), cpuTime()-cpu); took > r.Longest {
			r.Longest, r.Call = took, call
		}
	}()
	return f()
}

// class is the class of an error. One without any is the reader's fault.
func (r *trial) class(err error) string {
	if err == nil {
		return "well"
	}
	for _, c := range []struct {
		err  error
		name string
	}{
		{dmg.ErrMemoryLimit, "ErrMemoryLimit"},
		{dmg.ErrPassword, "ErrPassword"},
		{dmg.ErrUnsupported, "ErrUnsupported"},
		{dmg.ErrFormat, "ErrFormat"},
		{dmg.ErrChecksum, "ErrChecksum"},
		{dmg.ErrIndex, "ErrIndex"},
		{context.DeadlineExceeded, "deadline"},
	} {
		if errors.Is(err, c.err) {
			return c.name
		}
	}
	r.Bad = append(r.Bad, fmt.Sprintf("an error without a class: %.2000v", err))
	return "other"
}

// chunks asks that the chunks cover the disk, without overlap or gap.
func (r *trial) chunks(im *dmg.Image) {
	end := int64(0)
	err := r.time("Chunks", func() error {
		for c := range im.Chunks() {
			if c.Offset != end || c.Length <= 0 {
				return fmt.Errorf("chunk at %d of %d bytes follows %d", c.Offset, c.Length, end)
			}
			end += c.Length
		}
		if end != im.Size() {
			return fmt.Errorf("chunks end at %d, the disk at %d", end, im.Size())
		}
		return nil
	})
	if err != nil {
		r.Bad = append(r.Bad, err.Error())
	}
}

// piece is what one read gave.
type piece struct {
	off int64
	b   []byte
}

// reads reads here and there, twice as often in the first 8 MiB as anywhere.
// It returns what it read and the first error.
func (r *trial) reads(im *dmg.Image) (pieces []piece, first error) {
	rnd := rand.New(rand.NewPCG(1, 2))
	begun := time.Now()
	for i := range hostileReads {
		if time.Since(begun) > hostileReading {
			break
		}
		p := make([]byte, rnd.IntN(8<<10))
		within := max(1, im.Size())
		if i%3 > 0 {
			within = min(within, hostileWritten)
		}
		off := rnd.Int64N(within)
		n := 0
		err := r.time("ReadAt", func() (err error) {
			n, err = im.ReadAt(p, off)
			return err
		})
		switch {
		case n < 0 || n > len(p) || n < len(p) && err == nil:
			r.Bad = append(r.Bad, fmt.Sprintf("ReadAt of %d bytes: %d, %v", len(p), n, err))
			return pieces, first
		case err == io.EOF && off+int64(n) != im.Size():
			r.Bad = append(r.Bad, fmt.Sprintf("end of a disk of %d bytes at %d", im.Size(), off+int64(n)))
		case err != nil && err != io.EOF:
			// All must have a class; the first stands for all.
			if r.class(err); first == nil {
				first = err
			}
		}
		pieces = append(pieces, piece{off, p[:n]})
	}
	return pieces, first
}

// errEnough ends WriteTo.
var errEnough = errors.New("enough")

// reader8 takes the first 8 MiB of the disk, and compares them with what was read
// before.
type reader8 struct {
	reads []piece
	n     int64
	wrong string
}

func (w *reader8) Write(p []byte) (int, error) {
	for _, r := range w.reads {
		from, to := max(r.off, w.n), min(r.off+int64(len(r.b)), w.n+int64(len(p)))
		if from < to && !bytes.Equal(r.b[from-r.off:to-r.off], p[from-w.n:to-w.n]) {
			w.wrong = fmt.Sprintf("bytes %d to %d differ by how they are read", from, to)
		}
	}
	if w.n += int64(len(p)); w.n >= hostileWritten {
		return len(p), errEnough
	}
	return len(p), nil
}

// cpuTime is the processor time that this process has had, on all cores. Unlike
// the clock's it doesn't pass while others keep the machine busy. Where it can't
// be had it is the clock's.
func cpuTime() time.Duration {
	stat, err := os.ReadFile("/proc/self/stat")
	if err != nil {
		return time.Since(started)
	}
	// After the name, which may hold spaces: the state is the third field, and
	// the times in user and system mode are the 14th and the 15th.
	f := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	var ticks int64
	for _, s := range f[11:13] {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return time.Since(started)
		}
		ticks += n
	}
	return time.Duration(ticks) * time.Second / 100
}

var started = time.Now()

// resetPeak makes peak start anew, where Linux lets it.
func resetPeak() {
	if peak() > hostileLimit+hostileMemory/2 {
		debug.FreeOSMemory() // what the image before has left
	}
	if runtime.GOOS == "linux" {
		os.WriteFile("/proc/self/clear_refs", []byte("5"), 0) // else the peak is of all images so far
	}
}

// peak is the most memory that this process has had resident, in bytes, as far
// as the system tells.
func peak() int64 {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	kib, err := strconv.ParseInt(strings.TrimSpace(strings.SplitN(rest, "kB", 2)[0]), 10, 64)
	if err != nil {
		return 0
	}
	return kib << 10
}
