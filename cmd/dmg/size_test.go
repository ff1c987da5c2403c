package main

import "testing"

func TestByteSize(t *testing.T) {
	for _, tt := range []struct {
		text string
		want int64 // -1: an error
	}{
		{"0", 0},
		{"1", 1},
		{"010", 10},
		{"0x10", 16},
		{"0XFF", 255},
		{"0xb", 11},
		{"3s", 1536},
		{"0x3S", 1536},
		{"4k", 4096},
		{"4K", 4096},
		{"4KiB", 4096},
		{"1M", 1 << 20},
		{"2G", 2 << 30},
		{"1t", 1 << 40},
		{"9223372036854775807", 1<<63 - 1},
		{"8388607T", 8388607 << 40},
		{"9223372036854775808", -1},
		{"8388608T", -1},
		{"18446744073709551616", -1},
		{"", -1},
		{"k", -1},
		{"-1", -1},
		{"+1", -1},
		{"1.5M", -1},
		{"1 k", -1},
		{"1kk", -1},
		{"1siB", -1},
		{"1iB", -1},
		{"0x", -1},
		{"1_000", -1},
		{"x10", -1},
		{"10b", -1},
	} {
		var n byteSize
		err := n.UnmarshalText([]byte(tt.text))
		if (err != nil) != (tt.want < 0) || err == nil && int64(n) != tt.want {
			t.Errorf("%q: %d, %v; want %d", tt.text, n, err, tt.want)
		}
	}
}

func TestHumanSize(t *testing.T) {
	for n, want := range map[int64]string{
		0:           "0 B",
		1023:        "1023 B",
		1024:        "1.0 KiB",
		1536:        "1.5 KiB",
		1<<20 - 1:   "1.0 MiB",
		1 << 20:     "1.0 MiB",
		5 << 30:     "5.0 GiB",
		1<<63 - 1:   "8.0 EiB",
		1000 * 1024: "1000.0 KiB",
	} {
		if got := humanSize(n); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}
