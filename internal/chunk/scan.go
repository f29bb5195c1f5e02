package chunk

import (
	"errors"
	"io"
	"math"
)

// maxStream is the longest header that Prefix waits for: the writer holds that
// much of a stream back. Headers of files in use have 10 KiB to 10 MiB, the
// longest of them GGUF's, with the tokens of a vocabulary.
const maxStream = 16 << 20

// firstNeed is the least that Prefix asks for when the header's length is not
// known, and minPeek what it takes to tell the formats apart: safetensors has
// its length in 8 bytes and then a brace.
const (
	firstNeed = 64 << 10
	minPeek   = 9
)

// Scan returns the layout of a file of size bytes, or nil when it has no
// structure that is known, or lies about it. The error is one that r returned.
//
// It reads headers and, for archives, samples of their members. What it
// allocates beyond the header of a safetensors file is bounded by maxTensors,
// maxNames and maxDims, some 70 MiB in all.
func Scan(r io.ReaderAt, size int64) (*Layout, error) {
	v := &view{r: r, size: size}
	l := new(list)
	format, err := parse(v, l, nestedZip)
	if err == nil {
		err = l.finish(size)
	}
	if errors.Is(err, errNone) {
		return nil, nil
	} else if err != nil {
		return nil, err
	}
	return &Layout{Format: format, Tensors: l.tensors}, nil
}

// Prefix returns the layout of a stream that begins with p, as far as p tells.
// A need beyond len(p) asks for that many bytes of the stream; when it ends
// before, Prefix may be asked a last time with all there is. (nil, 0) means
// that there is no structure. The tensors of the layout may lie beyond the end
// of the stream. Archives aren't recognised: their directory is at the end.
func Prefix(p []byte) (l *Layout, need int) {
	v := &view{buf: p, size: math.MaxInt64}
	ls := new(list)
	format, err := parse(v, ls, noZip)
	if err == nil {
		err = ls.finish(math.MaxInt64)
	}
	switch {
	case err == nil:
		return &Layout{Format: format, Tensors: ls.tensors}, 0
	case errors.Is(err, errShort) && v.need <= maxStream:
		return nil, int(v.need)
	}
	return nil, 0
}

// nesting says how many archives inside of each other may still be opened.
type nesting uint8

const (
	noZip     nesting = iota // other formats only
	zipOnly                  // archives, whose members may be anything but archives
	nestedZip                // archives, whose members may be archives
)

// parse recognises the format of v and appends its tensors to l. The offsets
// are the file's.
func parse(v *view, l *list, nest nesting) (format string, err error) {
	head, err := v.next(min(v.size, minPeek))
	if err != nil {
		return "", err
	}
	v.pos = 0
	if len(head) < minPeek {
		return "", errNone
	}
	switch {
	case string(head[:4]) == ggufMagic:
		return "gguf", parseGGUF(v, l)
	case string(head[:6]) == npyMagic:
		return "npy", parseNpy(v, l)
	case string(head[:4]) == zipMagic:
		if nest == noZip {
			return "", errNone
		}
		return "zip", parseZip(v, l, nest-1)
	case head[8] == '{':
		return "safetensors", parseSafetensors(v, l)
	}
	return "", errNone
}
