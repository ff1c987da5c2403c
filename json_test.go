package dmg_test

import (
	"encoding/json"
	"reflect"
	"testing"

	"github.com/go-dmg/dmg"
)

// What callers print as JSON says methods by name and checksums in hexadecimal, and can
// be read again.
func TestJSON(t *testing.T) {
	for _, tt := range []struct {
		value any
		json  string
	}{
		{dmg.Zlib, `"zlib"`},
		{dmg.Zero, `"zero"`},
		{dmg.Method(0x80000003), `"lzh"`},
		{dmg.Method(0x80000009), `"0x80000009"`},
		{dmg.Method(3), `"0x3"`},
		{dmg.Method(0xFFFFFFFF), `"0xffffffff"`},
		{map[dmg.Method]int{dmg.LZMA: 1, dmg.Raw: 2}, `{"lzma":1,"raw":2}`},
		{dmg.Chunk{Method: dmg.Bzip2, Offset: 1024, Length: 512, DataOffset: 8, DataLength: 40, Partition: -1},
			`{"Method":"bzip2","Offset":1024,"Length":512,"DataOffset":8,"DataLength":40,"Partition":-1}`},
		{dmg.Checksum{Part: "master", Partition: -1, Algorithm: "CRC-32", Sum: dmg.Digest{0xEC, 0xD9, 0x22, 0x05}},
			`{"Part":"master","Partition":-1,"Algorithm":"CRC-32","Sum":"ecd92205"}`},
		{dmg.ChecksumError{Part: "master", Partition: -1, Algorithm: "CRC-32", Want: dmg.Digest{1, 0xAB}, Got: dmg.Digest{}},
			`{"Part":"master","Partition":-1,"Algorithm":"CRC-32","Want":"01ab","Got":""}`},
	} {
		b, err := json.Marshal(tt.value)
		if err != nil || string(b) != tt.json {
			t.Errorf("%#v: %s, %v, want %s", tt.value, b, err, tt.json)
			continue
		}
		again := reflect.New(reflect.TypeOf(tt.value))
		if err := json.Unmarshal(b, again.Interface()); err != nil {
			t.Errorf("%s: %v", b, err)
			continue
		}
		if b, err := json.Marshal(again.Interface()); err != nil || string(b) != tt.json {
			t.Errorf("read again: %s, %v, want %s", b, err, tt.json)
		}
	}
}

func TestJSONInvalid(t *testing.T) {
	for _, text := range []string{``, `zlibx`, `ZLIB`, `0x`, `0x80000005`, `80000009`, `0x080000009`, `0X9`, `0xAB`, `0x100000000`, `-1`, `0x-1`} {
		m := dmg.Raw
		if err := m.UnmarshalText([]byte(text)); err == nil || m != dmg.Raw {
			t.Errorf("method %q: %v, %v", text, m, err)
		}
	}
	for _, text := range []string{`0`, `xy`, `0x12`, `12 `} {
		d := dmg.Digest{7}
		if err := d.UnmarshalText([]byte(text)); err == nil || len(d) != 1 {
			t.Errorf("digest %q: %v, %v", text, d, err)
		}
	}
}
