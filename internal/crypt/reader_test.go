package crypt

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/sha1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"runtime"
	"sync"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// encrypted makes a Cipher and size bytes with their ciphertext, whose blocks the
// standard library's CBC mode encrypts.
func encrypted(t testing.TB, keyLen, blockSize, size int) (c *Cipher, plain, data []byte) {
	t.Helper()
	aesKey, hmacKey := stream(keyLen), stream(100)[80:]
	c, err := newCipher(aesKey, hmacKey, int64(blockSize))
	if err != nil {
		t.Fatal(err)
	}
	plain = dmgtest.Random(1, int64(size)).Bytes()
	data = append(bytes.Clone(plain), make([]byte, (blockSize-size%blockSize)%blockSize)...)
	block, err := aes.NewCipher(aesKey)
	if err != nil {
		t.Fatal(err)
	}
	mac := hmac.New(sha1.New, hmacKey)
	for n := range len(data) / blockSize {
		mac.Reset()
		binary.Write(mac, binary.BigEndian, uint32(n))
		b := data[n*blockSize:][:blockSize]
		cipher.NewCBCEncrypter(block, mac.Sum(nil)[:16]).CryptBlocks(b, b)
	}
	return c, plain, data
}

// shift is a source whose data begins at base.
func shift(data []byte, base int) []byte { return append(make([]byte, base), data...) }

// checkReads reads at every kind of place and compares with plain.
func checkReads(t *testing.T, r *Reader, plain []byte, rounds int) {
	rnd := rand.New(rand.NewPCG(1, 2))
	bs, size := int(r.BlockSize()), len(plain)
	edges := []int{0, 1, 15, 16, 17, bs - 1, bs, bs + 1, bufLen - 16, bufLen, bufLen + 1, size - 17, size - 16, size - 1, size}
	try := func(off, n int) {
		if off < 0 || n < 0 {
			return
		}
		p := bytes.Repeat([]byte{0xA5}, n)
		got, err := r.ReadAt(p, int64(off))
		want := min(n, max(size-off, 0))
		if got != want || (err == nil) != (got == n) || err != nil && err != io.EOF {
			t.Fatalf("ReadAt of %d at %d = %d, %v, want %d", n, off, got, err, want)
		}
		if !bytes.Equal(p[:got], plain[min(off, size):][:got]) {
			t.Fatalf("ReadAt of %d at %d: other bytes", n, off)
		}
	}
	for _, off := range edges {
		for _, end := range edges {
			try(off, end-off)
			try(off, end)
		}
	}
	for range rounds {
		off := rnd.IntN(size)
		try(off, rnd.IntN(1<<rnd.IntN(23)))
	}
}

func TestReadAt(t *testing.T) {
	withCores(t)
	for _, bs := range []int{512, 4096, 1536, 128 << 10, maxBlock} {
		for _, keyLen := range []int{16, 32} {
			for _, size := range []int{1, 16, 4095, 700_001, 3_000_001} {
				short := dmgtest.Part()
				if short && bs != 512 && (keyLen != 16 || size > 1<<20) || dmgtest.Emulated() && size > 1<<20 {
					continue
				}
				t.Run(fmt.Sprintf("%d/%d/%d", bs, keyLen*8, size), func(t *testing.T) {
					c, plain, data := encrypted(t, keyLen, bs, size)
					// The last block may be cut to whole AES blocks.
					data = data[:(size+15)&^15]
					src := dmgtest.EagerEOF{R: bytes.NewReader(shift(data, 77)), Size: int64(77 + len(data))}
					r := &Reader{c: c, src: src, base: 77, size: int64(size)}
					rounds := 60
					if short {
						rounds = 5
					}
					checkReads(t, r, plain, rounds)
				})
			}
		}
	}
}

// A Reader of a Cipher serves whole AES blocks and nothing of a negative size.
func TestCipherReader(t *testing.T) {
	c, plain, data := encrypted(t, 16, 512, 1024)
	for size, want := range map[int64]int64{-1: 0, 0: 0, 15: 0, 16: 16, 1023: 1008, 1024: 1024} {
		r := c.Reader(bytes.NewReader(data), size)
		got, err := io.ReadAll(io.NewSectionReader(r, 0, 1<<20))
		if r.Size() != want || err != nil || !bytes.Equal(got, plain[:want]) {
			t.Errorf("Reader of %d bytes has %d, read %d, %v", size, r.Size(), len(got), err)
		}
	}
	if n, err := c.Reader(nil, 16).ReadAt(make([]byte, 1), -1); n != 0 || err == nil || err == io.EOF {
		t.Errorf("ReadAt(-1) = %d, %v", n, err)
	}
}

