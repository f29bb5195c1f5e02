package registry

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	"github.com/heftstore/heft/index"
)

// Policy says which versions of a model Prune keeps. A version is kept when
// any rule keeps it, and whatever the rules say when it is the latest of its
// model (what its bare name means), in production or staged, or has an alias.
// The zero Policy has no rule, and is refused.
type Policy struct {
	// KeepLast keeps so many of the newest versions, by the order of the
	// journal and not of any clock; those that one import brought in one
	// record, by their times. 0 is no rule.
	KeepLast int

	// KeepEvery keeps the versions whose number is a multiple of it: the whole
	// number "step" of the extra metadata or of the training metrics, else the
	// version itself if it is a decimal number, else how many versions of the
	// model were registered until then, deleted ones too. 0 is no rule.
	KeepEvery int64

	// KeepBest keeps the best versions by numbers of their metadata.
	KeepBest []Best

	// KeepTagged keeps the versions that have a tag.
	KeepTagged bool

	// Within keeps the versions that were registered so long ago or less, by
	// Model.RegisteredAt, and those from the future. 0 is no rule.
	Within time.Duration

	// KeepParents keeps the parent of whatever is kept, and so all of its
	// ancestors, as far as they are of the models that are pruned. It is no
	// rule of its own.
	KeepParents bool
}

// Best is a rule that keeps the N best versions by a number of theirs. Versions
// that don't have the number are not among them. If no version of a model has
// it, none of that model is dropped: the name may be a slip.
//
// A Metric is one of Fields, "metric.NAME" or NAME of a training metric, a key
// of the extra metadata, or keys with dots between them for objects within
// objects there: the first that is a number, in this order. Text is no number.
// Of equal numbers the newer version is better.
type Best struct {
	Metric string
	N      int       // at least 1
	By     Direction // required
}

// Direction says which numbers are better.
type Direction string

// The directions.
const (
	Highest Direction = "max"
	Lowest  Direction = "min"
)

// String returns what ParseBest reads.
func (b Best) String() string { return fmt.Sprintf("%s:%d:%s", b.Metric, b.N, b.By) }

// ParseBest reads METRIC:N:max or METRIC:N:min. For a metric whose name ends in
// "acc" or "accuracy" METRIC:N is enough, and means max; for others the wrong
// guess would keep the worst, so there is none. Other text is an error that
// wraps ErrInvalid.
func ParseBest(s string) (Best, error) {
	var b Best
	bad := func(format string, args ...any) (Best, error) {
		return Best{}, fmt.Errorf("%w: %q: %s", ErrInvalid, s, fmt.Sprintf(format, args...))
	}
	parts := strings.Split(s, ":") // a metric may have colons
	if d := Direction(parts[len(parts)-1]); d == Highest || d == Lowest {
		b.By, parts = d, parts[:len(parts)-1]
	}
	if len(parts) < 2 {
		return bad("it has to be METRIC:N:max or METRIC:N:min, such as loss:3:min")
	}
	metric, last := strings.Join(parts[:len(parts)-1], ":"), parts[len(parts)-1]
	n, err := strconv.Atoi(last)
	if err != nil || n < 1 {
		return bad("%q is not how many to keep, from 1 up, and neither max nor min", last)
	}
	b.Metric, b.N = metric, n
	if strings.HasPrefix(metric, "-") {
		return bad("a metric does not begin with a dash: the direction stands at the end, as in %s:%d:min", strings.TrimLeft(metric, "-"), n)
	}
	if b.By == "" {
		if !strings.HasSuffix(metric, "acc") && !strings.HasSuffix(metric, "accuracy") {
			return bad("say which are the best: %s:%d:min for the lowest, or %s:%d:max", metric, n, metric, n)
		}
		b.By = Highest
	}
	if err := b.check(); err != nil {
		return Best{}, err
	}
	return b, nil
}

func (b Best) check() error {
	switch {
	case b.Metric == "":
		return fmt.Errorf("%w: a rule for the best versions names no metric", ErrInvalid)
	case b.N < 1:
		return fmt.Errorf("%w: the best %d versions by %s are none: keep at least 1", ErrInvalid, b.N, b.Metric)
	case b.By != Highest && b.By != Lowest:
		return fmt.Errorf("%w: which versions are the best by %s? The direction is max or min, not %q", ErrInvalid, b.Metric, b.By)
	}
	return checkText("name of a metric", b.Metric, maxTag)
}

