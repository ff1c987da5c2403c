package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/go-dmg/dmg"
)

// carried is what a UDIF image carries besides its disk; its JSON is part of info's.
type carried struct {
	Trailer   *trailerInfo   `json:"trailer"`   // null if the image is not a UDIF image
	Checksums []checksumInfo `json:"checksums"` // those that verify compares
	Licenses  []licenseInfo  `json:"licenses"`
	Signature *signatureInfo `json:"signature"` // null if there is none
}

// trailerInfo is what the trailer says of the image.
type trailerInfo struct {
	Flags     uint32 `json:"flags"`
	Segment   uint32 `json:"segment"`
	Segments  uint32 `json:"segments"`
	SegmentID string `json:"segment_id"` // hexadecimal
	Variant   uint32 `json:"variant"`
}

// checksumInfo is a stored checksum.
type checksumInfo struct {
	Part      string     `json:"part"`
	Partition int        `json:"partition"` // -1 for what is none
	Algorithm string     `json:"algorithm"`
	Stored    dmg.Digest `json:"stored"`
}

// licenseInfo is the license agreement in one language. Text is nil if it wasn't asked for.
type licenseInfo struct {
	Language string  `json:"language"` // BCP 47; empty if it isn't known
	Region   int     `json:"region"`   // of the classic Mac OS; -1 if it isn't known
	Default  bool    `json:"default"`
	Encoding string  `json:"encoding"`
	RTF      bool    `json:"rtf"`
	Text     *string `json:"text,omitempty"`
}

// signatureInfo is the code signature. If it can't be read, it has an Error alone.
type signatureInfo struct {
	Identifier   string     `json:"identifier"`
	Team         string     `json:"team"`
	Flags        uint32     `json:"flags"`
	Hash         string     `json:"hash"`
	CDHash       dmg.Digest `json:"cdhash"`
	Certificates []string   `json:"certificates"` // common names, the signer's first
	Signed       *time.Time `json:"signed"`       // null if the signature doesn't say
	Ticket       bool       `json:"ticket"`       // a notarization ticket is attached
	Offset       int64      `json:"offset"`
	Length       int64      `json:"length"`
	Matches      *bool      `json:"matches,omitempty"` // nil if that wasn't asked for, or isn't known
	Error        string     `json:"error,omitempty"`
}

// carriedFlags are the flags that choose which parts of carried dmg info prints.
type carriedFlags struct {
	License   bool `help:"Print the text of the license agreement that the image has, in each language, and nothing else."`
	Signature bool `help:"Read the whole image, and compare it with its code signature. The exit status is 1 if it does not match, or if there is none."`
}

// describeCarried reads what an image carries. What of that is damaged does not keep the rest
// from being told. The error is that of reading the image.
func (f *carriedFlags) describeCarried(ctx context.Context, im *dmg.Image) (carried, error) {
	c := carried{Checksums: []checksumInfo{}, Licenses: []licenseInfo{}}
	if t := im.Trailer(); t != nil {
		c.Trailer = &trailerInfo{t.Flags, t.Segment, t.Segments, hex.EncodeToString(t.SegmentID[:]), t.Variant}
	}
	for _, s := range im.Checksums() {
		c.Checksums = append(c.Checksums, checksumInfo{s.Part, s.Partition, s.Algorithm, s.Sum})
	}
	licenses, err := im.Licenses()
	if err != nil && !errors.Is(err, dmg.ErrFormat) { // opening the image has found that
		return c, err
	}
	for _, l := range licenses {
		info := licenseInfo{Language: l.Language, Region: l.Region, Default: l.Default, Encoding: l.Encoding, RTF: l.RTF}
		if f.License {
			info.Text = &l.Text
		}
		c.Licenses = append(c.Licenses, info)
	}
	c.Signature, err = f.describeSignature(ctx, im)
	return c, err
}

