package apfs_test

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	"github.com/go-dmg/dmg/apfs"
	"github.com/go-dmg/dmg/internal/apfstest"
)

// A wrong checksum is an error that names the block. What is in other blocks can be read.
func TestWrongChecksum(t *testing.T) {
	for _, name := range []string{"deep trees", "sealed, deep", "encrypted"} {
		t.Run(name, func(t *testing.T) {
			w := find(t, name)
			d := w.container.Write()
			whole, _ := readable(t, d, w.password, nil)
			nodes, failed, lost := 0, 0, 0
			for _, o := range d.Objects {
				if o.What != "node of file system tree" {
					continue
				}
				nodes++
				broken := d.Break(o, func(b []byte) { b[len(b)-1] ^= 0x40 })
				left, failures := readable(t, broken, w.password, &o.Block)
				if failures > 0 {
					failed++
				}
				lost += whole - left
			}
			// Nobody needs the records that tell a file's names. The nodes near the root
			// lose all files, the others a few.
			t.Logf("%d nodes, %d of them are needed; on average %.1f of %d files are lost", nodes, failed, float64(lost)/float64(nodes), whole)
			if nodes < 5 || failed < nodes*2/3 || name != "encrypted" && lost > nodes*whole/3 {
				t.Errorf("%d nodes, %d of them are needed, %d files are lost", nodes, failed, lost)
			}
		})
	}
}

// readable counts the files that can be read, and the failures. All of them must be about
// one block, if it is given.
func readable(t *testing.T, d *apfstest.Disk, password string, block *uint64) (n, failures int) {
	t.Helper()
	check := func(err error) {
		if err == nil {
			return
		}
		failures++
		var e *apfs.BlockError
		if !errors.As(err, &e) || block == nil || e.Block != *block || !errors.Is(err, apfs.ErrChecksum) || !strings.Contains(err.Error(), fmt.Sprint("block ", *block)) {
			t.Errorf("%v", err)
		}
	}
	fsys, err := open(t, d, password)[0].FS()
	if err != nil {
		check(err)
		return 0, failures
	}
	check(fs.WalkDir(fsys, ".", func(p string, d fs.DirEntry, err error) error {
		check(err)
		if err == nil && d.Type().IsRegular() {
			if _, err := fsys.ReadFile(p); err != nil {
				check(err)
			} else {
				n++
			}
		}
		return nil
	}))
	return n, failures
}

// The newest superblock is damaged, so that the one before it counts.
func TestOlderSuperblock(t *testing.T) {
	c := apfstest.Container{Newest: 2, Volumes: vol(someFiles())}
	d := c.Write()
	older := *d
	for _, o := range d.Objects {
		if o.What == "superblock" || o.What == "block 0" {
			older = *older.Break(o, func(b []byte) { b[3000] ^= 1 })
		}
	}
	if _, err := apfs.New(&older, older.Size, nil); !errors.Is(err, apfs.ErrChecksum) {
		t.Errorf("no superblock is right: %v", err)
	}
	// Block 0 alone is enough.
	for _, o := range d.Objects {
		if o.What == "superblock" {
			d = d.Break(o, func(b []byte) { b[3000] ^= 1 })
		}
	}
	if list := open(t, d, ""); len(list) != 1 {
		t.Errorf("%d volumes", len(list))
	}
}

func TestOneVolumeOfMany(t *testing.T) {
	d := (&apfstest.Container{Volumes: []*apfstest.Volume{{Name: "a"}, {Name: "b"}, {Name: "c"}}}).Write()
	n := 0
	for _, o := range d.Objects {
		if o.What == "volume superblock" {
			if n++; n == 2 {
				d = d.Break(o, func(b []byte) { b[300] ^= 1 })
			}
		}
	}
	c, err := apfs.New(d, d.Size, nil)
	if err != nil {
		t.Fatal(err)
	}
	list, err := c.Volumes()
	if len(list) != 2 || list[0].Name != "a" || list[1].Name != "c" || list[1].Index != 2 || !errors.Is(err, apfs.ErrChecksum) || !strings.Contains(err.Error(), "volume 1") {
		t.Errorf("%d volumes, %v", len(list), err)
	}
}

