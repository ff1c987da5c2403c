package main

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// A part without a checksum is not called good, unlike those beside it.
func TestVerifyUnchecked(t *testing.T) {
	l, err := dmgtest.Build(dmgtest.Text(1, 256<<10).Bytes(), dmgtest.Options{
		Partitions: []dmgtest.Partition{{Name: "one", Sectors: 256}, {Name: "two", First: 256}},
		MasterSum:  dmgtest.NoSum,
	})
	if err != nil {
		t.Fatal(err)
	}
	l.Tables[1].Checksum = dmgtest.Checksum{}
	if err := l.Seal(); err != nil {
		t.Fatal(err)
	}
	name := filepath.Join(t.TempDir(), "image.dmg")
	if err := os.WriteFile(name, l.Bytes(), 0o666); err != nil {
		t.Fatal(err)
	}
	got := dmgRun(t, "verify", "-q", name)
	want := `part +result +name
data fork +good
0 +good +one
1 +no checksum stored +two
master +no checksum stored
no checksum is stored for 2 parts of 4: that data can be read there is all that is known
`
	if got.status != 0 || got.errOut != "" || !regexp.MustCompile(`^`+want+`$`).MatchString(got.out) {
		t.Errorf("status %d, %q, output:\n%s", got.status, got.errOut, got.out)
	}
}

// An image is not damaged for what keeps a command from reading it.
func TestVerifyPrevented(t *testing.T) {
	const lzma = images + "good-lzma.dmg"
	image, _ := oneChunk(t, dmgtest.Bzip2)
	forgeIndex(t, image)
	for _, tt := range []struct {
		args []string
		want string // in standard error
	}{
		{[]string{"verify", "--memory-limit", "64k", lzma}, `dmg: \S+good-lzma.dmg: lzma chunk at sectors .*; give it more with --memory-limit\n`},
		{[]string{"map", "--verify", "--memory-limit", "64k", lzma}, `dmg: \S+good-lzma.dmg: lzma chunk at sectors .*; give it more with --memory-limit\n`},
		{[]string{"verify", image}, `dmg: \S+image.dmg: bzip2 chunk at sectors .*; leave it out with --no-index\n`},
		{[]string{"map", "--verify", image}, `dmg: \S+image.dmg: bzip2 chunk at sectors .*; leave it out with --no-index\n`},
		{[]string{"extract", "-p", "0", image, "-"}, `dmg: \S+image.dmg: bzip2 chunk at sectors [^;]*; leave it out with --no-index\n`},
		{[]string{"extract", "--keep-going", image, filepath.Join(t.TempDir(), "x")}, `dmg: \S+image.dmg: .*; leave it out with --no-index\n`},
	} {
		got := dmgRun(t, tt.args...)
		if got.status != statusError || !regexp.MustCompile(`^`+tt.want+`$`).MatchString(got.errOut) {
			t.Errorf("%v: status %d, %q, want %q", tt.args, got.status, got.errOut, tt.want)
		}
		if tt.args[0] != "extract" && got.out != "" {
			t.Errorf("%v: tells of damage:\n%s", tt.args, got.out)
		}
	}
}

// forgeIndex makes an index of an image that has a checkpoint which is none.
func forgeIndex(t *testing.T, image string) {
	t.Helper()
	name := image + ".dmgidx"
	b := makeIndex(t, image, name)
	body := b[:len(b)-sha256.Size]
	body[len(body)-68] ^= 1
	sum := sha256.Sum256(body)
	if err := os.WriteFile(name, append(body, sum[:]...), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestDamage sorts what Verify returns.
func TestDamage(t *testing.T) {
	dmgtest.NotRaced(t)
	chunk := dmg.Chunk{Method: dmg.Bzip2, Length: 512}
	bad := func(err error) error { return &dmg.ChunkError{Chunk: chunk, Err: err} }
	block := bad(dmg.ErrChecksum)
	memory, index, source := bad(fmt.Errorf("x: %w", dmg.ErrMemoryLimit)), bad(dmg.ErrIndex), errors.New("fault")
	sum := &dmg.ChecksumError{Part: "data fork", Partition: -1, Got: []byte{1}}
	unread := &dmg.ChecksumError{Part: "partition 0"}
	other := &dmg.ChunkError{Chunk: dmg.Chunk{Method: dmg.Bzip2, Offset: 512, Length: 512}, Err: dmg.ErrFormat}
	for _, tt := range []struct {
		err, want error
		text      string
	}{
		{nil, nil, "0 wrong checksums, 0 unreadable chunks"},
		{errors.Join(sum), nil, "1 wrong checksum, 0 unreadable chunks"},
		{errors.Join(sum, block, block, block, unread), nil, "1 wrong checksum, 1 unreadable chunk"},
		{errors.Join(block, block, other, unread), nil, "0 wrong checksums, 2 unreadable chunks"},
		{errors.Join(sum, block, memory, unread), memory, ""},
		{errors.Join(sum, index), index, ""},
		{source, source, ""},
	} {
		var d damage
		if err := d.add(tt.err); err != tt.want {
			t.Errorf("%v: returned %v, want %v", tt.err, err, tt.want)
		}
		if got := d.String(); tt.want == nil && got != tt.text {
			t.Errorf("%v: %q, want %q", tt.err, got, tt.text)
		}
	}
}
