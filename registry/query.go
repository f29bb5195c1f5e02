package registry

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/google/uuid"
	"github.com/heftstore/heft/index"
)

// Query selects versions. Every condition that is set must hold; the zero
// Query selects all. ParseQuery reads one from text.
type Query struct {
	Name       string   // exactly
	NamePrefix string   // or only its beginning
	Status     []Status // any of these
	Tags       []string // all of these
	Parent     string   // a reference: versions registered with that parent
	Bounds     []Bound  // all of these
	From, To   int64    // registered within [From, To), in microseconds since the Unix epoch; 0 is open
	Sort       []Sort   // first by the first; then by name and age, new before old
	Limit      int      // at most so many; 0 is all
}

// Bound compares a number of a version with a value. A version that does not
// have the number does not match.
type Bound struct {
	Field string // see Fields
	Op    Op
	Value float64
}

// Op is a comparison.
type Op string

// The comparisons.
const (
	Equal          Op = "="
	NotEqual       Op = "!="
	Less           Op = "<"
	LessOrEqual    Op = "<="
	Greater        Op = ">"
	GreaterOrEqual Op = ">="
)

// Sort orders by a field: "name", "version", "status", "registered",
// "updated", or one of Fields. Versions that lack it come last.
type Sort struct {
	Field string
	Down  bool // largest, or newest, first
}

// Fields returns the numbers that a Bound can compare, besides
// "metric.NAME" for a training metric.
func Fields() []string {
	return []string{"val_acc", "test_acc", "parameters", "examples", "size", "files"}
}

// number returns a version's number by the name of its field.
func (m *Model) number(field string) (float64, bool) {
	deref := func(p *float64) (float64, bool) {
		if p == nil {
			return 0, false
		}
		return *p, true
	}
	known := func(n int64) (float64, bool) { return float64(n), n != 0 }
	switch field {
	case "val_acc":
		return deref(m.Metadata.ValidationAccuracy)
	case "test_acc":
		return deref(m.Metadata.TestAccuracy)
	case "parameters":
		return known(m.Metadata.ParameterCount)
	case "examples":
		return known(m.Metadata.TrainingExamples)
	case "size":
		return float64(m.WeightsSize), true
	case "files":
		return float64(m.Files), true
	}
	metric, ok := strings.CutPrefix(field, "metric.")
	if !ok {
		return 0, false
	}
	v, ok := m.Metadata.TrainingMetrics[metric]
	return v, ok
}

func knownField(f string) bool {
	return slices.Contains(Fields(), f) || strings.HasPrefix(f, "metric.") && len(f) > len("metric.")
}

func (b Bound) holds(m *Model) bool {
	v, ok := m.number(b.Field)
	if !ok {
		return false
	}
	switch b.Op {
	case Equal:
		return v == b.Value
	case NotEqual:
		return v != b.Value
	case Less:
		return v < b.Value
	case LessOrEqual:
		return v <= b.Value
	case Greater:
		return v > b.Value
	}
	return v >= b.Value
}

// check refuses a Query that could only be a mistake, and brings its statuses
// to the letter case in which they are stored.
func (q *Query) check() error {
	for _, b := range q.Bounds {
		if !knownField(b.Field) {
			return fmt.Errorf("%w: unknown field %q to compare: it is metric.NAME or one of %s", ErrInvalid, b.Field, strings.Join(Fields(), ", "))
		}
		if !slices.Contains([]Op{Equal, NotEqual, Less, LessOrEqual, Greater, GreaterOrEqual}, b.Op) {
			return fmt.Errorf("%w: unknown comparison %q", ErrInvalid, b.Op)
		}
	}
	for _, s := range q.Sort {
		if !slices.Contains(sortFields, s.Field) && !knownField(s.Field) {
			return fmt.Errorf("%w: unknown field %q to sort by: it is metric.NAME or one of %s", ErrInvalid, s.Field, strings.Join(append(sortFields, Fields()...), ", "))
		}
	}
	q.Status = slices.Clone(q.Status) // it may be the caller's
	for i, s := range q.Status {
		status, err := ParseStatus(string(s))
		if err != nil {
			return err
		}
		q.Status[i] = status
	}
	if q.Limit < 0 {
		return fmt.Errorf("%w: the limit %d is negative", ErrInvalid, q.Limit)
	}
	return nil
}

