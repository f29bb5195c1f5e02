package blob

import (
	"errors"
	"slices"

	"github.com/heftstore/heft/internal/chunk"
	"github.com/heftstore/heft/internal/codec"
	"github.com/heftstore/heft/internal/format"
)

// materialize writes the output, which has the digest d, again so that it holds
// every frame itself and needs no other file. Where a damaged file of d, in its
// place or in quarantine, can still tell how it was cut, the frames are the same,
// since others may need them.
func (w *Writer) materialize(d Digest) (err error) {
	old := w.out
	w.out = output{s: w.s, seen: map[Digest]uint32{}}
	defer func() { err = errors.Join(err, old.discard()) }()
	if old.f == nil {
		old.buf = w.s.frame() // nothing is held: there is nothing to read
		defer w.s.frames.Put(old.buf)
	} else if err := old.flush(); err != nil {
		return err
	}
	f, err := old.file()
	if err != nil {
		return err
	}
	m := &materializer{w: w, f: f, enc: w.s.encoders.Get().(*codec.Encoder), buf: w.s.frame(), plain: w.s.frame()}
	m.u = unpacker{s: w.s, donors: &w.donors, dec: w.s.decoder(), buf: m.buf}
	defer func() {
		w.s.encoders.Put(m.enc)
		w.s.decoders.Put(m.u.dec)
		w.s.frames.Put(m.buf)
		w.s.frames.Put(m.plain)
	}()
	cuts, err := w.s.cuts(d, w.size)
	if err != nil {
		return err
	}
	if cuts != nil && !slices.Equal(cuts, lens(f.table.Rows)) {
		return m.recut(cuts)
	}
	for i := range old.rows {
		if err := m.row(uint32(i), old.rows[i].kind, old.rows[i].keys); err != nil {
			return asCorrupt(err, d, d, -1)
		}
	}
	return nil
}

// lens returns the plain lengths of rows.
func lens(rows []format.Row) []uint32 {
	out := make([]uint32, len(rows))
	for i := range rows {
		out[i] = rows[i].PlainLen
	}
	return out
}

// file returns the output as a file that frames can be read from.
func (o *output) file() (*file, error) {
	t, err := o.table()
	if err != nil {
		return nil, err
	}
	f := &file{f: o.f, table: t}
	f.place()
	return f, nil
}

// materializer copies frames to the Writer's output, each held there.
type materializer struct {
	w     *Writer
	f     *file // the output before
	u     unpacker
	enc   *codec.Encoder
	buf   *[format.MaxFrame]byte
	plain *[format.MaxFrame]byte
}

// row copies one frame: its stored bytes as they are, unless they need a base.
func (m *materializer) row(i uint32, k codec.Kind, keys []uint64) error {
	from, n, release, err := m.u.holder(m.f, i)
	if err != nil {
		return err
	}
	defer release()
	r := from.table.Rows[n]
	if r.Depth > 0 {
		plain := m.plain[:r.PlainLen]
		if _, err := m.u.row(plain, m.f, i); err != nil {
			return err
		}
		return m.add(plain, k, keys)
	}
	stored, err := from.stored(n, m.buf[:])
	if err != nil {
		return err
	}
	return m.w.out.add(row{Row: r, keys: keys, kind: k}, stored)
}

// add encodes a frame on its own and adds it.
func (m *materializer) add(plain []byte, k codec.Kind, keys []uint64) error {
	spare := m.w.s.frame()
	defer m.w.s.frames.Put(spare)
	r := row{Row: format.Row{Sum: Sum(plain), PlainLen: uint32(len(plain))}, keys: keys, kind: k}
	stored, id, param := m.enc.Encode(spare[:0], plain, k, nil)
	r.hold(stored, id, param)
	return m.w.out.add(r, stored)
}

// recut copies all frames to ones of other lengths.
func (m *materializer) recut(cuts []uint32) error {
	piece := m.w.s.frame()
	defer m.w.s.frames.Put(piece)
	have := 0
	for i := range m.f.table.Rows {
		plain := m.plain[:m.f.table.Rows[i].PlainLen]
		if _, err := m.u.row(plain, m.f, uint32(i)); err != nil {
			return err
		}
		for len(plain) > 0 && len(cuts) > 0 {
			c := copy(piece[have:cuts[0]], plain)
			plain = plain[c:]
			if have += c; have < int(cuts[0]) {
				continue
			}
			p := piece[:have]
			have, cuts = 0, cuts[1:]
			if err := m.add(p, chunk.Probe(p), nil); err != nil {
				return err
			}
		}
	}
	return nil // a checked table's lengths add up to the size that it says
}
