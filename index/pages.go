package index

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"io"
	"math"
	"sort"

	bolt "go.etcd.io/bbolt"
)

// What bbolt puts at the beginning of a page: id (8 bytes), flags (2), count (2),
// overflow (4), all in the byte order of the machine. The elements follow, then
// the keys and values in the same order.
const (
	pageHeader  = 16
	pageElement = 16

	pageBranch   = 0x01 // element: position (4), length of the key (4), page (8)
	pageLeaf     = 0x02 // element: flags (4), position (4), lengths of key (4) and value (4)
	pageFreelist = 0x10 // the ids of pages, ascending

	bucketFlag   = 0x01 // of an element of a leaf whose value is a bucket
	bucketHeader = 16   // of such a value: page (8), sequence (8)

	metaSize    = 64
	metaMagic   = 0xED0CDAED
	metaVersion = 2

	noFreelist = math.MaxUint64

	// maxDepth is far more than the levels of a tree, whose pages lead to two
	// others at least.
	maxDepth = 64
	// maxKnown bounds how many pages are remembered; a leaf takes some 200 bytes.
	maxKnown = 1 << 14
)

// pages checks the pages of index.db that bbolt is about to follow. Without that
// a damaged page number that leads back to a page above it makes bbolt recurse
// until the stack is full, which ends the process; one that leads to a page that
// was in use once gives answers of the past, with checksums that are right; and
// a damaged length makes it free the pages of others.
//
// It reads the file, not the memory map: a page that is missing or can't be read
// is an error, not a fault.
type pages struct {
	file io.ReaderAt
	size int64  // of the file, in bytes
	unit int64  // of a page, in bytes
	root uint64 // the page of the bucket of buckets
	high uint64 // the ids in use are below it
	free []byte // of the freelist: 8 bytes an id, ascending

	buf     []byte // for one unit
	known   map[uint64]*page
	buckets map[bucket]*place // as far as they were looked for
	owner   map[uint64]uint64 // of a transaction that writes: which page leads to one
}

// page is one whose structure is sound.
type page struct {
	branch      bool
	count       int
	elements    []byte // with what follows them, of a branch
	first, last []byte // keys of a leaf
	used        int64  // bytes
}

// place is where a bucket is.
type place struct {
	root uint64 // 0: within the bucket of buckets
	last []byte // the last key, if it is there
}

// rootOwner owns the root pages of buckets.
const rootOwner = 0

func badPage(id uint64, format string, args ...any) error {
	return &CorruptError{Err: fmt.Errorf("page %d: %s", id, fmt.Sprintf(format, args...))}
}

// meta is what bbolt's two meta pages say, of which the newer one counts.
type meta struct{ unit, root, freelist, high, txid uint64 }

// readMeta returns false if there is no sound meta page at the offset off.
func readMeta(file io.ReaderAt, off int64) (m meta, ok bool, err error) {
	var b [pageHeader + metaSize]byte
	if _, err := file.ReadAt(b[:], off); err == io.EOF {
		return m, false, nil
	} else if err != nil {
		return m, false, err
	}
	u32, u64 := binary.NativeEndian.Uint32, binary.NativeEndian.Uint64
	in := b[pageHeader:]
	sum := fnv.New64a()
	_, _ = sum.Write(in[:56])
	if u32(in) != metaMagic || u32(in[4:]) != metaVersion || u64(in[56:]) != sum.Sum64() {
		return m, false, nil
	}
	return meta{unit: uint64(u32(in[8:])), root: u64(in[16:]), freelist: u64(in[32:]), high: u64(in[40:]), txid: u64(in[48:])}, true, nil
}

// newPages is for a transaction that has just begun.
func newPages(db *database, btx *bolt.Tx) (*pages, error) {
	info, err := db.file.Stat()
	if err != nil {
		return nil, err
	}
	unit := int64(btx.DB().Info().PageSize)
	p := &pages{
		file: db.file, size: info.Size(), unit: unit,
		root: uint64(btx.Cursor().Bucket().Root()), high: uint64(btx.Size() / unit),
		known: map[uint64]*page{}, buckets: map[bucket]*place{},
	}
	txid := uint64(btx.ID())
	if btx.Writable() {
		p.owner = map[uint64]uint64{p.root: rootOwner}
		txid-- // its own will be this one's successor
	}
	m, ok, err := readMeta(db.file, int64(txid%2)*unit)
	if err != nil {
		return nil, err
	}
	if !ok || m.txid != txid {
		if btx.Writable() {
			return nil, badPage(txid%2, "it is not the meta page of transaction %d", txid)
		}
		// Of an exclusive index that made two more commits since. The freelist
		// then says nothing about this transaction.
		return p, nil
	}
	if m.root != p.root || m.high != p.high {
		return nil, badPage(txid%2, "it does not say what bbolt has read")
	}
	p.free, err = p.readFreelist(m.freelist)
	return p, err
}

