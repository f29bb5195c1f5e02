package index

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"syscall"

	"github.com/heftstore/heft/blob"
)

// AddBlob takes what the index keeps of a blob from the blob's file: its sizes,
// its donors, and where its frames are. That is not recorded in the journal,
// because it can be had again. A blob that is known as it is costs one read of
// its table. The errors are those of [blob.Store.Frames].
func (tx *Tx) AddBlob(ctx context.Context, d blob.Digest) error {
	if err := tx.writable(); err != nil {
		return err
	}
	info, frames, err := tx.store.Frames(ctx, d)
	if err != nil {
		return err
	}
	tx.known[d] = info
	return tx.partial(tx.addBlob(ctx, info, frames))
}

// partial makes an error of a write that may have been made in part the
// transaction's.
func (tx *Tx) partial(err error) error {
	if err != nil && tx.broken == nil {
		tx.broken = err
	}
	return err
}

func (tx *Tx) addBlob(ctx context.Context, info blob.Info, frames []blob.Frame) error {
	d, value := info.Digest, blobValue(info)
	old, err := tx.get(bucketBlobs, d[:])
	if err != nil || bytes.Equal(old, value) {
		return err
	}
	if err := tx.put(bucketBlobs, d[:], value); err != nil {
		return err
	}
	for i, f := range frames {
		if !f.Held {
			continue
		}
		ref := blob.FrameRef{Blob: d, Frame: uint32(i)}
		if err := tx.hint(ctx, bucketFrames, f.Digest[:], ref); err != nil {
			return err
		}
		for key := range sketchKeys(f) {
			if err := tx.hint(ctx, bucketSketches, key, ref); err != nil {
				return err
			}
		}
	}
	return nil
}

// maxBase is the depth of the deepest frame that can be a base.
const maxBase = 3

// sketchKeys yields the keys under which a frame is found as a base. Frames of
// each depth have their own: the closest may be a late one of a chain, and the
// first one can be a base when the late ones are too deep.
func sketchKeys(f blob.Frame) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for _, k := range f.Keys {
			if k != 0 && f.Depth <= maxBase && !yield(sketchKey(k, f.Depth)) {
				return
			}
		}
	}
}

func sketchKey(k uint64, depth int) []byte {
	return append(binary.BigEndian.AppendUint64(nil, k), byte(depth))
}

// hint makes ref what is found under key, if it is to be preferred.
func (tx *Tx) hint(ctx context.Context, b bucket, key []byte, ref blob.FrameRef) error {
	ok, err := tx.prefer(ctx, b, key, ref)
	if err != nil || !ok {
		return err
	}
	return tx.put(b, key, frameValue(ref))
}

// prefer says whether ref should take the place of the holder known under key.
// The smallest does, so that the order in which blobs are added makes no
// difference; any does where the holder is gone.
func (tx *Tx) prefer(ctx context.Context, b bucket, key []byte, ref blob.FrameRef) (bool, error) {
	value, err := tx.get(b, key)
	if err != nil || value == nil {
		return true, err
	}
	if c := bytes.Compare(frameValue(ref), value); c <= 0 {
		return c < 0, nil
	}
	old, err := parseFrame(&tx.kv, b, key, value)
	if err != nil {
		return false, err
	}
	if _, ok := tx.known[old.Blob]; ok {
		return false, nil
	}
	if tx.gone[old.Blob] {
		return true, nil
	}
	info, err := tx.store.Stat(ctx, old.Blob)
	if err == nil {
		tx.known[old.Blob] = info
		return false, nil
	}
	if !unusable(err) {
		return false, fmt.Errorf("index: looking for blob %s: %w", old.Blob, err)
	}
	tx.gone[old.Blob] = true
	return true, nil
}

// unusable says whether err means that a blob is not there, or is and can't be
// read whatever one does.
func unusable(err error) bool {
	_, damaged := errors.AsType[*blob.CorruptError](err)
	_, newer := errors.AsType[*blob.NewerError](err)
	return damaged || newer || errors.Is(err, blob.ErrNotFound) || errors.Is(err, syscall.EIO) || errors.Is(err, syscall.EISDIR)
}

// RemoveBlob forgets a blob: AddBlob undone. Like that it is not recorded in the
// journal. The caller removes the blob's file after it, so that the frames which
// it held can still be told; if the file can't be read they stay as hints that
// lead nowhere. A blob that is not known is no error.
func (tx *Tx) RemoveBlob(ctx context.Context, d blob.Digest) error {
	if err := tx.writable(); err != nil {
		return err
	}
	old, err := tx.get(bucketBlobs, d[:])
	if err != nil || old == nil {
		return err
	}
	delete(tx.known, d)
	_, frames, err := tx.store.Frames(ctx, d)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil && !unusable(err) {
		return fmt.Errorf("index: reading the frames of blob %s: %w", d, err)
	}
	for i, f := range frames {
		ref := blob.FrameRef{Blob: d, Frame: uint32(i)}
		if err := tx.unhint(bucketFrames, f.Digest[:], ref); err != nil {
			return err
		}
		for key := range sketchKeys(f) {
			if err := tx.unhint(bucketSketches, key, ref); err != nil {
				return err
			}
		}
	}
	return tx.partial(tx.del(bucketBlobs, d[:]))
}

// unhint removes what is found under key, if that is ref.
func (tx *Tx) unhint(b bucket, key []byte, ref blob.FrameRef) error {
	value, err := tx.get(b, key)
	if err == nil && bytes.Equal(value, frameValue(ref)) {
		err = tx.partial(tx.del(b, key))
	}
	return err
}

// frameValue sorts like the reference: by blob, then by number.
func frameValue(r blob.FrameRef) []byte {
	return binary.BigEndian.AppendUint32(bytes.Clone(r.Blob[:]), r.Frame)
}

func parseFrame(s *kv, b bucket, key, value []byte) (r blob.FrameRef, err error) {
	if len(value) != 36 {
		return r, s.damaged(b, key, errors.New("value has a wrong length"))
	}
	copy(r.Blob[:], value)
	r.Frame = binary.BigEndian.Uint32(value[32:])
	return r, nil
}
