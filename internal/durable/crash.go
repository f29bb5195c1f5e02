package durable

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"path"
	"slices"
	"time"
)

// sectorSize is the most that a disk writes atomically, in bytes: 512 is the
// smallest sector in use, and what ATA and NVMe promise at the least. A disk
// with 4096-byte sectors tears less, so this is the stricter test.
const sectorSize = 512

// Crash returns a new tree: one state, chosen with rng, that a power cut right
// after the first n operations of the log could leave. m itself is unchanged
// and goes on. The same log, n and rng state give the same result.
//
// The model is as harsh as POSIX allows, and harsher than most file systems:
//
//   - A file holds what its last successful Sync saw, and a random subset of
//     the writes after that, in order, where each 512-byte sector of a write
//     persists or not on its own. So a later write can be there without an
//     earlier one.
//   - Its size is any that it had since that Sync, or in between two of those
//     where it grew; the sectors of the growth that didn't persist read as
//     zeros. A truncation has taken effect if the size is from after it.
//   - What was written before a failed Sync never persists, even if a later Sync
//     succeeds: Linux marks the pages of a failed write-back as clean. Only
//     writing those bytes again helps.
//   - A directory holds the entries that its last SyncDir saw, and a random
//     subset of the changes after that: create, mkdir and remove are one change
//     each, a rename is an addition in the new directory and a removal in the
//     old one, independent of each other. Changes of the same name apply in
//     order: the last one in the subset decides. A SyncDir that failed changes
//     nothing.
//   - A file that both names of a rename still show is one file with two names.
//     A directory is found under one of them only.
//   - Syncing a file doesn't sync its name, nor syncing a directory the name of
//     that directory.
//
// One crash in eight persists nothing that was not synced, one everything, one
// all names and no bytes, one all bytes and no names. In the others each file
// and directory has its own fate: nothing, everything, or a part.
//
// The new tree doesn't record, has no hook and no locks. Crash panics without
// Record, and if n is not from 0 to [Mem.Ops].
func (m *Mem) Crash(n int, rng *rand.Rand) *Mem {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.log == nil {
		panic("durable: Crash needs Record first")
	}
	if n < 0 || n > len(m.log.ops) {
		panic(fmt.Sprintf("durable: Crash after %d operations, of %d recorded", n, len(m.log.ops)))
	}
	if m.log.replay == nil || m.log.replay.next > n {
		m.log.replay = newReplay(m.log.base)
	}
	r := m.log.replay
	for ; r.next < n; r.next++ {
		r.apply(&m.log.ops[r.next])
	}
	s := newSampler(r.inodes, rng)
	s.mem.root = s.build(m.log.root)
	return s.mem
}

// replay is the state of the disk, and of what is on its way there, after the
// first next operations of a log.
type replay struct {
	next   int
	inodes map[uint64]*inode
}

// inode is a file or directory as the disk sees it.
type inode struct {
	mtime time.Time

	// Of a file.
	disk    content // after the last successful sync
	size    int64   // as running processes see it
	pending []write // since then

	// Of a directory.
	entries map[string]uint64 // after the last SyncDir; nil for a file
	changes []change          // since then
}

// write is a write or a truncation that is not synced.
type write struct {
	data     []byte
	off      int64
	size     int64 // of the file, afterwards
	truncate bool
	lost     bool // a sync failed after it
}

// change sets or removes one entry.
type change struct {
	base string
	node uint64 // 0 removes: ids begin at 1
}

func newReplay(base map[uint64]*inode) *replay {
	r := &replay{inodes: make(map[uint64]*inode, len(base))}
	for id, in := range base {
		own := *in // shares disk, which is replaced by each sync, never written
		own.entries = maps.Clone(in.entries)
		r.inodes[id] = &own
	}
	return r
}

func (r *replay) apply(rec *record) {
	in := r.inodes[rec.node]
	if in == nil {
		// New, or a file whose names were all gone when Record was called.
		in = &inode{}
		r.inodes[rec.node] = in
	}
	base := path.Base(rec.op.Name)
	switch rec.op.Kind {
	case OpCreate:
		in.mtime = rec.when
		r.change(rec.dir, change{base, rec.node})
	case OpMkdir:
		in.mtime = rec.when
		in.entries = make(map[string]uint64)
		r.change(rec.dir, change{base, rec.node})
	case OpRename:
		r.change(rec.to, change{path.Base(rec.op.To), rec.node})
		r.change(rec.dir, change{base, 0})
	case OpRemove:
		r.change(rec.dir, change{base, 0})
	case OpWrite:
		in.mtime = rec.when
		in.size = max(in.size, rec.op.Off+int64(len(rec.data)))
		in.pending = append(in.pending, write{data: rec.data, off: rec.op.Off, size: in.size})
	case OpTruncate:
		in.mtime = rec.when
		in.size = rec.op.Off
		in.pending = append(in.pending, write{size: in.size, truncate: true})
	case OpSync:
		if rec.failed {
			for i := range in.pending {
				in.pending[i].lost = true
			}
			return
		}
		in.disk = in.persist(len(in.pending), nil)
		in.pending = nil
	case OpSyncDir:
		applyChanges(in.entries, in.changes, nil)
		in.changes = nil
	}
}

