package blob

import (
	"cmp"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"slices"
	"sort"
	"sync"
	"syscall"

	"github.com/heftstore/heft/internal/codec"
	"github.com/heftstore/heft/internal/durable"
	"github.com/heftstore/heft/internal/format"
)

// castagnoli is computed once; crc32 uses the CPU's instruction for it.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// file is an open blob file whose footer and table were checked.
type file struct {
	digest Digest
	f      durable.File
	size   int64 // bytes of the file
	plain  int64
	table  *format.Table
	at     []int64 // where each row's stored bytes begin
	starts []int64 // where each row's plain bytes begin
}

// openFile opens the blob d's file. Errors about its content are damage; a
// missing file is ErrNotFound.
func (s *Store) openFile(d Digest) (*file, error) { return s.openNamed(blobPath(d), d) }

// openNamed is openFile for a file of the blob d with another name.
func (s *Store) openNamed(name string, d Digest) (*file, error) {
	f, err := s.fsys.Open(name)
	if err = s.missingFolder(err); errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: no blob %s", ErrNotFound, d)
	}
	if err != nil {
		return nil, fmt.Errorf("blob: opening %s: %w", d, err)
	}
	b, err := readFile(f, d)
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return b, nil
}

func readFile(f durable.File, d Digest) (*file, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if st.Size() < format.HeaderSize+format.FooterSize {
		return nil, &sumError{fmt.Sprintf("the file is %d bytes long, too short for a blob", st.Size())}
	}
	buf := make([]byte, format.FooterSize)
	if err := readAt(f, buf, st.Size()-format.FooterSize); err != nil {
		return nil, err
	}
	footer, err := format.ParseFooter(buf, st.Size())
	if err != nil {
		return nil, err
	}
	if Digest(footer.Digest) != d {
		return nil, &sumError{fmt.Sprintf("the file holds the blob %s", Digest(footer.Digest))}
	}
	if err := readAt(f, buf[:format.HeaderSize], 0); err != nil {
		return nil, err
	}
	if err := format.CheckHeader(buf[:format.HeaderSize], footer); err != nil {
		return nil, err
	}
	// Bounded: ParseFooter made sure that the table lies within the file.
	raw := make([]byte, footer.TableLen)
	if err := readAt(f, raw, int64(footer.TableOffset)); err != nil {
		return nil, err
	}
	table, err := format.ParseTable(raw, footer)
	if err != nil {
		return nil, err
	}
	b := &file{digest: d, f: f, size: st.Size(), plain: int64(footer.PlainSize), table: table}
	b.place()
	return b, nil
}

// place works out where each row's bytes begin.
func (b *file) place() {
	b.at, b.starts = make([]int64, len(b.table.Rows)), make([]int64, len(b.table.Rows))
	at, start := int64(format.HeaderSize), int64(0)
	for i := range b.table.Rows {
		b.at[i], b.starts[i] = at, start
		at += int64(b.table.Rows[i].StoredLen)
		start += int64(b.table.Rows[i].PlainLen)
	}
}

// rowAt returns the number of the row that has the plain offset off, of rows that
// begin at starts: at 0 and ascending.
func rowAt(starts []int64, off int64) int {
	return sort.Search(len(starts), func(i int) bool { return starts[i] > off }) - 1
}

// readAt fills p. A file that ends early was cut while it was open: that is
// damage, and must not reach a caller as io.EOF, the end of a whole blob.
func readAt(f durable.File, p []byte, off int64) error {
	n, err := f.ReadAt(p, off)
	if errors.Is(err, io.EOF) {
		err = nil
		if n < len(p) {
			err = &sumError{fmt.Sprintf("the file ends within the %d bytes at %d", len(p), off)}
		}
	}
	return err
}

func (b *file) close() error { return b.f.Close() }

func (b *file) info() Info {
	return Info{Digest: b.digest, Size: b.plain, Stored: b.size, Donors: digests(b.table.Donors), Parts: partsOf(b.table), Partial: b.partial()}
}

// partsOf adds up a table's rows.
func partsOf(t *format.Table) (p Parts) {
	for i := range t.Rows {
		r := &t.Rows[i]
		to := &p.Self
		switch {
		case r.Place == format.Dropped:
			continue
		case r.Place != format.Held:
			to = &p.Borrowed
		case r.Depth > 0:
			to = &p.Delta
		case r.Codec == codec.Raw:
			to = &p.Raw
		}
		to.Frames++
		to.Size += int64(r.PlainLen)
		to.Stored += int64(r.StoredLen)
	}
	return p
}

// keys returns those of the sketch of the tensor that begins with row i, nil for
// none.
func (b *file) keys(i uint32) []uint64 {
	n, ok := slices.BinarySearchFunc(b.table.Sketches, i, func(s format.Sketch, i uint32) int { return cmp.Compare(s.Frame, i) })
	if !ok {
		return nil
	}
	return b.table.Sketches[n].Keys[:]
}

