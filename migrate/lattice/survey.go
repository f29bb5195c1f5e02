package lattice

import (
	"bytes"
	"cmp"
	"hash/maphash"
	"slices"

	"github.com/google/uuid"
	"github.com/heftstore/heft/registry"
)

// survey is the first of two passes over all records: it finds the order to
// import them in, and what only a look at all of them tells of one. Of a record
// it holds about 60 bytes until it is done, and 5 then, so that a million of
// them fit.
type survey struct {
	ids, parents []uuid.UUID
	verdicts     []verdict
	contenders   []contender
	seed         maphash.Seed
}

// contender is a version in production.
type contender struct {
	name       uint64 // its hash: only equality counts
	updated    int64
	registered int64
	record     int32
}

// newSurvey makes room for that many records.
func newSurvey(records int) *survey {
	return &survey{
		ids: make([]uuid.UUID, 0, records), parents: make([]uuid.UUID, 0, records), verdicts: make([]verdict, 0, records),
		seed: maphash.MakeSeed(),
	}
}

// add takes the next record, numbered from 0. Of its cells it looks at those of
// surveyed.
func (s *survey) add(rec *record, v verdict) {
	parent, _ := identify(rec.cells[colParentID])
	if status, _ := statusOf(rec.cells[colStatus]); status == registry.Production {
		// One that fails is not in production, whatever it says.
		if registered, updated, err := timesOf(rec); err == nil {
			name := maphash.String(s.seed, text(rec.cells[colName]))
			s.contenders = append(s.contenders, contender{name, updated, registered, int32(len(s.ids))})
		}
	}
	s.ids = append(s.ids, idOf(rec))
	s.parents = append(s.parents, parent)
	s.verdicts = append(s.verdicts, v)
}

// surveyed returns the columns that a survey looks at, and the one that tells
// whose weights are those of a row that is too large.
func surveyed() []column {
	return []column{colID, colName, colVersion, colStatus, colRegisteredAt, colUpdatedAt, colWeightsPath, colParentID}
}

// sound reports whether a record can be imported as far as that is seen without
// reading its weights.
type sound func(record int32, v verdict) (bool, error)

// plan returns the numbers of the records, parents before their children and
// otherwise as they came, and the verdict on each. It asks whether a record is
// sound only where several of a name are in production. The survey can't be used
// afterwards.
func (s *survey) plan(is sound) (order []int32, verdicts []verdict, err error) {
	s.dropUnrivalled()
	up := s.resolve()
	s.ids, s.parents = nil, nil
	if err := s.electProduction(is); err != nil {
		return nil, nil, err
	}
	return s.order(up), s.verdicts, nil
}

// dropUnrivalled sorts the contenders, the latest of each name first, and drops
// those who are the only one.
func (s *survey) dropUnrivalled() {
	slices.SortFunc(s.contenders, func(a, b contender) int {
		return cmp.Or(cmp.Compare(a.name, b.name), cmp.Compare(b.updated, a.updated),
			cmp.Compare(b.registered, a.registered), cmp.Compare(b.record, a.record))
	})
	rivals := s.contenders[:0]
	for from := 0; from < len(s.contenders); {
		to := from + 1
		for to < len(s.contenders) && s.contenders[to].name == s.contenders[from].name {
			to++
		}
		if to-from > 1 {
			rivals = append(rivals, s.contenders[from:to]...)
		}
		from = to
	}
	s.contenders = slices.Clone(rivals) // the others' room is freed
}

// electProduction leaves each name the version in production that was changed
// last, of those that are sound: one that fails would leave it none.
func (s *survey) electProduction(is sound) error {
	elected := false
	for i, c := range s.contenders {
		if i > 0 && s.contenders[i-1].name != c.name {
			elected = false
		}
		if elected {
			s.verdicts[c.record] |= notProduction
			continue
		}
		var err error
		if elected, err = is(c.record, s.verdicts[c.record]); err != nil {
			return err
		}
	}
	s.contenders = nil
	return nil
}

// resolve returns each record's parent, -1 if it has none.
func (s *survey) resolve() []int32 {
	byID := make([]int32, len(s.ids))
	for i := range byID {
		byID[i] = int32(i)
	}
	slices.SortFunc(byID, func(a, b int32) int {
		return cmp.Or(bytes.Compare(s.ids[a][:], s.ids[b][:]), cmp.Compare(a, b))
	})
	for i := 1; i < len(byID); i++ {
		if s.ids[byID[i]] == s.ids[byID[i-1]] {
			s.verdicts[byID[i]] |= sameID
		}
	}
	up := make([]int32, len(s.ids))
	for i, parent := range s.parents {
		up[i] = -1
		if parent == uuid.Nil {
			continue
		}
		at, found := slices.BinarySearchFunc(byID, parent, func(r int32, id uuid.UUID) int {
			return bytes.Compare(s.ids[r][:], id[:])
		})
		if found {
			up[i] = byID[at]
		} else {
			s.verdicts[i] |= noParent
		}
	}
	return up
}

// order takes time in proportion to the records, however deep they descend: each
// is walked through once, and a second time if it leads to a circle.
func (s *survey) order(up []int32) []int32 {
	const (
		fresh = iota
		walked
		placed
	)
	state := make([]uint8, len(up))
	order := make([]int32, 0, len(up))
	var path []int32
	for i := range up {
		for {
			path = path[:0]
			at := int32(i)
			for at >= 0 && state[at] == fresh {
				state[at] = walked
				path = append(path, at)
				at = up[at]
			}
			if at < 0 || state[at] == placed {
				break
			}
			s.cut(up, at)
			for _, p := range path {
				state[p] = fresh
			}
		}
		for _, p := range slices.Backward(path) {
			state[p] = placed
			order = append(order, p)
		}
	}
	return order
}

// cut opens the circle that at is on: the record on it that came first loses its
// parent.
func (s *survey) cut(up []int32, at int32) {
	first := at
	for p := up[at]; p != at; p = up[p] {
		first = min(first, p)
	}
	up[first] = -1
	s.verdicts[first] |= parentCut
}
