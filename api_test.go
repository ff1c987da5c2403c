package dmg_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// apiProgram uses every exported name as a program outside of the module does. What it says
// of their types is a promise: a change that breaks it breaks callers.
const apiProgram = `package main

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log"
	"os"
	"time"

	"github.com/go-dmg/dmg"
)

var (
	_ func(string, *dmg.Options) (*dmg.Image, error)             = dmg.Open
	_ func(fs.FS, string, *dmg.Options) (*dmg.Image, error)      = dmg.OpenFS
	_ func(io.ReaderAt, int64, *dmg.Options) (*dmg.Image, error) = dmg.NewImage
	_ func(io.Reader) (*dmg.Index, error)                        = dmg.ReadIndex

	_ interface {
		io.ReaderAt
		io.WriterTo
		io.Closer
		Size() int64
		Format() string
		Layers() []string
		Encrypted() bool
		Defects() []error
		Partitions() []dmg.Partition
		Chunks() iter.Seq[dmg.Chunk]
		Checksums() []dmg.Checksum
		ReadAtContext(ctx context.Context, p []byte, off int64) (int, error)
		Section(off, n int64) *dmg.Section
		Extract(context.Context, io.WriterAt, *dmg.ExtractOptions) error
		Verify(context.Context, *dmg.VerifyOptions) error
		BuildIndex(context.Context, *dmg.BuildIndexOptions) error
		Index() (*dmg.Index, error)
		Stats() dmg.Stats
		Volumes() ([]dmg.Volume, error)
		Volume() (dmg.Volume, error)
		FS() (fs.FS, error)
		Trailer() *dmg.Trailer
		Licenses() ([]dmg.License, error)
		Signature() (*dmg.Signature, error)
	} = (*dmg.Image)(nil)

	_ interface{ VerifyContent(context.Context) error } = (*dmg.Signature)(nil)

	_ interface {
		io.ReaderAt
		io.ReadSeeker
		io.WriterTo
		Size() int64
		Outer() (io.ReaderAt, int64, int64)
	} = (*dmg.Section)(nil)

	_ interface {
		io.WriterTo
		Len() int
	} = (*dmg.Index)(nil)

	_ interface{ Section() *dmg.Section } = dmg.Partition{}
	_ interface {
		fmt.Stringer
		FS() (fs.FS, error)
		Snapshots() ([]dmg.Snapshot, error)
	} = dmg.Volume{}
	_ interface {
		fmt.Stringer
		FS() (fs.FS, error)
	} = dmg.Snapshot{}
	_ interface {
		fmt.Stringer
		End() int64
	} = dmg.Damage{}
	_ fmt.Stringer = dmg.Chunk{}
	_ interface {
		fmt.Stringer
		encoding.TextMarshaler
	} = dmg.Method(0)
	_ encoding.TextUnmarshaler = (*dmg.Method)(nil)
	_ encoding.TextMarshaler   = dmg.Digest(nil)
	_ encoding.TextUnmarshaler = (*dmg.Digest)(nil)

	_ interface{ Is(error) bool }  = (*dmg.FormatError)(nil)
	_ interface{ Is(error) bool }  = (*dmg.ChecksumError)(nil)
	_ interface{ Unwrap() error } = (*dmg.ChunkError)(nil)

	methods = []dmg.Method{dmg.Zero, dmg.Raw, dmg.Ignore, dmg.ADC, dmg.Zlib, dmg.Bzip2, dmg.LZFSE, dmg.LZMA}
	classes = []error{
		dmg.ErrFormat, dmg.ErrUnsupported, dmg.ErrChecksum, dmg.ErrMemoryLimit,
		dmg.ErrPassword, dmg.ErrNoPassword, dmg.ErrWrongPassword, dmg.ErrNoPrivateKey, dmg.ErrWrongPrivateKey, dmg.ErrNoKey, dmg.ErrWrongKey,
		dmg.ErrIndex, dmg.ErrStaleIndex, dmg.ErrSeveralVolumes,
	}
)

func main() {
	var key crypto.Decrypter
	var index *dmg.Index
	im, err := dmg.Open(os.Args[1], &dmg.Options{Password: "secret", PrivateKey: key, Key: make([]byte, 32), PublicKey: crypto.PublicKey(nil), MemoryLimit: dmg.DefaultMemoryLimit, Index: index})
	if err != nil {
		log.Fatal(err)
	}
	defer im.Close()
	progress := func(done, total int64) {}
	err = errors.Join(
		im.Extract(context.Background(), io.NewOffsetWriter(nil, 0), &dmg.ExtractOptions{
			Offset: 0, Length: 512, Workers: 2, Ordered: true, Sparse: true, Progress: progress,
			Damaged: func(d dmg.Damage) error {
				fmt.Println(d.Offset, d.Length, d.Lost)
				return d.Err
			},
		}),
		im.Verify(context.Background(), &dmg.VerifyOptions{
			Workers: 2, Progress: progress,
			Result: func(r dmg.VerifyResult) {
				var sum *dmg.Checksum = r.Checksum
				var damage *dmg.Damage = r.Damage
				fmt.Println(sum, damage, r.Err)
			},
		}),
		im.BuildIndex(context.Background(), &dmg.BuildIndexOptions{Workers: 2, Progress: progress}),
	)
	var format *dmg.FormatError
	var chunk *dmg.ChunkError
	var sum *dmg.ChecksumError
	switch {
	case errors.As(err, &format):
		fmt.Println(format.Section, format.Offset, format.Msg)
	case errors.As(err, &chunk):
		var c dmg.Chunk = chunk.Chunk
		fmt.Println(c.Method, c.Offset, c.Length, c.DataOffset, c.DataLength, c.Partition, chunk.Err)
	case errors.As(err, &sum):
		var want, got []byte = sum.Want, sum.Got
		fmt.Println(sum.Part, sum.Partition, sum.Algorithm, want, got)
	}
	for _, p := range im.Partitions() {
		var name, kind string = p.Name, p.Type
		var offset, length int64 = p.Offset, p.Length
		fmt.Println(name, kind, offset, length, p.Table)
	}
	volumes, err := im.Volumes()
	for _, v := range volumes {
		var name, kind, role string = v.Name, v.Type, v.Role
		var offset, length, block, used, files int64 = v.Offset, v.Length, v.BlockSize, v.Used, v.Files
		fmt.Println(name, kind, role, v.Partition, offset, length, block, used, files, v.Encrypted, err)
		snapshots, err := v.Snapshots()
		for _, s := range snapshots {
			var name string = s.Name
			var created time.Time = s.Created
			fmt.Println(name, created, err)
		}
	}
	for _, c := range im.Checksums() {
		var sum []byte = c.Sum
		fmt.Println(c.Part, c.Partition, c.Algorithm, sum)
	}
	if t := im.Trailer(); t != nil {
		var id [16]byte = t.SegmentID
		fmt.Println(t.Flags, t.Segment, t.Segments, id, t.Variant)
	}
	licenses, err := im.Licenses()
	for _, l := range licenses {
		var data []byte = l.Data
		var words []string = l.Words
		fmt.Println(l.Language, l.Region, l.Default, l.Text, data, l.RTF, l.Encoding, words, err)
	}
	if s, err := im.Signature(); s != nil {
		var certificates []*x509.Certificate = s.Certificates
		var at time.Time = s.SigningTime
		var hash, ticket []byte = s.CDHash, s.Ticket
		fmt.Println(s.Identifier, s.TeamID, s.Flags, s.Hash, hash, certificates, at, ticket, s.Offset, s.Length, err)
	}
	s := im.Stats()
	fmt.Println(s.BytesRead, s.BytesDecoded, s.SourceBytes, s.SourceReads, s.CacheHits, s.CheckpointBytes, s.CacheBytes, s.MemoryUsed)
	fmt.Println(methods, classes)
}
`

