package appinfo

import (
	"bytes"
	"compress/bzip2"
	"compress/zlib"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"path"
	"strings"

	"github.com/go-dmg/dmg/internal/plistguard"
	"github.com/go-dmg/dmg/internal/readat"
)

// A flat package is a xar archive: a header, a table of contents in XML, compressed by zlib, and
// a heap of files. Of these, Distribution describes an installer, and PackageInfo one part of
// it. The layout is that of xar.h in Apple's xar.
const (
	xarHeader = 28
	maxTable  = 4 << 20 // bytes, as stored and decompressed
	maxPart   = 1 << 20 // of one file that is read
)

var errXAR = errors.New("no xar archive")

// flatPackage reads a package that is a file.
func (f *Finder) flatPackage(it *Item) {
	r, size, closer, err := f.open(it.Path)
	if err != nil {
		it.Err = err
		return
	}
	defer closer.Close()
	x := xar{r: r, size: size}
	err = x.open()
	if err == nil {
		err = x.describe(it)
	}
	var bad *badArchive
	switch {
	case errors.As(err, &bad):
		it.Err = &contentError{it.Path, bad.Error()}
	case err != nil:
		it.Err = err
	}
}

// badArchive is an error of what an archive holds, not of reading it.
type badArchive struct{ err error }

// Error returns the cause's words.
func (e *badArchive) Error() string { return e.err.Error() }

func bad(err error) error { return &badArchive{err} }

// xar is an archive.
type xar struct {
	r    io.ReaderAt
	size int64
	heap int64 // where the files' offsets count from
	toc  struct {
		Files      []xarFile      `xml:"toc>file"`
		Signatures []xarSignature `xml:"toc>signature"`
		Others     []xarSignature `xml:"toc>x-signature"`
	}
}

// xarFile is a file or a folder in the table of contents.
type xarFile struct {
	Name string `xml:"name"`
	Data struct {
		Offset   uint64 `xml:"offset"`
		Length   uint64 `xml:"length"` // as stored
		Size     uint64 `xml:"size"`
		Encoding struct {
			Style string `xml:"style,attr"`
		} `xml:"encoding"`
	} `xml:"data"`
	Files []xarFile `xml:"file"`
}

type xarSignature struct {
	Certificates []string `xml:"KeyInfo>X509Data>X509Certificate"` // the signer's first
}

// open reads the table of contents.
func (x *xar) open() error {
	h := make([]byte, min(x.size, xarHeader))
	if _, err := readat.Full(x.r, h, 0); err != nil {
		return err
	}
	if len(h) < xarHeader || string(h[:4]) != "xar!" {
		return bad(errXAR)
	}
	header, length := int64(binary.BigEndian.Uint16(h[4:])), binary.BigEndian.Uint64(h[8:])
	if header < xarHeader || header > x.size || length > uint64(x.size-header) || length > maxTable {
		return bad(fmt.Errorf("a table of contents of %d bytes", length))
	}
	b := make([]byte, length)
	if _, err := readat.Full(x.r, b, header); err != nil {
		return err
	}
	x.heap = header + int64(length)
	z, err := zlib.NewReader(bytes.NewReader(b))
	if err != nil {
		return bad(err)
	}
	text, err := readLimited(z, maxTable)
	if err != nil {
		return bad(err)
	}
	return parseXML(text, &x.toc)
}

// readLimited reads all of r, if that is no more than limit bytes.
func readLimited(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = fmt.Errorf("more than %d bytes", limit)
	}
	return b, err
}

// parseXML parses a document, if the guard of property lists takes it: it isn't deeply nested,
// declares no entities, and has no more elements than a package needs.
func parseXML(text []byte, v any) error {
	if err := plistguard.Check(text); err != nil {
		return bad(err)
	}
	d := xml.NewDecoder(bytes.NewReader(text))
	d.CharsetReader = func(_ string, r io.Reader) (io.Reader, error) { return r, nil } // names of ASCII, in any superset
	if err := d.Decode(v); err != nil {
		return bad(err)
	}
	return nil
}

