package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
	"github.com/heftstore/heft/registry"
)

// Exit codes. They are part of the command's interface: docs/cli.md.
const (
	exitOK          = 0
	exitError       = 1
	exitUsage       = 2
	exitNotFound    = 3
	exitCorrupt     = 4
	exitConflict    = 5   // duplicate, alias moved, in use, would overwrite
	exitInterrupted = 130 // 128 + SIGINT, as shells have it
)

// codeError is an error of the command itself, with its exit code.
type codeError struct {
	code int
	text string
}

func (e *codeError) Error() string { return e.text }

// exitWith returns an error that ends the command with that code.
func exitWith(code int, format string, args ...any) error {
	return &codeError{code, fmt.Sprintf(format, args...)}
}

// usageError returns an error about the arguments: exit code 2.
func usageError(format string, args ...any) error { return exitWith(exitUsage, format, args...) }

// hintError is an error with a next step, printed on a line of its own.
type hintError struct {
	error
	hint string
}

func (e *hintError) Unwrap() error { return e.error }

// withHint returns err with a next step, or nil for nil.
func withHint(err error, format string, args ...any) error {
	if err == nil {
		return nil
	}
	return &hintError{err, fmt.Sprintf(format, args...)}
}

// resumeError is an error of something long, with what to tell somebody who
// interrupts it.
type resumeError struct {
	error
	resume string
}

func (e *resumeError) Unwrap() error { return e.error }

// resumable returns err with what is left when it came of an interrupt, or nil
// for nil.
func resumable(err error, resume string) error {
	if err == nil {
		return nil
	}
	return &resumeError{err, resume}
}

// report prints err for people and returns the exit code.
func report(ctx context.Context, w io.Writer, err error) int {
	if err == nil {
		return exitOK
	}
	code, hint := classify(err)
	text := plain(err)
	if e, ok := errors.AsType[*hintError](err); ok {
		hint = e.hint
	}
	if interrupted(ctx, err) {
		code, text, hint = exitInterrupted, "interrupted", "nothing was changed"
		if e, ok := errors.AsType[*resumeError](err); ok {
			hint = e.resume
		}
	}
	lines := func(prefix, s string) {
		for line := range strings.Lines(s) {
			fmt.Fprintln(w, prefix+printable(strings.TrimSuffix(line, "\n")))
			prefix = strings.Repeat(" ", len(prefix))
		}
	}
	lines("heft: ", text)
	lines("hint: ", hint)
	return code
}

// interrupted reports whether err came of a signal rather than of the work.
func interrupted(ctx context.Context, err error) bool {
	return ctx.Err() != nil && (errors.Is(err, ctx.Err()) || errors.Is(err, context.Cause(ctx)))
}

// plain returns the text of err without what stands before it, and before the
// errors that it wraps, for programmers: the names of packages, and of the
// errors of io/fs that sentinels wrap.
func plain(err error) string {
	return withoutPrefixes(plainWithin(err.Error(), err))
}

// plainWithin returns s without the prefixes of the errors that err wraps.
func plainWithin(s string, err error) string {
	var wrapped []error
	switch e := err.(type) { //nolint:errorlint // it walks the tree of errors itself
	case interface{ Unwrap() error }:
		wrapped = []error{e.Unwrap()}
	case interface{ Unwrap() []error }:
		wrapped = e.Unwrap()
	}
	for _, e := range wrapped {
		if e == nil {
			continue
		}
		text := e.Error()
		if short := withoutPrefixes(text); short != text {
			s = strings.Replace(s, ": "+text, ": "+short, 1)
			s = strings.Replace(s, "\n"+text, "\n"+short, 1) // errors.Join
		}
		s = plainWithin(s, e)
	}
	return s
}

// withoutPrefixes is plain for one text.
func withoutPrefixes(s string) string {
	for {
		rest := s
		for _, prefix := range []string{"registry: ", "index: ", "blob: ", "name: ", "durable: ", "parity: ", "archive: ", "oci: ", "lattice: ", "folder: ", "pattern: ", "huggingface: ", "ollama: ", "conflict: ", "file does not exist: ", "file already exists: ", "invalid argument: "} {
			rest = strings.TrimPrefix(rest, prefix)
		}
		if rest == s {
			return s
		}
		s = rest
	}
}

// classify returns the exit code for err, and a next step where its text has
// none.
func classify(err error) (code int, hint string) {
	if e, ok := errors.AsType[*codeError](err); ok {
		return e.code, ""
	}
	if _, ok := errors.AsType[*blob.NewerError](err); ok {
		return exitError, "install a newer heft"
	}
	if corrupt(err) {
		return exitCorrupt, ""
	}
	if _, ok := errors.AsType[*registry.InUseError](err); ok {
		return exitConflict, "--force removes it all the same"
	}
	if _, ok := errors.AsType[*registry.ExistsError](err); ok {
		return exitConflict, "--force replaces it"
	}
	if _, ok := errors.AsType[*index.DuplicateError](err); ok {
		return exitConflict, "without a version it becomes the next number"
	}
	if _, ok := errors.AsType[*index.PathConflictError](err); ok {
		return exitConflict, ""
	}
	if _, ok := errors.AsType[*registry.NameError](err); ok {
		return exitUsage, ""
	}
	switch {
	case errors.Is(err, registry.ErrDuplicate), errors.Is(err, registry.ErrConflict):
		return exitConflict, ""
	case errors.Is(err, registry.ErrNotFound):
		return exitNotFound, "'heft ls' lists what there is"
	case errors.Is(err, registry.ErrInvalid):
		return exitUsage, ""
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		return exitError, "the disk is full: 'heft rm' versions and then 'heft gc --grace 0' to free some of it, which works on a full disk, and try again"
	}
	return exitError, ""
}

// corrupt reports whether err is about stored bytes that changed: those of
// files, of the journal, or of an index that could not be built anew.
func corrupt(err error) bool {
	if _, ok := errors.AsType[*registry.CorruptError](err); ok {
		return true
	}
	if _, ok := errors.AsType[*blob.CorruptError](err); ok || errors.Is(err, blob.ErrDamagedStore) {
		return true
	}
	if _, ok := errors.AsType[*index.JournalError](err); ok {
		return true
	}
	_, ok := errors.AsType[*index.CorruptError](err)
	return ok
}
