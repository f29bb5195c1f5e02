package index

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"os"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/durable"
	bolt "go.etcd.io/bbolt"
)

// checkPage is how many entries are compared at once. The shared lock is held
// while they are read: some 2 ms.
const checkPage = 1024

// Check compares index.db with what the journal and the blobs say, and yields
// every difference. It builds a second index in a temporary file in tmp/, as large
// as index.db, and compares the two piece by piece; memory is bounded. Others
// change the index meanwhile: no lock is held for longer than a piece takes, and
// a piece is compared with the journal as far as the index has applied it then.
//
// Of the buckets that only hint at frames, entries are reported that lead to
// another frame, as [Misleading]; not which of several holders they name, nor
// those that lead nowhere. An entry of a blob whose file is gone or can't be read
// is not reported either: that is the file's fault.
//
// An error ends the list: a [*JournalError] if the journal is damaged, or one of
// reading or writing.
func (x *Index) Check(ctx context.Context) iter.Seq2[*Difference, error] {
	return func(yield func(*Difference, error) bool) {
		err := x.check(ctx, func(d *Difference) error {
			if !yield(d, nil) {
				return errStopped
			}
			return nil
		})
		if err != nil && !errors.Is(err, errStopped) {
			yield(nil, err)
		}
	}
}

// errStopped says that the caller of Check has seen enough.
var errStopped = errors.New("index: the check was stopped")

// checker compares index.db with a second one.
type checker struct {
	x      *Index
	ctx    context.Context
	db     *database // the second one: right, as of st
	st     state
	found  func(*Difference) error
	tables map[blob.Digest]*table // read last
	order  []blob.Digest          // of tables, oldest first
	lacks  map[blob.Digest]bool   // blobs that the index does not know: drafts', or missing
}

// maxLacks bounds lacks: each time that it is full all paths are read once.
const maxLacks = 1 << 16

// table is what a blob's file says.
type table struct {
	info   blob.Info
	frames []blob.Frame
	err    error // it can't be told
}

// open makes the second index: in tmp/, or where this user can't write to the store
// in the system's folder for temporary files.
func (c *checker) open() (remove func() error, err error) {
	// Without a sync: a file that nobody reads after a crash. What a process that
	// died has left is swept with all else in tmp/ that nobody has locked.
	make := func(dir folder, name string) (err error) {
		c.db, err = openDatabase(dir, name, os.O_RDWR|os.O_CREATE|os.O_EXCL, &bolt.Options{NoSync: true, NoGrowSync: true})
		return err
	}
	name := "tmp/index-" + uuid.NewString()
	err = make(c.x.dir, name)
	if err == nil {
		return func() error {
			if err := c.x.dir.Remove(name); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return nil
		}, nil
	}
	if !readOnly(err) {
		return nil, err
	}
	temp, err := os.MkdirTemp("", "heft-index-")
	if err != nil {
		return nil, err
	}
	dir, err := durable.OpenDir(temp)
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(temp))
	}
	remove = func() error { return errors.Join(dir.Close(), os.RemoveAll(temp)) }
	if err := make(dir, databaseName); err != nil {
		return nil, errors.Join(err, remove())
	}
	return remove, nil
}

func (x *Index) check(ctx context.Context, found func(*Difference) error) (err error) {
	c := &checker{x: x, ctx: ctx, found: found, tables: map[blob.Digest]*table{}, lacks: map[blob.Digest]bool{}}
	remove, err := c.open()
	if err != nil {
		return fmt.Errorf("index: making a second index to compare with: %w", err)
	}
	defer func() { err = errors.Join(err, c.db.close(), remove()) }()
	if err := c.db.write(func(s *kv) error { return s.create() }); err != nil {
		return err
	}
	end, err := x.position(ctx)
	if err != nil {
		return err
	}
	c.st.store = x.store.ID()
	if err := c.catchUp(end); err != nil {
		return err
	}
	if err := x.addBlobs(ctx, c.db); err != nil {
		return err
	}
	for _, b := range allBuckets() {
		judge := c.report
		switch b {
		case bucketMeta: // it is the position, which catchUp compares
			continue
		case bucketBlobs:
			judge = c.blob
		case bucketFrames, bucketSketches:
			judge = c.hint
		}
		if err := c.bucket(b, judge); err != nil {
			return err
		}
	}
	return c.lacking()
}