// checkFreelist checks the freelist of a database that is to be opened for
// writing: bbolt allocates what its length says. A file without a sound meta
// page is bbolt's to refuse.
func checkFreelist(file io.ReaderAt, size int64) error {
	first, ok, err := readMeta(file, 0)
	if err != nil {
		return err
	}
	m := first
	if ok {
		second, ok, err := readMeta(file, int64(first.unit))
		if err != nil {
			return err
		}
		if ok && second.txid > first.txid {
			m = second
		}
	} else {
		// Where bbolt looks for the second one.
		for unit := int64(1 << 10); unit <= 1<<24 && !ok; unit <<= 1 {
			if m, ok, err = readMeta(file, unit); err != nil {
				return err
			}
		}
		if !ok {
			return nil
		}
	}
	if m.unit < 1<<10 || m.unit > 1<<24 {
		return badPage(m.txid%2, "pages can't have %d bytes", m.unit)
	}
	p := &pages{file: file, size: size, unit: int64(m.unit), high: m.high}
	_, err = p.readFreelist(m.freelist)
	return err
}

// readFreelist returns the ids of the pages that are not in use.
func (p *pages) readFreelist(id uint64) ([]byte, error) {
	if id == noFreelist {
		return nil, badPage(id, "there is no freelist")
	}
	head, room, err := p.header(id, make([]byte, pageHeader))
	if err != nil {
		return nil, err
	}
	if head.flags != pageFreelist {
		return nil, badPage(id, "it is not a freelist")
	}
	at, count := int64(pageHeader), uint64(head.count)
	if head.count == math.MaxUint16 {
		var first [8]byte
		if err := p.read(first[:], id, at); err != nil {
			return nil, err
		}
		at, count = at+8, binary.NativeEndian.Uint64(first[:])
	}
	if count > uint64(room-at)/8 {
		return nil, badPage(id, "it can't hold a freelist of %d pages", count)
	}
	ids := make([]byte, count*8)
	if err := p.read(ids, id, at); err != nil {
		return nil, err
	}
	before := uint64(1)
	for b := ids; len(b) > 0; b = b[8:] {
		free := binary.NativeEndian.Uint64(b)
		if free <= before || free >= p.high {
			return nil, badPage(id, "the freelist has page %d after %d", free, before)
		}
		before = free
	}
	return ids, nil
}

func (p *pages) isFree(id uint64) bool {
	n := len(p.free) / 8
	i := sort.Search(n, func(i int) bool { return binary.NativeEndian.Uint64(p.free[i*8:]) >= id })
	return i < n && binary.NativeEndian.Uint64(p.free[i*8:]) == id
}

type header struct {
	flags, count uint16
	overflow     uint32
}

// header fills b with the beginning of a page. It returns what it says and how
// many bytes the page has.
func (p *pages) header(id uint64, b []byte) (h header, room int64, err error) {
	if id < 2 || id >= p.high {
		return h, 0, badPage(id, "there is no such page")
	}
	if err := p.read(b, id, 0); err != nil {
		return h, 0, err
	}
	if self := binary.NativeEndian.Uint64(b); self != id {
		return h, 0, badPage(id, "it calls itself %d", self)
	}
	h = header{binary.NativeEndian.Uint16(b[8:]), binary.NativeEndian.Uint16(b[10:]), binary.NativeEndian.Uint32(b[12:])}
	if uint64(h.overflow) >= p.high-id {
		return h, 0, badPage(id, "it can't go on for %d pages", h.overflow)
	}
	// So that nothing is allocated for bytes that are not there.
	if int64(id)+int64(h.overflow) >= p.size/p.unit {
		return h, 0, badPage(id, "the file ends before it does, after %d bytes", p.size)
	}
	return h, (int64(h.overflow) + 1) * p.unit, nil
}

