package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"unicode"
	"unicode/utf8"

	"github.com/go-dmg/dmg"
)

// Exit statuses. The last two are what a shell reports of a program that the
// signal ended.
const (
	statusOK          = 0
	statusError       = 1
	statusMisuse      = 2
	statusInterrupted = 130 // 128 + SIGINT
	statusPipe        = 141 // 128 + SIGPIPE
)

// A misuse is an error of the command line that shows only when it runs.
type misuse string

// Error implements error.
func (m misuse) Error() string { return string(m) }

// report prints the error that a command ended with, if any, and returns the
// exit status. That nobody reads the output to its end is no news for the user.
func report(std *stdio, err error) int {
	var wrong misuse
	switch {
	case err == nil:
		return statusOK
	case errors.Is(err, syscall.EPIPE):
		return statusPipe
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(std.err, "dmg: interrupted")
		return statusInterrupted
	case errors.As(err, &wrong):
		return reportMisuse(std, err)
	}
	fmt.Fprintln(std.err, "dmg: "+oneLine(err)+hint(err))
	return statusError
}

// hint is what a user can do about an error, where the error can't know it.
func hint(err error) string {
	var named indexError // the user's own
	switch {
	case errors.Is(err, dmg.ErrMemoryLimit):
		return "; give it more with --memory-limit"
	case errors.Is(err, dmg.ErrIndex) && !errors.As(err, &named):
		return "; leave it out with --no-index"
	}
	return ""
}

// oneLine is an error's text without the package's name, which every line on
// standard error begins with anyway, and with joined errors on one line.
func oneLine(err error) string {
	lines := strings.Split(err.Error(), "\n")
	for i, line := range lines {
		line = strings.TrimPrefix(line, "dmg: ")
		lines[i] = strings.ReplaceAll(line, ": dmg: ", ": ")
	}
	return printable(strings.Join(lines, "; "))
}

// printable is s with all escaped that is not to be printed. Names in an image
// are untrusted: they could hold escape sequences for the terminal.
func printable(s string) string {
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		switch {
		case r == utf8.RuneError && n == 1:
			fmt.Fprintf(&b, `\x%02x`, s[0])
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r < utf8.RuneSelf:
			fmt.Fprintf(&b, `\x%02x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
		s = s[n:]
	}
	return b.String()
}

// interruptible returns a context that ends when the user or the system asks
// the program to stop, for commands that have something to clean up; others
// just die. A second signal ends the program at once.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	signals := []os.Signal{os.Interrupt, syscall.SIGTERM}
	// nohup and its like have the last word about hangups.
	if !signal.Ignored(syscall.SIGHUP) {
		signals = append(signals, syscall.SIGHUP)
	}
	ctx, stop := signal.NotifyContext(ctx, signals...)
	context.AfterFunc(ctx, stop)
	return ctx, stop
}