// ParseAge reads a time span such as 30d, 12h or 1w3d: whole numbers with the
// units h, d, w and y, of which a day has 24 hours and a year 365 days. Other
// text, and zero, is an error that wraps ErrInvalid.
func ParseAge(s string) (time.Duration, error) {
	units := map[byte]time.Duration{'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour, 'y': 365 * 24 * time.Hour}
	bad := func(why string) (time.Duration, error) {
		return 0, fmt.Errorf("%w: %q %s: write a whole number and h, d, w or y, as in 30d", ErrInvalid, s, why)
	}
	var sum time.Duration
	for rest := s; rest != ""; {
		digits := 0
		for digits < len(rest) && rest[digits] >= '0' && rest[digits] <= '9' {
			digits++
		}
		if digits == 0 || digits == len(rest) || units[rest[digits]] == 0 {
			return bad("is no time span")
		}
		n, err := strconv.ParseInt(rest[:digits], 10, 64)
		unit := units[rest[digits]]
		if err != nil || n > int64((math.MaxInt64-sum)/unit) {
			return bad("is more than 292 years")
		}
		sum += time.Duration(n) * unit
		rest = rest[digits+1:]
	}
	if sum == 0 {
		return bad("is no time at all")
	}
	return sum, nil
}

// Check returns an error that wraps ErrInvalid for a Policy that has no rule,
// or one that makes no sense.
func (p Policy) Check() error {
	switch {
	case p.KeepLast < 0:
		return fmt.Errorf("%w: the last %d versions make no sense", ErrInvalid, p.KeepLast)
	case p.KeepEvery < 0:
		return fmt.Errorf("%w: every %d-th version makes no sense", ErrInvalid, p.KeepEvery)
	case p.Within < 0:
		return fmt.Errorf("%w: the time span %s is negative", ErrInvalid, p.Within)
	case p.KeepLast == 0 && p.KeepEvery == 0 && len(p.KeepBest) == 0 && !p.KeepTagged && p.Within == 0:
		return fmt.Errorf("%w: there is no rule that says which versions to keep", ErrInvalid)
	}
	for _, b := range p.KeepBest {
		if err := b.check(); err != nil {
			return err
		}
	}
	return nil
}

// Rule says what kept a version.
type Rule string

// The rules. What stands first is not for a Policy to decide.
const (
	RuleLatest     Rule = "latest"     // its model's bare name means it
	RuleStatus     Rule = "status"     // the detail is the status
	RuleAlias      Rule = "alias"      // the detail is the aliases, with commas
	RuleLast       Rule = "last"       // Policy.KeepLast
	RuleEvery      Rule = "every"      // Policy.KeepEvery; the detail is the number, and what it is
	RuleBest       Rule = "best"       // Policy.KeepBest; the detail is the metric and the number
	RuleUnmeasured Rule = "unmeasured" // Policy.KeepBest, by a metric that no version of the model has: the detail
	RuleTagged     Rule = "tagged"     // Policy.KeepTagged; the detail is the tags, with commas
	RuleWithin     Rule = "within"     // Policy.Within
	RuleParent     Rule = "parent"     // Policy.KeepParents; the detail is a reference to a child
)

// Reason is why a version is kept.
type Reason struct {
	Rule   Rule   `json:"rule"`
	Detail string `json:"detail,omitzero"`
}

// String returns the Reason for people, such as "best loss 0.31".
func (r Reason) String() string {
	if r.Rule == RuleStatus {
		return r.Detail
	}
	return strings.TrimSuffix(string(r.Rule)+" "+r.Detail, " ")
}

// candidate is a version that is judged.
type candidate struct {
	rec      *index.Version
	m        *Model
	reasons  []Reason // why it is kept; none: it is dropped
	parentOf []string // Verdict.ParentOf
}

func (c *candidate) keep(r Rule, detail string) { c.reasons = append(c.reasons, Reason{r, detail}) }

// newerFirst orders versions as KeepLast counts them.
func newerFirst(a, b *candidate) int {
	return cmp.Or(cmp.Compare(b.rec.Seq, a.rec.Seq), cmp.Compare(b.rec.RegisteredAt, a.rec.RegisteredAt), byAge(b.rec, a.rec))
}

// errUncounted says that KeepEvery needs to know how many versions were
// registered before another.
var errUncounted = errors.New("registry: the registrations have to be counted")

// judge says which versions of one model are kept, and why. all is every
// version of it, the newest first. counts is what countRegistrations returns, or
// nil: then judge returns errUncounted if it needs them.
//
// What is dropped has no influence on what is kept: judging the rest alone
// gives the same.
func (p Policy) judge(all []*candidate, now int64, counts map[uuid.UUID]int64) error {
	if len(all) == 0 {
		return nil
	}
	latest := slices.MaxFunc(all, func(a, b *candidate) int { return byAge(a.rec, b.rec) })
	for i, c := range all {
		if c == latest {
			c.keep(RuleLatest, "")
		}
		if s := c.m.Status; s == Production || s == Staged {
			c.keep(RuleStatus, string(s))
		}
		if len(c.m.Aliases) > 0 {
			c.keep(RuleAlias, strings.Join(c.m.Aliases, ","))
		}
		if i < p.KeepLast {
			c.keep(RuleLast, "")
		}
		if err := p.every(c, counts); err != nil {
			return err
		}
		if tags := c.m.Metadata.Tags; p.KeepTagged && len(tags) > 0 {
			c.keep(RuleTagged, strings.Join(tags, ","))
		}
		if p.Within > 0 && c.m.RegisteredAt >= now-p.Within.Microseconds() {
			c.keep(RuleWithin, "")
		}
	}
	for _, b := range p.KeepBest {
		b.judge(all)
	}
	return nil
}

// every judges one version by KeepEvery.
func (p Policy) every(c *candidate, counts map[uuid.UUID]int64) error {
	if p.KeepEvery == 0 {
		return nil
	}
	kind := "step"
	n, ok := c.m.step()
	if !ok {
		kind = "number"
		n, ok = decimal(c.m.Version)
	}
	if !ok {
		if counts == nil {
			return errUncounted
		}
		kind = "registration"
		if n, ok = counts[c.rec.ID]; !ok {
			c.keep(RuleEvery, "registered meanwhile") // after they were counted
			return nil
		}
	}
	if n%p.KeepEvery == 0 {
		c.keep(RuleEvery, fmt.Sprintf("%s %d", kind, n))
	}
	return nil
}

// decimal reads digits; zeros may lead.
func decimal(s string) (int64, bool) {
	if strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(s, 10, 64)
	return n, err == nil
}

// judge keeps the best versions.
func (b Best) judge(all []*candidate) {
	type measured struct {
		c *candidate
		v float64
	}
	var found []measured
	for _, c := range all {
		if v, ok := c.m.measure(b.Metric); ok {
			found = append(found, measured{c, v})
		}
	}
	if len(found) == 0 {
		for _, c := range all {
			c.keep(RuleUnmeasured, b.Metric)
		}
	}
	// Stable: of equal ones the newer stays first.
	slices.SortStableFunc(found, func(x, y measured) int {
		if b.By == Lowest {
			x, y = y, x
		}
		return cmp.Compare(y.v, x.v)
	})
	for _, f := range found[:min(b.N, len(found))] {
		f.c.keep(RuleBest, b.Metric+" "+strconv.FormatFloat(f.v, 'g', -1, 64))
	}
}

// measure returns a number of the version by the name that Best.Metric may be.
func (m *Model) measure(metric string) (float64, bool) {
	field := metric
	switch metric { // as the metadata's JSON calls them
	case "validation_accuracy":
		field = "val_acc"
	case "test_accuracy":
		field = "test_acc"
	case "parameter_count":
		field = "parameters"
	case "training_examples":
		field = "examples"
	}
	if v, ok := m.number(field); ok {
		return v, true
	}
	if v, ok := m.Metadata.TrainingMetrics[metric]; ok {
		return v, true
	}
	return numberIn(m.Metadata.Extra, metric)
}

// numberIn returns the number in a JSON object by its key, or by keys with dots
// between them.
func numberIn(raw json.RawMessage, key string) (float64, bool) {
	var object map[string]json.RawMessage
	if len(raw) == 0 || raw[0] != '{' || json.Unmarshal(raw, &object) != nil {
		return 0, false
	}
	// Of all JSON values it takes only numbers: text has its quotes here.
	if f, err := strconv.ParseFloat(string(object[key]), 64); err == nil {
		return f, true
	}
	for i := range len(key) {
		if key[i] != '.' {
			continue
		}
		if inner, ok := object[key[:i]]; ok {
			if f, ok := numberIn(inner, key[i+1:]); ok {
				return f, true
			}
		}
	}
	return 0, false
}

// step returns the training step that the metadata tells, if it is a whole
// number that a float64 holds exactly.
func (m *Model) step() (int64, bool) {
	f, ok := numberIn(m.Metadata.Extra, "step")
	if !ok {
		f, ok = m.Metadata.TrainingMetrics["step"]
	}
	if !ok || f != math.Trunc(f) || math.Abs(f) > 1<<53 {
		return 0, false
	}
	return int64(f), true
}
