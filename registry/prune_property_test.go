package registry

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
	"github.com/heftstore/heft/internal/name"
	"pgregory.net/rapid"
)

// checkpoint is a version of a generated run of a training.
type checkpoint struct {
	m      Model
	record int // that registers it
	count  int // of its model until then
	loss   *float64
}

func drawCheckpoints(t *rapid.T, prefix string, now int64) (all []*checkpoint) {
	counts := map[string]int{}
	taken := map[string]bool{}
	for i := range rapid.IntRange(1, 9).Draw(t, "versions") {
		c := &checkpoint{}
		c.m = Model{
			ID: uuid.New(), Name: prefix + rapid.SampledFrom([]string{"a", "b"}).Draw(t, "name"),
			Status:       rapid.SampledFrom([]Status{Pending, Pending, Pending, Validated, Archived, Staged}).Draw(t, "status"),
			RegisteredAt: now + rapid.Int64Range(-20, 5).Draw(t, "days")*24*int64(time.Hour/time.Microsecond) + int64(i),
		}
		if i > 0 {
			c.record = all[i-1].record + rapid.IntRange(0, 4).Draw(t, "another record")/4
		}
		c.m.Version = rapid.SampledFrom([]string{strconv.Itoa(i + 1), "run-" + strconv.Itoa(i), "0.1." + strconv.Itoa(i)}).Draw(t, "label")
		counts[c.m.Name]++
		c.count = counts[c.m.Name]
		if rapid.IntRange(0, 5).Draw(t, "tagged") == 0 {
			c.m.Metadata.Tags = []string{"x"}
		}
		if rapid.Bool().Draw(t, "measured") {
			c.loss = new(float64(rapid.IntRange(-2, 2).Draw(t, "loss")))
			if rapid.Bool().Draw(t, "in extra") {
				c.m.Metadata.Extra = json.RawMessage(fmt.Sprintf(`{"loss":%g}`, *c.loss))
			} else {
				c.m.Metadata.TrainingMetrics = map[string]float64{"loss": *c.loss}
			}
		}
		if rapid.IntRange(0, 5).Draw(t, "aliased") == 0 {
			c.m.Aliases = []string{"alias-" + strconv.Itoa(i)}
		}
		if p := c.m.Name + "production"; rapid.IntRange(0, 5).Draw(t, "production") == 0 && !taken[p] {
			taken[p] = true
			c.m.Status = Production
		}
		if len(all) > 0 && rapid.Bool().Draw(t, "has a parent") {
			c.m.Parent = rapid.SampledFrom(all).Draw(t, "parent").m.ID
		}
		all = append(all, c)
	}
	return all
}

func drawPolicy(t *rapid.T) Policy {
	p := Policy{KeepLast: 1}
	for range rapid.IntRange(1, 3).Draw(t, "rules") {
		switch rapid.SampledFrom([]string{"last", "every", "best", "tagged", "within", "parents"}).Draw(t, "rule") {
		case "last":
			p.KeepLast = rapid.IntRange(0, 3).Draw(t, "last")
		case "every":
			p.KeepEvery = int64(rapid.IntRange(1, 4).Draw(t, "every"))
		case "best":
			p.KeepBest = append(p.KeepBest, Best{"loss", rapid.IntRange(1, 3).Draw(t, "best"), rapid.SampledFrom([]Direction{Highest, Lowest}).Draw(t, "by")})
		case "tagged":
			p.KeepTagged = true
		case "within":
			p.Within = time.Duration(rapid.IntRange(1, 20).Draw(t, "days")) * 24 * time.Hour
		case "parents":
			p.KeepParents = true
		}
	}
	if p.Check() != nil {
		p.KeepTagged = true
	}
	return p
}

// newer says whether c was registered after o, as KeepLast sees it.
func (c *checkpoint) newer(o *checkpoint) bool {
	if c.record == o.record {
		return c.m.RegisteredAt > o.m.RegisteredAt
	}
	return c.record > o.record
}

// wantDropped says what a policy drops, by what each rule says of one version.
func wantDropped(all []*checkpoint, p Policy, now int64, pruned func(*checkpoint) bool) []string {
	// than counts the other versions of the model of c for which a function holds.
	than := func(c *checkpoint, holds func(o *checkpoint) bool) (n int) {
		for _, o := range all {
			if o.m.Name == c.m.Name && o != c && holds(o) {
				n++
			}
		}
		return n
	}
	kept := map[*checkpoint]bool{}
	for _, c := range all {
		rank := func(c *checkpoint) [3]int { // as the bare name has it
			if n, err := strconv.Atoi(c.m.Version); err == nil {
				return [3]int{2, n}
			}
			if n, ok := strings.CutPrefix(c.m.Version, "0.1."); ok {
				n, _ := strconv.Atoi(n)
				return [3]int{1, n}
			}
			return [3]int{0, int(c.m.RegisteredAt)}
		}
		latest := than(c, func(o *checkpoint) bool { x, y := rank(o), rank(c); return slices.Compare(x[:], y[:]) > 0 }) == 0
		number, err := strconv.Atoi(c.m.Version)
		if err != nil {
			number = c.count
		}
		keep := !pruned(c) || latest || c.m.Status == Production || c.m.Status == Staged || c.m.Aliases != nil ||
			than(c, func(o *checkpoint) bool { return o.newer(c) }) < p.KeepLast ||
			p.KeepEvery > 0 && int64(number)%p.KeepEvery == 0 ||
			p.KeepTagged && c.m.Metadata.Tags != nil ||
			p.Within > 0 && time.UnixMicro(now).Sub(time.UnixMicro(c.m.RegisteredAt)) <= p.Within
		for _, b := range p.KeepBest {
			if c.loss == nil {
				keep = keep || than(c, func(o *checkpoint) bool { return o.loss != nil }) == 0
				continue
			}
			better := than(c, func(o *checkpoint) bool {
				switch {
				case o.loss == nil:
					return false
				case *o.loss == *c.loss:
					return o.newer(c)
				}
				return (*o.loss > *c.loss) == (b.By == Highest)
			})
			keep = keep || better < b.N
		}
		kept[c] = keep
	}
	for range all {
		for _, c := range all {
			for _, o := range all {
				if p.KeepParents && kept[o] && o.m.Parent == c.m.ID {
					kept[c] = true
				}
			}
		}
	}
	var refs []string
	for _, c := range all {
		if !kept[c] {
			refs = append(refs, c.m.Ref())
		}
	}
	slices.Sort(refs)
	return refs
}

