package main

import (
	"fmt"
	"path/filepath"
	"strconv"
)

// limits are the memory limits that random reads are measured at, in MiB.
var limits = []int{32, 64}

// gzipReaders are indexed_gzip with a point to resume from at these distances.
var gzipReaders = []string{"indexed_gzip, its own spacing", "indexed_gzip, every 512 KiB", "indexed_gzip, every 256 KiB"}

// random measures reads anywhere in images of one huge chunk, after one way
// through.
func (b *bench) random() error {
	raw := b.file("corpus.raw")
	images := []string{"zbig"}
	if !b.quick {
		images = append(images, "bbig")
	}
	var jobs []*job
	for _, image := range images {
		jobs = append(jobs, b.randomJobs(image, raw, b.roundsOf(image))...)
	}
	for i, spacing := range []string{"0", "524288", "262144"} {
		jobs = append(jobs, &job{
			reader: gzipReaders[i], data: "corpus.gz", json: true, cpus: 1, rounds: b.rounds,
			argv: []string{b.python, filepath.Join("bench", "indexed_gzip_random.py"), spacing, "500", b.file("corpus.gz"), raw},
		})
	}
	if err := b.comparePython(jobs, "indexed_gzip"); err != nil {
		return err
	}
	var large []*job
	if b.large {
		large = append(b.randomJobs("zbig1g", raw, 1), b.randomJobs("bbig1g", raw, 1)...)
		if err := b.compare(large); err != nil {
			return err
		}
	}
	b.printf("\n## Random reads of 4 KiB in ONE chunk\n\n")
	b.printf("Processor time of reads by one goroutine on one core, after one way through (whose time includes opening), at offsets that are multiples of 512. Decoded and source bytes are `Stats`, in KiB a read; calls are reads of the source. ")
	b.printf("The images of 1 GiB are measured once. indexed_gzip reads the same DEFLATE stream at the same offsets; what it buffers is set to 4 KiB, which is best here; two of its spacings are such that its index takes what our checkpoints take.\n\n")
	b.printf("| data | reader | mean ms | decoded KiB | source KiB | calls | checkpoints MiB | peak memory MiB | way through s |\n|---|---|---:|---:|---:|---:|---:|---:|---:|\n")
	for _, j := range append(jobs, large...) {
		b.randomRow(j)
	}
	for _, limit := range limits {
		b.summarise(fmt.Sprintf("4 KiB anywhere in ONE zlib chunk, limit %d MiB", limit), jobs, oursAt(limit), "zbig", gzipReaders, milliseconds)
	}
	b.summarise("4 KiB anywhere in ONE bzip2 chunk, limit 32 MiB", jobs, oursAt(32), "bbig", nil, milliseconds)
	b.randomAims(append(jobs, large...))
	if b.quick {
		return nil
	}
	return b.clustered()
}

func (b *bench) roundsOf(image string) int {
	if image[0] == 'b' {
		return b.slow
	}
	return b.rounds
}

// oursAt names our reader with a memory limit.
func oursAt(limit int) string { return fmt.Sprintf("%s, %d MiB", ours, limit) }

func (b *bench) randomJobs(image, raw string, rounds int) (jobs []*job) {
	reads := "5000"
	if image[0] == 'b' {
		reads = "400"
	}
	for _, limit := range limits {
		j := b.inProcess(oursAt(limit), "-limit", strconv.Itoa(limit*mib), "-reads", reads, "-raw", raw, "random", b.file(image+".dmg"))
		j.data, j.cpus, j.rounds = image, 1, rounds
		jobs = append(jobs, j)
	}
	return jobs
}

// comparePython compares; jobs that need a module which is missing are left
// out.
func (b *bench) comparePython(jobs []*job, module string) error {
	probe := &job{cpus: 1, argv: []string{b.python, "-c", "import " + module}}
	missing := runCommand(b.command(probe)) != nil
	for _, j := range jobs {
		if missing && j.argv[0] == b.python {
			j.failed = module + " is missing"
		}
	}
	return b.compare(jobs)
}

func (b *bench) randomRow(j *job) {
	if j.failed != "" {
		b.printf("| %s | %s | %s |\n", j.data, j.reader, j.failed)
		return
	}
	kib := func(f func(measurement) float64) string {
		if v := j.median(f); v > 0 {
			return fmt.Sprintf("%.1f", v/1024)
		}
		return ""
	}
	calls := ""
	if v := j.median(func(m measurement) float64 { return m.CallsRead }); v > 0 {
		calls = fmt.Sprintf("%.2f", v)
	}
	b.printf("| %s | %s | %.3f | %s | %s | %s | %s | %s | %.2f |\n", j.data, j.reader, j.seconds()*1e3,
		kib(func(m measurement) float64 { return m.DecodedRead }),
		kib(func(m measurement) float64 { return m.SourceRead }),
		calls,
		mebibytes(j.median(func(m measurement) float64 { return m.Checkpoints })),
		mebibytes(j.rss()),
		j.median(func(m measurement) float64 { return m.Through }))
}

func (b *bench) randomAims(jobs []*job) {
	mean := func(what string, limit float64, images ...string) {
		a := aim{what: what, limit: limit, atMost: true, unit: "ms"}
		for _, image := range images {
			if j := find(jobs, oursAt(32), image); j != nil && len(j.done) > 0 {
				a.values = append(a.values, value{image, j.seconds() * 1e3})
			}
		}
		b.addAim(a)
	}
	mean("random 4 KiB in one zlib chunk, 32 MiB", 0.3, "zbig", "zbig1g")
	mean("random 4 KiB in one bzip2 chunk, 32 MiB", 8, "bbig", "bbig1g")
	a := aim{what: "random 4 KiB, 32 MiB: peak memory", limit: 56, atMost: true, unit: "MiB"}
	for _, image := range []string{"zbig", "zbig1g", "bbig", "bbig1g"} {
		if j := find(jobs, oursAt(32), image); j != nil && len(j.done) > 0 {
			a.values = append(a.values, value{image, j.rss() / mib})
		}
	}
	b.addAim(a)
}

// clustered measures reads within one bzip2 block after another.
func (b *bench) clustered() error {
	var jobs []*job
	for _, limit := range limits {
		j := b.inProcess(oursAt(limit), "-limit", strconv.Itoa(limit*mib), "clustered", b.file("bbig.dmg"))
		j.data, j.cpus, j.rounds = "bbig", 1, b.slow
		jobs = append(jobs, j)
	}
	if err := b.compare(jobs); err != nil {
		return err
	}
	b.printf("\nProcessor time of 200 reads of 4 KiB at random within one bzip2 block, for 20 blocks:\n\n")
	b.printf("| data | reader | first read there, ms | those after it, mean ms |\n|---|---|---:|---:|\n")
	for _, j := range jobs {
		b.printf("| %s | %s | %.2f | %.4f |\n", j.data, j.reader, 1e3*j.median(func(m measurement) float64 { return m.First }), 1e3*j.seconds())
	}
	b.addAim(aim{what: "random 4 KiB within one bzip2 block, 32 MiB", limit: 0.1, atMost: true, unit: "ms", values: []value{{"bbig", 1e3 * jobs[0].seconds()}}})
	return nil
}
