package chunk

import (
	"encoding/binary"
	"errors"
	"path"
	"strings"

	"github.com/heftstore/heft/internal/codec"
)

// What is read of a member to guess its kind: two samples, from its beginning
// and its middle. Below minGuess there are too few elements to tell.
const (
	guessSize = 64 << 10
	minGuess  = 1 << 10
)

// parseZip finds the tensors in an archive's stored members: PyTorch's
// storages, the arrays of an .npz, and what other formats' members hold.
// An archive without any has no structure.
//
// No pickle is read: what the storages hold is guessed from their bytes.
func parseZip(v *view, l *list, inner nesting) error {
	entries, end, err := directory(v)
	if err != nil {
		return err
	}
	first := len(l.tensors)
	for i, e := range entries {
		next := end
		if i+1 < len(entries) {
			next = entries[i+1].header
		}
		off, err := dataOffset(v, e, next)
		if err != nil {
			return err
		}
		if !e.plain || strings.HasSuffix(e.name, "/") {
			continue
		}
		if err := member(v.part(v.base+off, e.size), e.name, l, inner); err != nil {
			return err
		}
	}
	if len(l.tensors) == first {
		return errNone
	}
	return nil
}

// dataOffset returns where the bytes of a member begin. They end before end.
func dataOffset(v *view, e entry, end int64) (int64, error) {
	var b [localLen]byte
	if err := v.readAt(b[:], e.header); err != nil {
		return 0, err
	}
	if string(b[:4]) != zipMagic {
		return 0, errNone
	}
	if e.plain && (binary.LittleEndian.Uint16(b[8:]) != 0 || binary.LittleEndian.Uint16(b[6:])&encrypted != 0) {
		return 0, errNone
	}
	off := e.header + localLen + int64(binary.LittleEndian.Uint16(b[26:])) + int64(binary.LittleEndian.Uint16(b[28:]))
	if off > end || e.size > end-off {
		return 0, errNone
	}
	return off, nil
}

// member appends the tensors of a stored member.
func member(v *view, name string, l *list, inner nesting) error {
	was := *l
	l.prefix += name + "/"
	if format, err := parse(v, l, inner); err == nil {
		l.prefix = was.prefix
		if format == "npy" {
			t := &l.tensors[len(l.tensors)-1]
			t.Name = l.prefix + strings.TrimSuffix(name, ".npy")
		}
		return nil
	} else if !errors.Is(err, errNone) {
		return err
	}
	*l = was
	kind, err := guess(v)
	if err != nil {
		return err
	}
	if kind.Elem == codec.Bytes && !storage(name) {
		return nil
	}
	return l.add(Tensor{Name: name, Offset: v.base, Size: v.size, Kind: kind})
}

// storage reports whether a member is one of PyTorch's storages,
// "archive/data/0", by its name.
func storage(name string) bool {
	dir, _ := path.Split(name)
	return strings.HasSuffix(dir, "/data/")
}

// guess returns the kind of a member of which nothing is known, from samples
// that agree. A storage begins with a whole element, so a guess that says
// otherwise is none.
func guess(v *view) (codec.Kind, error) {
	if v.size < minGuess {
		return codec.Kind{}, nil
	}
	sample := make([]byte, min(v.size, guessSize))
	if err := v.readAt(sample, 0); err != nil {
		return codec.Kind{}, err
	}
	kind := Probe(sample)
	if kind.Lead != 0 {
		return codec.Kind{}, nil
	}
	if v.size > 2*guessSize {
		// Elements have up to 8 bytes: this sample begins with a whole one too.
		if err := v.readAt(sample, (v.size-guessSize)/2&^7); err != nil {
			return codec.Kind{}, err
		}
		if Probe(sample) != kind {
			return codec.Kind{}, nil
		}
	}
	return kind, nil
}
