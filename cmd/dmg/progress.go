package main

import (
	"io"
	"os"
	"time"

	"github.com/schollz/progressbar/v3"
	"golang.org/x/term"
)

// startProgress begins a progress bar on standard error, if that is a terminal
// and the user wants one. The work is total bytes, as far as is known. Both
// functions must be called: the first as often as there is news, the second
// once, which removes the bar.
func startProgress(std *stdio, what string, total int64, quiet bool) (update func(done, total int64), stop func()) {
	if quiet || !isTerminal(std.err) || os.Getenv("TERM") == "dumb" {
		return func(int64, int64) {}, func() {}
	}
	bar := progressbar.NewOptions64(max(total, 1),
		progressbar.OptionSetWriter(std.err),
		progressbar.OptionSetDescription(what),
		progressbar.OptionShowBytes(true),
		progressbar.OptionShowCount(),
		progressbar.OptionUseIECUnits(true),
		progressbar.OptionSetPredictTime(true),
		progressbar.OptionFullWidth(),
		progressbar.OptionThrottle(100*time.Millisecond),
		progressbar.OptionClearOnFinish(),
	)
	_ = bar.RenderBlank() // so that the first update, which has no speed yet, is throttled
	update = func(done, total int64) {
		if total <= 0 {
			return
		}
		if bar.GetMax64() != total {
			bar.ChangeMax64(total)
		}
		// The bar is for the eye: that it can't be drawn is no reason to stop.
		_ = bar.Set64(done)
	}
	return update, func() { _ = bar.Clear() }
}

// isTerminal reports whether a stream is a terminal.
func isTerminal(stream io.Writer) bool {
	f, ok := stream.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}
