package main

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"
)

// The README has the main figures between these lines.
const (
	summaryBegin = "<!-- bench/run writes from here -->"
	summaryEnd   = "<!-- to here -->"
)

// A line is one row of the README's table: a piece of work, our figure, and those
// of others.
type line struct{ what, ours, others string }

// summarise adds a line for data to the README's table, if it was measured. cell
// is what to say of a job. An other reader whose data has another name is found by
// its own.
func (b *bench) summarise(what string, jobs []*job, our, data string, others []string, cell func(j *job) string) {
	o := find(jobs, our, data)
	if o == nil || len(o.done) == 0 {
		return
	}
	l := line{what: what, ours: cell(o)}
	var texts []string
	for _, name := range others {
		j := find(jobs, name, data)
		if i := slices.IndexFunc(jobs, func(j *job) bool { return j.reader == name }); j == nil && i >= 0 {
			j = jobs[i]
		}
		switch {
		case j == nil:
		case len(j.done) > 0:
			texts = append(texts, strings.Trim(name, "`")+" "+cell(j))
		case !strings.HasSuffix(j.failed, "is missing"):
			texts = append(texts, strings.Trim(name, "`")+": can't")
		}
	}
	l.others = strings.Join(texts, "; ")
	b.lines = append(b.lines, l)
}

// writeReadme replaces the README's table.
func (b *bench) writeReadme(name string) error {
	old, err := os.ReadFile(name)
	if err != nil {
		return err
	}
	before, rest, ok1 := bytes.Cut(old, []byte(summaryBegin))
	_, after, ok2 := bytes.Cut(rest, []byte(summaryEnd))
	if !ok1 || !ok2 {
		return fmt.Errorf("%s has no %q and %q", name, summaryBegin, summaryEnd)
	}
	var t bytes.Buffer
	fmt.Fprintf(&t, "%s%s\n\n| work | this package | others |\n|---|---:|---|\n", before, summaryBegin)
	for _, l := range b.lines {
		fmt.Fprintf(&t, "| %s | %s | %s |\n", l.what, l.ours, l.others)
	}
	fmt.Fprintf(&t, "\nThe disk is a tar of the Go tree, %.0f MB. %s; revision %s, %s.\n%s%s",
		b.sizeMB("corpus.raw"), machine()[0], b.revision, time.Now().UTC().Format("2006-01-02"), summaryEnd, after)
	return os.WriteFile(name, t.Bytes(), 0o666)
}

// sizeMB is the size of a file of the data, in millions of bytes.
func (b *bench) sizeMB(name string) float64 {
	st, err := os.Stat(b.file(name))
	if err != nil {
		return 0
	}
	return float64(st.Size()) / 1e6
}

// The cells of the README's table.
func seconds(j *job) string      { return fmt.Sprintf("%.2f s", j.seconds()) }
func milliseconds(j *job) string { return fmt.Sprintf("%.2f ms", 1e3*j.seconds()) }

func (b *bench) speed(j *job) string {
	return fmt.Sprintf("%.0f MB/s", b.sizeMB(j.data+".raw")/j.seconds())
}
