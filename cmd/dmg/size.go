package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

const sectorSize = 512

// numberHelp explains byteSize in the help of the commands that take one.
const numberHelp = `Numbers are in bytes, decimal or with 0x in hexadecimal. A suffix multiplies: s by 512 (sectors), k by 1024, M, G and T
by powers of it.`

// byteSize is a number of bytes as users write it: see numberHelp.
type byteSize int64

// sizeUnits are powers of 1024, as for dd and qemu-img: disks are counted so.
var sizeUnits = []struct {
	suffix string // in lower case
	bytes  int64
}{
	{"s", sectorSize},
	{"k", 1 << 10},
	{"m", 1 << 20},
	{"g", 1 << 30},
	{"t", 1 << 40},
}

// UnmarshalText implements encoding.TextUnmarshaler, which kong uses.
func (n *byteSize) UnmarshalText(text []byte) error {
	digits, unit := strings.ToLower(string(text)), int64(1)
	trimmed := strings.TrimSuffix(digits, "ib") // 4MiB is 4M
	for _, u := range sizeUnits {
		if s, ok := strings.CutSuffix(trimmed, u.suffix); ok && !(u.suffix == "s" && trimmed != digits) {
			digits, unit = s, u.bytes
			break
		}
	}
	base := 10
	if s, ok := strings.CutPrefix(digits, "0x"); ok {
		digits, base = s, 16
	}
	v, err := strconv.ParseUint(digits, base, 63)
	if s, ok := strings.CutPrefix(string(text), "-"); ok && s != "" && '0' <= s[0] && s[0] <= '9' {
		return fmt.Errorf("%q is negative: give a number of bytes from 0 on", text)
	}
	if err != nil || int64(v) > math.MaxInt64/unit {
		return fmt.Errorf("%q is no size: give bytes like 4096 or 0x1000, or use a suffix: 8s (sectors), 4k, 1M, 2G", text)
	}
	*n = byteSize(int64(v) * unit)
	return nil
}

// humanSize is n in the largest unit that leaves a number of at least 1.
func humanSize(n int64) string {
	if n < 1<<10 {
		return fmt.Sprintf("%d B", n)
	}
	units := "KMGTPE"
	v := float64(n) / (1 << 10)
	i := 0
	for ; v >= 1023.95 && i < len(units)-1; i++ { // 1023.95 would print as 1024.0
		v /= 1 << 10
	}
	return fmt.Sprintf("%.1f %ciB", v, units[i])
}
