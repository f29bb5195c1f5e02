package registry

import (
	"errors"
	"math"
	"testing"
	"time"
)

func micros(t testing.TB, s string) int64 {
	t.Helper()
	at, err := time.Parse(time.RFC3339Nano, s)
	must(t, err)
	return at.UnixMicro()
}

func TestParseQuery(t *testing.T) {
	jan, feb, mar := micros(t, "2026-01-01T00:00:00Z"), micros(t, "2026-02-01T00:00:00Z"), micros(t, "2026-03-01T00:00:00Z")
	const day = int64(24 * time.Hour / time.Microsecond)
	tests := []struct {
		in   string
		want Query
	}{
		{"", Query{}},
		{"   ", Query{}},
		{"name=org/bert", Query{Name: "org/bert"}},
		{"name=org/*", Query{NamePrefix: "org/"}},
		{" status=production  tag=nlp ", Query{Status: []Status{Production}, Tags: []string{"nlp"}}},
		{"status=Staged,ARCHIVED", Query{Status: []Status{Staged, Archived}}},
		{"tag=a tag=b", Query{Tags: []string{"a", "b"}}},
		{`tag="two words"`, Query{Tags: []string{"two words"}}},
		{`tag="a \"b\" \\ \n"`, Query{Tags: []string{`a "b" \ \n`}}},
		{`tag=a"b`, Query{Tags: []string{`a"b`}}},
		{"tag=a=b", Query{Tags: []string{"a=b"}}},
		{"tag=ü", Query{Tags: []string{"ü"}}},
		{"parent=m:1", Query{Parent: "m:1"}},
		{"val_acc>=0.9", Query{Bounds: []Bound{{"val_acc", GreaterOrEqual, 0.9}}}},
		{"test_acc<1e-3", Query{Bounds: []Bound{{"test_acc", Less, 1e-3}}}},
		{"metric.f1!=-2 size>0 files<=3 parameters=7 examples>1", Query{Bounds: []Bound{
			{"metric.f1", NotEqual, -2}, {"size", Greater, 0}, {"files", LessOrEqual, 3}, {"parameters", Equal, 7}, {"examples", Greater, 1},
		}}},
		{"val_acc<inf", Query{Bounds: []Bound{{"val_acc", Less, math.Inf(1)}}}},
		{"sort=-registered,name,metric.x", Query{Sort: []Sort{{"registered", true}, {"name", false}, {"metric.x", false}}}},
		{"limit=5", Query{Limit: 5}},
		{"registered>=2026-01-01", Query{From: jan}},
		{"registered>2026-01-01", Query{From: jan + day}},
		{"registered<2026-01-01", Query{To: jan}},
		{"registered<=2026-01-01", Query{To: jan + day}},
		{"registered=2026-01-01", Query{From: jan, To: jan + day}},
		{"registered=2026-01-01T00:00:00.000001Z", Query{From: jan + 1, To: jan + 2}},
		{"registered>=2026-01-01T01:00:00+01:00", Query{From: jan}},
		{"registered<2026-02-01 registered<2026-03-01", Query{To: feb}},
		{"registered<2026-03-01 registered<2026-02-01", Query{To: feb}},
		{"registered>=2026-02-01 registered>=2026-01-01 registered<2026-03-01", Query{From: feb, To: mar}},
		{"registered>=2026-02-01 registered=2026-01-01", Query{From: feb, To: jan + day}},
	}
	for _, tt := range tests {
		got, err := ParseQuery(tt.in)
		if err != nil {
			t.Errorf("%s: %v", tt.in, err)
			continue
		}
		if d := diff(got, tt.want); d != "" {
			t.Errorf("%s: got + want -\n%s", tt.in, d)
		}
	}
}

func TestParseQueryErrors(t *testing.T) {
	tests := []struct {
		in     string
		offset int
	}{
		{"bert", 4},
		{"tag=a bert", 10},
		{"=x", 0},
		{"tag=a =x", 6},
		{`"tag"=x`, 0},
		{"colour=red", 0},
		{"tag=a  colour=red", 7},
		{"metric.=1", 0},
		{"name=", 5},
		{`name=""`, 5},
		{"name==x", 4},
		{"name=>x", 4},
		{"name!=x", 4},
		{"limit>3", 5},
		{"limit=0", 6},
		{"limit=-1", 6},
		{"limit=many", 6},
		{"limit=99999999999999999999", 6},
		{"name=a name=b", 7},
		{"name=a* name=b*", 8},
		{"parent=a parent=b", 9},
		{"status=staged status=pending", 14},
		{"status=live", 7},
		{"status=staged,", 7},
		{"sort=colour", 5},
		{"sort=name,", 5},
		{"sort=--name", 5},
		{"val_acc>high", 8},
		{"val_acc>NaN", 8},
		{"val_acc>1e999", 8},
		{`tag="a`, 4},
		{`tag="a\"`, 4},
		{`tag="a"b`, 7},
		{"registered=yesterday", 11},
		{"registered=2026-02-30", 11},
		{"registered!=2026-01-01", 10},
	}
	for _, tt := range tests {
		_, err := ParseQuery(tt.in)
		bad, ok := errors.AsType[*QueryError](err)
		if !ok || bad.Offset != tt.offset || bad.Text != tt.in || bad.Reason == "" {
			t.Errorf("%s: got %v, want a *QueryError at %d", tt.in, err, tt.offset)
			continue
		}
		wantErr(t, tt.in, err, ErrInvalid)
	}
}

// A time up to 1970 can't be said with a Query, in which 0 is open: it must not
// select everything.
func TestParseQueryEpoch(t *testing.T) {
	r := newRegistry(t)
	add(t, r, "m:1")
	for _, in := range []string{"registered<1970-01-01", "registered<=1969-12-31", "registered<1970-01-01T00:00:00Z", "registered=1969-12-31", "registered<1900-01-01"} {
		q, err := ParseQuery(in)
		if err != nil {
			continue // refusing it is as good
		}
		if got := all(t, r.Find(t.Context(), q)); len(got) != 0 {
			t.Errorf("%s selects %v", in, refs(got))
		}
	}
}

func FuzzParseQuery(f *testing.F) {
	for _, s := range []string{
		"", "status=production tag=nlp val_acc>=0.9 sort=-registered limit=5", `tag="two \"words\"" name=a*`,
		"registered>=2026-01-01 registered<2026-02-01T00:00:00.5+02:00", "metric.f1!=-0x1p-2", "name==", "sort=,", "status=,", "limit=+1",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		q, err := ParseQuery(s)
		if err == nil {
			if err := q.check(); err != nil {
				t.Fatalf("%q was parsed to %+v, which is refused: %v", s, q, err)
			}
			return
		}
		bad, ok := errors.AsType[*QueryError](err)
		if !ok || bad.Offset < 0 || bad.Offset > len(s) || !errors.Is(err, ErrInvalid) || diff(q, Query{}) != "" {
			t.Fatalf("%q: %+v, %v", s, q, err)
		}
	})
}
