package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"

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

// A refusal is an error of a command that was asked for what it can't do. It tells
// what to change, so that the help of the command has nothing to add.
type refusal string

// Error implements error.
func (r refusal) Error() string { return string(r) }

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
