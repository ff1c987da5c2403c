package main

import (
	"fmt"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// containers are images with more around the disk than a UDIF image has, in a
// directory of their own. What is encrypted opens with password.
var containers = []image{
	encrypted("encrypted-v1.dmg", "version 1, AES-128 in blocks of 512 bytes, around zlib chunks", udif,
		dmgtest.Encryption{Version: 1, KeyBits: 128, BlockSize: 512}),
	encrypted("encrypted-v2.dmg", "version 2, AES-256 in blocks of 4096 bytes, around zlib chunks", udif, dmgtest.Encryption{}),
	encrypted("encrypted-three-keys.dmg", "version 2, AES-128, three AES-wrapped keys of which the last fits, around zlib chunks", udif,
		dmgtest.Encryption{KeyBits: 128, BlockSize: 512, AESWrap: true, Decoys: 2}),
	wrapped("nodes.sparseimage", "bands of 4 KiB in no order, four to an index node", sparse),
	encrypted("encrypted.sparseimage", "the same in version 2", sparse, dmgtest.Encryption{}),
	segment("split.dmg", "zlib chunks in three segments: the first", 0),
	segment("split.002.dmgpart", "the second", 1),
	segment("split.003.dmgpart", "the third", 2),
}

const (
	containerDir = "containers/"
	password     = "secret"
)

// wrapped is an image of the whole disk.
func wrapped(name, how string, build func() ([]byte, error)) image {
	return image{containerDir + name, how, wholeDisk(), func([]byte) ([]byte, error) { return build() }}
}

func encrypted(name, how string, inner func() ([]byte, error), e dmgtest.Encryption) image {
	e.Password = password
	e.DataOffset = 4096 // Apple leaves 120 KiB of zeros before the data
	return wrapped(name, how, func() ([]byte, error) {
		b, err := inner()
		if err != nil {
			return nil, err
		}
		return e.Image(b), nil
	})
}

// segment is one file of a split image. The first stands for all.
func segment(name, how string, i int) image {
	im := wrapped(name, how, func() ([]byte, error) {
		l, err := dmgtest.Build(wholeDisk(), options(dmgtest.Zlib))
		if err != nil {
			return nil, err
		}
		files := l.Segments((len(l.Data) + 2) / 3)
		if len(files) != 3 {
			return nil, fmt.Errorf("%d segments", len(files))
		}
		return files[i], nil
	})
	if i > 0 {
		im.disk = nil
	}
	return im
}

func udif() ([]byte, error) {
	l, err := dmgtest.Build(wholeDisk(), options(dmgtest.Zlib))
	if err != nil {
		return nil, err
	}
	return l.Bytes(), nil
}

func sparse() ([]byte, error) {
	return dmgtest.SparseImage(wholeDisk(), dmgtest.SparseOptions{BandSectors: 8, NodeIDs: 4, Shuffle: true}), nil
}
