package registry

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
)

// churnEnv holds a churn as JSON.
const churnEnv = "REGISTRY_TEST_CHURN"

// churn is what a process is told that does at random all that a store is used
// for.
type churn struct {
	Ops   int    // 0: until it is killed
	Seed  uint64 // of what it does
	Live  int    // about how many versions there are to be
	Skew  int64  // microseconds that its clock is wrong, more or less, each time anew
	Naive bool   // collects as nobody should
}

// churned counts what was done.
type churned struct {
	Done      int // operations
	Commits   int
	Missing   int // commits that failed for a blob that was missing
	Deletes   int
	GCs       int
	Reads     int // readers that came to their end
	Cut       int // readers that did not, because their version was deleted
	Adopts    int
	Trashed   int
	Thinned   int
	Detached  int
	Delta     int // frames that were put so
	Borrowed  int
	Unplanned int // errors
}

func (c *churned) add(o churned) {
	c.Done += o.Done
	c.Commits += o.Commits
	c.Missing += o.Missing
	c.Deletes += o.Deletes
	c.GCs += o.GCs
	c.Reads += o.Reads
	c.Cut += o.Cut
	c.Adopts += o.Adopts
	c.Trashed += o.Trashed
	c.Thinned += o.Thinned
	c.Detached += o.Detached
	c.Delta += o.Delta
	c.Borrowed += o.Borrowed
	c.Unplanned += o.Unplanned
}

// The lines that a churner prints, each after what it says is so:
//
//   - ID PATH=DIGEST …  a version was committed
//     ? ID                one is about to be deleted
//   - ID                it is
//     ! TEXT              something that is named is lost, or an error that must not be
//     = JSON              what was done in all
const (
	lineAdded    = "+"
	lineDeleting = "?"
	lineDeleted  = "-"
	lineWrong    = "!"
	lineMissing  = "~"
	lineDone     = "="
)

type churner struct {
	churn
	churned
	r       *Registry
	rng     *rand.Rand
	out     io.Writer
	who     string
	tensors [][]networkState // by network and step
	drafts  []*held
	readers []*reading
	fresh   int
}

// networkState is one tensor of a network after some steps of training, in both types.
type networkState struct{ wide, narrow []byte }

// held is a draft that is open.
type held struct {
	d     *Draft
	files map[string]blob.Digest
}

// reading is a reader that is open.
type reading struct {
	m   *Model
	f   File
	r   *Reader
	got bytes.Buffer
}

const (
	churnNetworks = 3
	churnSteps    = 5
	churnValues   = 32 << 10 // 64 KiB in bf16: enough for a sketch
	churnModels   = 5
)

// runChurn is the process.
func runChurn(ctx context.Context, number, dir string, out io.Writer) error {
	c := &churner{out: out, who: number}
	if err := json.Unmarshal([]byte(os.Getenv(churnEnv)), &c.churn); err != nil {
		return err
	}
	c.rng = rand.New(rand.NewPCG(c.Seed, 7))
	o := &Options{Actor: "churner " + number, Workers: 2}
	if c.Skew > 0 {
		o.Now = func() int64 { return time.Now().UnixMicro() + rand.Int64N(2*c.Skew) - c.Skew }
	}
	var err error
	if c.r, err = Open(ctx, dir, o); err != nil {
		return err
	}
	c.tensors = trainedStates()
	for c.Ops == 0 || c.Done < c.Ops {
		if err := c.step(ctx); err != nil {
			c.Unplanned++
			c.say(lineWrong, fmt.Sprintf("operation %d: %v", c.Done, err))
		}
		c.Done++
	}
	for _, h := range c.drafts {
		if err := c.commit(ctx, h); err != nil {
			c.say(lineWrong, err.Error())
		}
	}
	for _, r := range c.readers {
		c.finish(ctx, r)
	}
	b, err := json.Marshal(c.churned)
	if err != nil {
		return err
	}
	c.say(lineDone, string(b))
	return c.r.Close()
}

// trainedStates are the same in every process.
func trainedStates() [][]networkState {
	all := make([][]networkState, churnNetworks)
	for n := range all {
		rng := rand.New(rand.NewPCG(uint64(n), 2))
		values := make([]float64, churnValues)
		for i := range values {
			values[i] = rng.NormFloat64()
		}
		for range churnSteps {
			var s networkState
			for i := range values {
				values[i] += rng.NormFloat64() * 1e-4
				bits := math.Float32bits(float32(values[i]))
				s.wide = binary.LittleEndian.AppendUint32(s.wide, bits)
				s.narrow = binary.LittleEndian.AppendUint16(s.narrow, uint16((bits+0x7fff+bits>>16&1)>>16))
			}
			all[n] = append(all[n], s)
		}
	}
	return all
}