// file reads a file of the archive.
func (x *xar) file(f *xarFile) ([]byte, error) {
	d := &f.Data
	room := uint64(x.size - x.heap)
	if d.Offset > room || d.Length > room-d.Offset || d.Length > maxPart {
		return nil, bad(fmt.Errorf("%s of %d bytes at %d", f.Name, d.Length, d.Offset))
	}
	b := make([]byte, d.Length)
	if _, err := readat.Full(x.r, b, x.heap+int64(d.Offset)); err != nil {
		return nil, err
	}
	var r io.Reader
	switch d.Encoding.Style {
	case "application/x-gzip": // xar calls zlib's format so
		z, err := zlib.NewReader(bytes.NewReader(b))
		if err != nil {
			return nil, bad(err)
		}
		r = z
	case "application/x-bzip2":
		r = bzip2.NewReader(bytes.NewReader(b))
	case "", "application/octet-stream":
		return b, nil
	default:
		return nil, bad(fmt.Errorf("%s is packed as %s", f.Name, d.Encoding.Style))
	}
	b, err := readLimited(r, maxPart)
	if err != nil {
		return nil, bad(err)
	}
	return b, nil
}

// distribution is what is read of a Distribution, as Apple's "Distribution XML Reference" has
// it.
type distribution struct {
	Title   string `xml:"title"`
	Product struct {
		ID      string `xml:"id,attr"`
		Version string `xml:"version,attr"`
	} `xml:"product"`
	Parts []struct {
		ID      string `xml:"id,attr"`
		Version string `xml:"version,attr"`
	} `xml:"pkg-ref"`
	Options []struct {
		Architectures string `xml:"hostArchitectures,attr"`
	} `xml:"options"`
	Systems []struct {
		Min string `xml:"min,attr"`
	} `xml:"volume-check>allowed-os-versions>os-version"`
	OtherSystems []struct {
		Min string `xml:"min,attr"`
	} `xml:"allowed-os-versions>os-version"`
}

// packageInfo is what is read of a PackageInfo.
type packageInfo struct {
	ID      string `xml:"identifier,attr"`
	Version string `xml:"version,attr"`
}

// describe takes what the archive says.
func (x *xar) describe(it *Item) error {
	x.signer(it)
	var part, dist *xarFile
	for i := range x.toc.Files {
		switch f := &x.toc.Files[i]; {
		case f.Name == "Distribution":
			dist = f
		case f.Name == "PackageInfo":
			part = f
		case strings.EqualFold(path.Ext(f.Name), ".pkg") && part == nil:
			for j := range f.Files {
				if f.Files[j].Name == "PackageInfo" {
					part = &f.Files[j]
				}
			}
		}
	}
	if dist == nil && part == nil {
		return bad(errors.New("neither Distribution nor PackageInfo is in it"))
	}
	if dist != nil {
		b, err := x.file(dist)
		if err != nil {
			return err
		}
		var d distribution
		if err := parseXML(b, &d); err != nil {
			return err
		}
		d.describe(it)
	}
	if part == nil || it.ID != "" && it.Version != "" {
		return nil
	}
	b, err := x.file(part)
	if err != nil {
		return err
	}
	var p packageInfo
	if err := parseXML(b, &p); err != nil {
		return err
	}
	if it.ID == "" {
		it.ID = p.ID
	}
	if it.Version == "" {
		it.Version = p.Version
	}
	return nil
}

// describe takes what a Distribution says. The version of an installer without one is that of
// its first part that has one.
func (d *distribution) describe(it *Item) {
	if title := strings.TrimSpace(d.Title); title != "" {
		it.Name = title
	}
	it.ID, it.Version = d.Product.ID, d.Product.Version
	for _, p := range d.Parts {
		if it.Version == "" && p.Version != "" && p.Version != "0" && (it.ID == "" || it.ID == p.ID) {
			it.ID, it.Version = p.ID, p.Version
		}
	}
	for _, o := range d.Options {
		for a := range strings.SplitSeq(o.Architectures, ",") {
			if a = strings.TrimSpace(a); a != "" && len(it.Architectures) < maxSlices {
				it.Architectures = append(it.Architectures, a)
			}
		}
	}
	for _, s := range append(d.Systems, d.OtherSystems...) {
		if it.MinSystem == "" {
			it.MinSystem = s.Min
		}
	}
}

// signer takes who signed the archive.
func (x *xar) signer(it *Item) {
	it.Signature = Unsigned
	for _, s := range append(x.toc.Signatures, x.toc.Others...) {
		if len(s.Certificates) == 0 {
			continue
		}
		it.Signature = Signed
		der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(s.Certificates[0]), ""))
		if err != nil {
			continue
		}
		if c, err := x509.ParseCertificate(der); err == nil {
			it.TeamID = teamOf(c)
			return
		}
	}
}

// teamOf returns the organizational unit of a certificate, in which Apple puts the team.
func teamOf(c *x509.Certificate) string {
	if len(c.Subject.OrganizationalUnit) == 0 {
		return ""
	}
	return c.Subject.OrganizationalUnit[0]
}
