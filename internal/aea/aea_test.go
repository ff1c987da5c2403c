package aea_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	mrand "math/rand/v2"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/go-dmg/dmg/internal/aea"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// signer signs the archives of these tests. The standard library makes keys that differ
// each time, and so do signatures.
var signer = sync.OnceValue(func() *ecdsa.PrivateKey {
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	return k
})

var recipient = dmgtest.ArchivePrivateKey(1)

// profiles are archives of all profiles, and what opens them.
var profiles = []struct {
	name string
	how  func() (dmgtest.Archive, aea.Keys)
}{
	{"signed", func() (dmgtest.Archive, aea.Keys) {
		return dmgtest.Archive{NoKey: true, Signer: signer(), Auth: []byte("any")}, aea.Keys{PublicKey: &signer().PublicKey}
	}},
	{"unsigned", func() (dmgtest.Archive, aea.Keys) {
		return dmgtest.Archive{NoKey: true, Signer: signer(), Unsigned: true}, aea.Keys{PublicKey: &signer().PublicKey}
	}},
	{"key", func() (dmgtest.Archive, aea.Keys) {
		return dmgtest.Archive{Auth: dmgtest.ArchiveField("name", "value")}, aea.Keys{Key: dmgtest.ArchiveKey}
	}},
	{"wrapped key", func() (dmgtest.Archive, aea.Keys) {
		return dmgtest.Archive{Auth: dmgtest.ArchiveWrap(recipient.PublicKey(), dmgtest.ArchiveKey, "https://keys.example/abc")}, aea.Keys{PrivateKey: recipient}
	}},
	{"key in the auth data", func() (dmgtest.Archive, aea.Keys) {
		return dmgtest.Archive{Auth: dmgtest.ArchiveField("encryption_key", fmt.Sprintf("%x", dmgtest.ArchiveKey))}, aea.Keys{}
	}},
	{"key, signed", func() (dmgtest.Archive, aea.Keys) {
		public, err := signer().PublicKey.ECDH()
		if err != nil {
			panic(err)
		}
		return dmgtest.Archive{Profile: 2, Signer: signer()}, aea.Keys{Key: dmgtest.ArchiveKey, PublicKey: public}
	}},
	{"recipient", func() (dmgtest.Archive, aea.Keys) {
		return dmgtest.Archive{Profile: 3, Recipient: recipient.PublicKey()}, aea.Keys{PrivateKey: recipient}
	}},
	{"recipient, signed", func() (dmgtest.Archive, aea.Keys) {
		return dmgtest.Archive{Profile: 4, Recipient: recipient.PublicKey(), Signer: signer()}, aea.Keys{PrivateKey: recipient, PublicKey: &signer().PublicKey}
	}},
	{"password", func() (dmgtest.Archive, aea.Keys) {
		return dmgtest.Archive{Profile: 5, Password: "pässword"}, aea.Keys{Password: "pässword"}
	}},
}

// archiveOf returns an archive of small segments.
func archiveOf(a dmgtest.Archive, content dmgtest.Content) []byte {
	if a.Segment == 0 {
		a.Segment, a.PerCluster = 16<<10, 32
	}
	return a.Image(content, content.Size())
}

func open(t *testing.T, image []byte, keys aea.Keys) *aea.Reader {
	t.Helper()
	r, err := aea.Open(bytes.NewReader(image), int64(len(image)), keys, limit)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// checkReads reads in order, in odd steps, and at random.
func checkReads(t *testing.T, r io.ReaderAt, want []byte, seed uint64, times int) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := r.ReadAt(got, 0); n != len(want) || err != nil && err != io.EOF || !bytes.Equal(got, want) {
		t.Fatalf("in one read: %d bytes of %d, error %v, equal %v", n, len(want), err, bytes.Equal(got, want))
	}
	clear(got)
	for off, step := 0, 1; off < len(want); step = step*3%40009 + 1 {
		n := min(step, len(want)-off)
		if k, err := r.ReadAt(got[off:off+n], int64(off)); k != n || err != nil {
			t.Fatalf("%d bytes at %d: %d, %v", n, off, k, err)
		}
		off += n
	}
	if !bytes.Equal(got, want) {
		t.Fatal("reads in order give other bytes")
	}
	random := mrand.New(mrand.NewPCG(seed, 1))
	for range times {
		if len(want) == 0 {
			break
		}
		off := random.IntN(len(want))
		p := make([]byte, random.IntN(70000))
		n, err := r.ReadAt(p, int64(off))
		if k := min(len(p), len(want)-off); n != k || (err != nil) != (k < len(p)) || k < len(p) && err != io.EOF || !bytes.Equal(p[:n], want[off:off+n]) {
			t.Fatalf("%d bytes at %d of %d: %d, %v", len(p), off, len(want), n, err)
		}
	}
}

