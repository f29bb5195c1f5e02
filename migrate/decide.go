package migrate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"slices"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/name"
	"github.com/heftstore/heft/registry"
)

// job is an Item and what is decided about it.
type job struct {
	item    *Item
	outcome Outcome
	model   registry.Model // of one to be imported, as it will be
	aliases []string       // that one that is present still lacks

	after  *job          // one to be imported that has to be stored before
	done   chan struct{} // closed when it is stored, or has failed
	draft  *registry.Draft
	parent bool // after is the parent
}

// decider decides what becomes of Items, in order.
type decider struct {
	r    *registry.Registry
	kind string
	opts Options

	// What the Items so far will make, as long as the registry does not show it.
	// A plan may have a million of them.
	ids        map[uuid.UUID]struct{}
	names      map[[16]byte]struct{} // the beginnings of digests
	production map[string]string     // name to label
	storing    map[uuid.UUID]*job    // nil for a plan

	moved map[uuid.UUID]uuid.UUID // ids of the source that have another one in the registry
}

func newDecider(r *registry.Registry, kind string, o *Options) *decider {
	return &decider{
		r: r, kind: kind, opts: o.withDefaults(), moved: map[uuid.UUID]uuid.UUID{},
		ids: map[uuid.UUID]struct{}{}, names: map[[16]byte]struct{}{}, production: map[string]string{},
	}
}

// forget is called when the registry shows all that was decided.
func (d *decider) forget() {
	clear(d.ids)
	clear(d.names)
	clear(d.production)
	clear(d.storing)
}

// Limits of what is decided at once: a look at the index costs 50 to 100
// microseconds, whether for one version or for some hundred.
const (
	chunkItems = 256
	chunkBytes = 512 << 20
)

// jobs decides about all Items of a source, some at a time.
func (d *decider) jobs(ctx context.Context, src Source) iter.Seq2[[]*job, error] {
	return func(yield func([]*job, error) bool) {
		var items []*Item
		size := int64(0)
		decide := func() bool {
			jobs, err := d.decideAll(ctx, items)
			items, size = nil, 0
			return yield(jobs, err) && err == nil
		}
		for it, err := range src.Items(ctx) {
			if err != nil {
				if len(items) == 0 || decide() {
					yield(nil, err)
				}
				return
			}
			items = append(items, it)
			size += sizeOf(it)
			if len(items) >= chunkItems || size >= chunkBytes {
				if !decide() {
					return
				}
			}
		}
		if len(items) > 0 {
			decide()
		}
	}
}

func sizeOf(it *Item) (size int64) {
	for _, f := range it.Files {
		size += f.Size
	}
	return size
}

func (d *decider) decideAll(ctx context.Context, items []*Item) ([]*job, error) {
	models := make([]*registry.Model, len(items))
	for i, it := range items {
		models[i] = &it.Model
	}
	existing, err := d.r.Existing(ctx, models)
	if err != nil {
		return nil, err
	}
	jobs := make([]*job, len(items))
	for i, it := range items {
		j := &job{item: it, model: it.Model, outcome: Outcome{
			From: it.From, Files: len(it.Files), Size: sizeOf(it), Notes: slices.Clone(it.Notes),
		}}
		if it.Model.Name != "" && it.Model.Version != "" {
			j.outcome.Ref = it.Model.Ref()
		}
		if err := d.decide(ctx, j, &existing[i]); err != nil {
			return nil, fmt.Errorf("%s: %w", it.From, err)
		}
		jobs[i] = j
	}
	return jobs, nil
}

// end gives a job a state that leaves the registry as it is.
func (j *job) end(s State, why error) { j.outcome.State, j.outcome.Why = s, why }

func (j *job) note(format string, args ...any) {
	j.outcome.Notes = append(j.outcome.Notes, fmt.Sprintf(format, args...))
}

// decide sets the outcome of a job, and its model if it is to be imported. What
// it returns as an error is about the registry.
func (d *decider) decide(ctx context.Context, j *job, have *registry.Existing) error {
	it := j.item
	if it.Skip != "" {
		j.end(Skipped, errors.New(it.Skip))
		return nil
	}
	if it.Err != nil {
		j.end(Failed, it.Err)
		return nil
	}
	if err := check(it); err != nil {
		j.end(Failed, err)
		return nil
	}
	stamp := fingerprint(it)
	if o := it.Model.Origin; o != nil && o.Fingerprint.IsZero() {
		c := *o
		c.Fingerprint = stamp
		j.model.Origin = &c
	}
	conflict, err := d.conflict(ctx, j, have, stamp)
	if err != nil || j.outcome.State != "" {
		return err
	}
	if conflict != nil {
		if err := d.resolve(ctx, j, have, stamp, conflict); err != nil || j.outcome.State != "" {
			return err
		}
	}
	d.placeParent(j, have)
	d.placeProduction(j, have)
	if err := d.placeAliases(ctx, j); err != nil {
		return err
	}
	j.outcome.State, j.outcome.Ref, j.outcome.ID = Imported, j.model.Ref(), j.model.ID
	d.ids[j.model.ID], d.names[nameKey(&j.model)] = struct{}{}, struct{}{}
	if d.storing != nil {
		d.storing[j.model.ID] = j
	}
	return nil
}

