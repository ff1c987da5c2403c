package sparse

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/fstest"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

func infoPlist(pairs ...any) []byte {
	var b strings.Builder
	b.WriteString(`<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">
<plist version="1.0"><dict><key>bundle-backingstore-version</key><integer>1</integer>
<key>diskimage-bundle-type</key><string>com.apple.diskimage.sparsebundle</string>`)
	for i := 0; i < len(pairs); i += 2 {
		fmt.Fprintf(&b, "<key>%v</key><integer>%v</integer>", pairs[i], pairs[i+1])
	}
	b.WriteString("</dict></plist>")
	return []byte(b.String())
}

// writeBundle makes a bundle of disk: zero bands are left out, zeros at a band's
// end cut off, files that aren't bands added.
func writeBundle(disk []byte, bandSize int) fstest.MapFS {
	fsys := fstest.MapFS{
		"Info.plist":              {Data: infoPlist("band-size", bandSize, "size", len(disk))},
		"token":                   {},
		"bands/.DS_Store":         {Data: []byte("x")},
		"bands/00":                {Data: []byte("other zeros")},
		"bands/0A":                {Data: []byte("upper case")},
		"bands/-1":                {Data: []byte("negative")},
		"bands/7fffffff":          {Data: []byte("past the end")},
		"bands/fffffffffffffffff": {Data: []byte("2^68")},
	}
	for n := 0; n*bandSize < len(disk); n++ {
		if b := bytes.TrimRight(disk[n*bandSize:min(len(disk), (n+1)*bandSize)], "\x00"); len(b) > 0 {
			fsys[fmt.Sprintf("bands/%x", n)] = &fstest.MapFile{Data: bytes.Clone(b)}
		}
	}
	return fsys
}

func noUnlock(io.ReaderAt, int64) (Decrypter, error) {
	return nil, errors.New("unlock called")
}

func TestBundle(t *testing.T) {
	for _, tt := range []struct{ size, bandSize int }{
		{1, 512}, {512, 4096}, {1 << 20, 8 << 10}, {1<<20 + 5, 128 << 10}, {1 << 20, 1 << 30}, {300 << 10, 1 << 10},
	} {
		t.Run(fmt.Sprintf("%d/%d", tt.size, tt.bandSize), func(t *testing.T) {
			disk := sparseDisk(tt.size)
			b, err := OpenBundle(writeBundle(disk, tt.bandSize), noUnlock)
			if err != nil {
				t.Fatal(err)
			}
			if b.BandSize() != int64(tt.bandSize) || b.Encrypted() {
				t.Errorf("bands of %d, encrypted %v", b.BandSize(), b.Encrypted())
			}
			checkDisk(t, b, b.Extents(), disk)
			if n := len(b.files.mu.open); n > maxOpen {
				t.Errorf("%d files stay open", n)
			}
			if err := b.Close(); err != nil || len(b.files.mu.open) != 0 {
				t.Errorf("Close: %v, %d files open", err, len(b.files.mu.open))
			}
		})
	}
}

// The same from a real directory, confined to it.
func TestBundleDir(t *testing.T) {
	disk := sparseDisk(200 << 10)
	dir := t.TempDir()
	if err := os.CopyFS(dir, writeBundle(disk, 4096)); err != nil {
		t.Fatal(err)
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	b, err := OpenBundle(root.FS(), noUnlock)
	if err != nil {
		t.Fatal(err)
	}
	checkDisk(t, b, b.Extents(), disk)
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.ReadAt(make([]byte, 1), 20<<10); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("read after Close: %v", err)
	}
}