func TestProfiles(t *testing.T) {
	dmgtest.NotRaced(t)
	content := dmgtest.Mixed(1, 100_000)
	for _, tt := range profiles {
		for sum := range 3 {
			t.Run(fmt.Sprintf("%s/%d", tt.name, sum), func(t *testing.T) {
				a, keys := tt.how()
				a.Sum, a.Padding = byte(sum), 100*sum
				r := open(t, archiveOf(a, content), keys)
				checkReads(t, r, content.Bytes(), 1, 5)
				defer r.CompareSums()()
				checkReads(t, r, content.Bytes(), 2, 5)
			})
		}
	}
}

func TestSizes(t *testing.T) {
	dmgtest.NotRaced(t)
	const segment, cluster = 16 << 10, 32 * 16 << 10
	for _, codec := range []byte("-zex") {
		for _, size := range []int64{0, 1, segment - 1, segment, segment + 1, cluster - 1, cluster, cluster + 1, 2*cluster + segment, 3*cluster - 1} {
			if codec != 'z' && size > cluster+1 && dmgtest.Part() {
				continue
			}
			t.Run(fmt.Sprintf("%c/%d", codec, size), func(t *testing.T) {
				content := dmgtest.Mixed(uint64(size), size)
				a := dmgtest.Archive{Codec: codec, Mixed: codec == 'z', Sum: byte(size % 3)}
				checkReads(t, open(t, archiveOf(a, content), aea.Keys{Key: dmgtest.ArchiveKey}), content.Bytes(), uint64(size), 20)
			})
		}
	}
}

// Segments of a length that is no power of two, and shorter and longer than a page.
func TestOddSegments(t *testing.T) {
	dmgtest.NotRaced(t)
	for _, segment := range []int{16385, 32768, 50001, 1 << 20} {
		content := dmgtest.Mixed(3, 40*int64(segment)/(1+int64(segment)>>18)+77)
		r := open(t, archiveOf(dmgtest.Archive{Segment: segment, PerCluster: 33, Codec: 'z'}, content), aea.Keys{Key: dmgtest.ArchiveKey})
		t.Run(fmt.Sprint(segment), func(t *testing.T) { checkReads(t, r, content.Bytes(), 5, 30) })
	}
}

func TestManyReaders(t *testing.T) {
	content := dmgtest.Mixed(4, int64(dmgtest.Times(3, 3, 1))<<20)
	want := content.Bytes()
	for _, least := range []bool{false, true} {
		image := archiveOf(dmgtest.Archive{Codec: 'z', Segment: 64 << 10, PerCluster: 32}, content)
		memory := int64(limit)
		if least {
			memory = leastMemory(t, image)
		}
		r, err := aea.Open(bytes.NewReader(image), int64(len(image)), aea.Keys{Key: dmgtest.ArchiveKey}, memory)
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for g := range 16 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				checkReads(t, r, want, uint64(g), dmgtest.Times(40, 40, 10))
			}()
		}
		wg.Wait()
		if s := r.Stats(); s.Memory > r.Reserved() || r.Reserved() > memory {
			t.Errorf("%d bytes in use, %d reserved of %d", s.Memory, r.Reserved(), memory)
		}
	}
}