// say prints a line in one write, so that it is there whole or not at all.
func (c *churner) say(kind, text string) {
	_, _ = io.WriteString(c.out, kind+" "+strings.ReplaceAll(text, "\n", " ")+"\n") // the parent may be gone
}

// step does one thing.
func (c *churner) step(ctx context.Context) error {
	all, err := c.versions(ctx)
	if err != nil {
		return err
	}
	dice := c.rng.IntN(100)
	if len(all) > c.Live && dice < 50 {
		dice = 35 // delete
	}
	switch {
	case dice < 20:
		h, err := c.begin(ctx, c.r.Begin, all, "")
		if err != nil || h == nil {
			return err
		}
		return c.commit(ctx, h)
	case dice < 30: // a draft that stays open
		h, err := c.begin(ctx, c.r.Begin, all, "")
		if err != nil || h == nil {
			return err
		}
		if c.drafts = append(c.drafts, h); len(c.drafts) > 3 {
			h, c.drafts = c.drafts[0], c.drafts[1:]
			if c.rng.IntN(4) == 0 {
				return h.d.Close()
			}
			return c.commit(ctx, h)
		}
		return nil
	case dice < 50:
		if len(all) == 0 {
			return nil
		}
		return c.remove(ctx, all[c.rng.IntN(len(all))])
	case dice < 54: // prune: the last two of a name stay
		name := fmt.Sprintf("m%d", c.rng.IntN(churnModels))
		mine := slices.DeleteFunc(all, func(m *Model) bool { return m.Name != name })
		for _, m := range mine[min(2, len(mine)):] {
			if err := c.remove(ctx, m); err != nil {
				return err
			}
		}
		return nil
	case dice < 64:
		return c.collect(ctx)
	case dice < 65:
		return c.r.index.Rebuild(ctx)
	case dice < 69:
		return c.bulk(ctx, all)
	case dice < 74:
		return c.adopt(ctx, all)
	case dice < 76 && len(all) > 0:
		_, err := c.r.Promote(ctx, all[c.rng.IntN(len(all))].ID.String(), Note{})
		return unless(err, ErrNotFound)
	case dice < 90 && len(all) > 0:
		return c.open(ctx, all[c.rng.IntN(len(all))])
	case len(c.readers) > 0:
		i := c.rng.IntN(len(c.readers))
		r := c.readers[i]
		c.readers = slices.Delete(c.readers, i, i+1)
		c.finish(ctx, r)
	}
	return nil
}

// unless drops an error that is expected.
func unless(err, target error) error {
	if errors.Is(err, target) {
		return nil
	}
	return err
}

// versions lists all of them, those of a name the latest first.
func (c *churner) versions(ctx context.Context) (all []*Model, err error) {
	for m, err := range c.r.Find(ctx, Query{Sort: []Sort{{Field: "registered", Down: true}}}) {
		if err != nil {
			return nil, err
		}
		all = append(all, m)
	}
	return all, nil
}

// content makes a file of tensors that others have, or are like, and now and then
// of one that nobody has.
func (c *churner) content() []byte {
	type tensor struct {
		name, dtype string
		data        []byte
	}
	var tensors []tensor
	for _, n := range c.rng.Perm(churnNetworks)[:1+c.rng.IntN(churnNetworks)] {
		s := c.tensors[n][c.rng.IntN(churnSteps)]
		if c.rng.IntN(3) == 0 {
			tensors = append(tensors, tensor{fmt.Sprintf("half.%d", n), "BF16", s.narrow})
		} else {
			tensors = append(tensors, tensor{fmt.Sprintf("wide.%d", n), "F32", s.wide})
		}
	}
	if c.rng.IntN(3) == 0 {
		c.fresh++
		tensors = append(tensors, tensor{"own", "U8", weights(c.Seed<<20+uint64(c.fresh), 70_000)})
	}
	var head bytes.Buffer
	at := 0
	for i, x := range tensors {
		head.WriteByte("{,"[min(i, 1)])
		n := len(x.data) / map[string]int{"F32": 4, "BF16": 2, "U8": 1}[x.dtype]
		fmt.Fprintf(&head, `%q:{"dtype":%q,"shape":[%d],"data_offsets":[%d,%d]}`, x.name, x.dtype, n, at, at+len(x.data))
		at += len(x.data)
	}
	head.WriteByte('}')
	file := binary.LittleEndian.AppendUint64(nil, uint64(head.Len()))
	file = append(file, head.Bytes()...)
	for _, x := range tensors {
		file = append(file, x.data...)
	}
	return file
}

