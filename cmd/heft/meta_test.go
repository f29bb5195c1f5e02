package main

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/heftstore/heft/registry"
)

func TestParseMeta(t *testing.T) {
	got, err := parseMeta([]string{
		"architecture=a=b", "parameter_count=1_000", "input_dimensions=1, 2,-1", "val_acc=0.5", "test_acc=1",
		"metric.f1=0.25", "metric.loss=1e-3", "list=[1,2]", "text=not json", "empty=", `quoted="x"`, "null=null",
	})
	if err != nil {
		t.Fatal(err)
	}
	want := registry.Metadata{
		Architecture: "a=b", ParameterCount: 1000, InputDimensions: []int64{1, 2, -1},
		ValidationAccuracy: new(0.5), TestAccuracy: new(1.0),
		TrainingMetrics: map[string]float64{"f1": 0.25, "loss": 0.001},
		Extra:           []byte(`{"empty":"","list":[1,2],"null":null,"quoted":"x","text":"not json"}`),
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestParseMetaRefuses(t *testing.T) {
	for _, pairs := range [][]string{
		{"novalue"}, {"=x"}, {"parameter_count=-1"}, {"parameter_count=1.5"}, {"training_examples="},
		{"val_acc=NaN"}, {"val_acc=Inf"}, {"test_acc=x"}, {"metric.=1"}, {"metric.a=x"}, {"metric.a=inf"},
		{"input_dimensions=1,,2"}, {"output_dimensions=x"}, {"a=1", "a=1"}, {"test_acc=1", "test_accuracy=1"},
	} {
		if m, err := parseMeta(pairs); err == nil {
			t.Errorf("%q gives %+v", pairs, m)
		}
	}
}

// FuzzJSONOrText proves that whatever a user types as a value ends as one
// JSON value, which the metadata can hold.
func FuzzJSONOrText(f *testing.F) {
	for _, s := range []string{"", "1", "-", "[1,2]", `{"a":1}`, `{"a":1} x`, "null", "\xff", "text", `"open`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		m, err := parseMeta([]string{"k=" + s})
		if err != nil {
			t.Fatal(err)
		}
		if raw := string(m.Extra); !strings.HasPrefix(raw, `{"k":`) || strings.Contains(raw, "\n") {
			t.Errorf("%q becomes %s", s, raw)
		}
	})
}