// registerBare registers a version with one file, without storing anything.
func (v *view) registerBare(m Model, content blob.Info) error {
	rec := index.Version{ID: m.ID, Status: string(m.Status), Manifest: content.Digest, RegisteredAt: m.RegisteredAt, Parent: m.Parent}
	var err error
	if rec.Name, err = name.ParseName(m.Name); err != nil {
		return err
	}
	if rec.Version, err = name.ParseVersion(m.Version); err != nil {
		return err
	}
	if rec.Metadata, err = m.Metadata.encode(); err != nil {
		return err
	}
	path, err := name.ParsePath(WeightsFile)
	if err != nil {
		return err
	}
	if err := v.tx.Register(&rec, []index.File{{Path: path, Digest: content.Digest, Size: content.Size}}); err != nil {
		return err
	}
	for _, alias := range m.Aliases {
		a, err := name.ParseAlias(alias)
		if err != nil {
			return err
		}
		if err := v.tx.SetAlias(rec.Name, a, uuid.Nil, m.ID); err != nil {
			return err
		}
	}
	return nil
}

func TestPruneModel(t *testing.T) {
	ctx := t.Context()
	const now = int64(1_700_000_000_000_000)
	r, err := CreateTemp(ctx, &Options{Exclusive: true, Now: func() int64 { return now }})
	must(t, err)
	t.Cleanup(func() { must(t, r.Close()) })
	content, err := r.store.Put(ctx, strings.NewReader("the weights, and the manifest, too"))
	must(t, err)
	change, err := r.change("register", Note{})
	must(t, err)
	run := 0
	rapid.Check(t, func(t *rapid.T) {
		run++
		prefix := fmt.Sprintf("run%d/", run)
		versions := drawCheckpoints(t, prefix, now)
		p := drawPolicy(t)
		for record := range versions[len(versions)-1].record + 1 {
			must(t, r.update(ctx, change, func(v *view) error {
				for _, c := range versions {
					if c.record != record {
						continue
					}
					if err := v.registerBare(c.m, content); err != nil {
						return err
					}
				}
				return nil
			}))
		}
		names := rapid.SampledFrom([][]string{{prefix}, {prefix + "a"}, {prefix + "b"}}).Draw(t, "names")
		pruned := func(c *checkpoint) bool { return strings.HasPrefix(c.m.Name, names[0]) }
		if !slices.ContainsFunc(versions, pruned) {
			_, err := r.Prune(ctx, names, p, Note{})
			if err == nil {
				t.Fatal("a model that there is not was pruned")
			}
			return
		}
		want := wantDropped(versions, p, now, pruned)

		planned, err := r.PlanPrune(ctx, names, p)
		must(t, err)
		got, err := r.prune(ctx, names, p, Note{}, rapid.IntRange(1, 4).Draw(t, "limit"))
		must(t, err)
		// A Model that is kept has fewer children when another record deleted some.
		for _, v := range slices.Concat(got.Versions, planned.Versions) {
			v.Model.Children = nil
		}
		same(t, "the run, and the plan", got, planned)
		drops := dropped(t, got)
		slices.Sort(drops)
		same(t, "dropped", drops, want)

		var left, wantLeft []string
		for m, err := range r.Find(ctx, Query{NamePrefix: prefix}) {
			must(t, err)
			left = append(left, m.Ref())
		}
		children := map[string][]string{}
		for _, c := range versions {
			if slices.Contains(want, c.m.Ref()) {
				continue
			}
			wantLeft = append(wantLeft, c.m.Ref())
			for _, o := range versions {
				if o.m.ID == c.m.Parent {
					children[o.m.Ref()] = append(children[o.m.Ref()], c.m.Ref())
				}
			}
		}
		slices.Sort(left)
		slices.Sort(wantLeft)
		same(t, "left", left, wantLeft)
		for _, v := range got.Dropped() {
			have := children[v.Model.Ref()]
			slices.Sort(have)
			same(t, "parentOf of "+v.Model.Ref(), v.ParentOf, have)
		}
		again, err := r.Prune(ctx, names, p, Note{})
		must(t, err)
		same(t, "dropped by a second run", dropped(t, again), []string(nil))
	})
}
