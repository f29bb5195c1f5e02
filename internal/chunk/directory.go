package chunk

import (
	"bytes"
	"cmp"
	"encoding/binary"
	"math"
	"slices"
)

// Records of APPNOTE.TXT 6.3.10 (https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT):
// their signatures and fixed lengths.
const (
	zipMagic     = "PK\x03\x04" // local file header, 4.3.7
	zipEntry     = "PK\x01\x02" // central directory header, 4.3.12
	zipEnd       = "PK\x05\x06" // end of central directory, 4.3.16
	zipEnd64     = "PK\x06\x06" // zip64 end of central directory, 4.3.14
	zipEnd64At   = "PK\x06\x07" // zip64 end of central directory locator, 4.3.15
	localLen     = 30
	entryLen     = 46
	endLen       = 22
	end64Len     = 56
	end64AtLen   = 20
	zip64ExtraID = 1

	// maxDirectory is the longest central directory. PyTorch's entries take
	// some 100 bytes: 64 MiB are above maxTensors of them.
	maxDirectory = 64 << 20
)

// entry is a member in the central directory.
type entry struct {
	name   string
	header int64 // offset of its local header
	size   int64 // as stored
	plain  bool  // stored as it is: neither compressed nor encrypted
}

// directory returns the entries of the archive v, in order of their local
// headers, and where the directory begins. archive/zip has no bound on what it allocates for a directory, takes
// the entries that it finds before it looks at their number, and keeps each
// one's extra field and comment.
func directory(v *view) (entries []entry, start int64, err error) {
	start, size, count, err := directoryEnd(v)
	if err != nil {
		return nil, 0, err
	}
	if count > maxTensors || size > maxDirectory || count > size/entryLen {
		return nil, 0, errNone
	}
	d := v.part(v.base+start, int64(size))
	entries = make([]entry, 0, count)
	names := 0
	for range count {
		e, err := readEntry(d)
		if err != nil {
			return nil, 0, err
		}
		if names += len(e.name); names > maxNames || e.header < 0 || e.size < 0 || e.header > start || e.size > start-e.header {
			return nil, 0, errNone
		}
		entries = append(entries, e)
	}
	if d.left() > 0 {
		return nil, 0, errNone
	}
	slices.SortFunc(entries, func(a, b entry) int { return cmp.Compare(a.header, b.header) })
	return entries, start, nil
}

// directoryEnd returns where the central directory begins, its length and the
// number of its entries. It ends where the records of the archive's end begin.
func directoryEnd(v *view) (start int64, size, count uint64, err error) {
	// The comment at the very end has at most 65,535 bytes; most have none.
	tail := make([]byte, min(v.size, endLen+math.MaxUint16))
	if err := v.readAt(tail, v.size-int64(len(tail))); err != nil {
		return 0, 0, 0, err
	}
	i := bytes.LastIndex(tail, []byte(zipEnd))
	for i >= 0 && (len(tail)-i < endLen || int(binary.LittleEndian.Uint16(tail[i+20:])) != len(tail)-i-endLen) {
		i = bytes.LastIndex(tail[:i], []byte(zipEnd))
	}
	if i < 0 {
		return 0, 0, 0, errNone
	}
	end := v.size - int64(len(tail)-i)
	b := tail[i:]
	count = uint64(binary.LittleEndian.Uint16(b[10:]))
	size = uint64(binary.LittleEndian.Uint32(b[12:]))
	at := uint64(binary.LittleEndian.Uint32(b[16:]))
	var at64 [end64AtLen]byte
	if end >= end64AtLen {
		if err := v.readAt(at64[:], end-end64AtLen); err != nil {
			return 0, 0, 0, err
		}
	}
	if string(at64[:4]) == zipEnd64At {
		var e [end64Len]byte
		off := binary.LittleEndian.Uint64(at64[8:])
		if off > uint64(end) {
			return 0, 0, 0, errNone
		}
		if err := v.readAt(e[:], int64(off)); err != nil {
			return 0, 0, 0, err
		}
		if string(e[:4]) != zipEnd64 {
			return 0, 0, 0, errNone
		}
		end = int64(off)
		count = binary.LittleEndian.Uint64(e[32:])
		size = binary.LittleEndian.Uint64(e[40:])
		at = binary.LittleEndian.Uint64(e[48:])
	}
	if at > uint64(end) || size != uint64(end)-at {
		return 0, 0, 0, errNone
	}
	return int64(at), size, count, nil
}

// readEntry reads the next entry of the directory d.
func readEntry(d *view) (e entry, err error) {
	b, err := d.next(entryLen)
	if err != nil {
		return e, err
	}
	if string(b[:4]) != zipEntry {
		return e, errNone
	}
	flags, method := binary.LittleEndian.Uint16(b[8:]), binary.LittleEndian.Uint16(b[10:])
	stored := uint64(binary.LittleEndian.Uint32(b[20:]))
	full := uint64(binary.LittleEndian.Uint32(b[24:]))
	name := int64(binary.LittleEndian.Uint16(b[28:]))
	extra := int64(binary.LittleEndian.Uint16(b[30:]))
	comment := int64(binary.LittleEndian.Uint16(b[32:]))
	header := uint64(binary.LittleEndian.Uint32(b[42:]))
	if b, err = d.next(name + extra + comment); err != nil {
		return e, err
	}
	e.name = string(b[:name])
	// 4.5.3: those of the three that are saturated follow in this order.
	wide := extraField(b[name:name+extra], zip64ExtraID)
	for _, n := range []*uint64{&full, &stored, &header} {
		if *n != math.MaxUint32 {
			continue
		}
		if len(wide) < 8 {
			return e, errNone
		}
		*n, wide = binary.LittleEndian.Uint64(wide), wide[8:]
	}
	if header > math.MaxInt64 || stored > math.MaxInt64 {
		return e, errNone
	}
	e.header, e.size = int64(header), int64(stored)
	e.plain = method == 0 && stored == full && flags&encrypted == 0
	return e, nil
}

// encrypted are the flags of members that aren't stored as they are: encrypted,
// patch data, and an encrypted directory (4.4.4, bits 0, 5, 6 and 13).
const encrypted = 1<<0 | 1<<5 | 1<<6 | 1<<13

// extraField returns the field with an id, or nil.
func extraField(b []byte, id uint16) []byte {
	for len(b) >= 4 {
		n := int(binary.LittleEndian.Uint16(b[2:]))
		if n > len(b)-4 {
			return nil
		}
		if binary.LittleEndian.Uint16(b) == id {
			return b[4 : 4+n]
		}
		b = b[4+n:]
	}
	return nil
}
