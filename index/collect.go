package index

import (
	"context"
	"fmt"
	"io"

	"github.com/heftstore/heft/blob"
)

// Mark is a state of the index, which what is registered later can be told from.
type Mark struct {
	pos   position
	part  bucket // where Referenced goes on, and after which key
	after []byte
}

// Mark returns the state that the transaction sees.
func (tx *Tx) Mark() Mark { return Mark{pos: tx.state.pos, part: bucketPaths} }

// Referenced returns up to most of the blobs that versions name, files and
// manifests, some of them twice, and the Mark for calling it again; the blobs are
// nil at the end. It may go on in a later transaction: it misses nothing that was
// there all the time, and what came meanwhile RegisteredSince tells.
func (tx *Tx) Referenced(m Mark, most int) ([]blob.Digest, Mark, error) {
	for {
		if len(m.after) == 0 {
			m.after = []byte(floor)
		}
		es, end, err := tx.page(m.part, m.after, nil, most)
		if err != nil {
			return nil, m, err
		}
		var out []blob.Digest
		for _, e := range es {
			switch m.part {
			case bucketPaths:
				fe, err := parsePath(&tx.kv, e)
				if err != nil {
					return nil, m, err
				}
				out = append(out, fe.File.Digest)
			default:
				if len(e.key) < len(blob.Digest{}) {
					return nil, m, tx.damaged(m.part, e.key, fmt.Errorf("the key has %d bytes", len(e.key)))
				}
				out = append(out, blob.Digest(e.key[:len(blob.Digest{})]))
			}
			m.after = append(append(m.after[:0:0], e.key...), 0)
		}
		if len(out) > 0 || m.part == bucketManifests && end {
			return out, m, nil
		}
		if end {
			m.part, m.after = bucketManifests, nil
		}
	}
}

// RegisteredSince returns the blobs that versions name which were registered since
// the Mark, files and manifests, whether they are still there or not.
func (tx *Tx) RegisteredSince(m Mark) ([]blob.Digest, error) {
	if tx.state.pos == m.pos {
		return nil, nil
	}
	r, err := readJournal(tx.dir, tx.state.store, m.pos, 0, tx.state.pos.offset)
	if err != nil {
		return nil, missing(err)
	}
	defer r.close()
	var out []blob.Digest
	for {
		rec, err := r.next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		for i := range rec.Ops {
			if reg := rec.Ops[i].Register; reg != nil {
				out = append(out, blobsOf(&reg.Version, reg.Files)...)
			}
		}
	}
	if r.pos != tx.state.pos {
		return nil, r.broken(errForeign)
	}
	return out, nil
}

// Donors returns which blobs the blob d needs as far as the index knows, and
// whether it knows d.
func (x *Index) Donors(ctx context.Context, d blob.Digest) (donors []blob.Digest, ok bool) {
	err := x.View(ctx, func(tx *Tx) error {
		donors, ok = tx.Donors(d)
		return nil
	})
	return donors, ok && err == nil
}

// Donors is Index.Donors within a transaction.
func (tx *Tx) Donors(d blob.Digest) (donors []blob.Digest, ok bool) {
	info, err := tx.Blob(d)
	return info.Donors, err == nil
}

// BlobsFrom returns up to most of the blobs that were added, those after a digest,
// ascending.
func (tx *Tx) BlobsFrom(after blob.Digest, most int) (ds []blob.Digest, err error) {
	es, _, err := tx.page(bucketBlobs, append(after[:len(after):len(after)], 0), nil, most)
	for _, e := range es {
		info, err := parseBlob(&tx.kv, e)
		if err != nil {
			return nil, err
		}
		ds = append(ds, info.Digest)
	}
	return ds, err
}
