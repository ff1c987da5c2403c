package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// ours begins the names of our own readers.
const ours = "ours"

// inflate compares decoders of DEFLATE on one core.
func (b *bench) inflate() error {
	const (
		oursNoSum = "ours, no Adler-32"
		goZlib    = "compress/zlib"
		goFlate   = "compress/flate"
		klauspost = "klauspost/compress/flate"
		call      = "zlib, one call"
		pieces    = "zlib, in pieces"
	)
	script := filepath.Join("bench", "zlib_inflate.py")
	var jobs []*job
	names := []string{"corpus", "text", "noise", "zeros"}
	for _, data := range names {
		sum, err := sumFile(b.file(data + ".raw"))
		if err != nil {
			return err
		}
		st, err := os.Stat(b.file(data + ".raw"))
		if err != nil {
			return err
		}
		z, gz := b.file(data+".zlib"), b.file(data+".gz")
		add := func(j *job) {
			j.data, j.sum, j.cpus, j.rounds = data, sum, 1, b.rounds
			jobs = append(jobs, j)
		}
		for _, r := range []string{ours, goZlib, oursNoSum, goFlate, klauspost} {
			j := b.inProcess(r, "inflate", r, z)
			if r == goFlate || r == klauspost {
				j.against = oursNoSum
			}
			add(j)
		}
		for _, how := range []string{call, pieces} {
			arg := how[strings.LastIndex(how, " ")+1:]
			add(&job{reader: how, json: true, argv: []string{b.python, script, arg, z}, check: []string{b.python, script, "--check", arg, z}})
		}
		copies := int(max(1, 128<<20/st.Size()))
		for _, argv := range [][]string{{"pigz", "-dc", "-p1"}, {"libdeflate-gzip", "-dc"}, {"igzip", "-dc"}} {
			add(&job{reader: "`" + strings.Join(argv, " ") + "`", argv: append(argv, slices.Repeat([]string{gz}, copies)...), copies: copies})
		}
	}
	if err := b.compare(jobs); err != nil {
		return err
	}
	b.printf("\n## Inflate, one core\n\n")
	b.printf("Decoded MB a second of processor time, and in brackets how many times as fast we are. All check the Adler-32, gzip's readers its CRC-32, ")
	b.printf("but compress/flate and klauspost's, which have no sum to check: they are compared with our decoder without one. ")
	b.printf("zlib is measured inside Python: in one call into one large buffer, and 64 KiB of input at a time, as we decode. ")
	b.printf("Ours may lend its input, as it does in images: the noise is stored blocks, of which it copies nothing. ")
	b.printf("In code font: processes, with their start, writing to /dev/null.\n\n")
	b.speedTable(jobs)
	b.summarise("inflate on one core", jobs, ours, "corpus", []string{goZlib, call, "`pigz -dc -p1`", "`igzip -dc`", "`libdeflate-gzip -dc`"}, b.speed)
	b.aimAtSpeed("inflate: ours against compress/flate, both without a sum", 2.5, jobs, goFlate)
	b.aimAtSpeed("inflate: ours against compress/zlib", 2.5, jobs, goZlib)
	b.aimAtSpeed("inflate: ours against zlib in one call", 1.2, jobs, call)
	b.aimAtSpeed("inflate: ours against zlib in pieces", 1.2, jobs, pieces)
	b.aimAtSpeed("inflate: ours against pigz -dc -p1", 1.2, jobs, "`pigz -dc -p1`")
	return nil
}

