package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"golang.org/x/term"

	"github.com/go-dmg/dmg"
)

// passwordVar is the environment variable that may hold the password.
const passwordVar = "DMG_PASSWORD"

// maxPassword bounds what is read as a password, in bytes: a wrong file name
// may be that of a disk.
const maxPassword = 64 << 10

// tries is how often a user may mistype a password at the prompt.
const tries = 3

// openWithPassword opens the image with the password that was given, or else
// asks for it on the terminal if the image has one.
func (f *passwordFlags) openWithPassword(std *stdio, image string, opts *dmg.Options, open opener) (*dmg.Image, error) {
	from, err := f.givenPassword(std, opts)
	if err != nil {
		return nil, passwordError{fmt.Errorf("password file: %w", err)}
	}
	keyFrom, err := f.givenKey(std, opts)
	if err != nil {
		return nil, passwordError{fmt.Errorf("key: %w", err)}
	}
	im, err := open(image, opts)
	switch {
	case errors.Is(err, dmg.ErrWrongKey), errors.Is(err, dmg.ErrWrongPrivateKey):
		return nil, fmt.Errorf("%w (key from %s)", err, keyFrom)
	case errors.Is(err, dmg.ErrWrongPassword):
		return nil, fmt.Errorf("%w (password from %s)", err, from)
	case !errors.Is(err, dmg.ErrNoPassword):
		return im, err
	}
	tty, err := openTerminal(std)
	if err != nil {
		return nil, passwordError{errors.New("encrypted, and no terminal to ask for the password: give --password-file FILE or set " + passwordVar)}
	}
	defer tty.close()
	for range tries {
		if opts.Password, err = tty.ask("Password for " + printable(image) + ": "); err != nil {
			return nil, passwordError{err}
		}
		if im, err = open(image, opts); !errors.Is(err, dmg.ErrWrongPassword) {
			return im, err
		}
		fmt.Fprintln(tty.out, "Wrong password.")
	}
	return nil, passwordError{errors.New("wrong password")}
}

// givenPassword puts the password that was given into opts and says where it
// came from: nowhere if it is empty. A file goes before the environment, since
// it is named for this command alone.
func (f *passwordFlags) givenPassword(std *stdio, opts *dmg.Options) (from string, err error) {
	switch f.PasswordFile {
	case "":
		if opts.Password = os.Getenv(passwordVar); opts.Password == "" {
			return "", nil
		}
		return passwordVar, nil
	case "-":
		opts.Password, err = readPassword(std.in)
		return "standard input", err
	}
	file, err := os.Open(f.PasswordFile)
	if err != nil {
		return "", err
	}
	defer file.Close()
	opts.Password, err = readPassword(file)
	return f.PasswordFile, err
}

// readPassword reads a password up to the end of r, without the newline that
// editors and echo put there.
func readPassword(r io.Reader) (string, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxPassword+1))
	switch {
	case err != nil:
		return "", err
	case len(b) > maxPassword:
		return "", fmt.Errorf("longer than %d bytes, so not a password", maxPassword)
	}
	text, err := fromWindows(b)
	if err != nil {
		return "", err
	}
	s := strings.TrimSuffix(text, "\n")
	if len(s) < len(text) {
		s = strings.TrimSuffix(s, "\r") // as Windows ends lines
	}
	if s == "" {
		return "", errors.New("empty")
	}
	return s, nil
}

// fromWindows returns the text of a file as UTF-8 without a byte order mark. Editors of
// Windows write one, and PowerShell writes UTF-16. Without a mark the bytes are the
// text: no mark is part of any password.
func fromWindows(b []byte) (string, error) {
	var order binary.ByteOrder
	switch {
	case bytes.HasPrefix(b, []byte("\xEF\xBB\xBF")):
		return string(b[3:]), nil
	case bytes.HasPrefix(b, []byte("\xFF\xFE")):
		order = binary.LittleEndian
	case bytes.HasPrefix(b, []byte("\xFE\xFF")):
		order = binary.BigEndian
	default:
		return string(b), nil
	}
	var text strings.Builder
	broken := errors.New("its mark says UTF-16, but it is not: write it as UTF-8")
	for b = b[2:]; len(b) > 0; b = b[2:] {
		if len(b) < 2 {
			return "", broken
		}
		r := rune(order.Uint16(b))
		if utf16.IsSurrogate(r) {
			if len(b) < 4 {
				return "", broken
			}
			b = b[2:]
			if r = utf16.DecodeRune(r, rune(order.Uint16(b))); r == utf8.RuneError {
				return "", broken
			}
		}
		text.WriteRune(r)
	}
	return text.String(), nil
}

// A terminal is where the user can be asked, whatever the standard streams are
// redirected to.
type terminal struct {
	in, out *os.File
}

// openTerminal opens the process's terminal. A command that was not given
// files as its streams, as in tests, has none.
func openTerminal(std *stdio) (*terminal, error) {
	if _, ok := std.in.(*os.File); !ok {
		return nil, errors.New("no terminal")
	}
	in, out := "/dev/tty", "/dev/tty"
	if runtime.GOOS == "windows" {
		in, out = "CONIN$", "CONOUT$"
	}
	var t terminal
	var err error
	if t.in, err = os.OpenFile(in, os.O_RDWR, 0); err != nil {
		return nil, err
	}
	if t.out, err = os.OpenFile(out, os.O_RDWR, 0); err != nil {
		t.in.Close()
		return nil, err
	}
	return &t, nil
}

// close closes both ends.
func (t *terminal) close() {
	t.in.Close()
	t.out.Close()
}

// ask prints the prompt and reads a line that is not echoed. A signal restores
// the echo before the program ends; the reader can't be woken, and ends with
// the program.
func (t *terminal) ask(prompt string) (string, error) {
	fd := int(t.in.Fd())
	state, err := term.GetState(fd)
	if err != nil {
		return "", fmt.Errorf("asking for the password: %w", err)
	}
	ctx, stop := interruptible(context.Background())
	defer stop()
	fmt.Fprint(t.out, prompt)
	type answer struct {
		line []byte
		err  error
	}
	read := make(chan answer, 1)
	go func() {
		line, err := term.ReadPassword(fd)
		read <- answer{line, err}
	}()
	var got answer
	select {
	case got = <-read:
	case <-ctx.Done():
		got.err = errors.Join(ctx.Err(), term.Restore(fd, state))
	}
	fmt.Fprintln(t.out) // the user's newline was not echoed either
	if len(got.line) == 0 && (got.err == nil || got.err == io.EOF) {
		return "", errors.New("no password was given")
	}
	return string(got.line), got.err
}