func (r *replay) change(dir uint64, c change) {
	in := r.inodes[dir]
	in.changes = append(in.changes, c)
}

// persist returns what is on the disk if the truncations among the first sized
// pending operations have taken effect, and of all writes those sectors that
// keep accepts, which is asked for each; nil accepts all. The size is that
// after sized.
func (in *inode) persist(sized int, keep func() bool) content {
	c := in.disk.clone()
	size := c.size
	for i, w := range in.pending {
		if i < sized {
			size = w.size
		}
		switch {
		case w.truncate && i < sized:
			c.truncate(w.size)
		case !w.truncate && !w.lost:
			writeSectors(&c, w, keep)
		}
	}
	c.truncate(size)
	return c
}

// writeSectors writes those sectors of w that keep accepts; nil accepts all.
func writeSectors(c *content, w write, keep func() bool) {
	if keep == nil {
		c.writeAt(w.data, w.off)
		return
	}
	for data, off := w.data, w.off; len(data) > 0; {
		n := min(len(data), int(sectorSize-off%sectorSize))
		if keep() {
			c.writeAt(data[:n], off)
		}
		data, off = data[n:], off+int64(n)
	}
}

// applyChanges applies those changes that keep accepts; nil accepts all.
func applyChanges(entries map[string]uint64, changes []change, keep func() bool) {
	for _, c := range changes {
		switch {
		case keep != nil && !keep():
		case c.node == 0:
			delete(entries, c.base)
		default:
			entries[c.base] = c.node
		}
	}
}

// sampler builds one possible tree.
type sampler struct {
	mem    *Mem
	inodes map[uint64]*inode
	built  map[uint64]*node
	rng    *rand.Rand
	bytes  float64 // the share of unsynced sectors that persist, or ownFate
	names  float64 // the same for entries
}

// ownFate lets each file or directory draw its own share.
const ownFate = -1

func newSampler(inodes map[uint64]*inode, rng *rand.Rand) *sampler {
	s := &sampler{mem: &Mem{}, inodes: inodes, built: make(map[uint64]*node), rng: rng}
	switch rng.IntN(8) {
	case 0:
		s.bytes, s.names = 0, 0
	case 1:
		s.bytes, s.names = 1, 1
	case 2:
		s.bytes, s.names = 0, 1
	case 3:
		s.bytes, s.names = 1, 0
	default:
		s.bytes, s.names = ownFate, ownFate
	}
	return s
}

// share settles what share of one file or directory persists.
func (s *sampler) share(all float64) float64 {
	if all != ownFate {
		return all
	}
	switch s.rng.IntN(4) {
	case 0:
		return 0
	case 1:
		return 1
	default:
		return s.rng.Float64()
	}
}

// build returns the node for an inode, or nil for a directory that has its
// place in the tree already.
func (s *sampler) build(id uint64) *node {
	in := s.inodes[id]
	if n, ok := s.built[id]; ok {
		if n.isDir() {
			return nil
		}
		return n
	}
	n := s.mem.newNode()
	n.mtime = in.mtime
	s.built[id] = n
	if in.entries == nil {
		n.content = s.file(in)
		return n
	}
	share := s.share(s.names)
	entries := maps.Clone(in.entries)
	applyChanges(entries, in.changes, func() bool { return s.rng.Float64() < share })
	n.entries = make(map[string]*node, len(entries))
	for _, base := range slices.Sorted(maps.Keys(entries)) {
		if child := s.build(entries[base]); child != nil {
			n.entries[base] = child
		}
	}
	return n
}

// file draws the content of a file.
func (s *sampler) file(in *inode) content {
	share := s.share(s.bytes)
	switch {
	case len(in.pending) == 0 || share == 0:
		return in.disk.clone()
	case share == 1:
		return in.persist(len(in.pending), nil)
	}
	sized := s.rng.IntN(len(in.pending) + 1)
	c := in.persist(sized, func() bool { return s.rng.Float64() < share })
	if sized == 0 {
		return c
	}
	before := in.disk.size
	if sized > 1 {
		before = in.pending[sized-2].size
	}
	if grown := c.size - before; grown > 0 && s.rng.IntN(2) == 0 {
		c.truncate(before + s.rng.Int64N(grown))
	}
	return c
}
