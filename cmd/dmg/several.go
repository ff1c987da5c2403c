package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
)

// imagesArg is the argument of commands on several images.
type imagesArg struct {
	Images []string `arg:"" name:"image" help:"The disk images: files, sparse bundles, or http or https URLs."`
}

// severalHelp explains what is so with several images.
const severalHelp = `Of several images, each is told in its turn, and what is wrong with one keeps none of the others from being told. The exit
status is 0 if none fails, 1 if one fails because it is damaged, and otherwise that of the first that fails.`

// An abortError ends a run over several images: it is no error of one of them.
type abortError struct{ error }

// Unwrap returns the cause.
func (e abortError) Unwrap() error { return e.error }

// abort makes an abortError of an error.
func abort(err error) error {
	if err == nil {
		return nil
	}
	return abortError{err}
}

// toldError is what a run over several images ends with after each error has been told.
type toldError struct{ status, failed, all int }

// Error says how many there were.
func (e toldError) Error() string {
	return fmt.Sprintf("something is wrong with %d of %d images", e.failed, e.all)
}

// forEach calls a function for each image. With several, it tells each error, and goes on.
func forEach(std *stdio, images []string, do func(image string) error) error {
	if len(images) == 1 {
		return do(images[0])
	}
	var told toldError
	for _, image := range images {
		err := do(image)
		switch {
		case err == nil:
			continue
		case isA[abortError](err), errors.Is(err, context.Canceled), errors.Is(err, syscall.EPIPE) && !isA[*urlError](err):
			return err
		}
		fmt.Fprintln(std.err, errorLine(err))
		if status := statusOf(err); told.status == 0 || status == statusDamaged {
			told.status = status
		}
		told.failed++
	}
	if told.failed == 0 {
		return nil
	}
	told.all = len(images)
	return told
}
