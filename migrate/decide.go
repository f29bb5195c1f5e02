package migrate

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"path"
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

	// What the Items so far are, of which there may be a million.
	ids        map[uuid.UUID]struct{}  // of the source, and of what they are in the registry
	failed     map[uuid.UUID]struct{}  // ids of the source
	moved      map[uuid.UUID]uuid.UUID // ids of the source that have another one in the registry
	names      map[[16]byte]struct{}   // the beginnings of digests
	production map[string]string       // name to label

	storing map[uuid.UUID]*job // what the registry does not show yet; nil for a plan
}

func newDecider(r *registry.Registry, kind string, o *Options) *decider {
	return &decider{
		r: r, kind: kind, opts: o.withDefaults(), ids: map[uuid.UUID]struct{}{}, failed: map[uuid.UUID]struct{}{},
		moved: map[uuid.UUID]uuid.UUID{}, names: map[[16]byte]struct{}{}, production: map[string]string{},
	}
}

// stored is called when jobs have their outcomes and the registry shows them.
func (d *decider) stored(jobs []*job) {
	for _, j := range jobs {
		d.noteFailed(j)
	}
	clear(d.storing)
}

func (d *decider) noteFailed(j *job) {
	if j.outcome.State == Failed && j.item.Model.ID != uuid.Nil {
		d.failed[j.item.Model.ID] = struct{}{}
	}
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
	wanted := make([]registry.Wanted, len(items))
	for i, it := range items {
		wanted[i] = wants(it, &it.Model)
	}
	existing, err := d.r.Existing(ctx, wanted)
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
		d.noteFailed(j)
		jobs[i] = j
	}
	return jobs, nil
}

// wants returns an item as the registry is asked for it, as m.
func wants(it *Item, m *registry.Model) registry.Wanted {
	w := registry.Wanted{Model: m, Paths: make([]string, len(it.Files))}
	for i := range it.Files {
		w.Paths[i] = it.Files[i].Path
	}
	return w
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
	if !d.placeParent(j, have) {
		return nil
	}
	d.placeProduction(j, have)
	d.placeAliases(j, have)
	j.outcome.State, j.outcome.Ref, j.outcome.ID = Imported, j.model.Ref(), j.model.ID
	d.ids[it.Model.ID], d.ids[j.model.ID], d.names[nameKey(&j.model)] = struct{}{}, struct{}{}, struct{}{}
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
	for _, f := range it.Files {
		for dir := path.Dir(f.Path); dir != "."; dir = path.Dir(dir) {
			if seen[dir] {
				return fmt.Errorf("%w: %s would be a file, and a folder for %s", registry.ErrInvalid, dir, f.Path)
			}
		}
	}
	return nil
}

func nameKey(m *registry.Model) [16]byte {
	d := blob.Sum([]byte(m.Name + "\x00" + m.Version))
	return [16]byte(d[:16])
}

// conflict ends a job whose version is there already. If it is another one that
// is there, that is the conflict.
func (d *decider) conflict(ctx context.Context, j *job, have *registry.Existing, stamp blob.Digest) (error, error) {
	there := have.ByID
	switch {
	case d.taken(j.model.ID):
		return &ConflictError{Ref: "another version of the source", ByID: true, Why: "no two can have the same"}, nil
	case there == nil && have.ByName == nil:
		if _, ok := d.names[nameKey(&j.model)]; ok {
			return &ConflictError{Ref: j.model.Ref(), Why: "the source has it twice"}, nil
		}
		return have.InTheWay, nil
	case there == nil:
		there = have.ByName
	}
	differs, err := d.differs(ctx, j, there, j.model.ID, stamp)
	if err != nil || j.outcome.State != "" {
		return nil, err
	}
	if differs != "" {
		return &ConflictError{Ref: there.Ref(), ByID: have.ByID != nil, Why: differs}, nil
	}
	d.present(j, have, there, stamp)
	return nil, nil
}

