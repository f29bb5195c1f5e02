package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"iter"
	"runtime/debug"

	"github.com/google/uuid"
	"github.com/zeebo/blake3"
	bolt "go.etcd.io/bbolt"
)

// bucket is the name of a bucket of index.db.
type bucket string

// The buckets. NUL parts texts, none of which holds one.
const (
	bucketMeta      bucket = "meta"      // keyState -> state, keyChain -> where the check of the journal goes on
	bucketVersions  bucket = "versions"  // id -> JSON of the Version
	bucketNames     bucket = "names"     // name NUL version -> id
	bucketPaths     bucket = "paths"     // name/version/path -> pathValue
	bucketAliases   bucket = "aliases"   // name NUL alias -> id
	bucketChildren  bucket = "children"  // id of the parent, id -> nothing
	bucketStatus    bucket = "status"    // status NUL name NUL version -> id
	bucketManifests bucket = "manifests" // manifest's digest, id -> nothing
	bucketBlobs     bucket = "blobs"     // digest -> size, stored size, parts, donors
	bucketFrames    bucket = "frames"    // frame's digest -> blob's digest, number
	bucketSketches  bucket = "sketches"  // key of a sketch, depth -> blob's digest, number of the frame
	bucketSHA256    bucket = "sha256"    // byBlob, digest -> SHA-256; bySHA256, SHA-256 -> digest
)

func allBuckets() []bucket {
	return []bucket{
		bucketMeta, bucketVersions, bucketNames, bucketPaths, bucketAliases,
		bucketChildren, bucketStatus, bucketManifests, bucketBlobs, bucketFrames, bucketSketches,
		bucketSHA256,
	}
}

// linked says whether the entries of b are chained: each one's link names the
// next key. The chain proves that what is not found is not there. A checksum
// alone can't: a flipped bit in a page that leads to an entry hides it. Frames
// and sketches are only hints, and what meta needs is always there.
func (b bucket) linked() bool { return b != bucketMeta && b != bucketFrames && b != bucketSketches }

const (
	sumSize  = 16 // of the checksum that ends each value
	linkSize = 8  // of the hash of the next key; damage is by chance, so 64 bits do
)

// Every linked bucket begins with an entry under the key sentinel, so that each
// key has one before it. All other keys are longer, thus at least floor.
const (
	sentinel = "\x00"
	floor    = "\x00\x00"
)

var errChecksum = errors.New("checksum does not match")
var errLink = errors.New("an entry is missing or out of place")
var errDone = errors.New("index: transaction has ended: use a Tx only within the function that it was given to")

// link returns what names key as the next one; nil is the end of the bucket.
func link(key []byte) (l [linkSize]byte) {
	if key != nil {
		sum := blake3.Sum256(key)
		copy(l[:], sum[:])
	}
	return l
}

// seal returns value with its link (of linked buckets) and checksum appended.
func seal(b bucket, key, value []byte, next [linkSize]byte) []byte {
	out := append(make([]byte, 0, len(value)+linkSize+sumSize), value...)
	if b.linked() {
		out = append(out, next[:]...)
	}
	sum := checksum(b, key, out)
	return append(out, sum[:sumSize]...)
}

// unseal checks what seal made and returns its parts, which alias stored.
func unseal(b bucket, key, stored []byte) (value []byte, next [linkSize]byte, err error) {
	end := len(stored) - sumSize
	if end < 0 || b.linked() && end < linkSize {
		return nil, next, &CorruptError{Bucket: string(b), Key: bytes.Clone(key), Err: errChecksum}
	}
	sum := checksum(b, key, stored[:end])
	if !bytes.Equal(sum[:sumSize], stored[end:]) {
		return nil, next, &CorruptError{Bucket: string(b), Key: bytes.Clone(key), Err: errChecksum}
	}
	if b.linked() {
		end -= linkSize
		next = [linkSize]byte(stored[end:])
	}
	return stored[:end], next, nil
}

// checksum covers the length of the key too: without it a damaged length could
// move bytes between key and value unseen.
func checksum(b bucket, key, value []byte) [32]byte {
	buf := make([]byte, 0, len(b)+9+len(key)+len(value))
	buf = append(append(buf, b...), 0)
	buf = binary.LittleEndian.AppendUint64(buf, uint64(len(key)))
	return blake3.Sum256(append(append(buf, key...), value...))
}