// partial reports whether a collection has left some frames of the blob only: the
// file serves those who need them, and nobody else.
func (b *file) partial() bool { return b.table.Dropped() }

func digests(in [][32]byte) []Digest {
	out := make([]Digest, len(in))
	for i, d := range in {
		out[i] = d
	}
	return out
}

// held returns the number of the row that holds the bytes of row i: i itself,
// or the row that it repeats. A borrowed row has none in this file.
func (b *file) held(i uint32) (uint32, bool) {
	switch r := &b.table.Rows[i]; r.Place {
	case format.Held:
		return i, true
	case format.Repeated:
		return r.Frame, true
	}
	return 0, false
}

// lends returns the number of the held row that has the bytes of row i, which
// must be the frame that want describes.
func (b *file) lends(i uint32, want *format.Row) (uint32, error) {
	if uint64(i) >= uint64(len(b.table.Rows)) {
		return 0, &sumError{fmt.Sprintf("there is no frame %d", i)}
	}
	n, ok := b.held(i)
	if !ok {
		return 0, &sumError{fmt.Sprintf("frame %d is not held there", i)}
	}
	if r := &b.table.Rows[n]; r.Sum != want.Sum || r.PlainLen != want.PlainLen {
		return 0, &sumError{fmt.Sprintf("frame %d is not the frame that was borrowed", i)}
	}
	return n, nil
}

// stored reads the stored bytes of the held row i into buf and checks their
// CRC.
func (b *file) stored(i uint32, buf []byte) ([]byte, error) {
	r := &b.table.Rows[i]
	p := buf[:r.StoredLen]
	if err := readAt(b.f, p, b.at[i]); err != nil {
		return nil, err
	}
	if crc32.Checksum(p, castagnoli) != r.CRC {
		return nil, &sumError{fmt.Sprintf("the stored bytes of frame %d fail their checksum", i)}
	}
	return p, nil
}

// open files of donors, kept while a Reader or Writer needs them.
type donors struct {
	s    *Store
	hold func(Digest) error // of a Writer: pins a blob before it is opened
	mu   sync.Mutex
	open []*donor // least recently used first
}

type donor struct {
	*file
	users int
}

// maxDonors bounds the donor files that one Reader or Writer keeps open.
const maxDonors = 16

// acquire returns the donor d; release gives it back.
func (c *donors) acquire(d Digest) (*donor, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.IndexFunc(c.open, func(o *donor) bool { return o.digest == d }); i >= 0 {
		o := c.open[i]
		c.open = append(slices.Delete(c.open, i, i+1), o)
		o.users++
		return o, nil
	}
	if c.hold != nil {
		if err := c.hold(d); err != nil {
			return nil, err
		}
	}
	f, err := c.s.openFile(d)
	for errors.Is(err, syscall.EMFILE) || errors.Is(err, syscall.ENFILE) {
		if closed, cerr := c.closeIdle(); cerr != nil {
			return nil, errors.Join(err, cerr)
		} else if !closed {
			break
		}
		f, err = c.s.openFile(d)
	}
	if c.hold == nil && errors.Is(err, ErrNotFound) {
		f, err = c.s.openTrashed(d)
	}
	if err != nil {
		return nil, err
	}
	if len(c.open) >= maxDonors {
		if _, err := c.closeIdle(); err != nil {
			return nil, errors.Join(err, f.close())
		}
	}
	o := &donor{file: f, users: 1}
	c.open = append(c.open, o)
	return o, nil
}

// closeIdle closes the donor that nobody has used for longest, if there is one that
// nobody uses. The caller holds mu.
func (c *donors) closeIdle() (closed bool, err error) {
	i := slices.IndexFunc(c.open, func(o *donor) bool { return o.users == 0 })
	if i < 0 {
		return false, nil
	}
	old := c.open[i]
	c.open = slices.Delete(c.open, i, i+1)
	return true, old.close()
}

func (c *donors) release(o *donor) {
	c.mu.Lock()
	o.users--
	c.mu.Unlock()
}

func (c *donors) close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var errs []error
	for _, o := range c.open {
		errs = append(errs, o.close())
	}
	c.open = nil
	return errors.Join(errs...)
}

// asCorrupt makes damage found in the file in, while the blob d was read, a
// *CorruptError. Other errors get the blob's name.
func asCorrupt(err error, d, in Digest, offset int64) error {
	switch {
	case damage(err):
		return &CorruptError{Blob: d, In: in, Offset: offset, Err: err}
	case errors.Is(err, ErrNotFound):
		return err
	}
	return fmt.Errorf("blob: reading %s: %w", d, err)
}