// A program outside of the module compiles against the package's names, and go.mod needs
// nothing that the module cache, from which this test was built, doesn't have.
func TestAPI(t *testing.T) { vetModule(t, apiProgram) }

// vetModule vets a program in a module of its own, whose go.mod has this module and
// what it requires.
func vetModule(t *testing.T, program string) {
	t.Helper()
	goTool, err := exec.LookPath("go")
	if err != nil {
		t.Skip("there is no go command")
	}
	module, err := filepath.Abs(".")
	if err != nil {
		t.Fatal(err)
	}
	sums, err := os.ReadFile("go.sum")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, data := range map[string]string{
		"go.mod": "module example.com/program\n\ngo 1.25.0\n\nrequire github.com/go-dmg/dmg v0.0.0\n\n" +
			"require howett.net/plist v1.0.1\n\nreplace github.com/go-dmg/dmg => " + strconv.Quote(module) + "\n",
		"go.sum":  string(sums),
		"main.go": program,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(data), 0o666); err != nil {
			t.Fatal(err)
		}
	}
	vet := exec.Command(goTool, "vet", ".")
	vet.Dir = dir
	vet.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOPROXY=off", "GOWORK=off", "GOTOOLCHAIN=local")
	if out, err := vet.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s\n%s", err, out, program)
	}
}

// apiProgram uses every exported name of the package, by itself or in an interface of the
// standard library.
func TestAPIComplete(t *testing.T) {
	used := make(map[string]bool)
	for _, name := range regexp.MustCompile(`\w+`).FindAllString(apiProgram, -1) {
		used[name] = true
	}
	for _, name := range []string{"ReadAt", "WriteTo", "Close", "Error", "String", "MarshalText", "UnmarshalText"} {
		used[name] = true
	}
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	names := 0
	check := func(ids ...*ast.Ident) {
		for _, id := range ids {
			if id.IsExported() {
				if names++; !used[id.Name] {
					t.Errorf("%s is not used", id.Name)
				}
			}
		}
	}
	for _, name := range files {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			switch d := d.(type) {
			case *ast.FuncDecl:
				if d.Recv == nil || receiver(d).IsExported() {
					check(d.Name)
				}
			case *ast.GenDecl:
				for _, spec := range d.Specs {
					switch spec := spec.(type) {
					case *ast.ValueSpec:
						check(spec.Names...)
					case *ast.TypeSpec:
						check(spec.Name)
						if s, ok := spec.Type.(*ast.StructType); ok && spec.Name.IsExported() {
							for _, field := range s.Fields.List {
								check(field.Names...)
							}
						}
					}
				}
			}
		}
	}
	if names < 100 {
		t.Errorf("%d exported names: the test has missed some", names)
	}
}

// receiver returns the name of the type that a method is of.
func receiver(d *ast.FuncDecl) *ast.Ident {
	x := d.Recv.List[0].Type
	if p, ok := x.(*ast.StarExpr); ok {
		x = p.X
	}
	return x.(*ast.Ident)
}
