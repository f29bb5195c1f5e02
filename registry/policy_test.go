package registry

import (
	"encoding/json"
	"math"
	"strings"
	"testing"
	"time"
)

func TestParseBest(t *testing.T) {
	tests := []struct {
		in   string
		want Best
	}{
		{"loss:3:min", Best{"loss", 3, Lowest}},
		{"loss:1:max", Best{"loss", 1, Highest}},
		{"eval.loss:3:min", Best{"eval.loss", 3, Lowest}},
		{"metric.f1:12:max", Best{"metric.f1", 12, Highest}},
		{"accuracy:3", Best{"accuracy", 3, Highest}},
		{"val_acc:3", Best{"val_acc", 3, Highest}},
		{"eval.accuracy:3", Best{"eval.accuracy", 3, Highest}},
		{"accuracy:3:min", Best{"accuracy", 3, Lowest}},
		{"a:b:3:max", Best{"a:b", 3, Highest}},
	}
	for _, tt := range tests {
		got, err := ParseBest(tt.in)
		must(t, err)
		if got != tt.want {
			t.Errorf("ParseBest(%q) = %+v, want %+v", tt.in, got, tt.want)
		}
		if again, err := ParseBest(got.String()); err != nil || again != got {
			t.Errorf("%q is read as %+v, %v", got, again, err)
		}
	}
	bad := []struct{ in, why string }{
		{"", "METRIC:N:max"},
		{"loss", "METRIC:N:max"},
		{"min", "METRIC:N:max"},
		{"3:min", "METRIC:N:max"},
		{"loss:3", "loss:3:min for the lowest, or loss:3:max"}, // a guess could keep the worst
		{"wer:3", "say which are the best"},
		{"loss:0:min", `"0"`},
		{"loss:-1:min", `"-1"`},
		{"loss:three:min", `"three"`},
		{"loss:3:least", `"least"`},
		{"loss::min", `""`},
		{"loss:99999999999999999999:min", "99999999999999999999"},
		{"-loss:3", "loss:3:min"},
		{"--loss:3:min", "a metric does not begin with a dash"},
		{":3:min", "names no metric"},
		{strings.Repeat("m", 257) + ":3:min", "over the limit"},
		{"lo\x00ss:3:min", "control character"},
	}
	for _, tt := range bad {
		got, err := ParseBest(tt.in)
		wantErr(t, tt.in, err, ErrInvalid)
		if !strings.Contains(err.Error(), tt.why) || got != (Best{}) {
			t.Errorf("ParseBest(%q) = %+v, %v; want an error with %q", tt.in, got, err, tt.why)
		}
	}
}

func TestParseAge(t *testing.T) {
	const day = 24 * time.Hour
	tests := []struct {
		in   string
		want time.Duration
	}{
		{"1h", time.Hour},
		{"30d", 30 * day},
		{"2w", 14 * day},
		{"1y", 365 * day},
		{"1w3d", 10 * day},
		{"1d36h", 60 * time.Hour},
		{"007d", 7 * day},
		{"292y", 292 * 365 * day},
	}
	for _, tt := range tests {
		if got, err := ParseAge(tt.in); err != nil || got != tt.want {
			t.Errorf("ParseAge(%q) = %v, %v; want %v", tt.in, got, err, tt.want)
		}
	}
	for _, in := range []string{"", "30", "d", "30m", "30 d", "-1d", "+1d", "1.5d", "0d", "0h0d", "30D", "1d2", "293y", "99999999999999999999d", "292y25w", "1dd"} {
		got, err := ParseAge(in)
		wantErr(t, in, err, ErrInvalid)
		if got != 0 {
			t.Errorf("ParseAge(%q) = %v beside its error", in, got)
		}
	}
}

func TestPolicyCheck(t *testing.T) {
	for what, p := range map[string]Policy{
		"no rule":         {},
		"only parents":    {KeepParents: true},
		"no best":         {KeepBest: []Best{}},
		"negative last":   {KeepLast: -1, KeepTagged: true},
		"negative every":  {KeepEvery: -1, KeepTagged: true},
		"negative within": {Within: -1, KeepTagged: true},
		"best of nothing": {KeepBest: []Best{{"", 1, Lowest}}},
		"best none":       {KeepBest: []Best{{"loss", 0, Lowest}}},
		"no direction":    {KeepBest: []Best{{Metric: "loss", N: 1}}},
		"odd direction":   {KeepBest: []Best{{"loss", 1, "up"}}},
		"second best bad": {KeepBest: []Best{{"loss", 1, Lowest}, {"loss", -1, Lowest}}},
	} {
		wantErr(t, what, p.Check(), ErrInvalid)
	}
	for _, p := range []Policy{{KeepLast: 1}, {KeepEvery: 1}, {KeepBest: []Best{{"loss", 1, Lowest}}}, {KeepTagged: true}, {Within: 1}} {
		must(t, p.Check())
	}
}

func TestMeasure(t *testing.T) {
	m := &Model{WeightsSize: 7, Metadata: Metadata{
		ValidationAccuracy: new(0.5), ParameterCount: 3,
		TrainingMetrics: map[string]float64{"loss": 0.25, "a.b": 1, "test_acc": 0.75, "same": 10},
		Extra: json.RawMessage(`{"loss":9,"same":11,"text":"0.5","nan":"NaN","yes":true,"none":null,"list":[1],"e":-1.5e2,"huge":1e999,
			"eval":{"loss":0.125,"deep.er":{"f1":4},"text":{"x":"1"}},"x.y":5,"x":{"y":6,"z":7},"":8}`),
	}}
	known := map[string]float64{
		"val_acc": 0.5, "validation_accuracy": 0.5, "size": 7, "parameters": 3, "parameter_count": 3,
		"metric.loss": 0.25, "loss": 0.25, // before the same key of extra
		"a.b": 1, "test_acc": 0.75, "test_accuracy": math.NaN(), "same": 10,
		"e": -150, "eval.loss": 0.125, "eval.deep.er.f1": 4, "x.y": 5, "x.z": 7,
		"text": math.NaN(), "nan": math.NaN(), "yes": math.NaN(), "none": math.NaN(), "list": math.NaN(), "huge": math.NaN(),
		"eval": math.NaN(), "eval.text": math.NaN(), "eval.text.x": math.NaN(), "eval.": math.NaN(), ".loss": math.NaN(), "no": math.NaN(), "LOSS": math.NaN(),
		"examples": math.NaN(), "list.0": math.NaN(), "text.x": math.NaN(),
	}
	for metric, want := range known {
		got, ok := m.measure(metric)
		if ok == math.IsNaN(want) || ok && got != want {
			t.Errorf("%s is %v, %v; want %v", metric, got, ok, want)
		}
	}
	for _, extra := range []string{"", "null", "[]", "7", `"step"`, `{"step":"5"}`, `{"step":1.5}`, `{"step":1e300}`} {
		m := &Model{Metadata: Metadata{Extra: json.RawMessage(extra)}}
		if _, ok := m.measure("a"); ok {
			t.Errorf("%s has a number", extra)
		}
		if n, ok := m.step(); ok {
			t.Errorf("%s has the step %d", extra, n)
		}
	}
	m = &Model{Metadata: Metadata{TrainingMetrics: map[string]float64{"step": 20}}}
	if n, ok := m.step(); !ok || n != 20 {
		t.Errorf("a metric step is %d, %v", n, ok)
	}
	m.Metadata.Extra = json.RawMessage(`{"step":-30}`)
	if n, ok := m.step(); !ok || n != -30 {
		t.Errorf("a step in extra is %d, %v", n, ok)
	}
}