// describeSignature returns the image's code signature as info prints it, or nil if the image
// has none.
func (f *carriedFlags) describeSignature(ctx context.Context, im *dmg.Image) (*signatureInfo, error) {
	ofSignature := func(err error) bool {
		return errors.Is(err, dmg.ErrFormat) || errors.Is(err, dmg.ErrChecksum) || errors.Is(err, dmg.ErrUnsupported)
	}
	s, err := im.Signature()
	switch {
	case ofSignature(err):
		return &signatureInfo{Certificates: []string{}, Error: oneLine(err)}, nil
	case s == nil || err != nil:
		return nil, err
	}
	info := &signatureInfo{
		Identifier: s.Identifier, Team: s.TeamID, Flags: s.Flags, Hash: s.Hash, CDHash: s.CDHash, Certificates: []string{},
		Signed: timeJSON(s.SigningTime), Ticket: s.Ticket != nil, Offset: s.Offset, Length: s.Length,
	}
	for _, c := range s.Certificates {
		info.Certificates = append(info.Certificates, c.Subject.CommonName)
	}
	if !f.Signature {
		return info, nil
	}
	matches := false
	switch err := s.VerifyContent(ctx); {
	case err == nil:
		matches = true
		info.Matches = &matches
	case errors.Is(err, dmg.ErrUnsupported):
		info.Error = oneLine(err)
	case ofSignature(err):
		info.Matches, info.Error = &matches, oneLine(err)
	default:
		return nil, err
	}
	return info, nil
}

// A signatureError says that a signature isn't there, or not the image's. What info says of the
// image is told all the same.
type signatureError struct{ error }

// Unwrap returns the cause.
func (e signatureError) Unwrap() error { return e.error }

// signatureErr is what is wrong with the signature, if it was to be compared.
func (f *carriedFlags) signatureErr(image string, s *signatureInfo) error {
	switch {
	case !f.Signature || s != nil && s.Matches != nil && *s.Matches:
		return nil
	case s == nil:
		return signatureError{fmt.Errorf("%s: it has no code signature", image)}
	case s.Hash != "" && s.Matches == nil:
		return signatureError{fmt.Errorf("%s: its code signature was not compared: %w", image, dmg.ErrUnsupported)}
	}
	return signatureError{fmt.Errorf("%s: its code signature does not match: %w", image, dmg.ErrChecksum)}
}

// print writes the lines of the text form.
func (c *carried) print(w io.Writer) {
	if t := c.Trailer; t != nil && t.Flags&4 != 0 {
		fmt.Fprintln(w, "flags: internet-enabled")
	}
	if len(c.Licenses) > 0 {
		var languages []string
		for _, l := range c.Licenses {
			languages = append(languages, l.name())
		}
		fmt.Fprintf(w, "license agreement: %s; --license prints it\n", printable(strings.Join(languages, ", ")))
	}
	s := c.Signature
	switch {
	case s == nil:
		return
	case s.Hash == "":
		fmt.Fprintf(w, "signature: can't be read: %s\n", printable(s.Error))
		return
	}
	parts := []string{s.Identifier}
	if s.Team != "" {
		parts = append(parts, "team "+s.Team)
	}
	if s.Signed != nil {
		parts = append(parts, s.Signed.Format(time.RFC3339))
	}
	if s.Ticket {
		parts = append(parts, "with a notarization ticket")
	}
	fmt.Fprintf(w, "signature: %s\n", printable(strings.Join(parts, ", ")))
	if len(s.Certificates) > 0 {
		fmt.Fprintf(w, "    certificates, of which none was checked: %s\n", printable(strings.Join(s.Certificates, "; ")))
	} else {
		fmt.Fprintln(w, "    ad hoc, without certificates")
	}
	fmt.Fprintf(w, "    cdhash %x (%s)\n", []byte(s.CDHash), printable(s.Hash))
	switch {
	case s.Matches != nil && *s.Matches:
		fmt.Fprintln(w, "    the image's bytes are those that were signed")
	case s.Matches != nil:
		fmt.Fprintf(w, "    NOT what was signed: %s\n", printable(s.Error))
	case s.Error != "":
		fmt.Fprintf(w, "    not compared: %s\n", printable(s.Error))
	}
}

// name is the language as users may know it.
func (l *licenseInfo) name() string {
	name := l.Language
	if name == "" && l.Region >= 0 {
		name = fmt.Sprintf("region %d", l.Region)
	}
	name = cmp.Or(name, "unknown language")
	if l.Default {
		name += " (default)"
	}
	return name
}

// printLicenses writes the texts alone.
func (c *carried) printLicenses(b *bytes.Buffer, image string) error {
	if len(c.Licenses) == 0 {
		return refusal(image + ": it has no license agreement")
	}
	for i, l := range c.Licenses {
		if len(c.Licenses) > 1 {
			if i > 0 {
				b.WriteByte('\n')
			}
			fmt.Fprintf(b, "--- %s ---\n", printable(l.name()))
		}
		for line := range strings.Lines(*l.Text) {
			text, _ := strings.CutSuffix(line, "\n")
			b.WriteString(printable(text) + "\n")
		}
	}
	return nil
}
