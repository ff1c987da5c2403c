package hfsplus

// journalFull reads where the journal begins and ends (Apple's open source hfs,
// hfs_journal.h).
func (v *volume) journalFull() (bool, error) {
	if v.attributes&attrJournaled == 0 || v.journalInfoBlock == 0 {
		return false, nil
	}
	const infoLen, headerLen = 52, 24
	at, length, err := v.blockAt(extent{v.journalInfoBlock, 1})
	if err != nil {
		return false, err
	}
	if at > v.end-length {
		return false, formatError("journal", at, "the volume ends at %d", v.end)
	}
	info := make([]byte, infoLen)
	if err := readFull(v.r, info, at); err != nil {
		return false, err
	}
	if be.Uint32(info)&1 == 0 { // it is on another disk
		return false, nil
	}
	off := be.Uint64(info[36:])
	if off > uint64(v.end-v.start) || int64(off) > v.end-v.start-headerLen {
		return false, formatError("journal", at, "the journal is said to be at byte %d", off)
	}
	head := make([]byte, headerLen)
	if err := readFull(v.r, head, v.start+int64(off)); err != nil {
		return false, err
	}
	// Numbers are in the order of the computer that wrote them. Only whether two
	// are equal matters.
	switch string(head[:4]) {
	case "JNLx", "xLNJ":
		return string(head[8:16]) != string(head[16:24]), nil
	}
	if be.Uint32(info)&4 != 0 { // a new one, to be initialized when the volume is mounted
		return false, nil
	}
	return false, formatError("journal", v.start+int64(off), "no journal header")
}
