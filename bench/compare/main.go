// Command compare measures readers side by side and writes the tables of
// RESULTS.md. bench/run builds what it needs and calls it.
//
// All readers of a table take turns, round after round, so that a machine that
// is slower at times is so for all of them. What is reported is the median of
// the rounds; a ratio is the median of the rounds' own ratios.
package main

import (
	"flag"
	"fmt"
	"log"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// A bench is one run: where things are, how often to measure, and the report.
type bench struct {
	work   string // directory of the data
	bin    string // directory of inprocess and dmg
	tmp    string // directory for output, in memory
	python string
	rounds int
	slow   int  // rounds of what takes ten times as long: bzip2 and LZMA
	quick  bool // less data
	large  bool // the images of 1 GiB too
	cpus   []string

	revision string // of what is measured

	out   strings.Builder
	aims  []aim
	lines []line // of the README's table
}

// An aim is a figure that the project wants to reach, and what was measured.
type aim struct {
	what   string
	limit  float64
	atMost bool
	unit   string
	values []value
}

type value struct {
	of string
	v  float64
}

func main() {
	log.SetFlags(log.Ltime)
	log.SetPrefix("compare: ")
	b := new(bench)
	flag.StringVar(&b.work, "work", "bench/work", "directory of the data")
	flag.StringVar(&b.bin, "bin", "bench/work/bin", "directory of the programs dmg and inprocess")
	flag.StringVar(&b.tmp, "tmp", "/dev/shm", "directory for output, in memory")
	flag.StringVar(&b.python, "python", "/usr/bin/python3", "the Python that Debian's modules are for")
	flag.IntVar(&b.rounds, "n", 5, "rounds")
	flag.IntVar(&b.slow, "slow", 3, "rounds of bzip2 and LZMA")
	flag.BoolVar(&b.quick, "quick", false, "less data, for a first impression")
	flag.BoolVar(&b.large, "large", false, "the images of 1 GiB too, once")
	flag.StringVar(&b.revision, "revision", "unknown", "what is measured")
	only := flag.String("tables", "inflate,bunzip2,extract,random,sequential,cores", "which tables")
	readme := flag.String("readme", "", "the README whose table to write too")
	results := flag.String("o", "bench/RESULTS.md", "the file to write")
	flag.Parse()
	if err := b.run(strings.Split(*only, ","), *results); err != nil {
		log.Fatal(err)
	}
	if *readme == "" {
		return
	}
	if err := b.writeReadme(*readme); err != nil {
		log.Fatal(err)
	}
}

func (b *bench) run(tables []string, results string) error {
	tmp, err := os.MkdirTemp(b.tmp, "dmg-bench-")
	if err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	b.tmp = tmp
	if b.cpus, err = allowedCPUs(); err != nil {
		return err
	}
	if err := b.warm(); err != nil {
		return err
	}
	b.head()
	for _, t := range tables {
		table := map[string]func() error{
			"inflate":    b.inflate,
			"bunzip2":    b.bunzip2,
			"extract":    b.extract,
			"random":     b.random,
			"sequential": b.sequential,
			"cores":      b.cores,
		}[t]
		if table == nil {
			return fmt.Errorf("no table is called %q", t)
		}
		log.Print("table ", t)
		if err := table(); err != nil {
			return fmt.Errorf("%s: %w", t, err)
		}
		// A run that is ended early leaves the tables that are complete.
		if err := b.write(results); err != nil {
			return err
		}
	}
	return nil
}

// write writes what there is, with what comes after the tables.
func (b *bench) write(results string) error {
	tables := b.out.String()
	defer func() {
		b.out.Reset()
		b.out.WriteString(tables)
	}()
	b.reportAims()
	if err := b.data(); err != nil {
		return err
	}
	return os.WriteFile(results, []byte(b.out.String()), 0o666)
}

// warm reads all data once, so that no reader is the first to want it from the
// disk.
func (b *bench) warm() error {
	files, err := filepath.Glob(filepath.Join(b.work, "*"))
	if err != nil {
		return err
	}
	for _, f := range files {
		if st, err := os.Stat(f); err != nil || st.IsDir() {
			continue
		}
		if _, err := sumFile(f); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) printf(format string, args ...any) { fmt.Fprintf(&b.out, format, args...) }

func (b *bench) file(name string) string { return filepath.Join(b.work, name) }

// head says what was measured, where and when.
func (b *bench) head() {
	b.printf("# Measurements\n\n")
	b.printf("Written by `bench/run`, %s, at revision %s. Medians of %s, of %s where bzip2 or LZMA is decoded; the readers of a table take turns. ",
		time.Now().UTC().Format("2006-01-02"), b.revision, rounds(b.rounds), rounds(b.slow))
	b.printf("Ratios are medians of the rounds' ratios, and steadier than the figures themselves. ")
	b.printf("All data is in the page cache. Every reader's output was compared with the disk by its SHA-256, apart from the rounds that are timed.\n\n")
	if b.quick {
		b.printf("This was a **quick** run: a first impression, with less data.\n\n")
	}
	for _, line := range machine() {
		b.printf("- %s\n", line)
	}
}

func rounds(n int) string {
	if n == 1 {
		return "1 round"
	}
	return fmt.Sprint(n, " rounds")
}

// reportAims compares what the project aims at with what was measured.
func (b *bench) reportAims() {
	if len(b.aims) == 0 {
		return
	}
	b.printf("\n## Aims\n\nWhat is short of its aim is in bold.\n\n| aim | | measured |\n|---|---|---|\n")
	for _, a := range b.aims {
		sign := "≥"
		if a.atMost {
			sign = "≤"
		}
		var cells []string
		for _, v := range a.values {
			cell := fmt.Sprintf("%s %.3g", v.of, v.v)
			if a.atMost && v.v > a.limit || !a.atMost && v.v < a.limit {
				cell = "**" + cell + "**"
			}
			cells = append(cells, cell)
		}
		b.printf("| %s | %s %v %s | %s |\n", a.what, sign, a.limit, a.unit, strings.Join(cells, ", "))
	}
}

// data lists the files that were measured with.
func (b *bench) data() error {
	list, err := os.ReadFile(b.file("files.md"))
	if err != nil {
		return err
	}
	b.printf("\n## Data\n\nEverything is made of the Go tree, by `bench/run`. Sizes are in bytes.\n\n| file | size | made of, or by |\n|---|---|---|\n%s", list)
	return nil
}