// A band that is no regular file spoils itself alone.
func TestBadBands(t *testing.T) {
	disk := dmgtest.Random(5, 100<<10).Bytes()
	const bandSize = 4096
	for _, mode := range []fs.FileMode{fs.ModeDevice, fs.ModeNamedPipe, fs.ModeDir, fs.ModeSymlink} {
		fsys := writeBundle(disk, bandSize)
		bad := []int{3, 4, 20}
		for _, n := range bad {
			fsys[fmt.Sprintf("bands/%x", n)] = &fstest.MapFile{Mode: mode, Data: []byte("1")}
		}
		b, err := OpenBundle(fsys, noUnlock)
		if err != nil {
			t.Fatal(err)
		}
		if d := b.Defects(); len(d) != len(bad) || !strings.Contains(fmt.Sprint(d), "bands/14") {
			t.Errorf("%v: defects %v", mode, d)
		}
		p := make([]byte, bandSize)
		for n := range len(disk) / bandSize {
			got, err := b.ReadAt(p, int64(n*bandSize))
			var format *FormatError
			if slices.Contains(bad, n) {
				if got != 0 || !errors.As(err, &format) || format.File != fmt.Sprintf("bands/%x", n) {
					t.Errorf("%v: band %d: %d, %v", mode, n, got, err)
				}
			} else if err != nil || !bytes.Equal(p, disk[n*bandSize:][:bandSize]) {
				t.Errorf("%v: band %d: %v", mode, n, err)
			}
		}
		at := int64(0)
		for e := range b.Extents() {
			if e.Offset != at || e.Length <= 0 || e.Hole || (e.Stored == 0) != slices.Contains(bad, int(at/bandSize)) || e.Stored > 0 && e.Stored != e.Length || e.Stored == 0 && e.Length != bandSize {
				t.Errorf("%v: extent %+v after %d", mode, e, at)
			}
			at += e.Length
		}
		if at != int64(len(disk)) {
			t.Errorf("%v: extents end at %d", mode, at)
		}
	}
}

// reversed is a cipher for tests: each byte's complement.
type reversed struct {
	r    io.ReaderAt
	size int64
}

func (r reversed) Size() int64 { return r.size }

func (r reversed) ReadAt(p []byte, off int64) (int, error) {
	n, err := r.r.ReadAt(p, off)
	for i := range p[:n] {
		p[i] ^= 0xFF
	}
	return n, err
}

func TestEncryptedBundle(t *testing.T) {
	disk := sparseDisk(300 << 10)
	fsys := writeBundle(disk, 4096)
	for name, f := range fsys {
		if strings.HasPrefix(name, "bands/") {
			for i := range f.Data {
				f.Data[i] ^= 0xFF
			}
		}
	}
	fsys["token"] = &fstest.MapFile{Data: []byte("a token")}
	unlock := func(r io.ReaderAt, size int64) (Decrypter, error) {
		token := make([]byte, size)
		if _, err := r.ReadAt(token, 0); err != nil || string(token) != "a token" {
			t.Errorf("token %q, %v", token, err)
		}
		return func(r io.ReaderAt, size int64) Sized { return reversed{r, size} }, nil
	}
	b, err := OpenBundle(fsys, unlock)
	if err != nil || !b.Encrypted() {
		t.Fatal(err)
	}
	checkDisk(t, b, b.Extents(), disk)
	if _, err := OpenBundle(fsys, noUnlock); err == nil || err.Error() != "unlock called" {
		t.Errorf("unlock's error became %v", err)
	}
	delete(fsys, "token")
	if _, err := OpenBundle(fsys, noUnlock); err != nil {
		t.Errorf("without a token: %v", err)
	}
}

var hostileBundles = []struct {
	name string
	info string // Info.plist; empty: as it should be
	file string // else this file is replaced
	mode fs.FileMode
	err  error  // nil: a *FormatError
	msg  string // part of the message
}{
	{name: "band-size 0", info: string(infoPlist("band-size", 0, "size", 1)), msg: "band-size 0"},
	{name: "no band-size", info: string(infoPlist("size", 1)), msg: "band-size 0"},
	{name: "negative band-size", info: string(infoPlist("band-size", -512, "size", 1)), msg: "band-size -512"},
	{name: "odd band-size", info: string(infoPlist("band-size", 513, "size", 1)), msg: "band-size 513"},
	{name: "huge band-size", info: string(infoPlist("band-size", int64(1)<<62, "size", 1)), msg: "band-size 46"},
	{name: "band-size 2^64-512", info: string(infoPlist("band-size", "18446744073709551104", "size", 1)), msg: "Info.plist"},
	{name: "negative size", info: string(infoPlist("band-size", 512, "size", -1)), msg: "size -1"},
	{name: "size 2^80", info: string(infoPlist("band-size", 512, "size", "1208925819614629174706176")), msg: "Info.plist"},
	{name: "type", info: strings.Replace(string(infoPlist()), bundleType, "x.y", 1), err: ErrUnsupported, msg: `"x.y"`},
	{name: "type of another type", info: strings.Replace(string(infoPlist()), "<string>"+bundleType+"</string>", "<array/>", 1), msg: "Info.plist"},
	{name: "not a list", info: "<plist/>", msg: "Info.plist"},
	{name: "an array", info: "<plist><array/></plist>", msg: "Info.plist"},
	{name: "binary", info: "bplist00\xdf\xff\xff\xff\xff", msg: "not XML"},
	{name: "deep", info: strings.Repeat("<array>", 9000), msg: "deeper"},
	{name: "long", info: strings.Repeat(" ", maxInfo+1), msg: "64 KiB"},
	{name: "Info.plist is a pipe", file: "Info.plist", mode: fs.ModeNamedPipe, msg: "not a regular file"},
	{name: "token is a directory", file: "token", mode: fs.ModeDir, msg: "not a regular file"},
	{name: "bands is a file", file: "bands", mode: 0, msg: "not a directory"},
}