// begin makes a draft and puts its files; nil if its parent was deleted meanwhile.
func (c *churner) begin(ctx context.Context, begin func(context.Context, Model) (*Draft, error), all []*Model, label string) (*held, error) {
	m := Model{Name: fmt.Sprintf("m%d", c.rng.IntN(churnModels)), Version: label}
	if len(all) > 0 && c.rng.IntN(3) == 0 {
		m.Parent = all[c.rng.IntN(len(all))].ID
	}
	d, err := begin(ctx, m)
	if errors.Is(err, ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	h := &held{d, map[string]blob.Digest{}}
	for _, path := range []string{"model.safetensors", "ema.safetensors", "config.json"}[:1+c.rng.IntN(3)] {
		content := c.content()
		if path == "config.json" {
			content = fmt.Appendf(nil, `{"layers":%d}`, c.rng.IntN(20))
		}
		s, err := d.Put(ctx, path, bytes.NewReader(content))
		if err != nil {
			return nil, errors.Join(err, d.Close())
		}
		h.files[path] = blob.Sum(content)
		c.Delta += s.Parts.Delta.Frames
		c.Borrowed += s.Parts.Borrowed.Frames
	}
	return h, nil
}

func (c *churner) commit(ctx context.Context, h *held) (err error) {
	defer func() { err = errors.Join(err, h.d.Close()) }()
	m, err := h.d.Commit(ctx)
	if _, ok := errors.AsType[*index.MissingBlobError](err); ok {
		c.Missing++
		c.say(lineMissing, err.Error())
		return nil
	}
	if err != nil {
		return unless(err, ErrNotFound) // its parent
	}
	c.added(m, h.files)
	return nil
}

func (c *churner) added(m *Model, files map[string]blob.Digest) {
	c.Commits++
	var text strings.Builder
	text.WriteString(m.ID.String())
	for path, d := range files {
		text.WriteString(" " + path + "=" + d.String())
	}
	c.say(lineAdded, text.String())
}

func (c *churner) remove(ctx context.Context, m *Model) error {
	id := m.ID.String()
	c.say(lineDeleting, id)
	remove := c.r.ForceDelete
	if c.rng.IntN(2) == 0 {
		remove = c.r.Delete
	}
	err := remove(ctx, id, Note{Reason: "churn"})
	if errors.Is(err, ErrConflict) {
		return nil
	}
	if err := unless(err, ErrNotFound); err != nil {
		return err
	}
	c.Deletes++
	c.say(lineDeleted, id)
	return nil
}

func (c *churner) collect(ctx context.Context) error {
	c.GCs++
	if c.Naive {
		return c.naive(ctx)
	}
	o := &GCOptions{Grace: -1}
	if c.rng.IntN(5) == 0 {
		o.Grace = time.Hour
	}
	got, err := c.r.GC(ctx, o)
	c.Trashed += got.Trashed.Count
	c.Thinned += got.Thinned.Count
	c.Detached += got.Detached.Count
	return err
}

// naive marks first and then removes what is not marked, without a look at what
// was registered or pinned meanwhile. Marking a large store takes a while, in which
// other things are done.
func (c *churner) naive(ctx context.Context) error {
	var named []blob.Digest
	err := c.r.index.View(ctx, func(tx *index.Tx) error {
		named = nil
		for at := tx.Mark(); ; {
			ds, next, err := tx.Referenced(at, page)
			if err != nil || ds == nil {
				return err
			}
			named, at = append(named, ds...), next
		}
	})
	if err != nil {
		return err
	}
	marks := c.r.store.Marks(c.r.index.Donors)
	for _, d := range named {
		if err := marks.Add(ctx, d); err != nil {
			return err
		}
	}
	c.Naive = false
	for range 5 {
		err = errors.Join(err, c.step(ctx))
	}
	c.Naive = true
	if err != nil {
		return err
	}
	for d, err := range c.r.store.All(ctx) {
		if err != nil {
			return err
		}
		if !marks.Needed(d) {
			if err := os.Remove(blobFile(c.r, d)); err == nil {
				c.Trashed++
			}
		}
	}
	return nil
}

// bulk commits some versions at once, each the parent of the next.
func (c *churner) bulk(ctx context.Context, all []*Model) (err error) {
	b := c.r.Bulk()
	var drafts []*Draft
	var hs []*held
	defer func() {
		for _, d := range drafts {
			err = errors.Join(err, d.Close())
		}
	}()
	for range 1 + c.rng.IntN(3) {
		c.fresh++
		h, err := c.begin(ctx, b.Begin, all, fmt.Sprintf("bulk-%d-%s-%d", c.Seed, c.who, c.fresh))
		if err != nil {
			return err
		}
		if h != nil {
			drafts, hs = append(drafts, h.d), append(hs, h)
		}
	}
	models, err := b.Commit(ctx, Note{}, drafts...)
	if _, ok := errors.AsType[*index.MissingBlobError](err); ok {
		c.Missing++
		c.say(lineMissing, err.Error())
		return nil
	}
	if err != nil {
		return unless(err, ErrNotFound) // a parent
	}
	for i, m := range models {
		c.added(m, hs[i].files)
	}
	return nil
}

// adopt makes a version of another one's file.
func (c *churner) adopt(ctx context.Context, all []*Model) (err error) {
	if len(all) == 0 {
		return nil
	}
	from := all[c.rng.IntN(len(all))]
	f, err := c.file(ctx, from)
	if err != nil || f.Path == "" {
		return err
	}
	d, err := c.r.Begin(ctx, Model{Name: fmt.Sprintf("m%d", c.rng.IntN(churnModels))})
	if err != nil {
		return err
	}
	h := &held{d, map[string]blob.Digest{"adopted": f.Digest}}
	if _, err := d.Adopt(ctx, "adopted", f.Digest); err != nil {
		if errors.Is(err, ErrNotFound) {
			c.missed(ctx, from, "adopting "+f.Path, err)
			err = nil
		}
		return errors.Join(err, d.Close())
	}
	c.Adopts++
	if len(c.drafts) < 3 && c.rng.IntN(2) == 0 {
		c.drafts = append(c.drafts, h)
		return nil
	}
	return c.commit(ctx, h)
}

// file returns one of a version's files, "" if that was deleted.
func (c *churner) file(ctx context.Context, m *Model) (File, error) {
	var files []File
	for f, err := range m.List(ctx) {
		if errors.Is(err, ErrNotFound) {
			return File{}, nil
		}
		if err != nil {
			return File{}, err
		}
		files = append(files, f)
	}
	return files[c.rng.IntN(len(files))], nil
}

// missed reports that a version could not be read, unless it is deleted by now.
func (c *churner) missed(ctx context.Context, m *Model, what string, err error) {
	if _, gone := c.r.Get(ctx, m.ID.String()); errors.Is(gone, ErrNotFound) {
		c.Cut++
		return
	}
	c.say(lineWrong, fmt.Sprintf("lost: %s of %s, which is named: %v", what, m.Ref(), err))
}

// open begins to read a file.
func (c *churner) open(ctx context.Context, m *Model) error {
	f, err := c.file(ctx, m)
	if err != nil || f.Path == "" {
		return err
	}
	r, err := m.Open(ctx, f.Path)
	if err != nil {
		c.missed(ctx, m, "opening "+f.Path, err)
		return nil
	}
	x := &reading{m: m, f: f, r: r}
	if _, err := io.CopyN(&x.got, r, f.Size/2); err != nil {
		c.missed(ctx, m, "reading "+f.Path, err)
		return r.Close()
	}
	if c.readers = append(c.readers, x); len(c.readers) > 5 {
		x, c.readers = c.readers[0], c.readers[1:]
		c.finish(ctx, x)
	}
	return nil
}

// finish reads on to the end.
func (c *churner) finish(ctx context.Context, x *reading) {
	_, err := io.Copy(&x.got, x.r)
	if err == nil && blob.Sum(x.got.Bytes()) != x.f.Digest {
		c.say(lineWrong, fmt.Sprintf("wrong: %s of %s", x.f.Path, x.m.Ref()))
	}
	if err != nil {
		c.missed(ctx, x.m, "reading on in "+x.f.Path, err)
	} else {
		c.Reads++
	}
	if err := x.r.Close(); err != nil {
		c.say(lineWrong, err.Error())
	}
}