// leastMemory returns the least limit under which an archive opens.
func leastMemory(t *testing.T, image []byte) int64 {
	for limit := int64(1 << 16); ; limit += 1 << 16 {
		_, err := aea.Open(bytes.NewReader(image), int64(len(image)), aea.Keys{Key: dmgtest.ArchiveKey}, limit)
		if err == nil {
			return limit
		}
		if !errors.Is(err, aea.ErrMemory) {
			t.Fatal(err)
		}
	}
}

// Any number of readers of the same cold segment read and decode it once.
func TestSameSegment(t *testing.T) {
	content := dmgtest.Text(5, 4<<20)
	image := archiveOf(dmgtest.Archive{Codec: 'z', Segment: 1 << 20, PerCluster: 32}, content)
	for _, n := range []int64{4096, 1 << 20} {
		source := &dmgtest.Counter{R: bytes.NewReader(image)}
		r, err := aea.Open(dmgtest.Slow{R: source, Delay: 2e7}, int64(len(image)), aea.Keys{Key: dmgtest.ArchiveKey}, limit)
		if err != nil {
			t.Fatal(err)
		}
		r.ReadAt(make([]byte, 1), 0)
		source.Reset()
		var wg sync.WaitGroup
		for range 16 {
			wg.Add(1)
			go func() {
				defer wg.Done()
				p := make([]byte, n)
				if _, err := r.ReadAt(p, 2<<20); err != nil {
					t.Error(err)
				}
			}()
		}
		wg.Wait()
		if calls := source.Calls(); calls != 1 {
			t.Errorf("%d bytes for 16 readers took %d reads of the source", n, calls)
		}
		if s := r.Stats(); s.Decoded != 2<<20 {
			t.Errorf("%d bytes were decoded", s.Decoded)
		}
	}
}

// A read takes one call of the source for each megabyte of segments, and one for each
// cluster's header that is not known.
func TestSourceCalls(t *testing.T) {
	const segment, perCluster = 64 << 10, 32
	content := dmgtest.Text(6, 5*perCluster*segment)
	image := archiveOf(dmgtest.Archive{Codec: 'z', Segment: segment, PerCluster: perCluster}, content)
	source := &dmgtest.Counter{R: bytes.NewReader(image)}
	r, err := aea.Open(source, int64(len(image)), aea.Keys{Key: dmgtest.ArchiveKey}, limit)
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		name   string
		off, n int64
		calls  int
	}{
		{"the last byte: five headers, a segment", content.Size() - 1, 1, 6},
		{"next to it: cached", content.Size() - 2, 1, 0},
		{"the first: a segment", 0, 4096, 1},
		{"two segments", 10*segment - 100, 200, 1},
		{"a cluster", 2 * perCluster * segment, perCluster * segment, 2},
		{"over a cluster's edge", 3*perCluster*segment - segment, 2 * segment, 2},
	} {
		source.Reset()
		if n, err := r.ReadAt(make([]byte, step.n), step.off); int64(n) != step.n || err != nil {
			t.Fatalf("%s: %d, %v", step.name, n, err)
		}
		if calls := source.Calls(); calls > step.calls {
			t.Errorf("%s: %d calls, want %d: %v", step.name, calls, step.calls, source.Ranges())
		}
	}
}

// A reader that goes on gets many small segments in one call, and bytes decoded once.
func TestReadAhead(t *testing.T) {
	const segment = 16 << 10
	content := dmgtest.Text(14, 200*segment)
	image := archiveOf(dmgtest.Archive{Codec: 'z', Segment: segment, PerCluster: 256}, content)
	source := &dmgtest.Counter{R: bytes.NewReader(image)}
	r, err := aea.Open(source, int64(len(image)), aea.Keys{Key: dmgtest.ArchiveKey}, limit)
	if err != nil {
		t.Fatal(err)
	}
	got, err := io.ReadAll(io.NewSectionReader(r, 0, content.Size()))
	if err != nil || !bytes.Equal(got, content.Bytes()) {
		t.Fatal(err)
	}
	if s := r.Stats(); source.Calls() > 16 || s.Decoded != content.Size() {
		t.Errorf("%d calls, %d bytes decoded of %d", source.Calls(), s.Decoded, content.Size())
	}
}

