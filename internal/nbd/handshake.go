package nbd

import (
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"time"
	"unicode/utf8"
)

const (
	// maxOption is the longest data of an option that is read: room for a name of the greatest length and for
	// many queries. Longer ones are skipped and refused.
	maxOption = 16 << 10

	// maxSkip is the longest data of an option that is skipped; a client that sends more is not speaking NBD.
	maxSkip = 1 << 20

	// maxOptions is how many options a client may send. Real ones send less than ten.
	maxOptions = 256
)

// be appends and reads all numbers.
var be = binary.BigEndian

// option is one option as received.
type option struct {
	id   uint32
	data []byte // overwritten by the next option
	long bool   // data was longer than maxOption and is not here
}

// handshake takes the connection from the greeting to the transmission phase (proto.md, "Fixed newstyle
// negotiation"). All of it, reading and writing, must be done within one deadline, or a client could hold the connection for ever.
func (c *conn) handshake() error {
	c.deadline = time.Now().Add(c.limits.handshake)
	defer func() { c.deadline, c.option = time.Time{}, nil }()
	if err := c.readUntil(c.deadline); err != nil {
		return err
	}
	if err := c.greet(); err != nil {
		return err
	}
	for range maxOptions {
		opt, err := c.readOption()
		if err != nil {
			return err
		}
		if done, err := c.answerOption(opt); done || err != nil {
			return err
		}
	}
	return errTooMany
}

// greet sends the greeting and reads the client's flags.
func (c *conn) greet() error {
	b := be.AppendUint64(nil, magicInit)
	b = be.AppendUint64(b, magicOption)
	b = be.AppendUint16(b, flagFixedNewstyle|flagNoZeroes)
	if err := c.send(b); err != nil {
		return err
	}
	var p [4]byte
	if _, err := io.ReadFull(c.r, p[:]); err != nil {
		return err
	}
	flags := be.Uint32(p[:])
	// "Client flags": a client that sets an unknown flag must be dropped.
	if flags&^(flagFixedNewstyle|flagNoZeroes) != 0 {
		return fmt.Errorf("%w: handshake flags %#x", errProtocol, flags)
	}
	c.noZeroes = flags&flagNoZeroes != 0
	return nil
}

// readOption reads the next option, and passes over its data if that is too long.
func (c *conn) readOption() (option, error) {
	var h [optionLen]byte
	if _, err := io.ReadFull(c.r, h[:]); err != nil {
		return option{}, err
	}
	if m := be.Uint64(h[:]); m != magicOption {
		return option{}, fmt.Errorf("%w: option magic %#x", errProtocol, m)
	}
	opt := option{id: be.Uint32(h[8:])}
	n := be.Uint32(h[12:])
	switch {
	case n > maxSkip:
		return option{}, fmt.Errorf("%w: %d bytes", errOptionLen, n)
	case n > maxOption:
		opt.long = true
		_, err := c.r.Discard(int(n))
		return opt, noEOF(err)
	}
	c.option = slices.Grow(c.option[:0], int(n))
	opt.data = c.option[:n]
	_, err := io.ReadFull(c.r, opt.data)
	return opt, noEOF(err)
}

// noEOF marks an end of input that came within a message.
func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// answerOption answers one option; done means that the transmission phase begins.
func (c *conn) answerOption(opt option) (done bool, err error) {
	switch opt.id {
	case optExportName:
		return true, c.exportName(opt)
	case optAbort:
		// The client may have gone already, which is its right.
		c.send(appendReply(nil, opt.id, repAck, nil))
		return true, errAbort
	case optInfo, optGo:
		return c.answerInfo(opt)
	case optList:
		return false, c.answerList(opt)
	case optStructuredReply:
		return false, c.answerStructured(opt)
	case optListMetaContext, optSetMetaContext:
		return false, c.answerMeta(opt)
	}
	return false, c.refuse(opt, repErrUnsup, "option not supported")
}

// exportName enters transmission the old way, whose only refusal is to hang up.
func (c *conn) exportName(opt option) error {
	if opt.long || !c.hasName(opt.data) {
		return errNoExport
	}
	b := be.AppendUint64(nil, uint64(c.Size))
	b = be.AppendUint16(b, c.transmissionFlags())
	if !c.noZeroes {
		b = append(b, make([]byte, exportPadding)...)
	}
	c.establish()
	return c.send(b)
}

// answerInfo describes the export; optGo then enters transmission.
func (c *conn) answerInfo(opt option) (done bool, err error) {
	q, ok := parseInfo(opt.data)
	switch {
	case opt.long:
		return false, c.refuse(opt, repErrTooBig, "option too long")
	case !ok:
		return false, c.refuse(opt, repErrInvalid, "lengths do not add up")
	case !c.hasName(q.name):
		return false, c.refuse(opt, repErrUnknown, "no such export")
	}
	// Block sizes go to all clients: those that do not know of them pass over them.
	b := appendReply(nil, opt.id, repInfo, c.infoExport())
	b = appendReply(b, opt.id, repInfo, c.infoBlockSize())
	if q.wantName {
		b = appendReply(b, opt.id, repInfo, infoString(infoName, c.Name))
	}
	if q.wantDescription {
		b = appendReply(b, opt.id, repInfo, infoString(infoDescription, c.Description))
	}
	b = appendReply(b, opt.id, repAck, nil)
	if opt.id == optGo {
		c.establish()
	}
	return opt.id == optGo, c.send(b)
}