func TestHostileBundles(t *testing.T) {
	for _, tt := range hostileBundles {
		t.Run(tt.name, func(t *testing.T) {
			fsys := writeBundle(sparseDisk(64<<10), 4096)
			if tt.file != "" {
				for name := range fsys {
					if strings.HasPrefix(name, tt.file+"/") {
						delete(fsys, name)
					}
				}
				fsys[tt.file] = &fstest.MapFile{Mode: tt.mode}
			} else {
				fsys["Info.plist"] = &fstest.MapFile{Data: []byte(tt.info)}
			}
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			_, err := OpenBundle(fsys, noUnlock)
			runtime.ReadMemStats(&after)
			var format *FormatError
			if tt.err == nil && !errors.As(err, &format) || tt.err != nil && !errors.Is(err, tt.err) || !strings.Contains(fmt.Sprint(err), tt.msg) {
				t.Errorf("%v, want %v with %q", err, tt.err, tt.msg)
			}
			if n := after.TotalAlloc - before.TotalAlloc; n > 2<<20 {
				t.Errorf("%d bytes allocated", n)
			}
		})
	}
	for _, missing := range []string{"Info.plist", "bands"} {
		fsys := writeBundle(make([]byte, 512), 512)
		for name := range fsys {
			if strings.HasPrefix(name, missing) {
				delete(fsys, name)
			}
		}
		if _, err := OpenBundle(fsys, noUnlock); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("without %s: %v", missing, err)
		}
	}
}

// The copy of Info.plist serves where that is damaged.
func TestInfoBackup(t *testing.T) {
	disk := sparseDisk(64 << 10)
	fsys := writeBundle(disk, 4096)
	fsys["Info.bckup"] = &fstest.MapFile{Data: fsys["Info.plist"].Data}
	fsys["Info.plist"] = &fstest.MapFile{}
	b, err := OpenBundle(fsys, noUnlock)
	if err != nil {
		t.Fatal(err)
	}
	checkDisk(t, b, b.Extents(), disk)
	if d := b.Defects(); len(d) != 1 || !strings.Contains(d[0].Error(), "Info.bckup was read instead") {
		t.Errorf("defects %v", d)
	}
	delete(fsys, "Info.plist")
	if b, err = OpenBundle(fsys, noUnlock); err != nil || len(b.Defects()) != 1 {
		t.Errorf("without Info.plist: %v", err)
	}
	fsys["Info.plist"] = &fstest.MapFile{}
	fsys["Info.bckup"] = &fstest.MapFile{Data: []byte("<a/>")}
	var format *FormatError
	if _, err := OpenBundle(fsys, noUnlock); !errors.As(err, &format) || format.File != "Info.plist" {
		t.Errorf("with both damaged: %v", err)
	}
}

// Info.bckup says nothing of what Info.plist says is another bundle, or what can't be
// read.
func TestInfoBackupUnused(t *testing.T) {
	fsys := writeBundle(sparseDisk(64<<10), 4096)
	fsys["Info.bckup"] = &fstest.MapFile{Data: fsys["Info.plist"].Data}
	fsys["Info.plist"] = &fstest.MapFile{Data: []byte(strings.Replace(string(infoPlist()), bundleType, "x.y", 1))}
	if _, err := OpenBundle(fsys, noUnlock); !errors.Is(err, ErrUnsupported) {
		t.Errorf("a bundle of another type: %v", err)
	}
	fault := errors.New("fault")
	if _, err := OpenBundle(failing{fsys, "Info.plist", fault}, noUnlock); !errors.Is(err, fault) {
		t.Errorf("a list that can't be read: %v", err)
	}
}

