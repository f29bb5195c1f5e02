package index

import (
	"bytes"
	"encoding/binary"
	"errors"
)

// turning is a branch, and which of its children is on the way.
type turning struct {
	pg *page
	id uint64
	i  int
}

// walk checks the pages on the way from root to the leaf where key belongs, and
// those to the leaves on both sides if bbolt may go there. It returns the leaf
// and its id.
func (p *pages) walk(root uint64, key []byte) (*page, uint64, error) {
	id, from := root, uint64(rootOwner)
	var way [maxDepth]turning
	for depth := range way {
		pg, err := p.load(id, from)
		if err != nil {
			return nil, 0, err
		}
		if pg.branch {
			i := pg.search(key)
			way[depth] = turning{pg, id, i}
			id, from = pg.child(i), id
			continue
		}
		// What a transaction has changed is not on the disk, and when it removes
		// something bbolt may join any page with the ones beside it.
		all := p.owner != nil
		for _, s := range way[:depth] {
			if s.i > 0 && (all || bytes.Compare(key, pg.first) <= 0) {
				err = p.edge(s.pg.child(s.i-1), s.id, func(pg *page) int { return pg.count - 1 })
			}
			if err == nil && s.i < s.pg.count-1 && (all || bytes.Compare(key, pg.last) >= 0) {
				err = p.edge(s.pg.child(s.i+1), s.id, func(*page) int { return 0 })
			}
			if err != nil {
				return nil, 0, err
			}
		}
		return pg, id, nil
	}
	return nil, 0, badPage(root, "it leads in a circle")
}

// edge checks the pages from id down to a leaf, always the child that next says.
func (p *pages) edge(id, from uint64, next func(*page) int) error {
	for range maxDepth {
		pg, err := p.load(id, from)
		if err != nil || !pg.branch {
			return err
		}
		id, from = pg.child(next(pg)), id
	}
	return badPage(id, "it leads in a circle")
}

// leafKey returns key i of a leaf, of which b has been read.
func (p *pages) leafKey(pg *page, b []byte, id uint64, i int) ([]byte, error) {
	pos, n, _ := pg.element(i)
	at := int64(pageHeader+i*pageElement) + int64(pos)
	key := make([]byte, n)
	if at+int64(n) <= int64(len(b)) {
		copy(key, b[at:])
		return key, nil
	}
	return key, p.read(key, id, at)
}

// check checks the pages that bbolt follows to find key in the bucket b, and the
// entries around it. It returns the last key of the leaf: beyond that, check
// again.
func (p *pages) check(b bucket, key []byte) (last []byte, err error) {
	if p.buckets[b] == nil {
		if err := p.find(b); err != nil {
			return nil, err
		}
	}
	at := p.buckets[b]
	if at == nil {
		return nil, &CorruptError{Bucket: string(b), Err: errors.New("bucket is missing")}
	}
	if at.root == 0 {
		return at.last, nil
	}
	pg, _, err := p.walk(at.root, key)
	if err != nil {
		return nil, err
	}
	return pg.last, nil
}

// find reads where the bucket want is, and those that are named beside it.
func (p *pages) find(want bucket) error {
	_, id, err := p.walk(p.root, []byte(want))
	if err != nil {
		return err
	}
	pg, b, err := p.parse(id)
	if err != nil {
		return err
	}
	if int64(len(b)) < pg.used {
		b = make([]byte, pg.used)
		if err := p.read(b, id, 0); err != nil {
			return err
		}
	}
	for i := range pg.count {
		pos, key, size := pg.element(i)
		at := pageHeader + i*pageElement + int(pos)
		name := bucket(b[at : at+int(key)])
		if binary.NativeEndian.Uint32(pg.elements[i*pageElement:]) != bucketFlag || size < bucketHeader {
			return badPage(id, "%q is not a bucket", name)
		}
		if p.buckets[name] != nil {
			continue
		}
		if p.buckets[name], err = p.place(name, b[at+int(key):at+int(key)+int(size)]); err != nil {
			return err
		}
	}
	return nil
}

// place reads what the bucket of buckets says of b.
func (p *pages) place(b bucket, value []byte) (*place, error) {
	root := binary.NativeEndian.Uint64(value)
	value = value[bucketHeader:]
	if root != 0 {
		if p.owner != nil {
			if _, ok := p.owner[root]; ok {
				return nil, badPage(root, "bucket %s begins there, but another page leads to it", b)
			}
			p.owner[root] = rootOwner
		}
		return &place{root: root}, nil
	}
	errInline := &CorruptError{Bucket: string(b), Err: errors.New("the page within is damaged")}
	if len(value) < pageHeader {
		return nil, errInline
	}
	head := header{flags: binary.NativeEndian.Uint16(value[8:]), count: binary.NativeEndian.Uint16(value[10:])}
	if head.flags != pageLeaf || pageHeader+int(head.count)*pageElement > len(value) {
		return nil, errInline
	}
	if head.count == 0 && len(value) == pageHeader {
		return &place{}, nil
	}
	pg, err := parsePage(0, head, value[pageHeader:pageHeader+int(head.count)*pageElement])
	if err != nil || pg.used != int64(len(value)) {
		return nil, errInline
	}
	i := pg.count - 1
	pos, n, _ := pg.element(i)
	return &place{last: bytes.Clone(value[pageHeader+i*pageElement+int(pos):][:n])}, nil
}
