package lattice

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"maps"
	"math"
	"path"
	"slices"
	"strings"

	"github.com/heftstore/heft/internal/canon"
	"github.com/heftstore/heft/internal/name"
	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/migrate/internal/tree"
	"github.com/heftstore/heft/registry"
)

// Folder is a lattice registry that is a tree of folders: a migrate.Source.
type Folder struct{ tree *tree.Tree }

var _ migrate.Source = (*Folder)(nil)

// Kind returns "lattice".
func (f *Folder) Kind() string { return kind }

// Close releases the folder.
func (f *Folder) Close() error { return f.tree.Close() }

const (
	// maxMetadataFile is the most bytes of a metadata.json: as pretty JSON, what
	// the registry takes of one is a quarter of that.
	maxMetadataFile = 8 << 20

	// maxUnread is how much of one that can't be read is kept.
	maxUnread = 64 << 10

	// maxPlace is the longest path of a version's folder.
	maxPlace = name.MaxName + 1 + name.MaxVersion
)

// Items implements migrate.Source: an Item for each version's folder, with its
// parent's before it, then one for each other thing that was found.
func (f *Folder) Items(ctx context.Context) iter.Seq2[*migrate.Item, error] {
	return func(yield func(*migrate.Item, error) bool) {
		if err := f.items(ctx, yield); err != nil {
			yield(nil, fmt.Errorf("reading %s: %w", f.tree.Dir(), err))
		}
	}
}

// items returns an error unless yield returned false.
func (f *Folder) items(ctx context.Context, yield func(*migrate.Item, error) bool) error {
	var places []string
	var others []*migrate.Item
	for v, err := range visit(ctx, f.tree) {
		switch {
		case err != nil:
			return err
		case v.item != nil:
			others = append(others, v.item)
		default:
			places = append(places, v.path)
		}
	}
	if len(places) > math.MaxInt32 {
		return fmt.Errorf("%d versions are more than can be imported at once, %d", len(places), math.MaxInt32)
	}
	s := newSurvey(len(places))
	for _, at := range places {
		if err := ctx.Err(); err != nil {
			return err
		}
		s.add(f.read(at).rec, 0)
	}
	order, verdicts, err := s.plan(func(i int32, v verdict) (bool, error) {
		return f.item(places[i], v).Err == nil, ctx.Err()
	})
	if err != nil {
		return err
	}
	for _, i := range order {
		if err := ctx.Err(); err != nil {
			return err
		}
		if !yield(f.item(places[i], verdicts[i]), nil) {
			return nil
		}
	}
	for _, item := range others {
		if !yield(item, nil) {
			return nil
		}
	}
	return nil
}

// reading is what a version's metadata.json says.
type reading struct {
	rec  *record
	err  error  // why it says nothing; fs.ErrNotExist if there is none
	text []byte // if it says nothing
}

// read reads a version's metadata.json. The record has its name and version from
// the folder in any case.
func (f *Folder) read(at string) reading {
	r := reading{rec: &record{from: at}}
	r.rec.cells[colName], r.rec.cells[colVersion] = path.Dir(at), path.Base(at)
	r.text, r.err = f.tree.ReadFile(path.Join(at, metadataFile), maxMetadataFile)
	if r.err != nil {
		return r
	}
	if r.err = r.parse(); r.err == nil {
		r.text = nil
	}
	return r
}

// parse fills the record from the text.
func (r *reading) parse() error {
	fields, err := parseMetadataFile(r.text)
	if err != nil {
		return err
	}
	known := map[string]column{}
	for c := range column(columns) {
		known[c.String()] = c
	}
	for _, field := range slices.Sorted(maps.Keys(fields)) {
		raw := fields[field]
		c, ok := known[field]
		switch {
		case field == "children": // they follow from the parents
		case !ok:
			r.rec.unknown = append(r.rec.unknown, unknown{field, raw})
		case c == colName || c == colVersion:
			if v := cell(raw); v != nil && v != r.rec.cells[c] {
				r.rec.unknown = append(r.rec.unknown, unknown{field, raw})
			}
		case c == colWeightsPath: // they are in the folder
			if string(raw) != "null" {
				r.rec.unknown = append(r.rec.unknown, unknown{field, raw})
			}
		case c == colMetadata && string(raw) != "null":
			r.rec.cells[c] = string(raw)
		default:
			r.rec.cells[c] = cell(raw)
		}
	}
	return nil
}