// guard calls fn, which calls bbolt and nothing of a user's, and makes a panic
// of bbolt, or a fault in its memory map, a *CorruptError.
func guard(fn func() error) (err error) {
	// A file cut short faults (SIGBUS) when its missing pages are touched.
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if p := recover(); p != nil {
			err = &CorruptError{Err: fmt.Errorf("bbolt: %v", p)}
		}
	}()
	return fn()
}

// kv is checked access to the buckets within one bbolt transaction. All that it
// returns is copied: nothing points into the memory map.
type kv struct {
	btx     *bolt.Tx      // nil once the transaction has ended
	db      *database     // of btx
	pages   *pages        // nil before the first call
	writes  int           // calls of put and del so far
	corrupt *CorruptError // the first damage found; from then on everything fails with it
}

type entry struct{ key, value []byte }

// do runs fn with the bucket b, whose pages are sound where bbolt looks for key
// and for the entries on both sides.
func (s *kv) do(b bucket, key []byte, fn func(*bolt.Bucket) error) error {
	if s.btx == nil {
		return errDone
	}
	if s.corrupt != nil {
		return s.corrupt
	}
	err := guard(func() error {
		if _, err := s.check(b, key); err != nil {
			return err
		}
		bb := s.btx.Bucket([]byte(b))
		if bb == nil {
			return &CorruptError{Err: errors.New("bucket is missing")}
		}
		return fn(bb)
	})
	if ce, ok := errors.AsType[*CorruptError](err); ok {
		if ce.Bucket == "" {
			ce.Bucket = string(b)
		}
		s.corrupt = ce
	}
	return err
}

// check checks the pages that lead to key. It returns the last key for which
// that is done.
func (s *kv) check(b bucket, key []byte) (last []byte, err error) {
	if s.pages == nil {
		if s.pages, err = newPages(s.db, s.btx); err != nil {
			return nil, err
		}
	}
	return s.pages.check(b, key)
}

// damaged notes that the value of key, though its checksum is right, makes no
// sense.
func (s *kv) damaged(b bucket, key []byte, err error) error {
	s.corrupt = &CorruptError{Bucket: string(b), Key: bytes.Clone(key), Err: err}
	return s.corrupt
}

// get returns the value of key, nil if there is none; an empty one is not nil.
func (s *kv) get(b bucket, key []byte) (value []byte, err error) {
	if string(key) < floor {
		return nil, nil
	}
	err = s.do(b, key, func(bb *bolt.Bucket) error {
		if stored := bb.Get(key); stored != nil {
			v, _, err := unseal(b, key, stored)
			value = append([]byte{}, v...)
			return err
		}
		_, _, err := around(b, bb.Cursor(), key)
		return err
	})
	return value, err
}

// around moves c to the first key at or after key and checks that the entry
// before it says that this is the next one. It returns both, copied; the found
// value is sealed and before is zero for buckets that are not linked.
func around(b bucket, c *bolt.Cursor, key []byte) (before, found entry, err error) {
	k, v := c.Seek(key)
	found = entry{bytes.Clone(k), bytes.Clone(v)}
	if !b.linked() {
		return before, found, nil
	}
	var pk, pv []byte
	if k == nil {
		pk, pv = c.Last()
	} else {
		pk, pv = previous(c)
	}
	if pk == nil || bytes.Compare(pk, key) >= 0 || k != nil && bytes.Compare(k, key) < 0 {
		return before, found, &CorruptError{Err: errLink}
	}
	value, next, err := unseal(b, pk, pv)
	if err != nil {
		return before, found, err
	}
	if next != link(found.key) {
		return before, found, &CorruptError{Key: bytes.Clone(pk), Err: errLink}
	}
	return entry{bytes.Clone(pk), append([]byte{}, value...)}, found, nil
}

// put sets the value of key.
func (s *kv) put(b bucket, key, value []byte) error {
	s.writes++
	return s.do(b, key, func(bb *bolt.Bucket) error {
		key := bytes.Clone(key)
		if !b.linked() {
			return bb.Put(key, seal(b, key, value, [linkSize]byte{}))
		}
		before, found, err := around(b, bb.Cursor(), key)
		if err != nil {
			return err
		}
		next := link(found.key)
		if bytes.Equal(found.key, key) {
			if _, next, err = unseal(b, key, found.value); err != nil {
				return err
			}
		} else if err := bb.Put(before.key, seal(b, before.key, before.value, link(key))); err != nil {
			return err
		}
		return bb.Put(key, seal(b, key, value, next))
	})
}