// catchUp applies the journal's records up to end, where the index says that it
// is.
func (c *checker) catchUp(end position) error {
	if c.st.pos == end {
		return nil
	}
	r, err := readJournal(c.x.dir, c.x.store.ID(), c.st.pos, end.offset, end.offset)
	if err != nil {
		return missing(err)
	}
	defer r.close()
	if err := c.x.replayAll(c.ctx, c.db, c.st, r, onlyNames); err != nil {
		return err
	}
	if r.pos != end {
		return r.broken(errForeign)
	}
	c.st.pos = end
	return nil
}

// twin is what the two indexes have under one key; nil for no entry.
type twin struct {
	bucket     bucket
	key        []byte
	have, want []byte
}

// bucket compares a bucket piece by piece and has every pair that differs judged.
func (c *checker) bucket(b bucket, judge func(twin) error) error {
	from := []byte(floor)
	for end := false; !end; {
		if err := context.Cause(c.ctx); err != nil {
			return err
		}
		var have []entry
		var pos position
		err := c.x.View(c.ctx, func(tx *Tx) (err error) {
			pos = tx.state.pos
			have, end, err = tx.page(b, from, nil, checkPage)
			return err
		})
		if err != nil {
			return err
		}
		if err := c.catchUp(pos); err != nil {
			return err
		}
		if err := c.merge(b, from, have, end, judge); err != nil {
			return err
		}
		if len(have) > 0 {
			from = append(bytes.Clone(have[len(have)-1].key), 0)
		}
	}
	return nil
}

// merge compares have with the entries of the second index from the key from on:
// up to the last one of have, or to the end of the bucket.
func (c *checker) merge(b bucket, from []byte, have []entry, end bool, judge func(twin) error) error {
	for done := false; !done; {
		want, last, err := c.want(b, from)
		if err != nil {
			return err
		}
		if !last { // what is beyond may still come
			from = append(bytes.Clone(want[len(want)-1].key), 0)
		}
		for _, w := range want {
			for len(have) > 0 && bytes.Compare(have[0].key, w.key) < 0 {
				if err := judge(twin{b, have[0].key, have[0].value, nil}); err != nil {
					return err
				}
				have = have[1:]
			}
			switch {
			case len(have) == 0 && !end:
				return nil // it belongs to the next piece
			case len(have) == 0 || !bytes.Equal(have[0].key, w.key):
				err = judge(twin{b, w.key, nil, w.value})
			default:
				if !bytes.Equal(have[0].value, w.value) {
					err = judge(twin{b, w.key, have[0].value, w.value})
				}
				have = have[1:]
			}
			if err != nil {
				return err
			}
		}
		done = last
	}
	for _, h := range have {
		if err := judge(twin{b, h.key, h.value, nil}); err != nil {
			return err
		}
	}
	return nil
}

// want returns a page of the second index.
func (c *checker) want(b bucket, from []byte) (es []entry, end bool, err error) {
	btx, err := c.db.begin(reading)
	if err != nil {
		return nil, false, err
	}
	defer c.db.rollback(btx)
	s := &kv{btx: btx, db: c.db}
	return s.page(b, from, nil, checkPage)
}

// report reports a pair of a bucket that the journal alone determines.
func (c *checker) report(p twin) error {
	kind := Changed
	switch {
	case p.have == nil:
		kind = Missing
	case p.want == nil:
		kind = Unexpected
	}
	return c.found(&Difference{Bucket: string(p.bucket), Key: p.key, Kind: kind})
}

// now returns what the index has under the key by now.
func (c *checker) now(p twin) (value []byte, err error) {
	err = c.x.View(c.ctx, func(tx *Tx) (err error) {
		value, err = tx.get(p.bucket, p.key)
		return err
	})
	return value, err
}

// blob judges a pair of bucketBlobs by the blob's file. The index need not know
// blobs of no version: drafts that were never committed.
func (c *checker) blob(p twin) error {
	if len(p.key) != len(blob.Digest{}) {
		return c.report(p)
	}
	d := blob.Digest(p.key)
	have, err := c.now(p)
	if err != nil {
		return err
	}
	c.forget(d)
	t, err := c.table(d)
	if err != nil || t.err != nil {
		return err
	}
	p.have, p.want = have, blobValue(t.info)
	if bytes.Equal(p.have, p.want) {
		return nil
	}
	if p.have == nil {
		if c.lacks[d] = true; len(c.lacks) == maxLacks {
			return c.lacking()
		}
		return nil
	}
	// A blob that was healed holds all that it needs; until its version is
	// registered again the index goes by the file before, which did not.
	if old, err := parseBlob(new(kv), entry{p.key, p.have}); err == nil && old.Size == t.info.Size && len(t.info.Donors) == 0 && t.info.Parts.Delta.Frames == 0 {
		return nil
	}
	return c.report(p)
}