// bunzip2 compares decoders of bzip2 on one core.
func (b *bench) bunzip2() error {
	const (
		libbz2 = "`bzip2 -dc`"
		sevenZ = "`7zz x -so -tbzip2 -mmt=1`"
	)
	var jobs []*job
	names := []string{"corpus", "english"}
	if b.quick {
		names = names[1:]
	}
	for _, data := range names {
		sum, err := sumFile(b.file(data + ".raw"))
		if err != nil {
			return err
		}
		z := b.file(data + ".bz2")
		add := func(j *job) {
			j.data, j.sum, j.cpus, j.rounds = data, sum, 1, b.slow
			jobs = append(jobs, j)
		}
		for _, r := range []string{ours, "compress/bzip2", "dsnet/compress/bzip2"} {
			add(b.inProcess(r, "bunzip2", r, z))
		}
		for _, argv := range [][]string{{"bzip2", "-dc"}, {"7zz", "x", "-so", "-tbzip2", "-mmt=1"}, {"lbzip2", "-dc", "-n1"}} {
			add(&job{reader: "`" + strings.Join(argv, " ") + "`", argv: append(argv, z)})
		}
	}
	if err := b.compare(jobs); err != nil {
		return err
	}
	b.printf("\n## Bunzip2, one core\n\n")
	b.printf("Decoded MB a second of processor time, and in brackets how many times as fast we are. All check the CRCs. In code font: processes, with their start, writing to /dev/null.\n\n")
	b.speedTable(jobs)
	b.summarise("bunzip2 on one core", jobs, ours, "corpus", []string{"compress/bzip2", libbz2, sevenZ, "`lbzip2 -dc -n1`"}, b.speed)
	b.aimAtSpeed("bunzip2: ours against bzip2 -dc", 1.3, jobs, libbz2)
	b.aimAtSpeed("bunzip2: ours against 7zz -mmt=1", 1, jobs, sevenZ)
	return nil
}

// inProcess is a job of the program inprocess.
func (b *bench) inProcess(reader string, args ...string) *job {
	program := filepath.Join(b.bin, "inprocess")
	return &job{
		reader: reader,
		json:   true,
		argv:   append([]string{program}, args...),
		check:  append([]string{program, "-check"}, args...),
	}
}

// axes lists readers and data in the order of the jobs.
func axes(jobs []*job) (readers, data []string) {
	for _, j := range jobs {
		if !slices.Contains(readers, j.reader) {
			readers = append(readers, j.reader)
		}
		if !slices.Contains(data, j.data) {
			data = append(data, j.data)
		}
	}
	return readers, data
}

// table prints a table with a row for each reader and a column for each piece
// of data.
func (b *bench) table(jobs []*job, cell func(j *job) string) {
	readers, data := axes(jobs)
	b.printf("| | %s |\n|---|%s\n", strings.Join(data, " | "), strings.Repeat("---:|", len(data)))
	for _, r := range readers {
		b.printf("| %s |", r)
		for _, d := range data {
			text := ""
			if j := find(jobs, r, d); j != nil {
				text = cell(j)
				if j.failed != "" {
					text = "–"
				}
			}
			b.printf(" %s |", text)
		}
		b.printf("\n")
	}
}

// failures says why readers took no part.
func (b *bench) failures(jobs []*job) {
	before := "\n"
	for _, j := range jobs {
		if j.failed != "" {
			b.printf("%s- %s, %s: %s\n", before, j.reader, j.data, j.failed)
			before = ""
		}
	}
}

func (b *bench) speedTable(jobs []*job) {
	b.table(jobs, func(j *job) string {
		if len(j.done) == 0 {
			return ""
		}
		text := fmt.Sprintf("%.0f", b.sizeMB(j.data+".raw")/j.seconds())
		if o := j.ours(jobs); o != nil {
			text += fmt.Sprintf(" (%.2f)", o.ratio(j))
		}
		return text
	})
	b.failures(jobs)
}

// aimAtSpeed notes how many times as fast as another we want to be and are.
func (b *bench) aimAtSpeed(what string, times float64, jobs []*job, than string) {
	a := aim{what: what, limit: times, unit: "×"}
	for _, j := range jobs {
		if j.reader == than && len(j.done) > 0 {
			a.values = append(a.values, value{j.data, j.ours(jobs).ratio(j)})
		}
	}
	b.addAim(a)
}

// addAim notes an aim of which something was measured.
func (b *bench) addAim(a aim) {
	if len(a.values) > 0 {
		b.aims = append(b.aims, a)
	}
}
