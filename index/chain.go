package index

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/heftstore/heft/blob"
)

// maxChain is how much of the journal is checked before the first change that a
// process makes: the hashes of 16 MiB take some 16 ms, and are those of tens of
// thousands of records. docs/decisions/0017 tells why not all of it.
const maxChain = 16 << 20

// keyChain -> chain, in bucketMeta: up to where the journal was checked, if it
// is longer than maxChain.
const keyChain = "chain"

// checkChain checks a part of the journal, the next one in turn, before a record
// is appended to it, once in the life of x. The caller is the only writer. Damage
// is a *JournalError.
func (x *Index) checkChain(tx *Tx) error {
	if x.chained.Load() {
		return nil
	}
	end := tx.state.pos
	var from position
	if end.offset > x.chainSize {
		var err error
		if from, err = tx.chain(end); err != nil {
			return err
		}
	}
	r, err := readJournal(x.dir, x.store.ID(), from, end.offset, end.offset)
	if err != nil {
		return missing(err)
	}
	defer r.close()
	for r.pos.offset-from.offset < x.chainSize {
		if err := tx.ctx.Err(); err != nil {
			return err
		}
		err := r.pass()
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
	}
	if r.pos.offset >= end.offset {
		if r.pos != end {
			return r.broken(errForeign)
		}
		r.pos = position{}
	}
	if end.offset > x.chainSize {
		if err := tx.setChain(r.pos); err != nil {
			return err
		}
	}
	// Whoever mended or copied the journal may have died before its name was
	// durable: then a power cut would take what is appended now.
	if err := x.dir.SyncDir("."); err != nil {
		return fmt.Errorf("index: syncing the store's folder before the first change: %w", err)
	}
	tx.chained = true
	return nil
}

// pass is next for who needs no record: it checks that the line has its hash and
// follows the line before.
func (r *journalReader) pass() error {
	sum, err := r.sum()
	if err != nil {
		return err
	}
	if r.pos.next > 0 && !follows(r.line[hexSize+1:], r.pos.prev) {
		return r.broken(fmt.Errorf("it does not follow record %s", r.pos.prev.Short()))
	}
	r.last = r.pos.offset
	r.pos = position{next: r.pos.next + 1, offset: r.pos.offset + r.length, prev: sum}
	return nil
}

// follows says whether the record text names prev as the one before. After that
// key of the record come only texts, in which quotation marks are escaped.
func follows(text []byte, prev blob.Digest) bool {
	key := []byte(`"prev":"`)
	at := bytes.LastIndex(text, key)
	return at >= 0 && bytes.HasPrefix(text[at+len(key):], []byte(prev.String()+`"`))
}

// chain returns where the check goes on; the beginning if that is not known.
func (tx *Tx) chain(end position) (pos position, err error) {
	b, err := tx.get(bucketMeta, []byte(keyChain))
	if err != nil || b == nil {
		return pos, err
	}
	if len(b) != 8+8+len(pos.prev) {
		return pos, tx.damaged(bucketMeta, []byte(keyChain), errors.New("value has a wrong length"))
	}
	pos.next = binary.LittleEndian.Uint64(b)
	pos.offset = int64(binary.LittleEndian.Uint64(b[8:]))
	copy(pos.prev[:], b[16:])
	if pos.offset < 0 || pos.offset >= end.offset {
		return position{}, nil
	}
	return pos, nil
}

func (tx *Tx) setChain(pos position) error {
	b := binary.LittleEndian.AppendUint64(nil, pos.next)
	b = binary.LittleEndian.AppendUint64(b, uint64(pos.offset))
	return tx.put(bucketMeta, []byte(keyChain), append(b, pos.prev[:]...))
}