// infoQuery is what a client asks of an export besides the information it gets in any case.
type infoQuery struct {
	name                      []byte
	wantName, wantDescription bool
}

// parseInfo reads the data of optInfo and optGo: a name, and a list of items of information.
func parseInfo(data []byte) (q infoQuery, ok bool) {
	b := readBuf(data)
	if q.name, ok = b.string(); !ok || len(b) < 2 {
		return q, false
	}
	n := int(b.uint16())
	if len(b) != 2*n {
		return q, false
	}
	for range n {
		switch b.uint16() {
		case infoName:
			q.wantName = true
		case infoDescription:
			q.wantDescription = true
		}
	}
	return q, true
}

func (c *conn) infoExport() []byte {
	b := be.AppendUint16(nil, infoExport)
	b = be.AppendUint64(b, uint64(c.Size))
	return be.AppendUint16(b, c.transmissionFlags())
}

func (c *conn) infoBlockSize() []byte {
	b := be.AppendUint16(nil, infoBlockSize)
	b = be.AppendUint32(b, 1) // every byte can be read alone
	b = be.AppendUint32(b, uint32(c.BlockSize))
	return be.AppendUint32(b, maxRequest)
}

func infoString(item uint16, s string) []byte {
	return append(be.AppendUint16(nil, item), s...)
}

// transmissionFlags are the export's. Any number of connections may read what nobody writes.
func (c *conn) transmissionFlags() uint16 {
	flags := uint16(flagHasFlags | flagReadOnly | flagCanMultiConn | flagSendCache)
	if c.structured {
		flags |= flagSendDF
	}
	return flags
}

// hasName tells whether a client that asks for name means our export: by its name or as the default one.
func (c *conn) hasName(name []byte) bool {
	return len(name) == 0 || string(name) == c.Name
}

// answerList lists the one export.
func (c *conn) answerList(opt option) error {
	if opt.long || len(opt.data) != 0 {
		return c.refuse(opt, repErrInvalid, "option takes no data")
	}
	data := be.AppendUint32(nil, uint32(len(c.Name)))
	data = append(data, c.Name...)
	data = append(data, c.Description...)
	b := appendReply(nil, opt.id, repServer, data)
	return c.send(appendReply(b, opt.id, repAck, nil))
}

// answerStructured turns on structured replies; asking again changes nothing.
func (c *conn) answerStructured(opt option) error {
	if opt.long || len(opt.data) != 0 {
		return c.refuse(opt, repErrInvalid, "option takes no data")
	}
	c.structured = true
	return c.send(appendReply(nil, opt.id, repAck, nil))
}

// answerMeta lists or selects metadata contexts. A selection replaces the one before, even if it fails.
func (c *conn) answerMeta(opt option) error {
	set := opt.id == optSetMetaContext
	if set {
		c.allocation = false
	}
	name, found, ok := parseMeta(opt.data, !set)
	switch {
	case opt.long:
		return c.refuse(opt, repErrTooBig, "option too long")
	case set && !c.structured:
		return c.refuse(opt, repErrInvalid, "structured replies must be agreed on first")
	case !ok:
		return c.refuse(opt, repErrInvalid, "lengths do not add up")
	case !c.hasName(name):
		return c.refuse(opt, repErrUnknown, "no such export")
	}
	var b []byte
	if found {
		var id uint32 // reserved in a list
		if set {
			c.allocation = true
			id = allocationID
		}
		b = appendReply(b, opt.id, repMetaContext, append(be.AppendUint32(nil, id), allocationContext...))
	}
	return c.send(appendReply(b, opt.id, repAck, nil))
}

// parseMeta reads the data of the metadata options: a name and queries. It tells whether they find base:allocation;
// in a list the namespace alone is a wildcard, and so is having no query.
func parseMeta(data []byte, list bool) (name []byte, found, ok bool) {
	b := readBuf(data)
	if name, ok = b.string(); !ok || len(b) < 4 {
		return nil, false, false
	}
	n := b.uint32()
	found = list && n == 0
	for ; n > 0; n-- {
		q, ok := b.string()
		if !ok {
			return nil, false, false
		}
		found = found || string(q) == allocationContext || list && string(q) == "base:"
	}
	return name, found, len(b) == 0
}

// refuse answers an option with an error and a line for people.
func (c *conn) refuse(opt option, rep uint32, msg string) error {
	return c.send(appendReply(nil, opt.id, rep, []byte(msg)))
}

// appendReply appends an answer to an option.
func appendReply(b []byte, opt, rep uint32, data []byte) []byte {
	b = be.AppendUint64(b, magicOptReply)
	b = be.AppendUint32(b, opt)
	b = be.AppendUint32(b, rep)
	b = be.AppendUint32(b, uint32(len(data)))
	return append(b, data...)
}

// readBuf takes fields off the front of an option's data. Callers check that they are there.
type readBuf []byte

func (b *readBuf) uint16() uint16 {
	v := be.Uint16(*b)
	*b = (*b)[2:]
	return v
}

func (b *readBuf) uint32() uint32 {
	v := be.Uint32(*b)
	*b = (*b)[4:]
	return v
}

// string takes a 32-bit length and as many bytes, if they are there.
func (b *readBuf) string() (s []byte, ok bool) {
	if len(*b) < 4 {
		return nil, false
	}
	n := b.uint32()
	if uint64(n) > uint64(len(*b)) {
		return nil, false
	}
	s, *b = (*b)[:n], (*b)[n:]
	return s, true
}

// cutString shortens s to at most n bytes of valid text.
func cutString(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
