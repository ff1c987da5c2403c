package main

import (
	"fmt"
	"strconv"
)

// cores measures the same work on 1, 2, 4, … of the machine's cores.
func (b *bench) cores() error {
	sum, err := sumFile(b.file("corpus.raw"))
	if err != nil {
		return err
	}
	raw := b.file("corpus.raw")
	type work struct {
		name, what, image string
		limit             int // MiB
		reads             int // by each goroutine; 0: the whole disk
	}
	works := []work{
		{"`Extract`, zlib, 1 MiB", "extract", "z1m", 64, 0},
		{"`Extract`, ONE zlib chunk", "extract", "zbig", 64, 0},
		{"`WriteTo`, zlib, 1 MiB", "writeto", "z1m", 64, 0},
		{"`Verify`, zlib, 1 MiB", "verify", "z1m", 64, 0},
		{"`ReadAt`, cached", "cached", "z1m", 64, 2_000_000},
		{"`ReadAt`, ONE zlib chunk", "resumed", "zbig", 64, 10_000},
	}
	if !b.quick {
		works = append(works,
			work{"`Extract`, bzip2, 1 MiB", "extract", "b1m", 64, 0},
			work{"the same, limit 256 MiB", "extract", "b1m", 256, 0},
			work{"`Extract`, ONE bzip2 chunk", "extract", "bbig", 64, 0},
			work{"the same chunk, limit 256 MiB", "extract", "bbig", 256, 0},
			work{"`Verify`, bzip2, 1 MiB", "verify", "b1m", 64, 0})
	}
	var jobs []*job
	for _, w := range works {
		for _, n := range coreCounts(len(b.cpus)) {
			flags := []string{"-limit", strconv.Itoa(w.limit * mib), "-raw", raw}
			if w.reads > 0 {
				flags = append(flags, "-reads", strconv.Itoa(w.reads))
			}
			j := b.inProcess(w.name, append(flags, w.what, b.file(w.image+".dmg"))...)
			j.data, j.cpus, j.rounds = strconv.Itoa(n), n, b.roundsOf(w.image)
			if w.reads == 0 {
				j.sum = sum
			}
			jobs = append(jobs, j)
		}
	}
	if err := b.compare(jobs); err != nil {
		return err
	}
	b.printf("\n## Cores\n\n")
	b.printf("One process on so many cores, which has just opened the image. Seconds for the whole disk to nowhere, or million reads of 4 KiB a second by as many goroutines as there are cores; in brackets, how many times as fast as on one core. On one core, of processor time. The memory limit is 64 MiB unless it says otherwise.\n\n")
	b.table(jobs, func(j *job) string {
		text := fmt.Sprintf("%.2f", j.seconds())
		if j.seconds() < 1e-3 {
			text = fmt.Sprintf("%.3f", 1e-6/j.seconds())
		}
		if one := find(jobs, j.reader, "1"); j.cpus > 1 && one != nil {
			text += fmt.Sprintf(" (%.2f)", j.ratio(one))
		}
		return text
	})
	b.failures(jobs)
	if len(b.cpus) > 1 {
		two := find(jobs, "`ReadAt`, cached", "2")
		b.addAim(aim{what: "cached reads of 4 KiB on two cores", limit: 1.7, unit: "× as fast as on one", values: []value{{"z1m", two.ratio(find(jobs, two.reader, "1"))}}})
	}
	return nil
}

// coreCounts returns the powers of two up to n, and n.
func coreCounts(n int) (counts []int) {
	for k := 1; k < n; k *= 2 {
		counts = append(counts, k)
	}
	return append(counts, n)
}
