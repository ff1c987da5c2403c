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

// maxPassword bounds what is read as passwords, in bytes: a wrong file name
// may be that of a disk.
const maxPassword = 64 << 10

// tries is how often a user may mistype a password at the prompt.
const tries = 3

// maxPasswords is how many passwords a file may have: to try one takes a tenth of a second.
const maxPasswords = 1000

// givenPasswords are those that a user gave, to be tried in order.
type givenPasswords struct {
	all  []string
	from string // where they are from; empty if there are none
}

// openWithPassword opens the image with a password that was given, or else
// asks for it on the terminal if the image has one, or the volume that open reads.
func (f *passwordFlags) openWithPassword(std *stdio, image string, opts *dmg.Options, open opener) (*dmg.Image, error) {
	given, err := f.passwords(std)
	if err != nil {
		return nil, abort(passwordError{fmt.Errorf("password file: %w", err)})
	}
	keyFrom, err := f.givenKey(std, opts)
	if err != nil {
		return nil, abort(passwordError{fmt.Errorf("key: %w", err)})
	}
	var im *dmg.Image
	for _, opts.Password = range given.all {
		if im, err = open(image, opts); !errors.Is(err, dmg.ErrWrongPassword) {
			break
		}
	}
	if len(given.all) == 0 {
		im, err = open(image, opts)
	}
	switch {
	case errors.Is(err, dmg.ErrWrongKey), errors.Is(err, dmg.ErrWrongPrivateKey):
		return nil, fmt.Errorf("%w (key from %s)", err, keyFrom)
	case errors.Is(err, dmg.ErrWrongPassword) && len(given.all) > 1:
		return nil, fmt.Errorf("%w (all %d passwords from %s)", err, len(given.all), given.from)
	case errors.Is(err, dmg.ErrWrongPassword):
		return nil, fmt.Errorf("%w (password from %s)", err, given.from)
	case !errors.Is(err, dmg.ErrNoPassword):
		return im, err
	}
	tty, asked := openTerminal(std)
	if asked != nil {
		return nil, passwordError{errors.New(lockedVolume(err, "", " is ") + "encrypted, and no terminal to ask for the password: give --password-file FILE or set " + passwordVar)}
	}
	defer tty.close()
	for range tries {
		if opts.Password, asked = tty.ask("Password for " + lockedVolume(err, "", " in ") + printable(image) + ": "); asked != nil {
			return nil, passwordError{asked}
		}
		if im, err = open(image, opts); !errors.Is(err, dmg.ErrWrongPassword) {
			return im, err
		}
		fmt.Fprintln(tty.out, "Wrong password"+lockedVolume(err, " for ", "")+".")
	}
	return nil, passwordError{errors.New("wrong password" + lockedVolume(err, " for ", ""))}
}

// lockedVolume names the volume that an error of the password is about, between two texts;
// it is empty if that is the image.
func lockedVolume(err error, before, after string) string {
	var locked lockedError
	if !errors.As(err, &locked) {
		return ""
	}
	return before + locked.volume.String() + after
}

// passwords returns the passwords that were given, which are read once: standard input
// has them for all images of a run.
func (f *passwordFlags) passwords(std *stdio) (*givenPasswords, error) {
	if f.given == nil {
		given, err := f.readPasswords(std)
		if err != nil {
			return nil, err
		}
		f.given = given
	}
	return f.given, nil
}

// readPasswords reads the passwords that were given. A file goes before the environment,
// since it is named for this command alone.
func (f *passwordFlags) readPasswords(std *stdio) (*givenPasswords, error) {
	switch f.PasswordFile {
	case "":
		if password := os.Getenv(passwordVar); password != "" {
			return &givenPasswords{[]string{password}, passwordVar}, nil
		}
		return new(givenPasswords), nil
	case "-":
		all, err := readPasswords(std.in)
		return &givenPasswords{all, "standard input"}, err
	}
	file, err := os.Open(f.PasswordFile)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	all, err := readPasswords(file)
	return &givenPasswords{all, f.PasswordFile}, err
}

// readPasswords reads passwords up to the end of r: a line each, at least one.
func readPasswords(r io.Reader) ([]string, error) {
	b, err := io.ReadAll(io.LimitReader(r, maxPassword+1))
	switch {
	case err != nil:
		return nil, err
	case len(b) > maxPassword:
		return nil, fmt.Errorf("longer than %d bytes, so not one of passwords", maxPassword)
	}
	text, err := fromWindows(b)
	if err != nil {
		return nil, err
	}
	var all []string
	for line := range strings.Lines(text) {
		password, ended := strings.CutSuffix(line, "\n")
		if ended {
			password = strings.TrimSuffix(password, "\r") // as Windows ends lines
		}
		if password != "" {
			all = append(all, password)
		}
	}
	switch {
	case len(all) == 0:
		return nil, errors.New("empty")
	case len(all) > maxPasswords:
		return nil, fmt.Errorf("%d lines, so not one of passwords", len(all))
	}
	return all, nil
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