// check returns why the registry would refuse an item.
func check(it *Item) error {
	m := it.Model
	m.Aliases = nil // one that is no alias is left out
	if err := m.Check(); err != nil {
		return err
	}
	seen := make(map[string]bool, len(it.Files))
	for _, f := range it.Files {
		if _, err := name.ParsePath(f.Path); err != nil {
			return err
		}
		if seen[f.Path] {
			return fmt.Errorf("%w: two of its files would be %s", registry.ErrInvalid, f.Path)
		}
		seen[f.Path] = true
	}
	return nil
}

func nameKey(m *registry.Model) [16]byte {
	d := blob.Sum([]byte(m.Name + "\x00" + m.Version))
	return [16]byte(d[:16])
}

// conflict ends a job whose version is there already. If it is another one that
// is there, that is the conflict.
func (d *decider) conflict(ctx context.Context, j *job, have *registry.Existing, stamp blob.Digest) (*ConflictError, error) {
	there := have.ByID
	if there == nil {
		there = have.ByName
	}
	if there == nil {
		if _, ok := d.ids[j.model.ID]; ok {
			return &ConflictError{Ref: "another version of the source", ByID: true, Why: "no two can have the same"}, nil
		}
		if _, ok := d.names[nameKey(&j.model)]; ok {
			return &ConflictError{Ref: j.model.Ref(), Why: "the source has it twice"}, nil
		}
		return nil, nil
	}
	differs, err := d.differs(ctx, j, there, stamp)
	if err != nil || j.outcome.State != "" {
		return nil, err
	}
	if differs != "" {
		return &ConflictError{Ref: there.Ref(), ByID: have.ByID != nil, Why: differs}, nil
	}
	return nil, d.present(ctx, j, there, stamp)
}

// differs says what an item and a version have not in common, "" if it is the
// same one. It ends the job if the source can't be read.
func (d *decider) differs(ctx context.Context, j *job, m *registry.Model, stamp blob.Digest) (string, error) {
	it := j.item
	if o := m.Origin; o != nil && !stamp.IsZero() && o.Fingerprint == stamp {
		return "", nil
	}
	if m.ID != it.Model.ID {
		if o := m.Origin; o != nil && o.Source == d.kind {
			return "it was imported as " + m.ID.String() + ", which is another one", nil
		}
		if len(it.Files) == 0 {
			return "neither has content that could be compared", nil
		}
	}
	stored := map[string]registry.File{}
	for f, err := range m.List(ctx) {
		if err != nil {
			return "", err
		}
		stored[f.Path] = f
	}
	if len(stored) != len(it.Files) {
		return fmt.Sprintf("it has %d files there, not %d", len(stored), len(it.Files)), nil
	}
	for i := range it.Files {
		f := &it.Files[i]
		if s, ok := stored[f.Path]; !ok || s.Size != f.Size {
			return fmt.Sprintf("its file %s is missing there, or has another size", f.Path), nil
		}
	}
	for i := range it.Files {
		f := &it.Files[i]
		sum, err := digest(ctx, f)
		if err != nil {
			if ctx.Err() != nil {
				return "", context.Cause(ctx)
			}
			j.end(Failed, fmt.Errorf("comparing %s with %s: %w", f.Path, m.Ref(), err))
			return "", nil
		}
		if sum != stored[f.Path].Digest {
			return fmt.Sprintf("its file %s has other content there", f.Path), nil
		}
	}
	return "", nil
}

// present ends a job whose version is there.
func (d *decider) present(ctx context.Context, j *job, m *registry.Model, stamp blob.Digest) error {
	j.end(Present, nil)
	j.outcome.Ref, j.outcome.ID = m.Ref(), m.ID
	j.outcome.Notes = nil // they were told when it was imported
	if m.ID != j.item.Model.ID {
		d.moved[j.item.Model.ID] = m.ID
	}
	if o := m.Origin; o != nil && o.Source == d.kind && !o.Fingerprint.IsZero() && o.Fingerprint != stamp {
		j.note("its record, or the time of a file, has changed in the source since it was imported, its content has not: it stays as it is here")
	}
	j.model.Name, j.model.ID = m.Name, m.ID
	if err := d.placeAliases(ctx, j); err != nil {
		return err
	}
	j.aliases, j.model.Aliases = j.model.Aliases, nil
	return nil
}