// failing is a file system in which one file can't be opened.
type failing struct {
	fstest.MapFS
	name string
	err  error
}

func (f failing) Open(name string) (fs.File, error) {
	if name == f.name {
		return nil, f.err
	}
	return f.MapFS.Open(name)
}

// Any version opens, with a type or without.
func TestVersions(t *testing.T) {
	disk := sparseDisk(64 << 10)
	for _, version := range []string{"0", "2", "3", "9223372036854775807", "18446744073709551615"} {
		fsys := writeBundle(disk, 4096)
		info := strings.Replace(string(fsys["Info.plist"].Data), "<integer>1<", "<integer>"+version+"<", 1)
		for _, info := range []string{info, strings.Replace(info, "<key>diskimage-bundle-type</key><string>com.apple.diskimage.sparsebundle</string>", "", 1)} {
			fsys["Info.plist"] = &fstest.MapFile{Data: []byte(info)}
			b, err := OpenBundle(fsys, noUnlock)
			if err != nil {
				t.Fatalf("version %s: %v", version, err)
			}
			checkDisk(t, b, b.Extents(), disk)
		}
	}
}

// Names in upper case serve where there is none in lower case.
func TestBandNames(t *testing.T) {
	disk := dmgtest.Random(6, 0xB0*512).Bytes()
	fsys := writeBundle(disk, 512)
	rename := func(from, to string) {
		fsys["bands/"+to] = fsys["bands/"+from]
		delete(fsys, "bands/"+from)
	}
	rename("a", "A")
	rename("1f", "1F")
	rename("ab", "aB")
	rename("aa", "AA")
	fsys["bands/aA"] = &fstest.MapFile{Data: []byte("one letter is")}
	fsys["bands/B"] = &fstest.MapFile{Data: []byte("b is there")}
	fsys["bands/00C"] = &fstest.MapFile{Data: []byte("leading zeros")}
	b, err := OpenBundle(fsys, noUnlock)
	if err != nil {
		t.Fatal(err)
	}
	checkDisk(t, b, b.Extents(), disk)
	if d := b.Defects(); len(d) != 1 || !strings.Contains(d[0].Error(), "bands/B") || !strings.Contains(d[0].Error(), "bands/b is there") {
		t.Errorf("defects %v", d)
	}
	fsys["bands/A"] = &fstest.MapFile{Mode: fs.ModeDir}
	if b, err = OpenBundle(fsys, noUnlock); err != nil {
		t.Fatal(err)
	}
	if _, err := b.ReadAt(make([]byte, 1), 10*512); err == nil || !strings.Contains(err.Error(), "bands/A") {
		t.Errorf("a directory as band A: %v", err)
	}
}

// mapOf makes the map of a band in which every third unit is clear, and unit 0.
func mapOf(bandSize int) []byte {
	units := (bandSize + 4095) / 4096
	bits := make([]byte, (units+7)/8)
	for i := range units {
		if i%3 != 0 {
			bits[i/8] |= 1 << (i % 8)
		}
	}
	return bits
}

