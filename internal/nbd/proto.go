package nbd

// The names and numbers of the protocol, as in the NBD project's doc/proto.md ("Values"). Everything on the wire is
// big-endian.

const (
	magicInit       = 0x4e42444d41474943 // "NBDMAGIC"
	magicOption     = 0x49484156454f5054 // "IHAVEOPT"
	magicOptReply   = 0x0003e889045565a9
	magicRequest    = 0x25609513
	magicSimple     = 0x67446698
	magicStructured = 0x668e33ef
)

// Lengths of the fixed parts of messages.
const (
	optionLen     = 16  // magic, option, length of the data
	optReplyLen   = 20  // magic, option, reply type, length of the data
	requestLen    = 28  // magic, flags, type, cookie, offset, length
	simpleLen     = 16  // magic, error, cookie
	structuredLen = 20  // magic, flags, type, cookie, length of the payload
	chunkOffset   = 8   // the offset that opens the payload of a data or hole chunk
	exportPadding = 124 // zeros after the answer to optExportName, unless both sides agreed to leave them out
)

// Handshake flags: of the server and, with the same bits, of the client.
const (
	flagFixedNewstyle = 1 << 0
	flagNoZeroes      = 1 << 1
)

// Transmission flags: what the export can do.
const (
	flagHasFlags     = 1 << 0
	flagReadOnly     = 1 << 1
	flagSendDF       = 1 << 7
	flagCanMultiConn = 1 << 8
	flagSendCache    = 1 << 10
)

// Options a client may send before it enters transmission.
const (
	optExportName      = 1
	optAbort           = 2
	optList            = 3
	optInfo            = 6
	optGo              = 7
	optStructuredReply = 8
	optListMetaContext = 9
	optSetMetaContext  = 10
)

// Answers to options; bit 31 marks errors.
const (
	repAck         = 1
	repServer      = 2
	repInfo        = 3
	repMetaContext = 4
	repErrUnsup    = 1<<31 + 1
	repErrInvalid  = 1<<31 + 3
	repErrUnknown  = 1<<31 + 6
	repErrTooBig   = 1<<31 + 9
)

// Items of information about an export, in answers of type repInfo.
const (
	infoExport      = 0
	infoName        = 1
	infoDescription = 2
	infoBlockSize   = 3
)

// Commands of the transmission phase.
const (
	cmdRead        = 0
	cmdWrite       = 1
	cmdDisc        = 2
	cmdTrim        = 4
	cmdCache       = 5
	cmdWriteZeroes = 6
	cmdBlockStatus = 7
)

// Command flags.
const (
	cmdFlagDF     = 1 << 2 // at most one content chunk in the answer to a read
	cmdFlagReqOne = 1 << 3 // one extent in the answer to a block status request
)

// Chunks of structured replies; bit 15 marks errors.
const (
	replyFlagDone = 1 << 0

	chunkNone        = 0
	chunkOffsetData  = 1
	chunkOffsetHole  = 2
	chunkBlockStatus = 5
	chunkError       = 1<<15 + 1
	chunkErrorOffset = 1<<15 + 2
)

// Flags of an extent in the context base:allocation.
const (
	stateHole = 1 << 0
	stateZero = 1 << 1
)

// allocationContext is the one metadata context there is, and allocationID the number this server gives it.
const (
	allocationContext = "base:allocation"
	allocationID      = 1
)

// errno is an error number of the protocol: fixed numbers, whatever the machine's own are.
type errno uint32

const (
	ePerm     errno = 1
	eIO       errno = 5
	eInval    errno = 22
	eOverflow errno = 75
	eShutdown errno = 108
)

const (
	// maxRequest is the longest read answered: proto.md ("Block size constraints") asks every server for requests
	// up to 2^25 bytes, and lets it refuse longer ones.
	maxRequest = 32 << 20

	// minPreferred is the least preferred block size announced: a page, which clients' caches work in.
	minPreferred = 4096

	// maxString is the longest string the protocol allows.
	maxString = 4096
)
