package main

import (
	"bytes"
	"os/exec"
	"strings"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// An encoder compresses data as a chunk of its method holds it.
type encoder struct {
	method dmgtest.Method
	argv   []string // the program, from standard input to output; none: dmgtest's own
	about  string
}

// programs are the usual encoders. Their default effort is the usual one too,
// and for bzip2 the program's default is its best. Apple's tools write .xz files
// without a check; a dictionary larger than a chunk would only cost memory.
var programs = map[dmgtest.Method][]string{
	dmgtest.Zlib:  {"pigz", "-z", "-6", "-p", "1", "-c"}, // with one thread it runs zlib's own encoder
	dmgtest.Bzip2: {"bzip2", "-9", "-c"},
	dmgtest.LZMA:  {"xz", "-c", "-T1", "--check=none", "--lzma2=preset=6,dict=1MiB"},
}

// encoderOf finds the encoder of a method.
func encoderOf(m dmgtest.Method) encoder {
	argv := programs[m]
	if len(argv) > 0 {
		if _, err := exec.LookPath(argv[0]); err == nil {
			return encoder{m, argv, "`" + strings.Join(argv, " ") + "`"}
		}
	}
	return encoder{m, nil, m.String() + " by the encoder of internal/dmgtest"}
}

func (e encoder) encode(data []byte) ([]byte, error) {
	if e.argv == nil {
		level := 0
		if e.method == dmgtest.Bzip2 {
			level = 9
		}
		return dmgtest.Compress(e.method, level, data)
	}
	cmd := exec.Command(e.argv[0], e.argv[1:]...)
	cmd.Stdin = bytes.NewReader(data)
	return cmd.Output()
}
