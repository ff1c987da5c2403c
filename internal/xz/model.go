package xz

// Numbers of LZMA, as in the LZMA SDK's specification.
const (
	numStates    = 12
	litStates    = 7 // states below it follow a literal
	maxPosBits   = 4
	maxLitBits   = 4 // lc + lp, in LZMA2
	literalSize  = 0x300
	minMatch     = 2
	lenSlots     = 4 // matches of 2, 3, 4 and more bytes have their distances modelled apart
	slotBits     = 6
	alignBits    = 4
	firstSpecial = 4  // slots from here on have bits of their own
	firstDirect  = 14 // and from here on mostly such without a model

	probBits = 11
	probInit = 1 << probBits / 2
	moveBits = 5
)

// lenModel is for the length of a match: 8 short and 8 middle ones for each
// position, and 256 long ones.
type lenModel struct {
	choice, choice2 uint16
	low, mid        [1 << maxPosBits][8]uint16
	high            [256]uint16
}

// model is the state of an LZMA decoder, apart from the range coder's.
type model struct {
	lc, lp, pb uint
	state      uint
	reps       [4]uint32 // distances less one
	length     int       // bytes left of a match that was cut

	match    [numStates << maxPosBits]uint16
	rep      [numStates]uint16
	rep0     [numStates]uint16
	rep1     [numStates]uint16
	rep2     [numStates]uint16
	rep0Long [numStates << maxPosBits]uint16
	slot     [lenSlots][1 << slotBits]uint16
	special  [1 << 7]uint16 // trees of slots 4 to 13, one behind the other
	align    [1 << alignBits]uint16
	lens     lenModel
	repLens  lenModel
	literal  [literalSize << maxLitBits]uint16
}

// setProps takes a byte of properties, or returns false.
func (m *model) setProps(props byte) bool {
	if props >= 9*5*5 {
		return false
	}
	lc, lp, pb := uint(props%9), uint(props/9%5), uint(props/45)
	if lc+lp > maxLitBits {
		return false
	}
	m.lc, m.lp, m.pb = lc, lp, pb
	return true
}

// reset makes every bit as likely as its opposite.
func (m *model) reset() {
	m.state, m.reps = 0, [4]uint32{}
	even(m.match[:])
	even(m.rep[:])
	even(m.rep0[:])
	even(m.rep1[:])
	even(m.rep2[:])
	even(m.rep0Long[:])
	for i := range m.slot {
		even(m.slot[i][:])
	}
	even(m.special[:])
	even(m.align[:])
	m.lens.reset()
	m.repLens.reset()
	even(m.literal[:literalSize<<(m.lc+m.lp)])
}

func (m *lenModel) reset() {
	m.choice, m.choice2 = probInit, probInit
	for i := range m.low {
		even(m.low[i][:])
		even(m.mid[i][:])
	}
	even(m.high[:])
}

func even(p []uint16) {
	for i := range p {
		p[i] = probInit
	}
}