// What is wrong with the keys is said, and no key.
func TestKeys(t *testing.T) {
	dmgtest.NotRaced(t)
	content := dmgtest.Text(7, 1000)
	wrapped := dmgtest.Archive{Auth: dmgtest.ArchiveWrap(recipient.PublicKey(), dmgtest.ArchiveKey, "https://keys.example/path/abc=")}
	curve384, err := ecdh.P384().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name string
		how  dmgtest.Archive
		keys aea.Keys
		err  error
		says string
	}{
		{"no key", dmgtest.Archive{}, aea.Keys{Password: "x"}, aea.ErrNoKey, "symmetric key of 32 bytes is needed"},
		{"wrong key", dmgtest.Archive{}, aea.Keys{Key: make([]byte, 32)}, aea.ErrWrongKey, "wrong key, or the archive's header is damaged"},
		{"short key", dmgtest.Archive{}, aea.Keys{Key: make([]byte, 31)}, aea.ErrWrongKey, "31 bytes, not 32"},
		{"no password", dmgtest.Archive{Profile: 5, Password: "x"}, aea.Keys{Key: dmgtest.ArchiveKey}, aea.ErrNoPassword, ""},
		{"wrong password", dmgtest.Archive{Profile: 5, Password: "x"}, aea.Keys{Password: "y"}, aea.ErrWrongPassword, "wrong password, or the archive's header is damaged"},
		{"strong password", dmgtest.Archive{Profile: 5, Password: "x", Strength: 1}, aea.Keys{Password: "x"}, nil, ""},
		{"no recipient", dmgtest.Archive{Profile: 3, Recipient: recipient.PublicKey()}, aea.Keys{Key: dmgtest.ArchiveKey}, aea.ErrNoPrivateKey, ""},
		{"wrong recipient", dmgtest.Archive{Profile: 3, Recipient: recipient.PublicKey()}, aea.Keys{PrivateKey: dmgtest.ArchivePrivateKey(9)}, aea.ErrWrongPrivateKey, ""},
		{"nothing for a wrapped key", wrapped, aea.Keys{}, aea.ErrNoKey, `which Apple serves at "https://keys.example/path/abc=" (nothing is fetched here)`},
		{"wrong key for a wrapped key", wrapped, aea.Keys{Key: make([]byte, 32), PrivateKey: recipient}, aea.ErrWrongKey, ""},
		{"wrong private key for a wrapped key", wrapped, aea.Keys{PrivateKey: dmgtest.ArchivePrivateKey(9)}, aea.ErrWrongPrivateKey, `wrapped for the one called "abc="`},
		{"private key of another curve", wrapped, aea.Keys{PrivateKey: curve384}, aea.ErrNoKey, "keys.example"},
		{"another wrapped key", dmgtest.Archive{Auth: dmgtest.ArchiveWrap(recipient.PublicKey(), make([]byte, 32), "https://x/y")}, aea.Keys{PrivateKey: recipient}, aea.ErrWrongPrivateKey, "not the archive's key"},
		{"no signer", dmgtest.Archive{NoKey: true, Signer: signer()}, aea.Keys{}, aea.ErrNoKey, "signer's public key"},
		{"wrong signer", dmgtest.Archive{NoKey: true, Signer: signer()}, aea.Keys{PublicKey: recipient.PublicKey()}, aea.ErrWrongKey, "public key"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			image := archiveOf(tt.how, content)
			_, err := aea.Open(bytes.NewReader(image), int64(len(image)), tt.keys, limit)
			if !errors.Is(err, tt.err) || tt.err != nil && (!errors.Is(err, aea.ErrPassword) || !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("error %v, want %v that says %q", err, tt.err, tt.says)
			}
		})
	}
	if s := fmt.Sprintf("%v %+v %#v", aea.Keys{Password: "secret"}, aea.Keys{Password: "secret"}, aea.Keys{Password: "secret"}); strings.Contains(s, "secret") {
		t.Error(s)
	}
}