// differs says what an item and a version have not in common, "" if it is the
// same one, which has the id. It ends the job if the source can't be read.
func (d *decider) differs(ctx context.Context, j *job, m *registry.Model, id uuid.UUID, stamp blob.Digest) (string, error) {
	it := j.item
	if o := m.Origin; o != nil && !stamp.IsZero() && o.Fingerprint == stamp {
		return "", nil
	}
	if m.ID != id {
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
func (d *decider) present(j *job, have *registry.Existing, m *registry.Model, stamp blob.Digest) {
	j.end(Present, nil)
	j.outcome.Ref, j.outcome.ID = m.Ref(), m.ID
	j.outcome.Notes = nil // they were told when it was imported
	d.ids[j.item.Model.ID], d.ids[m.ID] = struct{}{}, struct{}{}
	if m.ID != j.item.Model.ID {
		d.moved[j.item.Model.ID] = m.ID
	}
	if o := m.Origin; o != nil && o.Source == d.kind && !o.Fingerprint.IsZero() && o.Fingerprint != stamp {
		j.note("its record, or the time of a file, has changed in the source since it was imported, its content has not: it stays as it is here")
	}
	if m.Name != j.model.Name { // aliases are of a name
		j.model.Aliases = nil
	}
	j.model.Name, j.model.ID = m.Name, m.ID
	d.placeAliases(j, have)
	j.aliases, j.model.Aliases = j.model.Aliases, nil
}

// resolve deals with a conflict as the options say. It ends the job, or leaves
// its model with a label and an id that are free.
func (d *decider) resolve(ctx context.Context, j *job, have *registry.Existing, stamp blob.Digest, conflict error) error {
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
		found, err := d.r.Existing(ctx, []registry.Wanted{wants(j.item, &m)})
		if err != nil {
			return err
		}
		there := found[0].ByName
		if there == nil {
			there = found[0].ByID
		}
		if there != nil && there.ID == m.ID && !d.taken(m.ID) {
			differs, err := d.differs(ctx, j, there, m.ID, stamp)
			if err != nil || j.outcome.State != "" {
				return err
			}
			if differs == "" {
				d.present(j, &found[0], there, stamp)
				return nil
			}
		}
		if _, planned := d.names[nameKey(&m)]; there != nil || planned || d.taken(m.ID) || found[0].InTheWay != nil {
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

// placeParent finds the parent of a version to be imported. It leaves it without
// one if that is nowhere, and ends the job if it is in the source and failed.
func (d *decider) placeParent(j *job, have *registry.Existing) bool {
	parent := j.model.Parent
	if parent == uuid.Nil {
		return true
	}
	id, moved := d.moved[parent]
	if !moved {
		id = parent
	}
	if _, failed := d.failed[parent]; failed && have.Parent == nil {
		return d.withoutParent(j)
	}
	if before := d.storing[id]; before != nil {
		j.after, j.parent = before, true
	}
	if !d.taken(id) && !moved && have.Parent == nil {
		j.dropParent("is neither in the registry nor was it imported")
		return true
	}
	j.model.Parent = id
	return true
}

// withoutParent deals with a version whose parent has failed. It reports whether
// the version is imported all the same.
func (d *decider) withoutParent(j *job) bool {
	if !d.opts.DropParents {
		j.end(Failed, fmt.Errorf("its parent %s could not be imported: mend that first, or choose to import it without", j.model.Parent))
		return false
	}
	j.dropParent("could not be imported")
	return true
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
func (d *decider) placeAliases(j *job, have *registry.Existing) {
	var place []string
	for _, text := range j.model.Aliases {
		if _, err := name.ParseAlias(text); err != nil {
			j.note("the alias %q is left out: %v", text, err)
			continue
		}
		at := have.Aliases[text]
		switch {
		case at == nil:
			place = append(place, text)
		case at.ID == j.model.ID:
		case j.outcome.State == Present || at.Origin == nil || at.Origin.Source != d.kind:
			j.note("the alias %s stays at %s", text, at.Ref())
		default:
			j.note("the alias %s moves here from %s", text, at.Ref())
			place = append(place, text)
		}
	}
	j.model.Aliases = place
}