// lacking reports those of the blobs in lacks that a version needs itself.
func (c *checker) lacking() error {
	missing := func(d blob.Digest) error {
		if !c.lacks[d] {
			return nil
		}
		delete(c.lacks, d)
		if have, err := c.now(twin{bucket: bucketBlobs, key: d[:]}); have != nil || err != nil {
			return err
		}
		return c.found(&Difference{Bucket: string(bucketBlobs), Key: bytes.Clone(d[:]), Kind: Missing})
	}
	err := c.each(bucketManifests, func(e entry) error { return missing(blob.Digest(e.key[:32])) })
	if err == nil {
		err = c.each(bucketPaths, func(e entry) error {
			fe, err := parsePath(new(kv), e)
			if err != nil {
				return err
			}
			return missing(fe.File.Digest)
		})
	}
	clear(c.lacks)
	return err
}

// each calls fn with the entries of a bucket of the second index.
func (c *checker) each(b bucket, fn func(entry) error) error {
	if len(c.lacks) == 0 {
		return nil
	}
	from := []byte(floor)
	for end := false; !end; {
		if err := context.Cause(c.ctx); err != nil {
			return err
		}
		var es []entry
		var err error
		if es, end, err = c.want(b, from); err != nil {
			return err
		}
		for _, e := range es {
			if err := fn(e); err != nil {
				return err
			}
			from = append(append(from[:0], e.key...), 0)
		}
	}
	return nil
}

// hint judges a pair of bucketFrames or bucketSketches: only an entry of the index
// counts, and only if it leads to another frame.
func (c *checker) hint(p twin) error {
	if p.have == nil {
		return nil
	}
	bad, err := c.misleads(p, p.have)
	if err != nil || !bad {
		return err
	}
	// The blob may have been healed, or the entry moved, since either was read.
	value, err := c.now(p)
	if err != nil || value == nil {
		return err
	}
	if ref, err := parseFrame(new(kv), p.bucket, p.key, value); err == nil {
		c.forget(ref.Blob)
	}
	if bad, err = c.misleads(p, value); err != nil || !bad {
		return err
	}
	return c.found(&Difference{Bucket: string(p.bucket), Key: p.key, Kind: Misleading})
}

// misleads reports whether value leads to a frame that does not have the key.
func (c *checker) misleads(p twin, value []byte) (bool, error) {
	ref, err := parseFrame(new(kv), p.bucket, p.key, value)
	if err != nil {
		return true, nil //nolint:nilerr // an entry that makes no sense is what is looked for
	}
	t, err := c.table(ref.Blob)
	if err != nil || t.err != nil {
		return false, err
	}
	if uint64(ref.Frame) >= uint64(len(t.frames)) {
		return true, nil
	}
	f := t.frames[ref.Frame]
	if p.bucket == bucketFrames {
		return !bytes.Equal(f.Digest[:], p.key), nil
	}
	for key := range sketchKeys(f) {
		if bytes.Equal(key, p.key) {
			return false, nil
		}
	}
	return true, nil
}

// maxTables is how many tables a check keeps: one of a blob of 10 GiB takes some
// 2 MiB.
const maxTables = 8

// table returns what the file of the blob d says. Its own err is set if that can't
// be told.
func (c *checker) table(d blob.Digest) (*table, error) {
	if t, ok := c.tables[d]; ok {
		return t, nil
	}
	t := new(table)
	if t.info, t.frames, t.err = c.x.store.Frames(c.ctx, d); t.err != nil && !unusable(t.err) {
		return nil, fmt.Errorf("index: comparing blob %s: %w", d, t.err)
	}
	if len(c.order) >= maxTables {
		c.forget(c.order[0])
	}
	c.tables[d], c.order = t, append(c.order, d)
	return t, nil
}

// forget has the table of the blob d read again.
func (c *checker) forget(d blob.Digest) {
	if _, ok := c.tables[d]; !ok {
		return
	}
	delete(c.tables, d)
	for i, o := range c.order {
		if o == d {
			c.order = append(c.order[:i], c.order[i+1:]...)
			break
		}
	}
}
