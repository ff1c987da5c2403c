package main

import (
	"fmt"
	"strings"
)

// sequential compares many small reads in order with one way through.
func (b *bench) sequential() error {
	const (
		small    = "4 KiB `ReadAt`, one core"
		whole    = "`WriteTo`, one core"
		wholeTwo = "`WriteTo`, two cores"
		index    = "`BuildIndex`, one core"
		indexTwo = "`BuildIndex`, two cores"
	)
	sum, err := sumFile(b.file("corpus.raw"))
	if err != nil {
		return err
	}
	images := []string{"z1m", "zbig", "b1m", "bbig"}
	if b.quick {
		images = images[:2]
	}
	var jobs []*job
	for _, image := range images {
		for _, c := range []struct {
			reader, what string
			cpus         int
		}{{small, "sequential", 1}, {whole, "writeto", 1}, {wholeTwo, "writeto", 2}, {index, "buildindex", 1}, {indexTwo, "buildindex", 2}} {
			if c.cpus > len(b.cpus) || c.what == "buildindex" && !strings.HasSuffix(image, "big") {
				continue
			}
			j := b.inProcess(c.reader, c.what, b.file(image+".dmg"))
			j.data, j.sum, j.cpus, j.rounds = image, sum, c.cpus, b.roundsOf(image)
			jobs = append(jobs, j)
		}
	}
	if err := b.compare(jobs); err != nil {
		return err
	}
	b.printf("\n## From start to end\n\n")
	b.printf("Seconds for the whole disk to nowhere, by a process that has just opened the image; of processor time on one core, elapsed on two.\n\n")
	b.table(jobs, func(j *job) string { return fmt.Sprintf("%.2f", j.seconds()) })
	decoded := aim{what: "4 KiB reads in order: bytes decoded", limit: 1.05, atMost: true, unit: "× size"}
	slower := aim{what: "4 KiB reads in order: time", limit: 1.5, atMost: true, unit: "× WriteTo on one core"}
	twice := aim{what: "BuildIndex of one bzip2 chunk on two cores", limit: 1.7, unit: "× as fast as on one"}
	for _, image := range images {
		s, one := find(jobs, small, image), find(jobs, whole, image)
		decoded.values = append(decoded.values, value{image, s.median(func(m measurement) float64 { return m.DecodedOfSize })})
		slower.values = append(slower.values, value{image, 1 / s.ratio(one)})
		if two := find(jobs, indexTwo, image); two != nil && image == "bbig" {
			twice.values = append(twice.values, value{image, two.ratio(find(jobs, index, image))})
		}
	}
	b.addAim(decoded)
	b.addAim(slower)
	b.addAim(twice)
	return nil
}
