package sniff

import (
	"bytes"
	"compress/zlib"
	"errors"
	"strings"
	"testing"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

func identify(t *testing.T, b []byte) (Kind, bool) {
	t.Helper()
	k, ok, err := Identify(bytes.NewReader(b), int64(len(b)))
	if err != nil {
		t.Fatal(err)
	}
	return k, ok
}

// at is random bytes with others at a place.
func at(offset int, s string) []byte {
	b := dmgtest.Random(1, 100_000).Bytes()
	copy(b[offset:], s)
	return b
}

// macBinary is a header of 128 bytes, and random bytes.
func macBinary(kind string) []byte {
	b := at(0, "\x00\x08Untitled"+strings.Repeat("\x00", 118))
	copy(b[65:], kind)
	return b
}

func diskCopy() []byte {
	b := at(0, "\x08Untitled"+strings.Repeat("\x00", 75))
	copy(b[64:], "\x00\x00\xC8\x00")
	b[82] = 1
	return b
}

func pack(t *testing.T, m dmgtest.Method, disk []byte) []byte {
	t.Helper()
	b, err := dmgtest.Compress(m, 9, disk)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestIdentify(t *testing.T) {
	text := dmgtest.Text(2, 200_000).Bytes()
	for _, tt := range []struct {
		name  string
		data  []byte
		what  string // "" if it is nothing known
		image bool
	}{
		{"nothing", nil, "an empty file", false},
		{"zeros", make([]byte, 200_000), "zeros", false},
		{"a zero", make([]byte, 1), "zeros", false},
		{"random", dmgtest.Random(1, 200_000).Bytes(), "", false},
		{"page", []byte("<!DOCTYPE html>\n<html><head><title>404 Not Found</title></head></html>\n"), "an HTML page", false},
		{"page in capitals behind spaces", []byte("\xEF\xBB\xBF\r\n  <HTML>" + strings.Repeat("x", 100_000)), "an HTML page", false},
		{"XHTML", []byte("<?xml version=\"1.0\"?><!DOCTYPE html><html>\xff"), "an HTML page", false},
		{"property list", []byte("<?xml version=\"1.0\"?><plist><key>blkx</key></plist>"), "a property list", false},
		{"XML", []byte("<?xml version=\"1.0\"?><Error><Code>AccessDenied</Code></Error>"), "an XML document", false},
		{"script", []byte("#!/bin/sh\n\x00"), "a script", false},
		{"text", text, "a text file", false},
		{"text that the first 64 KiB cut", append(bytes.Repeat([]byte("x"), 64<<10-1), "äöü"...), "a text file", false},
		{"Git LFS", []byte("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 1\n"), "Git LFS", false},
		{"tar", at(257, "ustar\x0000"), "a tar archive", false},
		{"VDI", at(64, "\x7F\x10\xDA\xBE"), "VDI", true},
		{"AEA", at(0, "AEA1"), "Apple Encrypted Archive", true},
		{"ASIF", at(0, "shdw\x00\x00\x00\x01"), "ASIF", true},
		{"QCOW2", at(0, "QFI\xFB\x00\x00\x00\x03"), "QCOW2", true},
		{"VMDK", at(0, "KDMV"), "VMDK", true},
		{"ZIP", at(0, "PK\x03\x04"), "a ZIP archive", false},
		{"gzip", at(0, "\x1F\x8B\x08\x00"), "a gzip file", false},
		{"package", at(0, "xar!\x00\x1C"), "an installer package", false},
		{"IM4P", at(0, "\x30\x83\x01\x00\x00\x16\x04IM4P\x16\x04rdsk"), "an IM4P file", true},
		{"NDIF", macBinary("rohdddsk"), "an NDIF disk image", true},
		{"Disk Copy 4.2 behind MacBinary", macBinary("dImgdCpy"), "a Disk Copy 4.2", true},
		{"MacBinary of something", macBinary("TEXTttxt"), "", false},
		{"Disk Copy 4.2", diskCopy(), "a Disk Copy 4.2", true},
		{"Disk Copy 4.2, cut", diskCopy()[:1000], "", false},
		{"AppleDouble", at(0, "\x00\x05\x16\x07\x00\x02\x00\x00"), "an AppleDouble file", false},
		{"AppleDouble of an NDIF image", at(0, "\x00\x05\x16\x07\x00\x02\x00\x00bcem"), "an NDIF disk image", true},
		{"the fork of an NDIF image", at(0, "\x00\x00\x01\x00bcem"), "an NDIF disk image", true},
		{"bzip2", pack(t, dmgtest.Bzip2, text), "a bzip2 file", false},
		{"xz", pack(t, dmgtest.LZMA, text), "an xz file", false},
		{"LZFSE", pack(t, dmgtest.LZFSE, text), "an LZFSE file", false},
		{"zlib of anything", pack(t, dmgtest.Zlib, text), "begins like a disk image", false},
		{"text that begins as zlib does", append([]byte("x\x9C"), text...), "", false},
		{"bzip2 that isn't", at(0, "BZh9nothing"), "a bzip2 file", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			k, ok := identify(t, tt.data)
			if ok != (tt.what != "") || !strings.Contains(k.String(), tt.what) || ok && k.Image != tt.image {
				t.Errorf("%v, %v, of an image %v, want %q, %v", k, ok, k.Image, tt.what, tt.image)
			}
		})
	}
	for _, m := range magics {
		if k, ok := identify(t, at(int(m.offset), m.bytes)); !ok || k != m.Kind || k.What == "" || k.Do == "" {
			t.Errorf("%q at %d: %v, %v", m.bytes, m.offset, k, ok)
		}
	}
}

// TestCut cuts disk images of all compressions anywhere behind their first chunk.
func TestCut(t *testing.T) {
	disk := dmgtest.Mixed(3, 300_000).Bytes()
	boot, hfs, map512, entries := bytes.Clone(disk), bytes.Clone(disk), bytes.Clone(disk), bytes.Clone(disk)
	copy(entries, "\x00SFH\x00\x00\xaa\x11\xaa\x11\x000eC\xec\xac")
	boot[510], boot[511] = 0x55, 0xAA
	copy(hfs[1024:], "H+\x00\x04")
	copy(map512, "ER\x02\x00")
	for name, disk := range map[string][]byte{"boot record": boot, "HFS+": hfs, "driver descriptor": map512, "entries of a GUID table": entries} {
		for _, m := range []dmgtest.Method{dmgtest.Zlib, dmgtest.Bzip2, dmgtest.LZMA, dmgtest.LZFSE, dmgtest.ADC} {
			b := dmgtest.Image(t, disk, dmgtest.Options{ChunkSectors: 128, Codecs: []dmgtest.Method{m}})
			for _, n := range []int{len(b) - 1, len(b) - 100, len(b) - 511, len(b) - 2000, len(b) / 2, 70_000} {
				if k, ok := identify(t, b[:n]); !ok || k != cutOff {
					t.Errorf("%s, method %#x, %d of %d bytes: %v, %v", name, uint32(m), n, len(b), k, ok)
				}
			}
		}
	}
}

// TestBombs bounds what is decoded.
func TestBombs(t *testing.T) {
	var b bytes.Buffer
	z := zlib.NewWriter(&b)
	for range 100 {
		z.Write(make([]byte, 1<<20))
	}
	z.Close()
	src := &dmgtest.Counter{R: bytes.NewReader(append(b.Bytes(), 1))}
	if _, _, err := Identify(src, int64(b.Len()+1)); err != nil {
		t.Fatal(err)
	}
	if src.Bytes() > 2*edge+most {
		t.Errorf("%d bytes read", src.Bytes())
	}
}

// A source's error is passed on from wherever it comes.
func TestFaults(t *testing.T) {
	fault := errors.New("fault")
	for _, b := range [][]byte{dmgtest.Random(1, 200_000).Bytes(), pack(t, dmgtest.Bzip2, dmgtest.Text(2, 200_000).Bytes()), pack(t, dmgtest.LZMA, dmgtest.Text(2, 200_000).Bytes())} {
		for call := int64(1); ; call++ {
			src := &dmgtest.FailAt{R: bytes.NewReader(b), Call: call, Err: fault, Sticky: true}
			_, _, err := Identify(src, int64(len(b)))
			if src.Calls() < call {
				break
			}
			if err != fault {
				t.Fatalf("call %d: %v", call, err)
			}
		}
	}
}
