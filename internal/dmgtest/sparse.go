package dmgtest

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
)

// The parts of a sparse image: a first node of 4096 bytes with 1008 band
// ids, bands, and further nodes with 1010.
const (
	sparseNode  = 4096
	sparseIDsAt = 0x40
	sparseFirst = 1008
	nodeIDsAt   = 0x38
	nodeIDs     = 1010
)

// SparseOptions say how a disk becomes a sparse image. The zero value is
// bands of 1 MiB in the disk's order.
type SparseOptions struct {
	BandSectors int  // 0: 2048
	KeepZeros   bool // a band that is all zeros is stored too
	Shuffle     bool // bands stand in no order
	NodeIDs     int  // band ids used of each node; 0: all there is room for
	Seed        uint64
}

// SparseImage is disk as a .sparseimage. Small NodeIDs make many nodes of few
// bands.
func SparseImage(disk []byte, o SparseOptions) []byte {
	if o.BandSectors == 0 {
		o.BandSectors = 2048
	}
	size := o.BandSectors * SectorSize
	bands := storedBands(disk, size, o.KeepZeros)
	if o.Shuffle {
		shuffle(bands, o.Seed)
	}
	out := sparseHead(len(disk), o.BandSectors)
	be := binary.BigEndian
	node, nodes, ids, room := 0, 0, sparseIDsAt, sparseFirst
	link := 0x14 // where the next node's offset goes
	for {
		n := min(room, len(bands))
		if o.NodeIDs > 0 {
			n = min(n, o.NodeIDs)
		}
		for i, band := range bands[:n] {
			be.PutUint32(out[node+ids+4*i:], uint32(band+1))
			out = append(out, bandOf(disk, band, size)...)
		}
		if bands = bands[n:]; len(bands) == 0 {
			return out
		}
		be.PutUint64(out[link:], uint64(len(out)))
		node = len(out)
		out = append(out, make([]byte, sparseNode)...)
		copy(out[node:], "sprs")
		nodes++
		be.PutUint32(out[node+4:], uint32(nodes))
		link = node + 0x0C
		ids, room = nodeIDsAt, nodeIDs
	}
}

// sparseHead is the first node without ids.
func sparseHead(size, bandSectors int) []byte {
	be := binary.BigEndian
	h := make([]byte, sparseNode)
	sectors := (size + SectorSize - 1) / SectorSize
	copy(h, "sprs")
	be.PutUint32(h[4:], 3)
	be.PutUint32(h[8:], uint32(bandSectors))
	be.PutUint32(h[0x0C:], 1)
	be.PutUint32(h[0x10:], uint32(sectors))
	be.PutUint64(h[0x1C:], uint64(sectors))
	return h
}

// BundleOptions say how a disk becomes a sparse bundle.
type BundleOptions struct {
	BandSize  int  // bytes; 0: 8 MiB
	KeepZeros bool // a band that is all zeros is stored too
	Short     bool // zeros at a band's end are not stored

	// Token is the file of that name, and Encrypt what becomes of each band;
	// nil: as it is. See Encryption.
	Token   []byte
	Encrypt func(band []byte) []byte
}

// SparseBundle writes disk as a .sparsebundle into the test's temporary
// directory, and returns the bundle's name.
func SparseBundle(tb testing.TB, disk []byte, o BundleOptions) string {
	tb.Helper()
	if o.BandSize == 0 {
		o.BandSize = 8 << 20
	}
	dir := filepath.Join(tb.TempDir(), "image.sparsebundle")
	if err := os.MkdirAll(filepath.Join(dir, "bands"), 0o777); err != nil {
		tb.Fatal(err)
	}
	info := fmt.Appendf(nil, bundleInfo, o.BandSize, len(disk))
	writeFile(tb, filepath.Join(dir, "Info.plist"), info)
	writeFile(tb, filepath.Join(dir, "Info.bckup"), info)
	writeFile(tb, filepath.Join(dir, "token"), o.Token)
	for _, i := range storedBands(disk, o.BandSize, o.KeepZeros) {
		band := disk[i*o.BandSize : min((i+1)*o.BandSize, len(disk))]
		if o.Short {
			band = bytes.TrimRight(band, "\x00")
		}
		if o.Encrypt != nil {
			band = o.Encrypt(band)
		}
		writeFile(tb, filepath.Join(dir, "bands", fmt.Sprintf("%x", i)), band)
	}
	return dir
}

const bundleInfo = plistHead + `<dict>
	<key>CFBundleInfoDictionaryVersion</key>
	<string>6.0</string>
	<key>band-size</key>
	<integer>%d</integer>
	<key>bundle-backingstore-version</key>
	<integer>1</integer>
	<key>diskimage-bundle-type</key>
	<string>com.apple.diskimage.sparsebundle</string>
	<key>size</key>
	<integer>%d</integer>
</dict>
</plist>
`

// storedBands lists the bands of the disk that a file stores.
func storedBands(disk []byte, size int, keepZeros bool) []int {
	var bands []int
	for i := 0; i*size < len(disk); i++ {
		if keepZeros || len(bytes.Trim(bandOf(disk, i, size), "\x00")) > 0 {
			bands = append(bands, i)
		}
	}
	return bands
}

// bandOf is a whole band, filled up with zeros after the disk's end.
func bandOf(disk []byte, i, size int) []byte {
	band := disk[i*size : min((i+1)*size, len(disk))]
	return append(slices.Clip(band), make([]byte, size-len(band))...)
}

func writeFile(tb testing.TB, name string, data []byte) {
	tb.Helper()
	if err := os.WriteFile(name, data, 0o666); err != nil {
		tb.Fatal(err)
	}
}
