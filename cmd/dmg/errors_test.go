package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"syscall"
	"testing"

	"github.com/go-dmg/dmg"
)

func TestReport(t *testing.T) {
	format := &dmg.FormatError{Section: "koly", Offset: 8, Msg: "wrong"}
	chunk := &dmg.ChunkError{Chunk: dmg.Chunk{Method: dmg.Zlib, Length: 512}, Err: format}
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
		{&fs.PathError{Op: "open", Path: "my.dmg", Err: fs.ErrNotExist}, 1, "dmg: open my.dmg: file does not exist\n"},
		{errors.New("name \x1b[31m\xff\u202e"), 1, `dmg: name \x1b[31m\xff\u202e` + "\n"},
		{fmt.Errorf("x: %w", dmg.ErrMemoryLimit), 1, "dmg: x: memory limit too low; give it more with --memory-limit\n"},
		{fmt.Errorf("x: %w", dmg.ErrIndex), 1, "dmg: x: not a valid index for this image; leave it out with --no-index\n"},
		{newIndexError("x", dmg.ErrIndex), 1, "dmg: x: not a valid index for this image\n"},
		{fmt.Errorf("x: %w", syscall.EPIPE), 141, ""},
		{fmt.Errorf("x: %w", context.Canceled), 130, "dmg: interrupted\n"},
		{misuse("wrong"), 2, "dmg: wrong\nTry \"dmg --help\".\n"},
	} {
		var b bytes.Buffer
		if got := report(&stdio{err: &b}, tt.err); got != tt.status || b.String() != tt.line {
			t.Errorf("%v: status %d, %q; want %d, %q", tt.err, got, b.String(), tt.status, tt.line)
		}
	}
}
