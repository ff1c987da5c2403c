package hfsplus

import (
	"bufio"
	"fmt"
	"os"
	"strings"
	"testing"
)

const samples = "../../shared/samples/"

// TestFoldTable compares with all of Apple's table.
func TestFoldTable(t *testing.T) {
	file, err := os.Open(samples + "fs/hfs-casefold.tsv")
	if err != nil {
		t.Skip(err)
	}
	defer file.Close()
	want := map[uint16]uint16{}
	lines := bufio.NewScanner(file)
	for lines.Scan() {
		if strings.HasPrefix(lines.Text(), "#") {
			continue
		}
		var first, last, step, become int
		if _, err := fmt.Sscanf(lines.Text(), "%x %x %d %x", &first, &last, &step, &become); err != nil {
			t.Fatal(err)
		}
		for u := first; u <= last; u += step {
			want[uint16(u)] = uint16(become)
			if become != 0 {
				want[uint16(u)] = uint16(become + u - first)
			}
		}
	}
	if len(want) != 329 {
		t.Fatalf("%d units in the table", len(want))
	}
	for u := range 1 << 16 {
		w, ok := want[uint16(u)]
		if !ok {
			w = uint16(u)
		}
		if got := fold(uint16(u)); got != w {
			t.Errorf("fold(%04X) = %04X, want %04X", u, got, w)
		}
	}
}

// TestFold checks some of the table where Apple's is not at hand.
func TestFold(t *testing.T) {
	for u, want := range map[uint16]uint16{
		0: 0xFFFF, 'A': 'a', 'Z': 'z', '[': '[', 0xC6: 0xE6, 0xC9: 0xC9, 0x140: 0x140, 0x13F: 0x140, 0x141: 0x142,
		0x405: 0x455, 0x404: 0x454, 0x411: 0x431, 0x412: 0x432, 0x419: 0x419, 0x42E: 0x44E, 0x42F: 0x44F,
		0x10A0: 0x10D0, 0x200D: 0, 0xFEFF: 0, 0xFF21: 0xFF41, 0xFFFF: 0xFFFF, 0x3A3: 0x3C3, 0x3A2: 0x3A2,
	} {
		if got := fold(u); got != want {
			t.Errorf("fold(%04X) = %04X, want %04X", u, got, want)
		}
	}
}
