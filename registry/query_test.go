package registry

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
)

func TestFind(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	meta := func(m Metadata) Model { return Model{Metadata: m} }
	var first *Model
	for _, v := range []struct {
		ref    string
		m      Model
		status Status
	}{
		{"nlp/bert:1.0.0", meta(Metadata{ValidationAccuracy: new(0.90), Tags: []string{"nlp", "prod"}, ParameterCount: 110e6}), Production},
		{"nlp/bert:1.1.0", meta(Metadata{ValidationAccuracy: new(0.95), TestAccuracy: new(0.0), Tags: []string{"nlp"}, ParameterCount: 340e6}), Pending},
		{"nlp/gpt:1", meta(Metadata{TrainingMetrics: map[string]float64{"loss": 2.5, "bleu": 30}, Tags: []string{"nlp", "prod"}}), Staged},
		{"vision/vit:main", meta(Metadata{ValidationAccuracy: new(0.81), TrainingExamples: 1000, Tags: []string{"two words"}}), Pending},
		{"nlpx:1", meta(Metadata{TrainingMetrics: map[string]float64{"loss": 0.5}}), Archived},
	} {
		v.m.Name, v.m.Version, v.m.Status = ofRef(v.ref).Name, ofRef(v.ref).Version, v.status
		if first != nil && v.ref != "vision/vit:main" {
			v.m.Parent = first.ID
		}
		m := addModel(t, r, v.m, v.ref)
		if first == nil {
			first = m
		}
	}
	times := map[string]int64{}
	for _, m := range all(t, r.Find(ctx, Query{})) {
		times[m.Ref()] = m.RegisteredAt
	}
	bound := func(f string, op Op, v float64) Query { return Query{Bounds: []Bound{{f, op, v}}} }
	by := func(fields ...string) (q Query) {
		for _, f := range fields {
			field, down := strings.CutPrefix(f, "-")
			q.Sort = append(q.Sort, Sort{field, down})
		}
		return q
	}
	everything := "nlp/bert:1.1.0 nlp/bert:1.0.0 nlp/gpt:1 nlpx:1 vision/vit:main"
	tests := []struct {
		name string
		q    Query
		want string
	}{
		{"all", Query{}, everything},
		{"name", Query{Name: "nlp/bert"}, "nlp/bert:1.1.0 nlp/bert:1.0.0"},
		{"no such name", Query{Name: "nlp"}, ""},
		{"prefix", Query{NamePrefix: "nlp"}, "nlp/bert:1.1.0 nlp/bert:1.0.0 nlp/gpt:1 nlpx:1"},
		{"prefix of a folder", Query{NamePrefix: "nlp/"}, "nlp/bert:1.1.0 nlp/bert:1.0.0 nlp/gpt:1"},
		{"name and another prefix", Query{Name: "nlp/bert", NamePrefix: "v"}, ""},
		{"one status", Query{Status: []Status{Pending}}, "nlp/bert:1.1.0 vision/vit:main"},
		{"one status in capitals", Query{Status: []Status{"PENDING"}}, "nlp/bert:1.1.0 vision/vit:main"},
		{"two statuses", Query{Status: []Status{Archived, Staged}}, "nlp/gpt:1 nlpx:1"},
		{"tag", Query{Tags: []string{"prod"}}, "nlp/bert:1.0.0 nlp/gpt:1"},
		{"all tags", Query{Tags: []string{"prod", "two words"}}, ""},
		{"part of a tag", Query{Tags: []string{"pro"}}, ""},
		{"parent", Query{Parent: "nlp/bert:1.0.0"}, "nlp/bert:1.1.0 nlp/gpt:1 nlpx:1"},
		{"at least", bound("val_acc", GreaterOrEqual, 0.9), "nlp/bert:1.1.0 nlp/bert:1.0.0"},
		{"above", bound("val_acc", Greater, 0.9), "nlp/bert:1.1.0"},
		{"at most", bound("val_acc", LessOrEqual, 0.9), "nlp/bert:1.0.0 vision/vit:main"},
		{"below", bound("val_acc", Less, 0.9), "vision/vit:main"},
		{"equal", bound("metric.loss", Equal, 2.5), "nlp/gpt:1"},
		{"not equal", bound("metric.loss", NotEqual, 2.5), "nlpx:1"},
		{"zero is a number", bound("test_acc", Less, 0.5), "nlp/bert:1.1.0"},
		{"parameters", bound("parameters", Greater, 2e8), "nlp/bert:1.1.0"},
		{"examples are not known", bound("examples", LessOrEqual, 1000), "vision/vit:main"},
		{"size", bound("size", Equal, float64(len("nlpx:1"))), "nlpx:1"},
		{"files", bound("files", NotEqual, 1), ""},
		{"two bounds", Query{Bounds: []Bound{{"metric.loss", Less, 3}, {"metric.bleu", Greater, 0}}}, "nlp/gpt:1"},
		{"from", Query{From: times["vision/vit:main"]}, "nlpx:1 vision/vit:main"},
		{"to", Query{To: times["nlp/gpt:1"]}, "nlp/bert:1.1.0 nlp/bert:1.0.0"},
		{"by name down", by("-name"), "vision/vit:main nlpx:1 nlp/gpt:1 nlp/bert:1.1.0 nlp/bert:1.0.0"},
		{"by registration", by("registered"), "nlp/bert:1.0.0 nlp/bert:1.1.0 nlp/gpt:1 vision/vit:main nlpx:1"},
		{"by update down", by("-updated"), "nlpx:1 vision/vit:main nlp/gpt:1 nlp/bert:1.1.0 nlp/bert:1.0.0"},
		{"by status, then registration down", by("status", "-registered"), "vision/vit:main nlp/bert:1.1.0 nlp/gpt:1 nlp/bert:1.0.0 nlpx:1"},
		{"by version", by("version", "name"), "vision/vit:main nlp/gpt:1 nlpx:1 nlp/bert:1.0.0 nlp/bert:1.1.0"},
		{"by accuracy, unknown last", by("val_acc"), "vision/vit:main nlp/bert:1.0.0 nlp/bert:1.1.0 nlp/gpt:1 nlpx:1"},
		{"by accuracy down, unknown last", by("-val_acc"), "nlp/bert:1.1.0 nlp/bert:1.0.0 vision/vit:main nlp/gpt:1 nlpx:1"},
		{"by metric down", by("-metric.loss"), "nlp/gpt:1 nlpx:1 nlp/bert:1.1.0 nlp/bert:1.0.0 vision/vit:main"},
		{"limit", Query{Limit: 2}, "nlp/bert:1.1.0 nlp/bert:1.0.0"},
		{"limit above all", Query{Limit: 50}, everything},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			before := tt.q
			before.Status = slices.Clone(before.Status)
			if got := strings.Join(refs(all(t, r.Find(ctx, tt.q))), " "); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
			same(t, "the query afterwards", tt.q, before)
		})
	}
	for _, tt := range []struct {
		name string
		q    Query
		want error
	}{
		{"field", bound("accuracy", Equal, 1), ErrInvalid},
		{"metric without a name", bound("metric.", Equal, 1), ErrInvalid},
		{"comparison", bound("size", "~", 1), ErrInvalid},
		{"sort", by("colour"), ErrInvalid},
		{"status", Query{Status: []Status{"live"}}, ErrInvalid},
		{"limit", Query{Limit: -1}, ErrInvalid},
		{"parent", Query{Parent: "nobody"}, ErrNotFound},
		{"parent's id", Query{Parent: uuid.NewString()}, ErrNotFound},
	} {
		wantErr(t, tt.name, failure(r.Find(ctx, tt.q)), tt.want)
	}
	if _, ok := errors.AsType[*NameError](failure(r.Find(ctx, Query{Name: "a//b"}))); !ok {
		t.Error("a bad name was taken")
	}
}
