package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"

	"github.com/go-dmg/dmg"
)

// Exit statuses, as statusHelp tells users. The last two are what a shell reports of
// a program that the signal ended.
const (
	statusOK          = 0
	statusDamaged     = 1
	statusMisuse      = 2
	statusUnsupported = 3
	statusPassword    = 4
	statusIO          = 5
	statusInterrupted = 130 // 128 + SIGINT
	statusPipe        = 141 // 128 + SIGPIPE
)

// statusHelp is in the help of every command.
const statusHelp = `Exit status:

    0    all went well
    1    the image is damaged, or a check failed
    2    the command line is wrong, or asks for what can't be done
    3    the file is no disk image, or something in it is not supported
    4    the password or key is missing or wrong
    5    reading or writing a file, or asking a server, failed
    130  the command was interrupted`

// A misuse is an error of the command line that shows only when it runs.
type misuse string

// Error implements error.
func (m misuse) Error() string { return string(m) }

// A refusal is an error of a command that was asked for what it can't do. It tells
// what to change, so that the help of the command has nothing to add.
type refusal string

// Error implements error.
func (r refusal) Error() string { return string(r) }

// notAnImage says why something can't be a disk image.
type notAnImage string

// Error implements error.
func (n notAnImage) Error() string { return string(n) }

// A passwordError is an error on the way to a password.
type passwordError struct{ error }

// Unwrap returns the cause.
func (e passwordError) Unwrap() error { return e.error }

// report prints the error that a command ended with, if any, and returns the
// exit status. That nobody reads the output to its end is no news for the user.
func report(std *stdio, err error) int {
	var wrong misuse
	var exit exitStatus
	switch {
	case err == nil:
		return statusOK
	case errors.As(err, &exit):
		return int(exit)
	case errors.Is(err, syscall.EPIPE) && !isA[*urlError](err):
		return statusPipe
	case errors.Is(err, context.Canceled):
		fmt.Fprintln(std.err, "dmg: interrupted")
		return statusInterrupted
	case errors.As(err, &wrong):
		return reportMisuse(std, err)
	}
	fmt.Fprintln(std.err, errorLine(err))
	return statusOf(err)
}

// errorLine is what users are told of an error.
func errorLine(err error) string { return "dmg: " + urlText(err, oneLine(err)) + hint(err) }

// statusOf is the exit status for an error. What a user can mend by other flags goes
// first, damage before what is not supported, and what only an operating system says
// last: an image whose segment is missing is damaged.
func statusOf(err error) int {
	var told toldError
	switch {
	case errors.As(err, &told):
		return told.status
	case isA[refusal](err), errors.Is(err, dmg.ErrMemoryLimit), errors.Is(err, dmg.ErrSeveralVolumes), ofIndexAlone(err):
		return statusMisuse
	case isA[passwordError](err), errors.Is(err, dmg.ErrPassword):
		return statusPassword
	case isA[*urlError](err):
		return statusIO
	case isA[notAnImage](err), isNoImage(err):
		return statusUnsupported
	case errors.Is(err, dmg.ErrChecksum), errors.Is(err, dmg.ErrFormat):
		return statusDamaged
	case errors.Is(err, dmg.ErrUnsupported):
		return statusUnsupported
	case isA[volumeError](err):
		return volumeStatus(err)
	case isIO(err):
		return statusIO
	}
	return statusDamaged
}

// isA reports whether an error or one of its causes has the type.
func isA[E error](err error) bool {
	var e E
	return errors.As(err, &e)
}

// isNoImage reports whether an error says that a file or a directory is no disk
// image, rather than a damaged one.
func isNoImage(err error) bool {
	var format *dmg.FormatError
	return errors.As(err, &format) && (format.Section == "file" || format.Section == "directory")
}

// isIO reports whether an error is that of a file or of a connection.
func isIO(err error) bool {
	return isA[*fs.PathError](err) || isA[*os.LinkError](err) || isA[*os.SyscallError](err) || isA[syscall.Errno](err) ||
		isA[net.Error](err) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.ErrShortWrite)
}

// hint is what a user can do about an error, where the error can't know it.
func hint(err error) string {
	var named indexError // the user's own
	switch {
	case errors.Is(err, dmg.ErrMemoryLimit):
		return "; give it more with --memory-limit"
	case errors.Is(err, dmg.ErrIndex) && !errors.As(err, &named):
		if !ofIndexAlone(err) {
			return "; --no-index shows whether it is the index"
		}
		return "; leave it out with --no-index"
	case errors.Is(err, dmg.ErrSeveralVolumes):
		return "; choose one with -p"
	case isStatus(err, http.StatusUnauthorized):
		return "; give name and password in the URL: https://NAME:PASSWORD@HOST/..."
	case errors.Is(err, dmg.ErrNoPrivateKey), errors.Is(err, dmg.ErrNoKey):
		return ": give --key-file FILE or set " + keyVar
	}
	return ""
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