// resolve deals with a conflict as the options say. It ends the job, or leaves
// its model with a label and an id that are free.
func (d *decider) resolve(ctx context.Context, j *job, have *registry.Existing, stamp blob.Digest, conflict *ConflictError) error {
	switch d.opts.OnConflict {
	case Skip:
		j.end(Skipped, conflict)
		return nil
	case Fail:
		j.end(Failed, fmt.Errorf("%w: give one of them another label, or choose what happens on a conflict", conflict))
		return nil
	}
	old := j.item.Model
	for n := 2; ; n++ {
		m := old
		m.Version = fmt.Sprintf("%s-%d", old.Version, n)
		if d.taken(old.ID) || have.ByID != nil {
			m.ID = uuid.NewSHA1(old.ID, []byte(m.Version))
		}
		if err := m.Check(); err != nil {
			j.end(Failed, err)
			return nil
		}
		taken, err := d.r.Existing(ctx, []*registry.Model{&m})
		if err != nil {
			return err
		}
		there := taken[0].ByName
		if there == nil {
			there = taken[0].ByID
		}
		if there != nil {
			if o := there.Origin; o != nil && !stamp.IsZero() && o.Fingerprint == stamp {
				return d.present(ctx, j, there, stamp)
			}
			continue
		}
		if _, ok := d.names[nameKey(&m)]; ok || d.taken(m.ID) {
			continue
		}
		j.model.Version, j.model.ID = m.Version, m.ID
		d.moved[old.ID] = m.ID
		j.note("imported as %s: %v", m.Ref(), conflict)
		return nil
	}
}

// taken reports whether an Item before has that id.
func (d *decider) taken(id uuid.UUID) bool {
	_, ok := d.ids[id]
	return ok
}

// placeParent finds the parent of a version to be imported, or leaves it without
// one.
func (d *decider) placeParent(j *job, have *registry.Existing) {
	parent := j.model.Parent
	if parent == uuid.Nil {
		return
	}
	id, moved := d.moved[parent]
	if !moved {
		id = parent
	}
	if before := d.storing[id]; before != nil {
		j.after, j.parent = before, true
	}
	if !d.taken(id) && !moved && have.Parent == nil {
		j.dropParent("is neither in the registry nor was it imported")
		return
	}
	j.model.Parent = id
}

// dropParent leaves a version without its parent, which its origin keeps.
func (j *job) dropParent(why string) {
	j.note("its parent %s %s: it is imported without a parent", j.model.Parent, why)
	if o := j.model.Origin; o != nil { // there it is still named
		details := map[string]json.RawMessage{}
		if len(o.Details) == 0 || json.Unmarshal(o.Details, &details) == nil {
			details["dropped_parent"], _ = json.Marshal(j.item.Model.Parent) // a UUID is always JSON
			if raw, err := json.Marshal(details); err == nil {
				c := *o
				c.Details = raw
				j.model.Origin = &c
			}
		}
	}
	j.model.Parent, j.after, j.parent = uuid.Nil, nil, false
}

// placeProduction keeps what is in production where it is.
func (d *decider) placeProduction(j *job, have *registry.Existing) {
	if j.model.Status != registry.Production {
		return
	}
	other, taken := d.production[j.model.Name]
	if have.Production != nil {
		other, taken = have.Production.Version, true
	}
	if taken {
		j.model.Status = registry.Staged
		j.note("%s:%s is in production, so this one is staged: promote it if it should take over", j.model.Name, other)
		return
	}
	d.production[j.model.Name] = j.model.Version
}

// placeAliases leaves a version those aliases that are free, or that point at a
// version of the same source: the source has moved them. One that is present
// only gets those that are free.
func (d *decider) placeAliases(ctx context.Context, j *job) error {
	if len(j.model.Aliases) == 0 {
		return nil
	}
	at := map[string]registry.Alias{}
	for a, err := range d.r.Aliases(ctx, j.model.Name) {
		if errors.Is(err, fs.ErrNotExist) {
			break
		}
		if err != nil {
			return err
		}
		at[a.Alias] = a
	}
	var place []string
	for _, text := range j.model.Aliases {
		if _, err := name.ParseAlias(text); err != nil {
			j.note("the alias %q is left out: %v", text, err)
			continue
		}
		a, taken := at[text]
		switch {
		case !taken:
			place = append(place, text)
		case a.ID == j.model.ID:
		case j.outcome.State == Present || !d.own(ctx, a.ID):
			j.note("the alias %s stays at %s:%s", text, a.Name, a.Version)
		default:
			j.note("the alias %s moves here from %s:%s", text, a.Name, a.Version)
			place = append(place, text)
		}
	}
	j.model.Aliases = place
	return nil
}

// own reports whether a version came from the same kind of source.
func (d *decider) own(ctx context.Context, id uuid.UUID) bool {
	m, err := d.r.Get(ctx, id.String())
	return err == nil && m.Origin != nil && m.Origin.Source == d.kind
}
