package blob

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/heftstore/heft/internal/codec"
	"github.com/heftstore/heft/internal/format"
	"github.com/zeebo/blake3"
)

// unpacker decodes frames, through the files that they borrow from and the
// bases that they are deltas to. It is not safe for concurrent use.
type unpacker struct {
	s      *Store
	donors *donors
	dec    *codec.Decoder
	buf    *[format.MaxFrame]byte // stored bytes
}

// row fills dst with the plain bytes of row i of f, checked against its hash.
// in names the file that is at fault when the error is damage.
func (u *unpacker) row(dst []byte, f *file, i uint32) (in Digest, err error) {
	want := &f.table.Rows[i]
	from, n, release, err := u.holder(f, i)
	if err != nil {
		return from.digest, err
	}
	defer release()
	r := &from.table.Rows[n]
	if r.Codec == codec.Raw && r.Param == 0 && r.StoredLen == r.PlainLen && r.Depth == 0 {
		// The stored bytes are the plain ones: no copy, and no checksum beside
		// the hash.
		in, err = from.digest, readAt(from.f, dst, from.at[n])
	} else {
		in, err = u.held(dst, from, n, format.MaxDepth)
	}
	if err != nil {
		return in, err
	}
	if blake3.Sum256(dst) != want.Sum {
		return u.culprit(from, n), &sumError{fmt.Sprintf("frame %d does not have its hash", n)}
	}
	return from.digest, nil
}

// holder returns the file and the number of the row that holds row i of f. On
// an error the file has the digest of the one at fault only.
func (u *unpacker) holder(f *file, i uint32) (from *file, n uint32, release func(), err error) {
	want := &f.table.Rows[i]
	from, n, release = f, i, func() {}
	if want.Place == format.Borrowed {
		d := Digest(f.table.Donors[want.Donor])
		if from, release, err = u.open(d); err != nil {
			return &file{digest: d}, 0, nil, err
		}
		n = want.Frame
	}
	if n, err = from.lends(n, want); err != nil {
		release()
		return &file{digest: from.digest}, 0, nil, err
	}
	return from, n, release, nil
}

// open returns the blob d's file until release is called.
func (u *unpacker) open(d Digest) (f *file, release func(), err error) {
	o, err := u.donors.acquire(d)
	if errors.Is(err, ErrNotFound) {
		return nil, nil, &sumError{"the donor is missing"}
	}
	if err != nil {
		return nil, nil, err
	}
	return o.file, func() { u.donors.release(o) }, nil
}

// held fills dst with the plain bytes of the held row n of f, whose stored
// bytes, and those of the bases below it, pass their checksums. The hash is the
// caller's to check. left bounds how many other frames may be needed.
func (u *unpacker) held(dst []byte, f *file, n uint32, left int) (in Digest, err error) {
	r := &f.table.Rows[n]
	if r.Codec > codec.Cast {
		return f.digest, &NewerError{What: "codec", Found: int(r.Codec), Supported: int(codec.Cast)}
	}
	if codec.HasBase(r.Codec) != (r.Depth > 0) || int(r.Depth) > left {
		return f.digest, &sumError{fmt.Sprintf("frame %d has depth %d with codec %d, where %d are left", n, r.Depth, r.Codec, left)}
	}
	var base, short []byte
	if r.Codec == codec.Cast { // its few bytes say where in the base
		stored, err := f.stored(n, u.buf[:])
		if err != nil {
			return f.digest, err
		}
		short = bytes.Clone(stored[:min(len(stored), 8)])
	}
	if r.Depth > 0 {
		b, in, err := u.base(f, r, short)
		if err != nil {
			return in, err
		}
		defer u.s.wide.Put(b.buf)
		base = b.bytes
	}
	stored, err := f.stored(n, u.buf[:])
	if err != nil {
		return f.digest, err
	}
	if err := u.dec.Decode(dst, stored, r.Codec, r.Param, base); err != nil {
		return u.culprit(f, n), err
	}
	return f.digest, nil
}

