package codesign

import (
	"bytes"
	"context"
	"fmt"
	"hash"
	"io"

	"github.com/go-dmg/dmg/internal/readat"
)

// A Mismatch is a part of what is signed whose hash is not the code directory's.
type Mismatch struct {
	Part      string // such as "page 3"
	HashType  HashType
	Want, Got []byte // Got is nil if the part is missing
}

// Error says which part it is.
func (m *Mismatch) Error() string {
	if m.Got == nil {
		return fmt.Sprintf("code signature: %s is missing", m.Part)
	}
	return fmt.Sprintf("code signature: %s: %v is %x, signed is %x", m.Part, m.HashType, m.Got, m.Want)
}

// VerifyContent compares code, and what belongs to special slots, with the hashes in d. Blobs
// of s belong to special slots by themselves; beside are those that lie elsewhere, by slot. It
// returns the first *Mismatch, an *Error, ErrUnsupported, the cause if ctx is done, or the
// source's error. buf is what it reads by.
func (s *Superblob) VerifyContent(ctx context.Context, d *Directory, code io.ReaderAt, beside map[uint32][]byte, buf []byte) error {
	h, err := d.HashType.new()
	if err != nil {
		return err
	}
	if d.scatter {
		return fmt.Errorf("%w: pages that are scattered", ErrUnsupported)
	}
	for slot := uint32(1); slot <= maxSpecial; slot++ {
		data := beside[slot]
		if data == nil {
			if data, err = s.Blob(slot); err != nil {
				return err
			}
		}
		if err := d.verifySpecial(h, slot, data); err != nil {
			return err
		}
	}
	pages := &pageReader{ctx: ctx, r: code, left: d.CodeLimit, buf: buf}
	for i := range d.code {
		if err := d.verifyPage(h, i, pages); err != nil {
			return err
		}
	}
	return nil
}

// slotNames are what users may know special slots by.
var slotNames = map[uint32]string{
	SlotInfo: "Info.plist", SlotRequirements: "requirements", SlotResources: "CodeResources",
	SlotEntitlements: "entitlements", SlotTrailer: "trailer", SlotDEREntitlement: "DER entitlements",
}

// verifySpecial compares what belongs to a special slot. What has no hash must not be there.
func (d *Directory) verifySpecial(h hash.Hash, slot uint32, data []byte) error {
	want := d.specialHash(int64(slot))
	if want == nil && data == nil {
		return nil
	}
	name, ok := slotNames[slot]
	if !ok {
		name = fmt.Sprintf("special slot %d", slot)
	}
	m := &Mismatch{Part: name, HashType: d.HashType, Want: want}
	if data != nil {
		h.Reset()
		h.Write(data)
		m.Got = h.Sum(nil)[:d.hashSize]
	}
	if bytes.Equal(m.Got, want) {
		return nil
	}
	return m
}

// verifyPage compares a page.
func (d *Directory) verifyPage(h hash.Hash, i int64, pages *pageReader) error {
	left := d.CodeLimit
	if d.PageSize > 0 {
		left = min(d.CodeLimit-i*d.PageSize, d.PageSize)
	}
	h.Reset()
	for left > 0 {
		b, err := pages.next(left)
		if err != nil {
			return err
		}
		h.Write(b)
		left -= int64(len(b))
	}
	if got := h.Sum(nil)[:d.hashSize]; !bytes.Equal(got, d.hash(i)) {
		return &Mismatch{fmt.Sprintf("page %d", i), d.HashType, d.hash(i), got}
	}
	return nil
}

// A pageReader reads from the start of something on, in large reads, however small pages are.
type pageReader struct {
	ctx  context.Context
	r    io.ReaderAt
	off  int64 // of the next read
	left int64 // to be read
	buf  []byte
	have []byte // in buf, not returned yet
}

// next returns the next bytes, n at most.
func (p *pageReader) next(n int64) ([]byte, error) {
	if len(p.have) == 0 {
		if p.ctx.Err() != nil {
			return nil, context.Cause(p.ctx)
		}
		b := p.buf[:min(int64(len(p.buf)), p.left)]
		if _, err := readat.Full(p.r, b, p.off); err != nil {
			return nil, err
		}
		p.off, p.left, p.have = p.off+int64(len(b)), p.left-int64(len(b)), b
	}
	b := p.have[:min(int64(len(p.have)), n)]
	p.have = p.have[len(b):]
	return b, nil
}
