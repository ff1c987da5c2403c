package main

import (
	"fmt"
	"path/filepath"
)

// memoryLimit is what Options.MemoryLimit is where nothing else is said.
const memoryLimit = 64 << 20

const mib = 1 << 20

// extract compares programs that write the whole disk to a file, on two cores.
func (b *bench) extract() error {
	const (
		dmg2img = "dmg2img"
		qemu    = "qemu-img convert"
		sevenZ  = "7zz x -so"
	)
	sum, err := sumFile(b.file("corpus.raw"))
	if err != nil {
		return err
	}
	names := []string{"z1m", "zbig", "b1m", "bbig", "lzfse1m", "lzma1m"}
	if b.quick {
		names = []string{"z1m", "zbig", "lzfse1m"}
	}
	var jobs []*job
	for _, data := range names {
		in, out := b.file(data+".dmg"), filepath.Join(b.tmp, "disk.raw")
		rounds := b.rounds
		if data[0] == 'b' || data == "lzma1m" {
			rounds = b.slow
		}
		for _, j := range []*job{
			{reader: ours, argv: []string{filepath.Join(b.bin, "dmg"), "extract", "-q", in, out}},
			{reader: dmg2img, argv: []string{"dmg2img", "-s", "-i", in, "-o", out}},
			{reader: qemu, argv: []string{"qemu-img", "convert", "-f", "dmg", "-O", "raw", in, out}},
			{reader: sevenZ, argv: []string{"7zz", "x", "-so", "-tdmg", in}, stdout: true},
		} {
			j.data, j.sum, j.output, j.cpus, j.rounds = data, sum, out, 2, rounds
			jobs = append(jobs, j)
		}
	}
	if err := b.compare(jobs); err != nil {
		return err
	}
	b.printf("\n## Extract, %d cores\n\n", min(2, len(b.cpus)))
	b.printf("Seconds for the whole disk to a file in memory (%s), and in brackets our share of that reader's time. ", filepath.Dir(b.tmp))
	b.printf("Ours is `dmg extract` with the default memory limit of 64 MiB.\n\n")
	b.table(jobs, func(j *job) string {
		text := fmt.Sprintf("%.2f", j.seconds())
		if o := j.ours(jobs); o != nil {
			text += fmt.Sprintf(" (%.2f)", 1/o.ratio(j))
		}
		return text
	})
	b.failures(jobs)
	b.printf("\nProcessor time of all cores in seconds, and peak memory in MiB:\n\n")
	b.table(jobs, func(j *job) string {
		text := fmt.Sprintf("%.2f", j.median(func(m measurement) float64 { return m.Processor }))
		if rss := mebibytes(j.rss()); rss != "" {
			text += "; " + rss
		}
		return text
	})
	for _, row := range [][2]string{
		{"extract zlib, chunks of 1 MiB", "z1m"},
		{"extract zlib, ONE chunk", "zbig"},
		{"extract bzip2, chunks of 1 MiB", "b1m"},
		{"extract bzip2, ONE chunk", "bbig"},
		{"extract LZFSE, chunks of 1 MiB", "lzfse1m"},
		{"extract LZMA, chunks of 1 MiB", "lzma1m"},
	} {
		b.summarise(row[0], jobs, ours, row[1], []string{dmg2img, qemu, sevenZ}, seconds)
	}
	b.aimAtShare("extract: our share of dmg2img's time", 0.5, jobs, dmg2img, "z1m")
	b.aimAtShare("extract: our share of qemu-img's time", 0.4, jobs, qemu, "z1m")
	b.aimAtShare("extract: our share of dmg2img's time", 0.8, jobs, dmg2img, "zbig")
	b.aimAtShare("extract: our share of 7-Zip's time", 0.5, jobs, sevenZ, "b1m", "bbig")
	b.aimAtShare("extract: our share of 7-Zip's time", 0.8, jobs, sevenZ, "lzfse1m", "lzma1m")
	a := aim{what: "extract: peak memory", limit: memoryLimit/mib + 24, atMost: true, unit: "MiB"}
	for _, j := range jobs {
		if j.reader == ours && j.rss() > 0 {
			a.values = append(a.values, value{j.data, j.rss() / mib})
		}
	}
	b.addAim(a)
	return nil
}

// aimAtShare notes which share of another's time we want to take and take.
func (b *bench) aimAtShare(what string, limit float64, jobs []*job, of string, data ...string) {
	a := aim{what: what, limit: limit, atMost: true}
	for _, d := range data {
		if j := find(jobs, of, d); j != nil && len(j.done) > 0 {
			a.values = append(a.values, value{d, 1 / find(jobs, ours, d).ratio(j)})
		}
	}
	b.addAim(a)
}

// mebibytes is a size for a table; nothing if it isn't known.
func mebibytes(n float64) string {
	if n == 0 {
		return ""
	}
	return fmt.Sprintf("%.1f", n/mib)
}