// del removes key, which must be there.
func (s *kv) del(b bucket, key []byte) error {
	s.writes++
	return s.do(b, key, func(bb *bolt.Bucket) error {
		if !b.linked() {
			return bb.Delete(key)
		}
		before, found, err := around(b, bb.Cursor(), key)
		if err != nil {
			return err
		}
		if !bytes.Equal(found.key, key) {
			return &CorruptError{Key: bytes.Clone(key), Err: errLink}
		}
		_, next, err := unseal(b, key, found.value)
		if err != nil {
			return err
		}
		if err := bb.Put(before.key, seal(b, before.key, before.value, next)); err != nil {
			return err
		}
		return bb.Delete(key)
	})
}

// page returns up to most entries from the key from on that begin with prefix,
// and whether there are no more.
func (s *kv) page(b bucket, from, prefix []byte, most int) (es []entry, end bool, err error) {
	err = s.do(b, from, func(bb *bolt.Bucket) error {
		c := bb.Cursor()
		if _, _, err := around(b, c, from); err != nil {
			return err
		}
		var checked []byte // up to this key
		k, v := c.Seek(from)
		for len(es) < most {
			// Of the last key of a leaf too: only then are the pages checked that
			// lead to the next leaf.
			if k != nil && bytes.Compare(k, checked) >= 0 {
				var err error
				if checked, err = s.check(b, k); err != nil {
					return err
				}
			}
			if k == nil || !bytes.HasPrefix(k, prefix) {
				end = true
				return nil
			}
			value, next, err := unseal(b, k, v)
			if err != nil {
				return err
			}
			es = append(es, entry{bytes.Clone(k), append([]byte{}, value...)})
			if k, v = c.Next(); b.linked() && next != link(k) {
				return &CorruptError{Key: es[len(es)-1].key, Err: errLink}
			}
		}
		return nil
	})
	return es, end, err
}

// scan lists the entries whose keys begin with prefix, ascending. The caller
// may change the bucket meanwhile: entries that it adds or removes ahead of the
// current one are seen as they are when their turn comes.
func (s *kv) scan(b bucket, prefix []byte) iter.Seq2[entry, error] {
	return func(yield func(entry, error) bool) {
		// A first lookup is mostly for one or few; 128 make the calls cheap.
		most := 4
		from := bytes.Clone(prefix)
		if string(from) < floor {
			from = []byte(floor)
		}
		for {
			es, end, err := s.page(b, from, prefix, most)
			if err != nil {
				yield(entry{}, err)
				return
			}
			writes := s.writes
			for _, e := range es {
				from = append(append(from[:0], e.key...), 0)
				if !yield(e, nil) {
					return
				}
				if s.writes != writes {
					end = false
					break
				}
			}
			if end {
				return
			}
			most = 128
		}
	}
}

// state is what the index says of itself.
type state struct {
	pos   position // of the journal, up to where it is applied
	store uuid.UUID
}

const (
	keyState = "state"
	// layout is the number of the arrangement of buckets. A file with another
	// one is dropped and built anew.
	layout    = 2
	stateSize = 4 + 8 + 8 + 32 + 16
)

func (s *kv) state() (st state, err error) {
	b, err := s.get(bucketMeta, []byte(keyState))
	if err != nil {
		return st, err
	}
	if len(b) != stateSize || binary.LittleEndian.Uint32(b) != layout {
		return st, s.damaged(bucketMeta, []byte(keyState), errors.New("state is missing or of another release"))
	}
	st.pos.next = binary.LittleEndian.Uint64(b[4:])
	st.pos.offset = int64(binary.LittleEndian.Uint64(b[12:]))
	copy(st.pos.prev[:], b[20:])
	copy(st.store[:], b[52:])
	return st, nil
}

func (s *kv) setState(st state) error {
	b := binary.LittleEndian.AppendUint32(make([]byte, 0, stateSize), layout)
	b = binary.LittleEndian.AppendUint64(b, st.pos.next)
	b = binary.LittleEndian.AppendUint64(b, uint64(st.pos.offset))
	b = append(append(b, st.pos.prev[:]...), st.store[:]...)
	return s.put(bucketMeta, []byte(keyState), b)
}

// create makes the buckets of an empty database.
func (s *kv) create() error {
	return guard(func() error {
		for _, b := range allBuckets() {
			bb, err := s.btx.CreateBucket([]byte(b))
			if err != nil {
				return err
			}
			if b.linked() {
				key := []byte(sentinel)
				if err := bb.Put(key, seal(b, key, nil, link(nil))); err != nil {
					return err
				}
			}
		}
		return nil
	})
}