// TestMaps reads bands with maps, whose files have 0xEE where the map says that
// nothing is.
func TestMaps(t *testing.T) {
	for _, bandSize := range []int{4096, 64 << 10, 7 * 512, 5*4096 + 512, 100_352} {
		for _, encrypted := range []bool{false, true} {
			disk := dmgtest.Random(8, 300<<10).Bytes()
			fsys := writeBundle(disk, bandSize)
			unlock := noUnlock
			if encrypted {
				fsys["token"] = &fstest.MapFile{Data: []byte("a token")}
				unlock = func(io.ReaderAt, int64) (Decrypter, error) {
					return func(r io.ReaderAt, size int64) Sized { return reversed{r, size} }, nil
				}
			}
			want := bytes.Clone(disk)
			last := (len(disk) - 1) / bandSize
			for n := range last + 1 {
				f := fsys[fmt.Sprintf("bands/%x", n)]
				band := want[n*bandSize : min(len(disk), (n+1)*bandSize)]
				name := fmt.Sprintf("mapped/%x", n)
				bits := mapOf(bandSize)
				switch n % 5 {
				case 1: // none
				case 2:
					fsys[name] = &fstest.MapFile{Data: append(bits, 0)}
				case 3:
					fsys[name] = &fstest.MapFile{Data: bits[:len(bits)-1]}
				case 4:
					fsys[name] = &fstest.MapFile{Mode: fs.ModeDir}
				default:
					fsys[name] = &fstest.MapFile{Data: bits}
					for i := range band {
						if bits[i/4096/8]>>(i/4096%8)&1 == 0 {
							band[i] = 0
							f.Data[i] = 0xEE
						}
					}
				}
				if encrypted {
					for i := range f.Data {
						f.Data[i] ^= 0xFF
					}
				}
			}
			b, err := OpenBundle(fsys, unlock)
			if err != nil {
				t.Fatal(err)
			}
			checkDisk(t, b, b.Extents(), want)
			// Too long, too short, and no file, of each five.
			wrong := 0
			for n := range last + 1 {
				if n%5 >= 2 {
					wrong++
				}
			}
			if d := b.Defects(); len(d) != min(wrong, maxDefects) {
				t.Errorf("bands of %d: %d defects, want %d: %v", bandSize, len(d), wrong, d)
			}
			b.Close()
		}
	}
	// A map larger than one of a band that hdiutil makes is not loaded.
	fsys := writeBundle([]byte("x"), 512)
	fsys["Info.plist"] = &fstest.MapFile{Data: infoPlist("band-size", int64(16<<30), "size", 1)}
	fsys["mapped/0"] = &fstest.MapFile{Data: make([]byte, 512<<10)}
	b, err := OpenBundle(fsys, noUnlock)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.ReadAt(make([]byte, 1), 0); !errors.Is(err, ErrUnsupported) {
		t.Errorf("a band of 16 GiB with a map: %v", err)
	}
}

// watched is a file system that counts what is open, fails on demand, and hides
// methods of its files.
type watched struct {
	fs.FS
	opens, open, most atomic.Int64
	fail              atomic.Pointer[error]
	wrap              func(fs.File) fs.File
}

func (w *watched) Open(name string) (fs.File, error) {
	if err := w.fail.Load(); err != nil && strings.HasPrefix(name, "bands/") {
		return nil, *err
	}
	f, err := w.FS.Open(name)
	if err != nil || name == "bands" {
		return f, err
	}
	w.opens.Add(1)
	n := w.open.Add(1)
	for most := w.most.Load(); n > most && !w.most.CompareAndSwap(most, n); most = w.most.Load() {
	}
	return w.wrap(f), nil
}

// Stat doesn't open.
func (w *watched) Stat(name string) (fs.FileInfo, error) { return fs.Stat(w.FS, name) }

func TestHandles(t *testing.T) {
	disk := dmgtest.Random(9, 400<<10).Bytes()
	w := &watched{FS: writeBundle(disk, 1024)}
	w.wrap = func(f fs.File) fs.File { return &countedFile{File: f, w: w} }
	b, err := OpenBundle(w, noUnlock)
	if err != nil {
		t.Fatal(err)
	}
	if w.open.Load() != 0 {
		t.Errorf("%d files open after opening", w.open.Load())
	}
	w.opens.Store(0)
	checkDisk(t, b, b.Extents(), disk)
	if most := w.most.Load(); most > maxOpen+4 {
		t.Errorf("up to %d files open with 4 readers", most)
	}
	// The bands read last stay open.
	w.opens.Store(0)
	p := make([]byte, 32<<10)
	for range 10 {
		if _, err := b.ReadAt(p, 0); err != nil {
			t.Fatal(err)
		}
	}
	if n := w.opens.Load(); n > 32 {
		t.Errorf("%d files opened for 32 bands", n)
	}
	if got := testing.AllocsPerRun(100, func() { b.ReadAt(p, 0) }); got != 0 {
		t.Errorf("%v allocations a read", got)
	}
	if err := b.Close(); err != nil || w.open.Load() != 0 {
		t.Errorf("Close: %v, %d files open", err, w.open.Load())
	}
}

// countedFile closes once, and counts.
type countedFile struct {
	fs.File
	w *watched
}

func (f *countedFile) ReadAt(p []byte, off int64) (int, error) {
	return f.File.(io.ReaderAt).ReadAt(p, off)
}

