package dmgtest

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// A VolumeManifest lists what is in a volume of the samples. The README of samples/fs says
// where it comes from.
type VolumeManifest struct {
	Offset int64  // of the volume on the disk, in bytes; 0 for a snapshot
	About  string // what the first line says of the volume, without the offset
	Files  []VolumeFile
	Xattrs map[string][]VolumeXattr // by path
}

// A VolumeFile is a file, a folder or a symbolic link. Where there is no text, it is "-".
type VolumeFile struct {
	Path   string // as the volume stores it
	Type   string // dir, file, symlink or hardlink
	Size   int64  // of the content, in bytes; -1 for a folder
	Sum    string // SHA-256 of the content
	Mode   string // octal, with the type
	Time   string // of the last change of the content
	Target string
	Rsrc   int64 // size of the resource fork as it is stored; -1 where there can't be one
	Notes  string
}

// Hidden reports whether macOS shows the file to nobody.
func (f *VolumeFile) Hidden() bool { return strings.Contains(f.Notes, "hidden") }

// Compressed reports whether the file is stored compressed.
func (f *VolumeFile) Compressed() bool { return strings.Contains(f.Notes, "decmpfs=") }

// A VolumeXattr is an attribute as it is stored.
type VolumeXattr struct {
	Name, Where, Sum string
	Size             int64
}

// ReadVolumeManifest reads BASE.tsv, and BASE.xattrs.tsv if there is one.
func ReadVolumeManifest(tb testing.TB, base string) *VolumeManifest {
	tb.Helper()
	m := &VolumeManifest{Xattrs: make(map[string][]VolumeXattr)}
	comment := readTSV(tb, base+".tsv", 10, func(f []string) {
		m.Files = append(m.Files, VolumeFile{
			Path: unescape(tb, f[0]), Type: f[1], Size: number(f[2]), Sum: f[3], Mode: f[4], Time: f[5],
			Target: unescape(tb, f[6]), Rsrc: number(f[7]), Notes: f[9],
		})
	})
	if len(m.Files) < 2 {
		tb.Fatalf("%s: a manifest of %d files", base, len(m.Files))
	}
	m.About = comment
	var kind string
	if n, _ := fmt.Sscanf(comment, "%s at byte %d:", &kind, &m.Offset); n == 2 {
		_, m.About, _ = strings.Cut(comment, ": ")
	}
	if _, err := os.Stat(base + ".xattrs.tsv"); !errors.Is(err, fs.ErrNotExist) {
		readTSV(tb, base+".xattrs.tsv", 5, func(f []string) {
			path := unescape(tb, f[0])
			m.Xattrs[path] = append(m.Xattrs[path], VolumeXattr{f[1], f[2], f[4], number(f[3])})
		})
	}
	return m
}

// readTSV gives the rows of a table, and returns its first comment.
func readTSV(tb testing.TB, name string, columns int, row func(f []string)) (comment string) {
	tb.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		tb.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if rest, ok := strings.CutPrefix(line, "# "); ok {
			if comment == "" {
				comment = rest
			}
			continue
		}
		f := strings.Split(line, "\t")
		if len(f) != columns {
			tb.Fatalf("%s: a row of %d columns: %q", name, len(f), line)
		}
		if f[0] != "path" {
			row(f)
		}
	}
	return comment
}

// number is a size, or -1.
func number(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return -1
	}
	return n
}

// unescape undoes the manifests' escapes: \\ and \xNN.
func unescape(tb testing.TB, s string) string {
	if !strings.Contains(s, `\`) {
		return s
	}
	u, err := strconv.Unquote(`"` + strings.ReplaceAll(s, `"`, `\"`) + `"`)
	if err != nil {
		tb.Fatalf("%q: %v", s, err)
	}
	return u
}

// unpacked are the files of which Unpack has the content.
var unpacked sync.Map

// Unpack returns the content of a file that is packed with gzip. It is kept for the next
// call, so it must not be changed. Where the file is missing, the test is skipped.
func Unpack(tb testing.TB, name string) []byte {
	tb.Helper()
	if data, ok := unpacked.Load(name); ok {
		return data.([]byte)
	}
	packed, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		tb.Skip("no samples")
	}
	if err != nil {
		tb.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		tb.Fatal(err)
	}
	data, err := io.ReadAll(z)
	if err != nil {
		tb.Fatal(err)
	}
	unpacked.Store(name, data)
	return data
}
