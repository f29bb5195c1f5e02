package lattice

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"

	"github.com/google/uuid"
	"github.com/heftstore/heft/internal/canon"
	"github.com/heftstore/heft/registry"
)

// restored is a version with what is known of the row that it was.
type restored struct {
	*registry.Model
	details details
}

// restore reads the details of a version that came from lattice. Those that make
// no sense, which nothing written here does, count as none.
func restore(m *registry.Model) restored {
	r := restored{Model: m}
	if !r.fromLattice() || len(m.Origin.Details) == 0 {
		return r
	}
	if err := canon.Decode(m.Origin.Details, &r.details); err != nil {
		r.details = details{}
	}
	return r
}

func (r *restored) fromLattice() bool { return r.Origin != nil && r.Origin.Source == kind }

// was returns what a column held, if heft still has what it made of that.
func (r *restored) was(col column, present string) (any, bool) {
	k, ok := r.details.Kept[col.String()]
	if !ok || k.As != "" && k.As != mark(present) {
		return nil, false
	}
	v, err := decode(k.Was)
	return v, err == nil
}

// value returns what a column held, or else what it holds now.
func (r *restored) value(col column, present string, now any) any {
	if v, ok := r.was(col, present); ok {
		return v
	}
	return now
}

// required is value for a column that can't be NULL.
func (r *restored) required(col column, present string, now any) any {
	v := r.value(col, present, now)
	if v == nil {
		return now
	}
	return v
}

// time returns microseconds, whatever form the time had.
func (r *restored) time(col column, micros int64) int64 {
	if v, ok := r.was(col, strconv.FormatInt(micros, 10)); ok {
		if was, err := parseTime(v); err == nil {
			return was
		}
	}
	return micros
}

func (r *restored) metadata() (any, error) {
	written, err := canon.Marshal(r.Metadata)
	if err != nil {
		return nil, fmt.Errorf("writing the metadata: %w", err)
	}
	present := string(written)
	if present == "{}" {
		present = ""
	}
	now := any(string(written))
	if v, ok := whole(&r.Metadata, r.details.Metadata); ok {
		now = v
	}
	return r.required(colMetadata, present, now), nil
}

// id returns what identified the version in lattice, or else its id in heft.
func (r *restored) id() any {
	now := any(r.ID.String())
	if r.fromLattice() && r.Origin.LegacyID != "" {
		if id, _ := identify(r.Origin.LegacyID); id == r.ID {
			now = r.Origin.LegacyID
		}
	}
	return r.value(colID, r.ID.String(), now)
}

// parent returns how the row of the parent is identified.
func (r *restored) parent(ctx context.Context, reg *registry.Registry) (any, error) {
	if r.Parent == uuid.Nil && r.details.DroppedParent != "" {
		if k, ok := r.details.Kept[colParentID.String()]; ok {
			return decode(k.Was)
		}
		return r.details.DroppedParent, nil
	}
	if v, ok := r.was(colParentID, idText(r.Parent)); ok || r.Parent == uuid.Nil {
		return v, nil
	}
	if _, ok := r.details.Kept[colParentID.String()]; !ok && r.fromLattice() {
		return r.Parent.String(), nil // it was that, whatever the parent's own row had
	}
	p, err := reg.Get(ctx, r.Parent.String())
	switch {
	case errors.Is(err, registry.ErrNotFound):
		return r.Parent.String(), nil
	case err != nil:
		return nil, fmt.Errorf("looking for the parent: %w", err)
	}
	as := restore(p)
	return as.id(), nil
}

// stored is what was written of a version's weights.
type stored struct {
	place string // "" if there are none
	size  int64
	sum   registry.SHA256
}

// place returns where the weights were in lattice, "" if that is unknown or no
// place for them.
func (r *restored) place() string {
	at := r.details.WeightsFile
	v, ok := r.was(colWeightsPath, r.Name+"\x00"+r.Version)
	if !ok {
		return ""
	}
	if given, isText := v.(string); at == "" && isText {
		at = given
	}
	if !isPlace(at) {
		return ""
	}
	return at
}

// row returns the values of the known columns. w says where the weights are.
func (r *restored) row(ctx context.Context, reg *registry.Registry, w stored) ([]any, error) {
	metadata, err := r.metadata()
	if err != nil {
		return nil, err
	}
	parent, err := r.parent(ctx, reg)
	if err != nil {
		return nil, err
	}
	var row [columns]any
	row[colID] = r.id()
	row[colName], row[colVersion] = r.Name, r.Version
	row[colStatus] = r.required(colStatus, string(r.Status), string(r.Status))
	row[colMetadata] = metadata
	row[colRegisteredAt], row[colUpdatedAt] = r.time(colRegisteredAt, r.RegisteredAt), r.time(colUpdatedAt, r.UpdatedAt)
	row[colRegisteredBy] = r.value(colRegisteredBy, r.RegisteredBy, orNull(r.RegisteredBy))
	row[colDescription] = r.value(colDescription, r.Description, orNull(r.Description))
	var size, sum any
	if w.place != "" {
		size, sum = w.size, w.sum.String()
	}
	row[colWeightsPath] = orNull(w.place)
	if w.place == "" || w.place == r.place() {
		row[colWeightsPath] = r.value(colWeightsPath, r.Name+"\x00"+r.Version, row[colWeightsPath])
	}
	row[colWeightsSize] = r.value(colWeightsSize, "", size)
	row[colWeightsHash] = r.value(colWeightsHash, "", sum)
	row[colParentID] = parent
	return row[:], nil
}

// unhashed reports whether the row had no hash of the weights.
func (r *restored) unhashed() bool {
	k, ok := r.details.Kept[colWeightsHash.String()]
	return ok && string(k.Was) == string(json.RawMessage("null"))
}

func orNull(s string) any {
	if s == "" {
		return nil
	}
	return s
}