// A read takes few calls of the source and little more than it returns.
func TestSourceReads(t *testing.T) {
	withCores(t)
	c, _, data := encrypted(t, 16, 4096, 4<<20)
	src := &dmgtest.Counter{R: bytes.NewReader(data)}
	r := c.Reader(src, int64(len(data)))
	rnd := rand.New(rand.NewPCG(3, 4))
	for range 300 {
		n, off := 1+rnd.IntN(1<<(1+rnd.IntN(21))), rnd.IntN(3<<20)
		aligned := rnd.IntN(2) == 0
		if aligned {
			n, off = roundUp(n, aesBlock), off&^4095
		}
		n = min(n, len(data)-off, 2*callLen-1)
		src.Reset()
		if _, err := r.ReadAt(make([]byte, n), int64(off)); err != nil {
			t.Fatal(err)
		}
		calls := 2
		if n <= 128<<10 || aligned && n%aesBlock == 0 {
			calls = 1
		}
		if src.Calls() > calls || src.Bytes() > int64(n)+46 {
			t.Errorf("ReadAt of %d at %d: %d bytes in %d calls", n, off, src.Bytes(), src.Calls())
		}
	}
}

// withCores has reads split where the machine has one core.
func withCores(t testing.TB) {
	was := runtime.GOMAXPROCS(max(4, runtime.GOMAXPROCS(0)))
	t.Cleanup(func() { runtime.GOMAXPROCS(was) })
}

func roundUp(n, unit int) int { return (n + unit - 1) / unit * unit }

// Bytes before a source's error are right, the error is the source's, and the next
// read works.
func TestFaults(t *testing.T) {
	dmgtest.NotEmulated(t)
	withCores(t)
	const size = 3 << 20
	fault := errors.New("fault")
	c, plain, data := encrypted(t, 16, 512, size)
	bads := []int{0, 1, 15, 16, 511, 512, 70_000, 300_000, 900_010, 2_000_000, size - 1}
	if dmgtest.Raced() {
		bads = bads[6:]
	}
	for _, bad := range bads {
		failing := true
		src := dmgtest.ReaderAtFunc(func(p []byte, off int64) (int, error) {
			if failing && off <= int64(bad) && int64(bad) < off+int64(len(p)) {
				return copy(p, data[off:bad]), fault
			}
			return copy(p, data[off:]), nil
		})
		r := c.Reader(src, size)
		for _, off := range []int{0, 5, 4096, 65_000} {
			for _, n := range []int{1, 33, 4096, 100_000, 900_000, 2_900_000} {
				p := make([]byte, min(n, size-off))
				failing = true
				got, err := r.ReadAt(p, int64(off))
				if err != nil && (err != fault || got == len(p)) || err == nil && got != len(p) || !bytes.Equal(p[:got], plain[off:off+got]) {
					t.Fatalf("bad byte %d, ReadAt of %d at %d = %d, %v", bad, len(p), off, got, err)
				}
				if inside := off <= bad && bad < off+len(p); inside && err == nil {
					t.Fatalf("bad byte %d, ReadAt of %d at %d: no error", bad, len(p), off)
				}
				failing = false
				if _, err := r.ReadAt(p, int64(off)); err != nil || !bytes.Equal(p, plain[off:off+len(p)]) {
					t.Fatalf("after a fault: %v", err)
				}
			}
		}
	}
}

// A source that ends early is no end of the data; one that returns little without
// an error is asked again.
func TestOddSources(t *testing.T) {
	c, plain, data := encrypted(t, 32, 512, 10_000)
	r := &Reader{c: c, src: bytes.NewReader(data[:5000]), size: 10_000}
	p := make([]byte, 10_000)
	if n, err := r.ReadAt(p, 0); n != 4992 || err != io.ErrUnexpectedEOF || !bytes.Equal(p[:n], plain[:n]) {
		t.Errorf("cut source: %d, %v", n, err)
	}
	r = &Reader{c: c, src: dmgtest.Short{R: bytes.NewReader(data), Max: 100}, size: 10_000}
	checkReads(t, r, plain, 50)
	r.src = dmgtest.ReaderAtFunc(func([]byte, int64) (int, error) { return 0, nil })
	if n, err := r.ReadAt(p, 0); n != 0 || err != io.ErrNoProgress {
		t.Errorf("source without progress: %d, %v", n, err)
	}
}

func TestConcurrent(t *testing.T) {
	c, plain, data := encrypted(t, 16, 512, 2<<20)
	r := c.Reader(bytes.NewReader(data), int64(len(data)))
	var wg sync.WaitGroup
	for g := range uint64(16) {
		wg.Add(1)
		go func() {
			defer wg.Done()
			rnd := rand.New(rand.NewPCG(g, 5))
			p := make([]byte, 600_000)
			for range 30 {
				n, off := rnd.IntN(1<<rnd.IntN(20)), rnd.IntN(1<<20)
				if _, err := r.ReadAt(p[:n], int64(off)); err != nil || !bytes.Equal(p[:n], plain[off:off+n]) {
					t.Errorf("ReadAt of %d at %d: %v", n, off, err)
				}
			}
		}()
	}
	wg.Wait()
}