// parseMetadataFile returns the fields of a metadata.json, in canonical JSON.
func parseMetadataFile(text []byte) (map[string]json.RawMessage, error) {
	compact, err := canon.Compact(text)
	if err != nil {
		return nil, err
	}
	var fields map[string]json.RawMessage
	if compact[0] != '{' {
		return nil, errors.New("it is no JSON object")
	}
	return fields, json.Unmarshal(compact, &fields)
}

// cell returns a JSON value as a column would have it: an object, an array and
// a truth value are the text of it.
func cell(raw json.RawMessage) any {
	var v any
	switch raw[0] {
	case '{', '[', 't', 'f':
		return string(raw)
	}
	if err := canon.Decode(raw, &v); err != nil {
		return string(raw)
	}
	n, ok := v.(json.Number)
	if !ok {
		return v
	}
	if i, err := n.Int64(); err == nil {
		return i
	}
	if x, err := n.Float64(); err == nil {
		return x
	}
	return n.String()
}

// item describes the version whose folder is at.
func (f *Folder) item(at string, v verdict) *migrate.Item {
	r := f.read(at)
	weights, weightsErr := f.tree.File(path.Join(at, weightsFile), weightsFile)
	if r.err != nil {
		// The folder alone tells of it.
		micros := max(1, weights.Modified/1000)
		r.rec.cells[colStatus], r.rec.cells[colRegisteredAt], r.rec.cells[colUpdatedAt] = string(registry.Pending), micros, micros
	}
	c := convert(r.rec, v)
	for col, was := range r.rec.cells {
		if col := column(col); len(text(was)) > col.limit() {
			c.fail("its %s has %d bytes, over the limit of %d: shorten it, or put it into a file", col, len(text(was)), col.limit())
		}
	}
	switch {
	case errors.Is(r.err, fs.ErrNotExist):
		c.note("it has no %s: its times are those of %s", metadataFile, weightsFile)
	case r.err != nil:
		c.note("its %s can't be read (%.200v): its times are those of %s", metadataFile, r.err, weightsFile)
		if len(r.text) <= maxUnread {
			c.details.Unread = strings.ToValidUTF8(string(r.text), "\uFFFD")
		}
	}
	for _, u := range r.rec.unknown {
		switch u.name {
		case colName.String(), colVersion.String():
			c.note("its %s says that its %s is %.200s: the folder's name counts", metadataFile, u.name, u.value)
		case colWeightsPath.String():
			c.note("its weights_path %.200s is not followed: its weights are in its folder", u.value)
		default:
			c.note("its %s has %.100q, which lattice does not know: that is kept in the details of the origin", metadataFile, u.name)
		}
	}
	switch {
	case errors.Is(weightsErr, fs.ErrNotExist) && r.err == nil:
		c.note("its %s is gone: it is imported with its metadata alone", weightsFile)
		c.noWeights()
	case weightsErr != nil:
		c.fail("%w", weightsErr)
	default:
		c.addWeights(weights)
	}
	if names := f.besides(at); len(names) > 0 {
		c.note("other files in its folder are not imported: %s", list(names))
	}
	return c.finish()
}

// besides returns what is in a version's folder and no part of it.
func (f *Folder) besides(at string) (names []string) {
	entries, err := fs.ReadDir(f.tree.FS(), at)
	if err != nil {
		return nil // the version itself was read: that counts
	}
	for _, e := range entries {
		if !e.IsDir() && e.Name() != weightsFile && e.Name() != metadataFile {
			names = append(names, e.Name())
		}
	}
	return names
}
