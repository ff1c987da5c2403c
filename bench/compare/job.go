package main

import (
	"bytes"
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// A job is one reader at one piece of data.
type job struct {
	reader, data string
	against      string // the reader of ours that does the same work; none: ours

	argv   []string
	cpus   int
	copies int    // how many times the process decodes the data; 0: once
	output string // file that the data ends up in, to be compared and removed
	stdout bool   // output is standard output's; without, that is thrown away
	json   bool   // the program measures itself and prints a measurement
	check  []string
	sum    string // SHA-256 that must come out
	rounds int

	done   []measurement
	failed string // why it takes no part
}

// A measurement is what a round found. The program inprocess prints the same
// fields.
type measurement struct {
	Seconds   float64
	Processor float64 // seconds of processor time
	SHA256    string

	First         float64
	Through       float64
	DecodedRead   float64
	SourceRead    float64
	CallsRead     float64
	DecodedOfSize float64
	Checkpoints   float64
	PeakRSS       float64
}

// compare lets the jobs take turns. One that fails, or whose output is wrong,
// is marked and left out.
func (b *bench) compare(jobs []*job) error {
	rounds := 0
	for _, j := range jobs {
		if _, err := exec.LookPath(j.argv[0]); err != nil {
			j.failed = filepath.Base(j.argv[0]) + " is missing"
		} else if err := b.checkJob(j); err != nil {
			j.failed = err.Error()
		}
		if j.failed != "" {
			log.Printf("%s, %s: %s", j.reader, j.data, j.failed)
		}
		rounds = max(rounds, j.rounds)
	}
	for round := range rounds {
		for _, j := range turns(jobs, round) {
			if j.failed != "" || round >= j.rounds {
				continue
			}
			m, err := b.measure(j)
			if err != nil {
				return fmt.Errorf("%s, %s: %w", j.reader, j.data, err)
			}
			j.done = append(j.done, m)
		}
		log.Printf("round %d of %d", round+1, rounds)
	}
	return nil
}

// turns is the order of a round: the readers of the same data one after the
// other, and another of them first each time.
func turns(jobs []*job, round int) []*job {
	var order []*job
	for at := 0; at < len(jobs); {
		end := at
		for end < len(jobs) && jobs[end].data == jobs[at].data {
			end++
		}
		first := at + round%(end-at)
		order = append(append(order, jobs[first:end]...), jobs[at:first]...)
		at = end
	}
	return order
}

// checkJob runs the job once, for its output.
func (b *bench) checkJob(j *job) error {
	if j.sum == "" {
		return nil // it compares what it reads by itself
	}
	sum, err := b.outputSum(j)
	if err == nil && sum != j.sum {
		err = errors.New("wrong bytes")
	}
	return err
}

func (b *bench) outputSum(j *job) (string, error) {
	switch {
	case j.json:
		k := *j
		k.argv = j.check
		m, err := b.measure(&k)
		return m.SHA256, err
	case j.output != "":
		if err := b.start(j, nil); err != nil {
			return "", err
		}
		defer os.Remove(j.output)
		return sumFile(j.output)
	}
	h := sha256.New()
	k := *j
	k.argv = withoutCopies(j)
	cmd := b.command(&k)
	cmd.Stdout = h
	err := runCommand(cmd)
	return hex.EncodeToString(h.Sum(nil)), err
}

// withoutCopies is the command line with the data named once.
func withoutCopies(j *job) []string { return j.argv[:len(j.argv)-max(0, j.copies-1)] }

// measure runs the job once and takes the time.
func (b *bench) measure(j *job) (m measurement, err error) {
	if j.json {
		var out bytes.Buffer
		cmd := b.command(j)
		cmd.Stdout = &out
		if err := runCommand(cmd); err != nil {
			return m, err
		}
		return m, json.Unmarshal(out.Bytes(), &m)
	}
	start := time.Now()
	err = b.start(j, &m)
	copies := float64(max(1, j.copies))
	m.Seconds = time.Since(start).Seconds() / copies
	m.Processor /= copies
	if j.output != "" {
		err = errors.Join(err, os.Remove(j.output))
	}
	return m, err
}

// start runs the job's process to its end. GNU time says how much memory it
// took: a process that a large one starts would inherit that one's peak.
func (b *bench) start(j *job, m *measurement) error {
	if j.output != "" {
		os.Remove(j.output) // what a reader that failed left there
	}
	k := *j
	rss := filepath.Join(b.tmp, "rss")
	if _, err := exec.LookPath("/usr/bin/time"); err == nil && m != nil {
		k.argv = append([]string{"/usr/bin/time", "-f", "%M", "-o", rss}, j.argv...)
		defer func() {
			text, _ := os.ReadFile(rss)
			kib, _ := strconv.ParseFloat(strings.TrimSpace(string(text)), 64)
			m.PeakRSS = kib * 1024
		}()
	}
	cmd := b.command(&k)
	if j.stdout {
		f, err := os.Create(j.output)
		if err != nil {
			return err
		}
		defer f.Close()
		cmd.Stdout = f
	}
	err := runCommand(cmd)
	if m != nil && err == nil {
		m.Processor = (cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime()).Seconds()
	}
	return err
}

// command is the job's command line, confined to as many cores as it may have.
func (b *bench) command(j *job) *exec.Cmd {
	n := min(j.cpus, len(b.cpus))
	argv := append([]string{"taskset", "-c", strings.Join(b.cpus[len(b.cpus)-n:], ",")}, j.argv...)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Env = append(os.Environ(), "GOMAXPROCS="+strconv.Itoa(n))
	return cmd
}

// runCommand runs cmd; its error is the first line of what the program
// complained.
func runCommand(cmd *exec.Cmd) error {
	var complaint bytes.Buffer
	cmd.Stderr = &complaint
	err := cmd.Run()
	if err == nil {
		return nil
	}
	for line := range strings.Lines(complaint.String()) {
		// QEMU first names the modules that it would like to have.
		if line = strings.TrimSpace(line); line != "" && !strings.Contains(line, "do you want to install") {
			return errors.New(line)
		}
	}
	return err
}

// median of what f says of the rounds; 0 if there were none.
func (j *job) median(f func(measurement) float64) float64 {
	var all []float64
	for _, m := range j.done {
		all = append(all, f(m))
	}
	return median(all)
}

// time is what m says that j took, in seconds. On one core that is processor
// time: on an idle machine it is the time elapsed, and on one that is not it
// leaves out what others did.
func (j *job) time(m measurement) float64 {
	if j.cpus == 1 && m.Processor > 0 {
		return m.Processor
	}
	return m.Seconds
}

func (j *job) seconds() float64 { return j.median(j.time) }
func (j *job) rss() float64     { return j.median(func(m measurement) float64 { return m.PeakRSS }) }

// ratio is how many times the time of j that k took, round by round.
func (j *job) ratio(k *job) float64 {
	var all []float64
	for i := range min(len(j.done), len(k.done)) {
		all = append(all, k.time(k.done[i])/j.time(j.done[i]))
	}
	return median(all)
}

func median[T cmp.Ordered](all []T) (m T) {
	if len(all) == 0 {
		return m
	}
	slices.Sort(all)
	return all[len(all)/2]
}

// ours returns our reader that j is compared with, nil if j is that itself.
func (j *job) ours(jobs []*job) *job {
	with := cmp.Or(j.against, ours)
	if j.reader == with || strings.HasPrefix(j.reader, ours) {
		return nil
	}
	return find(jobs, with, j.data)
}

// find returns the job of a reader at a piece of data, or nil.
func find(jobs []*job, reader, data string) *job {
	i := slices.IndexFunc(jobs, func(j *job) bool { return j.reader == reader && j.data == data })
	if i < 0 {
		return nil
	}
	return jobs[i]
}
