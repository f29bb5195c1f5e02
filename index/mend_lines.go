package index

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/canon"
)

// journalLine is a line of a journal whose hash is right.
type journalLine struct {
	offset, length int64 // with the newline
	seq            uint64
	prev, sum      blob.Digest
	foreign        bool // of the other store's journal
}

// journalLines is what is whole of a journal.
type journalLines struct {
	all  []journalLine
	size int64 // of the file
	torn int64 // bytes at the end that a torn append left
}

// scan finds the whole lines of the journal in d.
func scan(ctx context.Context, d folder) (*journalLines, error) {
	return scanFile(ctx, d, journalName)
}

func scanFile(ctx context.Context, d folder, name string) (ls *journalLines, err error) {
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	ls = &journalLines{size: info.Size()}
	r := &journalReader{file: f, in: bufio.NewReaderSize(io.NewSectionReader(f, 0, ls.size), 64<<10), size: ls.size}
	for at := int64(0); ; at += r.length {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		err := r.readLine()
		switch {
		case err == io.EOF:
			return ls, nil
		case errors.Is(err, errNewline):
			ls.torn = r.length
			return ls, nil
		case errors.Is(err, errLong):
			continue
		case err != nil:
			return nil, fmt.Errorf("index: reading the journal at byte %d: %w", at, err)
		}
		found, err := ls.add(r.line, at)
		if err != nil {
			return nil, err
		}
		if found {
			continue
		}
		if at+r.length == ls.size {
			zero, err := zeroSector(f, at, ls.size)
			if err != nil {
				return nil, err
			}
			if zero {
				ls.torn = r.length
			}
		}
	}
}

// add adds a line at an offset, given without its newline, and reports whether it is
// whole. Of one that is not it adds those that it is made of: the byte between two
// may be what is damaged.
func (ls *journalLines) add(line []byte, at int64) (whole bool, err error) {
	sum, err := checkLine(line)
	if err == nil {
		var rec Record
		if err := canon.Decode(line[hexSize+1:], &rec); err != nil {
			return false, fmt.Errorf("index: the journal's line at byte %d is whole, but can't be read, it may be from a newer heft: %w", at, err)
		}
		ls.all = append(ls.all, journalLine{offset: at, length: int64(len(line)) + 1, seq: rec.Seq, prev: rec.Prev, sum: sum})
		return true, nil
	}
	for from := hexSize + 1; ; {
		i := bytes.Index(line[min(from, len(line)):], []byte(" {"))
		if i < 0 {
			return false, nil
		}
		next := from + i - hexSize
		from += i + 1
		// The digits first: hashing the rest for each " {" could take for ever.
		if len(bytes.Trim(line[next:next+hexSize], "0123456789abcdef")) > 0 {
			continue
		}
		if _, err := checkLine(line[next:]); err != nil {
			continue
		}
		if _, err := checkLine(line[:next-1]); err == nil {
			if _, err := ls.add(line[:next-1], at); err != nil {
				return false, err
			}
		}
		return ls.add(line[next:], at+int64(next))
	}
}

// record reads the record of line i.
func (ls *journalLines) record(d folder, i int) (*Record, error) {
	return ls.all[i].record(d, nil)
}

// read returns the line, with its newline.
func (l journalLine) read(own, other folder, name string) (line []byte, err error) {
	d := own
	if l.foreign {
		d = other
	}
	f, err := d.Open(name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	line = make([]byte, l.length) // at most maxLine, which was read before
	if _, err := f.ReadAt(line, l.offset); err != nil {
		return nil, err
	}
	end := len(line) - 1
	if sum, err := checkLine(line[:end]); err != nil || sum != l.sum {
		return nil, fmt.Errorf("index: the journal changed at byte %d while it was read", l.offset)
	}
	line[end] = '\n' // it may be damaged
	return line, nil
}

func (l journalLine) record(own, other folder) (*Record, error) {
	return l.recordOf(own, other, journalName)
}

func (l journalLine) recordOf(own, other folder, name string) (*Record, error) {
	line, err := l.read(own, other, name)
	if err != nil {
		return nil, err
	}
	rec := new(Record)
	if err := canon.Decode(line[hexSize+1:len(line)-1], rec); err != nil {
		return nil, fmt.Errorf("index: reading a record: %w", err)
	}
	return rec, nil
}

// journalChain is lines of which each has the hash of the one before.
type journalChain []journalLine

// assemble makes the longest chain from the first record on, of lines of own and
// where those are missing of other.
func assemble(own, other *journalLines) (chain journalChain) {
	type place struct {
		seq  uint64
		prev blob.Digest
	}
	at := map[place]journalLine{}
	for _, l := range other.all {
		l.foreign = true
		at[place{l.seq, l.prev}] = l
	}
	for _, l := range own.all {
		at[place{l.seq, l.prev}] = l
	}
	for next := (place{}); ; {
		l, ok := at[next]
		if !ok {
			return chain
		}
		chain = append(chain, l)
		next = place{l.seq + 1, l.sum}
	}
}

// own returns how many lines are the store's own.
func (c journalChain) own() (n int) {
	for _, l := range c {
		if !l.foreign {
			n++
		}
	}
	return n
}

func (c journalChain) bytes() (n int64) {
	for _, l := range c {
		n += l.length
	}
	return n
}

// holds reports whether a position is one of the chain's.
func (c journalChain) holds(p position) bool {
	at := position{}
	for _, l := range c {
		if at == p {
			return true
		}
		at = position{next: at.next + 1, offset: at.offset + l.length, prev: l.sum}
	}
	return at == p
}