// basis is the plain bytes that a frame is decoded with.
type basis struct {
	bytes []byte
	buf   *[wideFrames * format.MaxFrame]byte
}

// wideFrames is how many frames a base may span: a cast of 1 MiB needs 2 MiB,
// which may begin within a frame.
const wideFrames = 3

// base decodes what row r of f, whose stored bytes begin with stored, is
// decoded with. The caller gives its buffer back to s.wide.
func (u *unpacker) base(f *file, r *format.Row, stored []byte) (b basis, in Digest, err error) {
	from, release := f, func() {}
	if r.Base != format.SelfBase {
		d := Digest(f.table.Donors[r.Base])
		if from, release, err = u.open(d); err != nil {
			return b, d, err
		}
	}
	defer release()
	skip, size := 0, int(r.PlainLen)
	if r.Codec == codec.Cast {
		if skip, size, err = codec.CastBase(stored, size); err != nil {
			return b, f.digest, err
		}
	}
	b.buf = u.s.wide.Get().(*[wideFrames * format.MaxFrame]byte)
	at, left := 0, int(r.Depth)
	for i := r.BaseFrame; at < skip+size; i++ {
		if uint64(i) >= uint64(len(from.table.Rows)) {
			err = &sumError{fmt.Sprintf("there is no base frame %d", i)}
		} else if n, ok := from.held(i); !ok {
			err = &sumError{fmt.Sprintf("the base frame %d is not held there", i)}
		} else if size := int(from.table.Rows[n].PlainLen); size > len(b.buf)-at || r.Codec == codec.Delta && size != int(r.PlainLen) {
			err = &sumError{fmt.Sprintf("the base frame %d has another length", i)}
		} else if left -= 1 + int(from.table.Rows[n].Depth); left < 0 {
			err = &sumError{fmt.Sprintf("the base frame %d is deeper than it was", i)}
		} else if in, err = u.held(b.buf[at:at+size], from, n, int(from.table.Rows[n].Depth)); err == nil {
			at += size
			continue
		} else {
			u.s.wide.Put(b.buf)
			return b, in, err
		}
		u.s.wide.Put(b.buf)
		return b, from.digest, err
	}
	b.bytes = b.buf[skip : skip+size]
	return b, from.digest, nil
}

// culprit returns the file whose frame does not have its hash, or can't be
// decoded: f, of which row n does not, or that of a base below it.
func (u *unpacker) culprit(f *file, n uint32) Digest {
	r := &f.table.Rows[n]
	if r.Depth == 0 {
		return f.digest
	}
	from, release := f, func() {}
	if r.Base != format.SelfBase {
		var err error
		if from, release, err = u.open(Digest(f.table.Donors[r.Base])); err != nil {
			return Digest(f.table.Donors[r.Base])
		}
	}
	defer release()
	left := int(r.PlainLen)
	if r.Codec == codec.Cast {
		stored, err := f.stored(n, u.buf[:])
		if err != nil {
			return f.digest
		}
		skip, size, err := codec.CastBase(stored, left)
		if err != nil {
			return f.digest
		}
		left = skip + size
	}
	plain := u.s.frame()
	defer u.s.frames.Put(plain)
	for i := r.BaseFrame; left > 0; i++ {
		if uint64(i) >= uint64(len(from.table.Rows)) {
			return from.digest
		}
		m, ok := from.held(i)
		if !ok || from.table.Rows[m].Depth >= r.Depth {
			return from.digest
		}
		b := &from.table.Rows[m]
		if in, err := u.held(plain[:b.PlainLen], from, m, int(b.Depth)); err != nil {
			return in
		}
		if blake3.Sum256(plain[:b.PlainLen]) != b.Sum {
			return u.culprit(from, m)
		}
		left -= int(b.PlainLen)
	}
	return f.digest
}