// A signature that isn't the signer's is refused.
func TestSignature(t *testing.T) {
	a := dmgtest.Archive{NoKey: true, Signer: signer()}
	image := archiveOf(a, dmgtest.Text(8, 1000))
	for _, at := range []int{12, 20, 80} {
		bent := bytes.Clone(image)
		bent[at] ^= 1
		_, err := aea.Open(bytes.NewReader(bent), int64(len(bent)), aea.Keys{PublicKey: &signer().PublicKey}, limit)
		if (err == nil) != (at == 80 && bytes.Equal(image[60:90], make([]byte, 30))) && !errors.Is(err, aea.ErrChecksum) {
			t.Errorf("byte %d of the signature: %v", at, err)
		}
	}
}

// Damage of a segment is that segment's, of a header that of its cluster and those behind.
func TestDamage(t *testing.T) {
	const segment, perCluster = 16 << 10, 32
	content := dmgtest.Mixed(9, 3*perCluster*segment)
	want := content.Bytes()
	keys := aea.Keys{Key: dmgtest.ArchiveKey}
	for _, tt := range []struct {
		name     string
		how      dmgtest.Archive
		bad, end int64 // segments
		checksum bool
	}{
		{"segment", dmgtest.Archive{Codec: 'z', Flip: map[int]bool{40: true}}, 40, 41, true},
		{"last segment", dmgtest.Archive{Codec: 'z', Flip: map[int]bool{95: true}}, 95, 96, true},
		{"header", dmgtest.Archive{Codec: 'z', FlipHeader: map[int]bool{1: true}}, 32, 96, true},
		{"first header", dmgtest.Archive{Codec: 'z', FlipHeader: map[int]bool{0: true}}, 0, 96, true},
		{"content that lies", dmgtest.Archive{Codec: 'z', Entry: func(i int, e *dmgtest.ArchiveEntry) {
			if i == 5 {
				e.Plain--
			}
		}}, 5, 6, false},
		{"no zlib", dmgtest.Archive{Codec: 'z', Content: func(i int, b []byte) []byte {
			if i == 7 && len(b) > 100 {
				b[3] ^= 0xFF
			}
			return b
		}}, 7, 8, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.how.Segment, tt.how.PerCluster = segment, perCluster
			r := open(t, archiveOf(tt.how, content), keys)
			for range 2 {
				for i := int64(0); i < 96; i++ {
					p := make([]byte, segment)
					n, err := r.ReadAt(p, i*segment)
					if (err != nil) != (tt.bad <= i && i < tt.end) || err == nil && !bytes.Equal(p, want[i*segment:][:segment]) {
						t.Fatalf("segment %d: %d, %v", i, n, err)
					}
					if err != nil && errors.Is(err, aea.ErrChecksum) != tt.checksum {
						t.Fatalf("segment %d: %v", i, err)
					}
				}
			}
			// In one read: all before the damage is right.
			p := make([]byte, len(want))
			n, err := r.ReadAt(p, 0)
			if int64(n) != tt.bad*segment || err == nil || !bytes.Equal(p[:n], want[:n]) {
				t.Errorf("in one read: %d, %v", n, err)
			}
		})
	}
}

// A checksum that is not the content's is noticed when checksums are compared, whatever has
// been read before.
func TestCompareSums(t *testing.T) {
	content := dmgtest.Mixed(12, 50_000)
	for _, sum := range []byte{0, 1} {
		r := open(t, archiveOf(dmgtest.Archive{Codec: 'z', Sum: sum, BadSum: map[int]bool{1: true}}, content), aea.Keys{Key: dmgtest.ArchiveKey})
		p := make([]byte, 40_000)
		for range 2 {
			if n, err := r.ReadAt(p, 0); n != len(p) || err != nil {
				t.Fatal(n, err)
			}
			stop := r.CompareSums()
			if n, err := r.ReadAt(p, 0); n != 16<<10 || !errors.Is(err, aea.ErrChecksum) {
				t.Errorf("%d, %v", n, err)
			}
			stop()
		}
	}
}

