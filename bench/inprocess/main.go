//go:build linux

// Command inprocess measures what is written in Go, ours and others', inside
// one process and prints one line of JSON. It is a program of its own for each
// measurement so that nothing of one is left, in memory or in the collector's
// pace, when the next begins.
//
//	inprocess inflate READER FILE          a zlib stream
//	inprocess bunzip2 READER FILE          a .bz2 file
//	inprocess [FLAGS] random IMAGE         4 KiB reads anywhere, after one way through
//	inprocess [FLAGS] clustered IMAGE      4 KiB reads within one bzip2 block
//	inprocess sequential IMAGE             4 KiB reads from start to end
//	inprocess writeto IMAGE                WriteTo
//	inprocess buildindex IMAGE             BuildIndex
//	inprocess extract IMAGE                Extract
//	inprocess verify IMAGE                 Verify
//	inprocess [FLAGS] cached IMAGE         4 KiB reads of cached data, a goroutine a core
//	inprocess [FLAGS] resumed IMAGE        4 KiB reads anywhere, a goroutine a core
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"flag"
	"fmt"
	"hash"
	"io"
	"log"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A result is what one measurement found. Fields that it says nothing about are
// zero.
type result struct {
	Seconds   float64 `json:"seconds"`             // of a pass, or of a read in the mean
	Processor float64 `json:"processor,omitempty"` // processor time of a pass
	Bytes     int64   `json:"bytes"`               // decoded in a pass
	SHA256    string  `json:"sha256,omitempty"`

	// Of reads of images.
	First         float64 `json:"first,omitempty"`   // processor time of the first read in a cluster, mean
	Through       float64 `json:"through,omitempty"` // processor time of the way through before
	DecodedRead   float64 `json:"decodedRead,omitempty"`
	SourceRead    float64 `json:"sourceRead,omitempty"`
	CallsRead     float64 `json:"callsRead,omitempty"`
	DecodedOfSize float64 `json:"decodedOfSize,omitempty"`
	Checkpoints   int64   `json:"checkpoints,omitempty"` // bytes
	PeakRSS       int64   `json:"peakRSS,omitempty"`     // bytes
}

// options are the flags.
type options struct {
	check bool   // print the SHA-256 of what is decoded instead of the time
	limit int64  // MemoryLimit
	reads int    // how many random reads
	raw   string // the disk, to compare reads with
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("inprocess: ")
	var o options
	flag.BoolVar(&o.check, "check", false, "print the SHA-256 of what is decoded, and no time")
	flag.Int64Var(&o.limit, "limit", 0, "MemoryLimit in bytes")
	flag.IntVar(&o.reads, "reads", 2000, "random reads")
	flag.StringVar(&o.raw, "raw", "", "file to compare what is read with; the disk is this again and again")
	flag.Parse()
	r, err := run(o, flag.Args())
	if err != nil {
		log.Fatal(err)
	}
	if r.PeakRSS, err = peakRSS(); err != nil {
		log.Fatal(err)
	}
	if err := json.NewEncoder(os.Stdout).Encode(r); err != nil {
		log.Fatal(err)
	}
}

func run(o options, args []string) (result, error) {
	if len(args) < 2 {
		return result{}, fmt.Errorf("%q: too few arguments", args)
	}
	switch what, file := args[0], args[len(args)-1]; what {
	case "inflate", "bunzip2":
		decode := decoders[what+" "+args[1]]
		if decode == nil {
			return result{}, fmt.Errorf("no such reader: %s", args[1])
		}
		return o.decode(decode, file)
	case "random":
		return o.random(file)
	case "clustered":
		return o.clustered(file)
	case "sequential":
		return o.through(file, readInOrder)
	case "writeto":
		return o.through(file, writeTo)
	case "buildindex":
		return o.through(file, buildIndex)
	case "extract":
		return o.through(file, extract)
	case "verify":
		return o.through(file, verify)
	case "cached":
		return o.cached(file)
	case "resumed":
		return o.resumed(file)
	default:
		return result{}, fmt.Errorf("no such measurement: %s", what)
	}
}

// enough is how long passes over small data are repeated.
const enough = 300 * time.Millisecond

// decode measures a decoder on a file that is in memory.
func (o options) decode(decode func(w io.Writer, z []byte) error, file string) (result, error) {
	z, err := os.ReadFile(file)
	if err != nil {
		return result{}, err
	}
	if o.check {
		s := sha256.New()
		err := decode(s, z)
		return result{SHA256: hexSum(s)}, err
	}
	var n counter
	passes := 0
	start, processor := time.Now(), processorTime()
	for passes == 0 || time.Since(start) < enough {
		n = 0
		if err := decode(&n, z); err != nil {
			return result{}, err
		}
		passes++
	}
	return result{
		Seconds:   time.Since(start).Seconds() / float64(passes),
		Processor: (processorTime() - processor).Seconds() / float64(passes),
		Bytes:     int64(n),
	}, nil
}

// processorTime is what this process took of the processors so far, the
// collector's work included.
func processorTime() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err) // EFAULT and EINVAL, neither of which can be
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// counter counts what is written to it, and has none of io.Discard's shortcuts.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// peakRSS is the most memory that this process had, in bytes.
func peakRSS() (int64, error) {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(rest), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("no VmHWM in /proc/self/status")
}
