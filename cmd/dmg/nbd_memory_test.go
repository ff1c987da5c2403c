//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"runtime/debug"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// repeatedImage is a small file with a disk of n times the data, in chunks of all
// codecs: the chunks of each round share the data of the first.
func repeatedImage(t *testing.T, data []byte, n int) string {
	t.Helper()
	l, err := dmgtest.Build(data, dmgtest.Options{
		Codecs: []dmgtest.Method{dmgtest.Zlib, dmgtest.Bzip2, dmgtest.LZMA, dmgtest.LZFSE, dmgtest.ADC}, ChunkSectors: 1024,
	})
	if err != nil {
		t.Fatal(err)
	}
	table := &l.Tables[0]
	round, end := table.Chunks[:len(table.Chunks)-1], table.Chunks[len(table.Chunks)-1]
	table.Chunks = nil
	sectors := uint64(len(data) / sectorSize)
	for i := range uint64(n) {
		for _, c := range round {
			c.Sector += i * sectors
			table.Chunks = append(table.Chunks, c)
		}
	}
	end.Sector = uint64(n) * sectors
	table.Chunks = append(table.Chunks, end)
	table.Sectors, table.Count = end.Sector, uint32(len(table.Chunks))
	if err := l.Seal(); err != nil {
		t.Fatal(err)
	}
	l.Koly.Sectors = end.Sector
	name := filepath.Join(t.TempDir(), "repeated.dmg")
	if err := os.WriteFile(name, l.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// nbdDial connects and chooses the default export and simple replies.
func nbdDial(socket string) (net.Conn, error) {
	c, err := net.Dial("unix", socket)
	if err != nil {
		return nil, err
	}
	hello := binary.BigEndian.AppendUint32(nil, 3)
	hello = append(hello, "IHAVEOPT\x00\x00\x00\x01\x00\x00\x00\x00"...)
	if _, err := c.Write(hello); err != nil {
		c.Close()
		return nil, err
	}
	_, err = io.ReadFull(c, make([]byte, 18+10))
	return c, err
}

// nbdRequest is a request to read n bytes.
func nbdRequest(cookie uint64, off int64, n int) []byte {
	be := binary.BigEndian
	b := be.AppendUint64(nil, 0x25609513<<32)
	b = be.AppendUint64(b, cookie)
	b = be.AppendUint64(b, uint64(off))
	return be.AppendUint32(b, uint32(n))
}

// nbdReader is a client with 16 requests in flight, of up to 1 MiB each at random
// places. It compares what it gets with data, over and over, for as long as told and
// until it was served, and returns how many requests were answered.
func nbdReader(socket string, seed uint64, data []byte, size int64, took time.Duration) (answers int, err error) {
	c, err := nbdDial(socket)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	end := time.Now().Add(took)
	c.SetDeadline(end.Add(time.Minute)) // on a busy machine the first answer takes seconds
	defer func() {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = nil
		}
	}()
	be := binary.BigEndian
	rng := rand.New(rand.NewPCG(seed, 0))
	var offs [16]int64
	var lens [16]int
	buf := make([]byte, 1<<20)
	send := func(i int) error {
		lens[i] = 1 + rng.IntN(4096<<rng.IntN(9))
		offs[i] = rng.Int64N(size - int64(lens[i]))
		_, err := c.Write(nbdRequest(uint64(i), offs[i], lens[i]))
		return err
	}
	for i := range offs {
		if err := send(i); err != nil {
			return answers, err
		}
	}
	for {
		head := buf[:16]
		if _, err := io.ReadFull(c, head); err != nil {
			return answers, err
		}
		i := be.Uint64(head[8:])
		if be.Uint64(head) != 0x67446698<<32 || i >= uint64(len(offs)) {
			return answers, fmt.Errorf("reply % x", head)
		}
		got := buf[:lens[i]]
		if _, err := io.ReadFull(c, got); err != nil {
			return answers, err
		}
		for off := offs[i]; len(got) > 0; {
			want := data[off%int64(len(data)):]
			n := min(len(want), len(got))
			if !bytes.Equal(got[:n], want[:n]) {
				return answers, fmt.Errorf("wrong data at %d", off)
			}
			got, off = got[n:], off+int64(n)
		}
		if answers++; time.Now().After(end) {
			return answers, nil
		}
		if err := send(int(i)); err != nil {
			return answers, err
		}
	}
}

// peakMemory is the most that a process had resident, in bytes.
func peakMemory(t *testing.T, pid int) int64 {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skip(err)
	}
	m := regexp.MustCompile(`VmHWM:\s*(\d+) kB`).FindSubmatch(status)
	if m == nil {
		t.Skipf("no VmHWM in %s", status)
	}
	kib, err := strconv.ParseInt(string(m[1]), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}

// TestServeMemory measures a server that 16 clients keep busy, with 16 requests in
// flight each, while 100 others ask for 32 MiB 16 times and take no answer.
func TestServeMemory(t *testing.T) {
	dmgtest.Long(t)
	t.Parallel()
	dmgtest.NotRaced(t) // whose own memory comes on top
	dmgtest.NotEmulated(t)
	took := time.Duration(dmgtest.Times(60_000, 2000, 500)) * time.Millisecond
	const size, rounds = 5 << 20, 200
	data := dmgtest.Mixed(3, size).Bytes()
	image := repeatedImage(t, data, rounds)
	for _, limit := range []int64{16 << 20, dmg.DefaultMemoryLimit} {
		t.Run(humanSize(limit), func(t *testing.T) {
			t.Parallel()
			socket := filepath.Join(socketDir(t), "s")
			cmd := command(t, "nbd", image, "--socket", socket, "--memory-limit", strconv.FormatInt(limit, 10))
			errOut := startCommand(t, cmd, "server", func() bool {
				c, err := net.Dial("unix", socket)
				if err == nil {
					c.Close()
				}
				return err == nil
			})
			defer func() {
				_ = cmd.Process.Kill() // asked to end, it would wait for clients to take their answers
				if _ = cmd.Wait(); t.Failed() {
					t.Logf("standard error: %s", errOut)
				}
			}()
			for range 100 {
				c, err := nbdDial(socket)
				if err != nil {
					t.Fatal(err)
				}
				defer c.Close()
				for i := range uint64(16) {
					if _, err := c.Write(nbdRequest(i, int64(i)<<20, 32<<20)); err != nil {
						t.Fatal(err)
					}
				}
			}
			var wg sync.WaitGroup
			var answers atomic.Int64
			for i := range uint64(16) {
				wg.Add(1)
				go func() {
					defer wg.Done()
					n, err := nbdReader(socket, i, data, size*rounds, took)
					if answers.Add(int64(n)); err != nil {
						t.Errorf("client %d: %v", i, err)
					}
				}()
			}
			wg.Wait()
			peak := peakMemory(t, cmd.Process.Pid)
			t.Logf("at most %s resident, %d answers", humanSize(peak), answers.Load())
			if answers.Load() == 0 {
				t.Error("nobody was served")
			}
			if most := limit + 64<<20; peak > most {
				t.Errorf("%s resident, want no more than %s", humanSize(peak), humanSize(most))
			}
		})
	}
}

// TestHeapLimit sees what limit a command leaves to the garbage collector, and that
// it is its own.
func TestHeapLimit(t *testing.T) {
	before := debug.SetMemoryLimit(-1)
	for _, tt := range []struct {
		env         string
		limit       int64
		least, most int64 // besides heapSlack
	}{
		{limit: 0, least: dmg.DefaultMemoryLimit, most: dmg.DefaultMemoryLimit + 1<<30},
		{limit: 1 << 20, least: 1 << 20, most: 1<<20 + 1<<30},
		{limit: 1<<63 - 1, least: 1<<63 - 1 - heapSlack, most: 1<<63 - 1 - heapSlack},
		{env: "off", limit: 1 << 20, least: before - heapSlack, most: before - heapSlack},
	} {
		restore := keepHeapLimit()
		t.Setenv("GOMEMLIMIT", tt.env)
		limitHeap(tt.limit)
		if got := debug.SetMemoryLimit(-1) - heapSlack; got < tt.least || got > tt.most {
			t.Errorf("limit %d, GOMEMLIMIT=%s: %d, want %d to %d", tt.limit, tt.env, got, tt.least, tt.most)
		}
		if restore(); debug.SetMemoryLimit(-1) != before {
			t.Error("limit not put back")
		}
	}
}