// The error names a feature that the package does not read.
func TestRefused(t *testing.T) {
	secret := []apfstest.User{{Password: "x"}}
	for _, tt := range []struct {
		name      string
		container apfstest.Container
		want      string
	}{
		{"Fusion", apfstest.Container{Incompat: 0x102}, "Fusion"},
		{"version 1", apfstest.Container{Incompat: 1}, "version 1"},
		{"unknown", apfstest.Container{Incompat: 0x1002}, "0x1000"},
		{"unknown of the volume", apfstest.Container{Volumes: []*apfstest.Volume{{Incompat: 0x40}}}, "0x40"},
		{"restore", apfstest.Container{Volumes: []*apfstest.Volume{{Incompat: 0x10}}}, "restore"},
		{"hardware", apfstest.Container{Hardware: true, Volumes: []*apfstest.Volume{{Users: secret}}}, "hardware"},
		{"key for each file", apfstest.Container{Volumes: []*apfstest.Volume{{Users: secret, PerFileKey: true}}}, "key for each file"},
		{"iterations", apfstest.Container{Volumes: []*apfstest.Volume{{Users: []apfstest.User{{Password: "x", Iterations: 1 << 31}}}}}, "2147483648 iterations"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := tt.container.Write()
			c, err := apfs.New(d, d.Size, &apfs.Options{Password: "x"})
			if err == nil {
				var list []*apfs.Volume
				if list, err = c.Volumes(); err != nil {
					t.Fatal(err)
				}
				_, err = list[0].FS()
			}
			if !errors.Is(err, apfs.ErrUnsupported) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%v, want %s", err, tt.want)
			}
		})
	}
}

// A volume whose encryption is being changed has blocks of both kinds.
func TestRolling(t *testing.T) {
	d := (&apfstest.Container{Volumes: vol(someFiles())}).Write()
	for _, o := range d.Objects {
		if o.What == "volume superblock" {
			d = d.Bend(o, func(b []byte) { b[976] = 1 })
		}
	}
	if _, err := open(t, d, "")[0].FS(); !errors.Is(err, apfs.ErrUnsupported) || !strings.Contains(err.Error(), "being encrypted") {
		t.Errorf("%v", err)
	}
}

func TestNoContainer(t *testing.T) {
	for _, data := range []string{"", "NXSB", strings.Repeat("x", 5000), strings.Repeat("\x00", 100000)} {
		if _, err := apfs.New(strings.NewReader(data), int64(len(data)), nil); !errors.Is(err, apfs.ErrFormat) {
			t.Errorf("%.10q: %v", data, err)
		}
	}
}

// failing is a source that fails at one call, or at all from one on.
type failing struct {
	r    io.ReaderAt
	at   int
	once bool
	n    int
}

var errSource = errors.New("the source's own error")

func (f *failing) ReadAt(p []byte, off int64) (int, error) {
	f.n++
	if f.n == f.at || f.n > f.at && !f.once {
		return 0, errSource
	}
	return f.r.ReadAt(p, off)
}

// A source's error is passed on, is of no class, and leaves nothing behind.
func TestSourceErrors(t *testing.T) {
	w := find(t, "encrypted")
	d := w.container.Write()
	for at := 1; ; at++ {
		f := &failing{r: d, at: at, once: true}
		c, err := apfs.New(f, d.Size, &apfs.Options{Password: w.password})
		if err != nil {
			checkSource(t, at, err)
			continue
		}
		list, err := c.Volumes()
		if err != nil {
			checkSource(t, at, err)
			if list, err = c.Volumes(); err != nil {
				t.Fatal(err)
			}
		}
		fsys, err := list[0].FS()
		if err != nil {
			checkSource(t, at, err)
			if fsys, err = list[0].FS(); err != nil {
				t.Fatal(err)
			}
		}
		before := f.n
		data, err := fsys.ReadFile("fragments")
		if err != nil {
			checkSource(t, at, err)
			data, err = fsys.ReadFile("fragments")
		}
		if err != nil || string(data) != string(pattern(300_001)) {
			t.Fatalf("call %d: %d bytes, %v", at, len(data), err)
		}
		if before > at && f.n > at {
			break
		}
		if at > f.n {
			break
		}
	}
}

func checkSource(t *testing.T, at int, err error) {
	t.Helper()
	if !errors.Is(err, errSource) || errors.Is(err, apfs.ErrFormat) || errors.Is(err, apfs.ErrChecksum) {
		t.Errorf("call %d: %v", at, err)
	}
}

// A source that returns less than it was asked for has ended.
func TestShortSource(t *testing.T) {
	w := find(t, "plain")
	d := w.container.Write()
	size := d.Size
	for _, n := range []int64{100, 5000, 40000, size / 2} {
		r := io.NewSectionReader(d, 0, n)
		c, err := apfs.New(r, size, nil)
		if err == nil {
			var list []*apfs.Volume
			if list, err = c.Volumes(); err == nil {
				_, err = list[0].FS()
			}
		}
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
}

// The password and keys are not printed.
func TestPrint(t *testing.T) {
	o := apfs.Options{Password: "secret!"}
	w := find(t, "encrypted")
	d := w.container.Write()
	c, err := apfs.New(d, d.Size, &apfs.Options{Password: w.password})
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range []any{o, &o, c} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
			if s := fmt.Sprintf(verb, v); strings.Contains(s, "secret") {
				t.Errorf("%s of %T: %s", verb, v, s)
			}
		}
	}
}