// read fills b from a page's byte at on.
func (p *pages) read(b []byte, id uint64, at int64) error {
	// id is below high, but that may be wrong too.
	if id > uint64(p.size/p.unit) || int64(id)*p.unit+at+int64(len(b)) > p.size {
		return badPage(id, "the file ends before it, after %d bytes", p.size)
	}
	_, err := p.file.ReadAt(b, int64(id)*p.unit+at)
	if err == io.EOF {
		return badPage(id, "the file ends before it")
	}
	return err
}

// load returns the page id, to which the page from leads.
func (p *pages) load(id, from uint64) (*page, error) {
	if pg, ok := p.known[id]; ok {
		return pg, nil
	}
	if p.isFree(id) {
		return nil, badPage(id, "page %d leads to it, but it is not in use", from)
	}
	pg, b, err := p.parse(id)
	if err != nil {
		return nil, err
	}
	if pg.branch {
		if int64(len(b)) < pg.used {
			b = make([]byte, pg.used)
			err = p.read(b, id, 0)
		}
		pg.elements = bytes.Clone(b[pageHeader:pg.used])
		if err == nil {
			err = p.own(pg, id)
		}
	} else {
		if pg.first, err = p.leafKey(pg, b, id, 0); err == nil {
			pg.last, err = p.leafKey(pg, b, id, pg.count-1)
		}
		pg.elements = nil
	}
	if err != nil {
		return nil, err
	}
	if len(p.known) >= maxKnown {
		clear(p.known)
	}
	p.known[id] = pg
	return pg, nil
}

// parse reads the page id, and returns the bytes that it has read, which the
// next call may overwrite: those of its first unit, and all elements at least.
func (p *pages) parse(id uint64) (pg *page, b []byte, err error) {
	if p.buf == nil {
		p.buf = make([]byte, p.unit)
	}
	b = p.buf
	head, room, err := p.header(id, b)
	if err != nil {
		return nil, nil, err
	}
	end := pageHeader + int(head.count)*pageElement
	if end > len(b) {
		b = make([]byte, end)
		if err := p.read(b, id, 0); err != nil {
			return nil, nil, err
		}
	}
	pg, err = parsePage(id, head, b[pageHeader:end])
	if err != nil {
		return nil, nil, err
	}
	// bbolt gives a page as many as it needs.
	if pg.used > room || pg.used <= room-p.unit {
		return nil, nil, badPage(id, "it has %d bytes, but %d are used", room, pg.used)
	}
	return pg, b, nil
}

// parsePage checks that the keys and values lie one after the other.
func parsePage(id uint64, head header, elements []byte) (*page, error) {
	pg := &page{branch: head.flags == pageBranch, count: int(head.count), elements: elements}
	switch {
	case !pg.branch && head.flags != pageLeaf:
		return nil, badPage(id, "it is neither a branch nor a leaf")
	case pg.count == 0:
		return nil, badPage(id, "it is empty")
	}
	pg.used = pageHeader + int64(len(elements))
	for i := range pg.count {
		at := int64(pageHeader + i*pageElement)
		pos, key, value := pg.element(i)
		if at+int64(pos) != pg.used {
			return nil, badPage(id, "element %d is out of place", i)
		}
		pg.used += int64(key) + int64(value)
	}
	return pg, nil
}

func (pg *page) element(i int) (pos, key, value uint32) {
	b := pg.elements[i*pageElement:]
	if pg.branch {
		return binary.NativeEndian.Uint32(b), binary.NativeEndian.Uint32(b[4:]), 0
	}
	return binary.NativeEndian.Uint32(b[4:]), binary.NativeEndian.Uint32(b[8:]), binary.NativeEndian.Uint32(b[12:])
}

func (pg *page) child(i int) uint64 { return binary.NativeEndian.Uint64(pg.elements[i*pageElement+8:]) }

// own notes where the branch id leads.
func (p *pages) own(pg *page, id uint64) error {
	if p.owner == nil {
		return nil
	}
	for i := range pg.count {
		child := pg.child(i)
		if other, ok := p.owner[child]; ok && other != id {
			return badPage(child, "page %d leads to it, and so does another", id)
		}
		p.owner[child] = id
	}
	return nil
}

// search returns which child of a branch bbolt looks for key in.
func (pg *page) search(key []byte) int {
	exact := false
	i := sort.Search(pg.count, func(i int) bool {
		pos, n, _ := pg.element(i)
		at := i*pageElement + int(pos)
		c := bytes.Compare(pg.elements[at:at+int(n)], key)
		exact = exact || c == 0
		return c >= 0
	})
	if !exact && i > 0 {
		i--
	}
	return i
}