func (f *countedFile) Close() error {
	f.w.open.Add(-1)
	return f.File.Close()
}

// Many readers of one cold band open it once, and a failure isn't remembered.
func TestHandleFaults(t *testing.T) {
	disk := dmgtest.Random(9, 8<<10).Bytes()
	w := &watched{FS: writeBundle(disk, 4096)}
	w.wrap = func(f fs.File) fs.File { return &countedFile{File: f, w: w} }
	b, err := OpenBundle(w, noUnlock)
	if err != nil {
		t.Fatal(err)
	}
	fault := errors.New("fault")
	w.fail.Store(&fault)
	p := make([]byte, 8<<10)
	if n, err := b.ReadAt(p, 0); n != 0 || !errors.Is(err, fault) {
		t.Errorf("ReadAt = %d, %v", n, err)
	}
	w.fail.Store(nil)
	w.opens.Store(0)
	var wg sync.WaitGroup
	for range 16 {
		wg.Add(1)
		go func() {
			defer wg.Done()
			p := make([]byte, 100)
			if _, err := b.ReadAt(p, 50); err != nil || !bytes.Equal(p, disk[50:150]) {
				t.Errorf("ReadAt: %v", err)
			}
		}()
	}
	wg.Wait()
	if n := w.opens.Load(); n != 1 {
		t.Errorf("opened %d times", n)
	}
	// A file that ends before its size said isn't zeros.
	b.files.mu.open[0].data = io.NewSectionReader(bytes.NewReader(nil), 0, 4096)
	if n, err := b.ReadAt(p, 0); n != 0 || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("cut band: %d, %v", n, err)
	}
}

// seekOnly and noSeek hide how a file can be read.
type seekOnly struct {
	fs.File
	io.Seeker
}

type noSeek struct{ fs.File }

func TestSeekers(t *testing.T) {
	disk := sparseDisk(100 << 10)
	w := &watched{FS: writeBundle(disk, 4096), wrap: func(f fs.File) fs.File { return seekOnly{f, f.(io.Seeker)} }}
	b, err := OpenBundle(w, noUnlock)
	if err != nil {
		t.Fatal(err)
	}
	checkDisk(t, b, b.Extents(), disk)
	w.wrap = func(f fs.File) fs.File { return noSeek{f} }
	if _, err := OpenBundle(w, noUnlock); !errors.Is(err, ErrUnsupported) {
		t.Errorf("files without offsets: %v", err)
	}
}

// FuzzBundle: what opens reads the same whole and in part, and has extents that
// cover the disk.
func FuzzBundle(f *testing.F) {
	f.Add(infoPlist("band-size", 512, "size", 2000), "0", []byte("abc"), "3", []byte("def"), int64(1), uint16(2000))
	f.Add(infoPlist("band-size", int64(1)<<40, "size", int64(1)<<62), "3fffff", []byte("abc"), "..", []byte(nil), int64(1)<<61, uint16(9))
	f.Fuzz(func(t *testing.T, info []byte, name1 string, band1 []byte, name2 string, band2 []byte, off int64, n uint16) {
		fsys := fstest.MapFS{
			"Info.plist":     {Data: info},
			"bands/keep":     {},
			"bands/" + name1: {Data: band1},
			"bands/" + name2: {Data: band2},
		}
		b, err := OpenBundle(fsys, noUnlock)
		if err != nil {
			return
		}
		defer b.Close()
		off &= 1<<62 - 1
		p := make([]byte, n)
		got, err := b.ReadAt(p, off)
		if want := max(min(b.Size()-off, int64(n)), 0); int64(got) != want || err != nil && err != io.EOF {
			t.Fatalf("ReadAt of %d at %d = %d, %v, want %d", n, off, got, err, want)
		}
		for i := range p[:got] {
			var one [1]byte
			if _, err := b.ReadAt(one[:], off+int64(i)); err != nil || one[0] != p[i] {
				t.Fatalf("byte %d: %v", off+int64(i), err)
			}
		}
		at := int64(0)
		for e := range b.Extents() {
			if e.Offset != at || e.Length <= 0 || e.Length > b.Size()-at {
				t.Fatalf("extent %+v after %d", e, at)
			}
			at += e.Length
		}
		if at != b.Size() {
			t.Fatalf("extents end at %d of %d", at, b.Size())
		}
	})
}
