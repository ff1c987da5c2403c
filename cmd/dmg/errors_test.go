package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"syscall"
	"testing"

	"github.com/go-dmg/dmg"
)

func TestReport(t *testing.T) {
	t.Parallel()
	format := &dmg.FormatError{Section: "koly", Offset: 8, Msg: "wrong"}
	chunk := &dmg.ChunkError{Chunk: dmg.Chunk{Method: dmg.Zlib, Length: 512}, Err: format}
	missing := &fs.PathError{Op: "open", Path: "my.dmg", Err: fs.ErrNotExist}
	for _, tt := range []struct {
		err    error
		status int
		line   string
	}{
		{nil, 0, ""},
		{format, 1, "dmg: koly at byte 8: wrong\n"},
		{fmt.Errorf("a.dmg: %w", format), 1, "dmg: a.dmg: koly at byte 8: wrong\n"},
		{fmt.Errorf("a.dmg: %w", chunk), 1, "dmg: a.dmg: zlib chunk at sectors 0-0: koly at byte 8: wrong\n"},
		{errors.Join(format, errors.New("dmg: two")), 1, "dmg: koly at byte 8: wrong; two\n"},
		{errors.Join(dmg.ErrUnsupported, format), 1, "dmg: unsupported; koly at byte 8: wrong\n"},
		{errors.Join(missing, format), 1, "dmg: open my.dmg: file does not exist; koly at byte 8: wrong\n"},
		{&dmg.ChecksumError{Part: "master"}, 1, "dmg: master: checksum can't be checked: some of it is damaged\n"},
		{errors.New("name \x1b[31m\xff\u202e"), 1, `dmg: name \x1b[31m\xff\u202e` + "\n"},
		{misuse("wrong"), 2, "dmg: wrong\nTry \"dmg --help\".\n"},
		{fmt.Errorf("x: %w", refusal("no")), 2, "dmg: x: no\n"},
		{fmt.Errorf("x: %w", dmg.ErrMemoryLimit), 2, "dmg: x: memory limit too low; give it more with --memory-limit\n"},
		{fmt.Errorf("x: %w", dmg.ErrIndex), 2, "dmg: x: not a valid index for this image; leave it out with --no-index\n"},
		{fmt.Errorf("%w, %w", dmg.ErrChecksum, dmg.ErrStaleIndex), 1, "dmg: checksum mismatch, dmg: not a valid index for this image: it is of another image, or of this one before it changed; --no-index shows whether it is the index\n"},
		{newIndexError("x", dmg.ErrIndex), 2, "dmg: x: not a valid index for this image\n"},
		{fmt.Errorf("x: %w", dmg.ErrUnsupported), 3, "dmg: x: unsupported\n"},
		{&dmg.ChunkError{Chunk: chunk.Chunk, Err: dmg.ErrUnsupported}, 3, "dmg: zlib chunk at sectors 0-0: unsupported\n"},
		{&dmg.FormatError{Section: "file", Msg: "none"}, 3, "dmg: file at byte 0: none\n"},
		{fmt.Errorf("x: %w", notAnImage("no")), 3, "dmg: x: no\n"},
		{fmt.Errorf("x: %w", dmg.ErrPassword), 4, "dmg: x: encrypted image\n"},
		{fmt.Errorf("x: %w", dmg.ErrNoPrivateKey), 4, "dmg: x: encrypted image: no private key given: give --key-file FILE or set DMG_KEY\n"},
		{fmt.Errorf("x: %w", dmg.ErrNoKey), 4, "dmg: x: encrypted image: no key given: give --key-file FILE or set DMG_KEY\n"},
		{passwordError{missing}, 4, "dmg: open my.dmg: file does not exist\n"},
		{missing, 5, "dmg: open my.dmg: file does not exist\n"},
		{newIndexError("x", missing), 5, "dmg: open my.dmg: file does not exist\n"},
		{&os.LinkError{Op: "rename", Old: "a", New: "b", Err: syscall.EIO}, 5, "dmg: rename a b: " + syscall.EIO.Error() + "\n"},
		{fmt.Errorf("x: %w", syscall.ENOSPC), 5, "dmg: x: " + syscall.ENOSPC.Error() + "\n"},
		{&net.OpError{Op: "listen", Net: "tcp", Err: syscall.EIO}, 5, "dmg: listen tcp: " + syscall.EIO.Error() + "\n"},
		{fmt.Errorf("x: %w", syscall.EPIPE), 141, ""},
		{fmt.Errorf("x: %w", context.Canceled), 130, "dmg: interrupted\n"},
		{passwordError{context.Canceled}, 130, "dmg: interrupted\n"},
	} {
		var b bytes.Buffer
		if got := report(&stdio{err: &b}, tt.err); got != tt.status || b.String() != tt.line {
			t.Errorf("%v: status %d, %q; want %d, %q", tt.err, got, b.String(), tt.status, tt.line)
		}
	}
}
