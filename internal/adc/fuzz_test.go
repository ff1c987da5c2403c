package adc

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"testing/iotest"

	"github.com/go-dmg/dmg/internal/dmgtest/adcenc"
)

// plainDecode is ADC at its plainest, a byte at a time with all output kept: the
// second opinion for the fuzzer.
func plainDecode(in []byte) (out []byte, err error) {
	for len(in) > 0 {
		size, n, dist := 1, 0, 0
		switch op := int(in[0]); {
		case op >= 0x80:
			size = op - 0x80 + 2
		case op >= 0x40 && len(in) >= 3:
			size, n, dist = 3, op-0x40+4, int(in[1])*256+int(in[2])+1
		case op < 0x40 && len(in) >= 2:
			size, n, dist = 2, op/4+3, op%4*256+int(in[1])+1
		default:
			return out, io.ErrUnexpectedEOF
		}
		if size > len(in) {
			return out, io.ErrUnexpectedEOF
		}
		if dist > len(out) {
			return out, errCorrupt
		}
		if n == 0 {
			out = append(out, in[1:size]...)
		}
		for range n {
			out = append(out, out[len(out)-dist])
		}
		in = in[size:]
	}
	return out, io.EOF
}

// FuzzADC holds the decoder to this: any input gives what a decoder of twenty
// lines gives, and the same whatever the sizes of the steps and of the source's
// reads; and the input, taken for plain data, comes back from the encoder.
func FuzzADC(f *testing.F) {
	for _, tt := range streamTests {
		f.Add(unhex(tt.codes))
	}
	stream, plain, _ := small()
	f.Add(stream[:1000])
	f.Add(plain[:1000])
	var z Reader
	f.Fuzz(func(t *testing.T, data []byte) {
		want, wantErr := plainDecode(data)
		large, err := decode(t, &z, bytes.NewReader(data), MaxDecode)
		if !bytes.Equal(large, want) || !wantError(err, wantErr) {
			t.Fatalf("got %d bytes and %v, want %d and %v", len(large), err, len(want), wantErr)
		}
		small, err2 := decode(t, &z, iotest.OneByteReader(bytes.NewReader(data)), 1)
		if !bytes.Equal(small, large) || fmt.Sprint(err2) != fmt.Sprint(err) {
			t.Fatalf("small steps give %d bytes and %v, large ones %d bytes and %v", len(small), err2, len(large), err)
		}
		got, err := decode(t, &z, bytes.NewReader(adcenc.Encode(data)), 1000)
		if err != io.EOF || !bytes.Equal(got, data) {
			t.Fatalf("round trip gives %d bytes and %v for %d", len(got), err, len(data))
		}
	})
}
