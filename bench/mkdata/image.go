package main

import (
	"bytes"
	"runtime"

	"golang.org/x/sync/errgroup"

	"github.com/go-dmg/dmg/internal/dmgtest"
)

// single makes the image of corpus.raw whose one chunk is a stream that exists,
// so that decoders alone and readers of the image get the same bytes.
func (m *maker) single(e encoder, stream string) func() ([]byte, error) {
	return func() ([]byte, error) {
		disk, err := m.read("corpus.raw")
		if err != nil {
			return nil, err
		}
		z, err := m.read(stream)
		if err != nil {
			return nil, err
		}
		return image(e.method, disk, int64(len(disk))/dmgtest.SectorSize, [][]byte{z})
	}
}

// chunked makes the image of corpus.raw in chunks of that many sectors.
func (m *maker) chunked(e encoder, sectors int64) func() ([]byte, error) {
	return func() ([]byte, error) {
		disk, err := m.read("corpus.raw")
		if err != nil {
			return nil, err
		}
		return m.build(e, disk, sectors)
	}
}

// large makes an image of 1 GiB, in one chunk.
func (m *maker) large(e encoder) func() ([]byte, error) {
	return func() ([]byte, error) {
		disk, err := m.read("corpus.raw")
		if err != nil {
			return nil, err
		}
		return m.build(e, repeat(disk, largeSize), largeSize/dmgtest.SectorSize)
	}
}

// build compresses the chunks of a disk, as many at once as there are cores.
func (m *maker) build(e encoder, disk []byte, sectors int64) ([]byte, error) {
	size := int(sectors) * dmgtest.SectorSize
	stored := make([][]byte, (len(disk)+size-1)/size)
	var g errgroup.Group
	g.SetLimit(runtime.NumCPU())
	for i := range stored {
		g.Go(func() (err error) {
			chunk := disk[i*size : min(len(disk), (i+1)*size)]
			if len(bytes.Trim(chunk, "\x00")) > 0 {
				stored[i], err = e.encode(chunk)
			}
			return err
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	return image(e.method, disk, sectors, stored)
}

// image lays out an image of one partition. A chunk that is stored as nothing
// is one of zeros.
func image(method dmgtest.Method, disk []byte, sectors int64, stored [][]byte) ([]byte, error) {
	total := int64(len(disk)) / dmgtest.SectorSize
	l := &dmgtest.Layout{Koly: dmgtest.NewKoly()}
	var chunks []dmgtest.Chunk
	for i, z := range stored {
		first := int64(i) * sectors
		c := dmgtest.Chunk{
			Method:  method,
			Sector:  uint64(first),
			Sectors: uint64(min(sectors, total-first)),
			Offset:  uint64(len(l.Data)),
			Length:  uint64(len(z)),
		}
		if len(z) == 0 {
			c.Method, c.Offset = dmgtest.Zero, 0
		}
		chunks = append(chunks, c)
		l.Data = append(l.Data, z...)
	}
	chunks = append(chunks, dmgtest.Chunk{Method: dmgtest.End, Sector: uint64(total), Offset: uint64(len(l.Data))})
	table := dmgtest.NewTable("whole disk (Apple_HFS : 0)", 0, total, chunks...)
	var err error
	if table.Checksum, err = dmgtest.Sum(dmgtest.CRC32, disk); err != nil {
		return nil, err
	}
	l.Tables = []dmgtest.Table{table}
	l.Koly.Sectors = uint64(total)
	if err := l.Seal(); err != nil {
		return nil, err
	}
	return l.Bytes(), nil
}