// Of a file that is cut off, all that is there can be read.
func TestCut(t *testing.T) {
	const segment, perCluster = 16 << 10, 32
	content := dmgtest.Mixed(10, 2*perCluster*segment)
	want := content.Bytes()
	image := archiveOf(dmgtest.Archive{Codec: 'z', Segment: segment, PerCluster: perCluster}, content)
	for _, cut := range []int{1, 1000, len(image) / 2, len(image) - 300} {
		r := open(t, image[:len(image)-cut], aea.Keys{Key: dmgtest.ArchiveKey})
		missing, err := r.Missing()
		if err != nil || missing <= 0 || missing%segment != 0 {
			t.Fatalf("%d bytes are missing, %v", missing, err)
		}
		p := make([]byte, len(want))
		n, err := r.ReadAt(p, 0)
		var format *aea.FormatError
		if int64(n) != r.Size()-missing || !errors.As(err, &format) || !strings.Contains(err.Error(), "cut off") || !bytes.Equal(p[:n], want[:n]) {
			t.Errorf("cut by %d: %d bytes of %d, missing %d: %v", cut, n, r.Size(), missing, err)
		}
	}
	r := open(t, append(bytes.Clone(image), "more"...), aea.Keys{Key: dmgtest.ArchiveKey})
	if missing, err := r.Missing(); missing != 0 || err != nil {
		t.Errorf("%d bytes are missing, %v", missing, err)
	}
	checkReads(t, r, want, 1, 1)
}

// An error of the source is passed on, and the next read tries again.
func TestSourceErrors(t *testing.T) {
	content := dmgtest.Mixed(11, 40*16<<10)
	want := content.Bytes()
	image := archiveOf(dmgtest.Archive{Codec: 'z'}, content)
	errSource := errors.New("source")
	for fail := int64(1); ; fail++ {
		source := &dmgtest.FailAt{R: bytes.NewReader(image), Call: fail, Err: errSource}
		p := make([]byte, len(want))
		n := 0
		r, err := aea.Open(source, int64(len(image)), aea.Keys{Key: dmgtest.ArchiveKey}, limit)
		if err == nil {
			n, err = r.ReadAt(p, 0)
		}
		if err == nil {
			if fail < 6 {
				t.Errorf("only %d calls", fail)
			}
			break
		}
		if !errors.Is(err, errSource) || !bytes.Equal(p[:n], want[:n]) {
			t.Fatalf("call %d: %d bytes, %v", fail, n, err)
		}
		if r == nil {
			continue
		}
		if n, err := r.ReadAt(p, 0); n != len(p) || err != nil || !bytes.Equal(p, want) {
			t.Fatalf("after call %d failed: %d bytes, %v", fail, n, err)
		}
	}
}

// TestFIPS opens archives in a process in which the standard library refuses, or panics with,
// what FIPS 140 doesn't allow.
func TestFIPS(t *testing.T) {
	const child = "DMG_TEST_AEA_FIPS"
	if os.Getenv(child) == "" {
		cmd := dmgtest.Self(t, "-test.run=^TestFIPS$", "-test.v")
		cmd.Env = append(os.Environ(), child+"=1", "GODEBUG=fips140=only")
		out, err := cmd.CombinedOutput()
		if err != nil || !strings.Contains(string(out), "--- PASS: TestFIPS") {
			t.Errorf("%v: %s", err, out)
		}
		return
	}
	content := dmgtest.Text(13, 1000)
	for _, image := range []string{"key", "recipient"} {
		for _, tt := range profiles {
			if tt.name == image {
				a, keys := tt.how()
				checkReads(t, open(t, archiveOf(a, content), keys), content.Bytes(), 1, 1)
			}
		}
	}
	if _, err := os.Stat(samples); err != nil {
		return
	}
	for name, keys := range map[string]aea.Keys{
		"made/password.aea":    {Password: "pässword"},
		"made/wrapped.dmg.aea": {PrivateKey: readKey(t, "made/wrapped.pem")},
	} {
		image := readFile(t, name)
		if _, err := aea.Open(bytes.NewReader(image), int64(len(image)), keys, limit); !errors.Is(err, aea.ErrUnsupported) || errors.Is(err, aea.ErrPassword) {
			t.Errorf("%s: %v, want ErrUnsupported", name, err)
		}
	}
}