func TestAllocs(t *testing.T) {
	dmgtest.NotEmulated(t)
	dmgtest.Long(t)
	if dmgtest.Raced() {
		t.Skip("the race detector empties pools")
	}
	withCores(t)
	c, _, data := encrypted(t, 16, 512, 2<<20)
	r := c.Reader(bytes.NewReader(data), int64(len(data)))
	for _, n := range []int{1, 4096, bufLen, splitLen - 1, splitLen, 1 << 20, 2 << 20} {
		p := make([]byte, n)
		for _, off := range []int64{0, 7} {
			// A collection in between empties the pool: less than one in ten reads.
			if got := allocs(100, func() { r.ReadAt(p, off) }); got >= 1 {
				t.Errorf("ReadAt of %d bytes at %d: %v allocations", n, off, got)
			}
		}
	}
}

// allocs is testing.AllocsPerRun on all cores.
func allocs(runs int, f func()) float64 {
	for range 10 {
		f()
	}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	for range runs {
		f()
	}
	runtime.ReadMemStats(&after)
	return float64(after.Mallocs-before.Mallocs) / float64(runs)
}

// FuzzOpen: an image that opens serves the same bytes in any order of reads, and
// those that the standard library's CBC mode decrypts.
func FuzzOpen(f *testing.F) {
	for _, tt := range madeTests {
		data := testFile(f, tt.file)
		f.Add(data, tt.password, uint16(1000), uint16(100))
		f.Add(data[:len(data)/2], tt.password, uint16(0), uint16(1))
	}
	key := certificateKey(f)
	f.Fuzz(func(t *testing.T, data []byte, password string, off, n uint16) {
		size := int64(len(data))
		h, err := parse(bytes.NewReader(data), size)
		if err != nil {
			return
		}
		// Few iterations: the fuzzer is to find more than large counts.
		u := NewUnlocker(Keys{Password: password, PrivateKey: key})
		u.budget = 5000
		c, err := h.unlock(u)
		if err != nil {
			return
		}
		have, err := h.checkData(size)
		if err != nil {
			return
		}
		r := &Reader{c: c, src: bytes.NewReader(data), base: h.dataOffset, size: have}
		all, err := io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
		if err != nil || int64(len(all)) != r.Size() {
			t.Fatalf("%d of %d bytes, %v", len(all), r.Size(), err)
		}
		p := make([]byte, n)
		got, err := r.ReadAt(p, int64(off))
		if got < len(p) && err != io.EOF || got == len(p) && err != nil && err != io.EOF {
			t.Fatalf("ReadAt of %d at %d = %d, %v", n, off, got, err)
		}
		if !bytes.Equal(p[:got], all[min(int(off), len(all)):][:got]) {
			t.Fatal("reads differ")
		}
		w := c.workers.Get().(*worker)
		for i := 0; i < len(all); i += int(h.blockSize) {
			end := min(len(all), i+int(h.blockSize))
			src := data[h.dataOffset+int64(i):][:(end-i+15)&^15]
			plain := make([]byte, len(src))
			cipher.NewCBCDecrypter(c.aes, w.ivs.iv(uint32(i/int(h.blockSize)))).CryptBlocks(plain, src)
			if !bytes.Equal(plain[:end-i], all[i:end]) {
				t.Fatalf("block at %d differs from CBC", i)
			}
		}
	})
}

func BenchmarkReadAt(b *testing.B) {
	for _, keyLen := range []int{16, 32} {
		for _, bs := range []int{512, 4096} {
			c, _, data := encrypted(b, keyLen, bs, 4<<20)
			r := c.Reader(bytes.NewReader(data), int64(len(data)))
			for _, n := range []int{4 << 10, 64 << 10, splitLen - 1, 4 << 20} {
				b.Run(fmt.Sprintf("aes%d/block=%d/read=%d", keyLen*8, bs, n), func(b *testing.B) {
					p := make([]byte, n)
					b.SetBytes(int64(n))
					b.ReportAllocs()
					for i := 0; b.Loop(); i++ {
						off := int64(i*4096+5) % int64(len(data)-n+1)
						if _, err := r.ReadAt(p, off); err != nil {
							b.Fatal(err)
						}
					}
				})
			}
		}
	}
}

func BenchmarkDerive(b *testing.B) {
	rec := testFile(b, "v2-aes128-512.img")[0x60:]
	put(rec, 8, 4, 1_000_000)
	for b.Loop() {
		u := NewUnlocker(Keys{Password: "secret"})
		kdf, err := u.derivation(rec, 0, 24)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := u.derive(kdf); err != nil {
			b.Fatal(err)
		}
	}
}