var sortFields = []string{"name", "version", "status", "registered", "updated"}

func (q *Query) matches(m *Model, parent uuid.UUID) bool {
	if q.Name != "" && m.Name != q.Name || !strings.HasPrefix(m.Name, q.NamePrefix) {
		return false
	}
	if len(q.Status) > 0 && !slices.Contains(q.Status, m.Status) {
		return false
	}
	for _, t := range q.Tags {
		if !slices.Contains(m.Metadata.Tags, t) {
			return false
		}
	}
	if parent != uuid.Nil && m.Parent != parent {
		return false
	}
	if q.From != 0 && m.RegisteredAt < q.From || q.To != 0 && m.RegisteredAt >= q.To {
		return false
	}
	return !slices.ContainsFunc(q.Bounds, func(b Bound) bool { return !b.holds(m) })
}

// Find yields the versions that a query selects, in its order. It yields an
// error that wraps ErrInvalid for a query that makes no sense, and ErrNotFound
// when its parent is unknown; no match is no error.
func (r *Registry) Find(ctx context.Context, q Query) iter.Seq2[*Model, error] {
	return collect(ctx, r, func(v *view) ([]*Model, error) {
		if err := q.check(); err != nil {
			return nil, err
		}
		parent := uuid.Nil
		if q.Parent != "" {
			rec, err := v.resolveRef(q.Parent)
			if err != nil {
				return nil, err
			}
			parent = rec.ID
		}
		recs, err := q.candidates(v)
		if err != nil {
			return nil, err
		}
		type hit struct {
			m   *Model
			rec *index.Version
		}
		var hits []hit
		for rec, err := range recs {
			if err != nil {
				return nil, err
			}
			m, err := v.model(rec)
			if err != nil {
				return nil, err
			}
			if q.matches(m, parent) {
				hits = append(hits, hit{m, rec})
			}
		}
		slices.SortFunc(hits, func(a, b hit) int {
			for _, s := range q.Sort {
				if c := s.compare(a.m, b.m, a.rec, b.rec); c != 0 {
					return c
				}
			}
			return cmp.Or(strings.Compare(a.m.Name, b.m.Name), byAge(b.rec, a.rec))
		})
		if q.Limit > 0 && len(hits) > q.Limit {
			hits = hits[:q.Limit]
		}
		all := make([]*Model, len(hits))
		for i, h := range hits {
			all[i] = h.m
		}
		return all, nil
	})
}

// candidates picks the narrowest bucket to look through.
func (q *Query) candidates(v *view) (iter.Seq2[*index.Version, error], error) {
	switch {
	case q.Name != "":
		n, err := parseName(q.Name)
		if err != nil {
			return nil, err
		}
		return v.tx.Versions(n), nil
	case q.NamePrefix != "":
		return v.tx.WithPrefix(q.NamePrefix), nil
	case len(q.Status) == 1:
		return v.tx.ByStatus(string(q.Status[0])), nil
	}
	return v.tx.All(), nil
}

func (s Sort) compare(a, b *Model, ar, br *index.Version) int {
	c := 0
	switch s.Field {
	case "name":
		c = strings.Compare(a.Name, b.Name)
	case "version":
		c = byAge(ar, br)
	case "status":
		c = cmp.Compare(slices.Index(Statuses(), a.Status), slices.Index(Statuses(), b.Status))
	case "registered":
		c = cmp.Compare(a.RegisteredAt, b.RegisteredAt)
	case "updated":
		c = cmp.Compare(a.UpdatedAt, b.UpdatedAt)
	default:
		x, xok := a.number(s.Field)
		y, yok := b.number(s.Field)
		switch {
		case xok && yok:
			c = cmp.Compare(x, y)
		case xok:
			return -1
		case yok:
			return 1
		}
	}
	if s.Down {
		return -c
	}
	return c
}

// QueryError says where the text of a query goes wrong.
type QueryError struct {
	Text   string
	Offset int // in bytes
	Reason string
}

func (e *QueryError) Error() string {
	return fmt.Sprintf("registry: query: %s, at byte %d of %q", e.Reason, e.Offset, e.Text)
}

// Unwrap returns ErrInvalid.
func (e *QueryError) Unwrap() error { return ErrInvalid }
