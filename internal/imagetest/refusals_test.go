package imagetest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"github.com/go-dmg/dmg"
	"github.com/go-dmg/dmg/internal/dmgtest"
)

// forkOf changes an image's resource fork, of which it gets the places of the
// data, the map, the type list and the first reference.
func forkOf(change func(fork []byte, data, dmap, types, refs int)) func(*dmgtest.Layout) {
	return func(l *dmgtest.Layout) {
		be := binary.BigEndian
		data, dmap := int(be.Uint32(l.Rsrc)), int(be.Uint32(l.Rsrc[4:]))
		types := dmap + int(be.Uint16(l.Rsrc[dmap+24:]))
		refs := types + int(be.Uint16(l.Rsrc[types+8:]))
		change(l.Rsrc, data, dmap, types, refs)
	}
}

// refusals are structures that Open refuses, and where it says the fault is.
var refusals = []struct {
	name    string
	meta    dmgtest.Meta
	bend    func(l *dmgtest.Layout) // after everything else is made
	section string
	msg     string
}{
	{"fork outside the file", dmgtest.ResourceOnly, func(l *dmgtest.Layout) { l.Koly.RsrcOffset = 1 << 62 }, "koly", "resource fork outside"},
	{"fork of nothing", dmgtest.ResourceOnly, func(l *dmgtest.Layout) { l.Koly.RsrcLength = 15 }, "resource fork", "short header"},
	{"fork's data outside", dmgtest.ResourceOnly, forkOf(func(f []byte, data, dmap, types, refs int) { f[8] = 0xFF }), "resource fork", "outside the fork"},
	{"fork's map outside", dmgtest.ResourceOnly, forkOf(func(f []byte, data, dmap, types, refs int) { f[4] = 0xFF }), "resource fork", "outside the fork"},
	{"short map", dmgtest.ResourceOnly, forkOf(func(f []byte, data, dmap, types, refs int) {
		copy(f[12:], []byte{0, 0, 0, 27})
	}), "resource map", "short map"},
	{"type list outside", dmgtest.ResourceOnly, forkOf(func(f []byte, data, dmap, types, refs int) { f[dmap+24] = 0xFF }), "resource map", "type list outside"},
	{"type list cut", dmgtest.ResourceOnly, forkOf(func(f []byte, data, dmap, types, refs int) {
		f[types], f[types+1] = 0xFF, 0xFE
		for i := types + 2; i+8 <= len(f); i += 8 {
			copy(f[i:], "none")
		}
	}), "resource map", "short type list"},
	{"no types", dmgtest.ResourceOnly, forkOf(func(f []byte, data, dmap, types, refs int) { f[types], f[types+1] = 0xFF, 0xFF }), "resource map", "no blkx"},
	{"reference list outside", dmgtest.ResourceOnly, forkOf(func(f []byte, data, dmap, types, refs int) { f[types+6] = 0x7F }), "resource map", "reference list outside"},
	{"resource outside", dmgtest.ResourceOnly, forkOf(func(f []byte, data, dmap, types, refs int) { f[refs+5] = 0xFF }), "resource map", "resource outside"},
	{"resource too long", dmgtest.ResourceOnly, forkOf(func(f []byte, data, dmap, types, refs int) { f[data] = 0x7F }), "resource map", "resource longer"},
	{"plist outside the file", dmgtest.PlistOnly, func(l *dmgtest.Layout) { l.Koly.PlistOffset = 1 << 62 }, "koly", "outside the file"},
	{"no table's magic", dmgtest.ResourceOnly, forkOf(func(f []byte, data, dmap, types, refs int) { f[data+4] = 'M' }), "mish 0", "bad magic"},
	{"table of version 2", dmgtest.ResourceOnly, forkOf(func(f []byte, data, dmap, types, refs int) { f[data+4+7] = 2 }), "mish 0", "version 2"},
	{"table of 2^63 sectors", dmgtest.ResourceOnly, forkOf(func(f []byte, data, dmap, types, refs int) { f[data+4+0x10] = 0x80 }), "mish 0", ""},
}

func TestRefusals(t *testing.T) {
	disk := dmgtest.Text(1, 64<<10).Bytes()
	for _, tt := range refusals {
		t.Run(tt.name, func(t *testing.T) {
			l, err := dmgtest.Build(disk, dmgtest.Options{Meta: tt.meta, ChunkSectors: 32})
			if err != nil {
				t.Fatal(err)
			}
			if im, err := dmg.NewImage(bytes.NewReader(l.Bytes()), int64(len(l.Bytes())), nil); err != nil || im.Size() != int64(len(disk)) {
				t.Fatal("before it is bent: ", err)
			}
			tt.bend(l)
			_, err = dmg.NewImage(bytes.NewReader(l.Bytes()), int64(len(l.Bytes())), nil)
			var format *dmg.FormatError
			if !errors.As(err, &format) || format.Section != tt.section || !strings.Contains(format.Msg, tt.msg) {
				t.Errorf("%v, want one of %s that says %q", err, tt.section, tt.msg)
			}
		})
	}
}
