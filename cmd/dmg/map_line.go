package main

import (
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"

	"golang.org/x/term"

	"github.com/go-dmg/dmg"
)

// A lineStyle is how a map of one line is printed.
type lineStyle struct {
	width int  // cells, at most
	color bool // as blocks in colors, which takes a terminal; or else as letters
}

const maxLineWidth = 64

// lineStyleOf is the style for a stream: see https://no-color.org.
func lineStyleOf(stream io.Writer) lineStyle {
	s := lineStyle{width: maxLineWidth}
	if !isTerminal(stream) {
		return s
	}
	// One that doesn't know its width says 0.
	if width, _, err := term.GetSize(int(stream.(*os.File).Fd())); err == nil && width > 0 {
		s.width = max(1, min(s.width, width-len(lineStart)-2)) // and a bar at each end
	}
	// The console of Windows knows colors only if it is asked, but Windows Terminal always.
	known := runtime.GOOS != "windows" || os.Getenv("WT_SESSION") != ""
	s.color = known && os.Getenv("NO_COLOR") == "" && os.Getenv("TERM") != "dumb"
	return s
}

// lineLooks are the letters of looks, and in color their blocks, by shade.
var lineLooks = [numLooks]struct {
	letter string
	color  string // as SGR, ECMA-48 8.3.117
	blocks string
}{
	hole:        {"_", "90", "_"},
	ignore:      {"-", "90", "-"},
	zero:        {".", "90", "·"},
	raw:         {"r", "37", "█"},
	adc:         {"a", "36", "░▒▓█"},
	zlib:        {"z", "94", "░▒▓█"},
	bzip2:       {"b", "33", "░▒▓█"},
	lzfse:       {"f", "32", "░▒▓█"},
	lzma:        {"x", "35", "░▒▓█"},
	unsupported: {"?", "31", "?"},
}

// mark is what a cell that looks so is printed as.
func (s lineStyle) mark(l look, shade int) string {
	look := lineLooks[l]
	if !s.color {
		return look.letter
	}
	blocks := []rune(look.blocks)
	return "\x1b[" + look.color + "m" + string(blocks[min(shade, len(blocks)-1)]) + "\x1b[0m"
}

const lineStart = "map: "

// printLine draws the disk's map in one line, and a line that says what is what.
func printLine(w io.Writer, im *dmg.Image, s lineStyle) error {
	if im.Size() == 0 {
		return nil
	}
	sectors := (im.Size()-1)/sectorSize + 1
	cellSize := ((sectors-1)/int64(s.width) + 1) * sectorSize
	var line strings.Builder
	var seen [numLooks]bool
	for _, c := range layOut(im.Chunks(), im.Size(), cellSize) {
		l := c.empty.look
		if c.fill > 0 {
			l = c.data.look
		}
		seen[l] = true
		line.WriteString(s.mark(l, c.shade))
	}
	var legend []string
	for l, ok := range seen {
		if ok {
			legend = append(legend, s.mark(look(l), numShades-1)+" "+lookNames[l])
		}
	}
	note := "each " + humanSize(cellSize)
	if s.color {
		note += ", denser where less compressed"
	}
	_, err := fmt.Fprintf(w, "%s|%s|\n%*s%s; %s\n", lineStart, &line, len(lineStart)+1, "", strings.Join(legend, ", "), note)
	return err
}
