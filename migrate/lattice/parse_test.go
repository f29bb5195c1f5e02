package lattice

import (
	"encoding/json"
	"math"
	"path"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/heftstore/heft/internal/canon"
	"github.com/heftstore/heft/internal/name"
	"github.com/heftstore/heft/registry"
)

func TestIdentify(t *testing.T) {
	const id = "a1b2c3d4-e5f6-4a5b-8c7d-0123456789ab"
	want := uuid.MustParse(id)
	for _, tt := range []struct {
		in     any
		id     uuid.UUID
		legacy string
	}{
		{nil, uuid.Nil, ""},
		{"", uuid.Nil, ""},
		{id, want, ""},
		{strings.ToUpper(id), want, strings.ToUpper(id)},
		{"{" + id + "}", want, "{" + id + "}"},
		{"x" + id + "x", derive("id", "x"+id+"x"), "x" + id + "x"},
		{"urn:uuid:" + id, want, "urn:uuid:" + id},
		{strings.ReplaceAll(id, "-", ""), want, strings.ReplaceAll(id, "-", "")},
		{"model-1", derive("id", "model-1"), "model-1"},
		{int64(7), derive("id", "7"), "7"},
		{uuid.Nil.String(), derive("id", uuid.Nil.String()), uuid.Nil.String()},
		{want[:], want, "x'a1b2c3d4e5f64a5b8c7d0123456789ab'"},
		{[]byte{1}, derive("id", "x'01'"), "x'01'"},
	} {
		if got, legacy := identify(tt.in); got != tt.id || legacy != tt.legacy {
			t.Errorf("identify(%v) = %s, %q; want %s, %q", tt.in, got, legacy, tt.id, tt.legacy)
		}
	}
	// It must never change: registries hold what was made up.
	if got := derive("id", "model-1").String(); got != "de35cedb-6ef6-5f19-96ec-3b321593d8e2" {
		t.Errorf("the id of model-1 is %s now", got)
	}
}

func TestReadMetadata(t *testing.T) {
	long := strings.Repeat("x", maxMetadata)
	for _, tt := range []struct {
		in   any
		want string // the Metadata
		form form
		same bool
	}{
		{nil, "{}", "", false},
		{"", "{}", "", false},
		{"null", "{}", "", false},
		{"{}", "{}", "", true},
		{`{"architecture":"mlp","parameter_count":7}`, `{"architecture":"mlp","parameter_count":7}`, "", true},
		{`{ "parameter_count" : 7, "architecture":"mlp" }`, `{"architecture":"mlp","parameter_count":7}`, "", true},
		{`{"training_metrics":{"loss":0.10,"lr":1e-4}}`, `{"training_metrics":{"loss":0.1,"lr":0.0001}}`, "", true},
		{`{"validation_accuracy":0.12345678901234567890123}`, `{"validation_accuracy":0.12345678901234568}`, "", false},
		{`{"architecture":null,"tags":[]}`, `{}`, "", false},
		{`{"architecture":"","parameter_count":0}`, `{}`, "", false},
		{`{"tags":["a"],"extra":{"b":[1,null]}}`, `{"extra":{"b":[1,null]},"tags":["a"]}`, "", true},
		{`{"Architecture":"mlp"}`, `{"extra":{"Architecture":"mlp"}}`, formJSON, false},
		{`{"tags":[""]}`, `{"extra":{"tags":[""]}}`, formJSON, false},
		{`{"tags":"a"}`, `{"extra":{"tags":"a"}}`, formJSON, false},
		{`{"parameter_count":1.5}`, `{"extra":{"parameter_count":1.5}}`, formJSON, false},
		{`{"validation_accuracy":1e400}`, `{"extra":{"validation_accuracy":1e400}}`, formJSON, false},
		{`{"learning_rate":1.0}`, `{"extra":{"learning_rate":1.0}}`, formJSON, false},
		{`[1,2]`, `{"extra":[1,2]}`, formJSON, false},
		{`"text"`, `{"extra":"text"}`, formJSON, false},
		{int64(5), `{"extra":5}`, formJSON, false},
		{`{"a":1,"a":2}`, `{"extra":"{\"a\":1,\"a\":2}"}`, formText, false},
		{`not json`, `{"extra":"not json"}`, formText, false},
		{"{\"a\":\"\xff\"}", `{"extra":{"base64":"eyJhIjoi/yJ9"}}`, formBytes, false},
		{[]byte{0xff}, `{"extra":{"base64":"/w=="}}`, formBlob, false},
		{[]byte(`{"tags":["a"]}`), `{"tags":["a"]}`, "", true},
		{`{"architecture":"` + strings.Repeat("x", 5000) + `"}`, `{"extra":{"architecture":"` + strings.Repeat("x", 5000) + `"}}`, formJSON, false},
	} {
		m, err := readMetadata(tt.in)
		if err != nil {
			t.Errorf("%.100v: %v", tt.in, err)
			continue
		}
		got, err := canon.Marshal(m.Metadata)
		if err != nil || string(got) != tt.want || m.form != tt.form || m.same != tt.same {
			t.Errorf("%.100v: %.200s, %q, %v, %v; want %.200s, %q, %v", tt.in, got, m.form, m.same, err, tt.want, tt.form, tt.same)
		}
		if m.form == "" {
			continue
		}
		v, ok := whole(&m.Metadata, m.form)
		if _, isText := tt.in.(string); isText && (!ok || !(v == tt.in || equalJSON([]byte(v.(string)), []byte(tt.in.(string))))) {
			t.Errorf("%.100v comes back as %.100v", tt.in, v)
		}
	}
	for _, in := range []any{`"` + long + `"`, long, []byte(long)} {
		if _, err := readMetadata(in); err == nil {
			t.Errorf("%.20v... was taken", in)
		}
	}
}

// TestIsField holds the list of fields against the registry's own.
func TestIsField(t *testing.T) {
	for field := range reflect.TypeFor[registry.Metadata]().Fields() {
		tag, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if !isField(tag) {
			t.Errorf("%s is not known", tag)
		}
	}
}

func TestEqualNumbers(t *testing.T) {
	for _, tt := range []struct {
		a, b string
		want bool
	}{
		{"1", "1.0", true}, {"1", "10e-1", true}, {"100", "1E2", true}, {"0", "-0.0e5", true}, {"-1", "1", false},
		{"0.1", "0.10000000000000001", false}, {"1e999999999", "1e999999998", false}, {"1e999999999", "10e999999998", true},
		{"9007199254740993", "9007199254740992", false}, {"1e99999999999999999999", "1e99999999999999999999", true},
	} {
		if got := equalNumbers(tt.a, tt.b); got != tt.want {
			t.Errorf("equalNumbers(%s, %s) = %v", tt.a, tt.b, got)
		}
	}
}

func TestEncodeDecode(t *testing.T) {
	for _, v := range []any{nil, int64(0), int64(math.MinInt64), 1.5, 2.0, math.Inf(-1), "", "text", "\xff", "a\x00b\ufffd", []byte{0, 255}} {
		got, err := decode(encode(v))
		if err != nil || !cmp.Equal(got, v) {
			t.Errorf("%#v comes back as %#v, %v", v, got, err)
		}
	}
	for _, raw := range []string{"[]", "{}", "true", "{", `{"base64":"?"}`, `{"real":"x"}`} {
		if v, err := decode(json.RawMessage(raw)); err == nil {
			t.Errorf("%s is %v", raw, v)
		}
	}
}

func TestTidyText(t *testing.T) {
	for in, want := range map[string]string{
		"plain\ttext\n": "plain\ttext\n", "a\r\nb\rc": "a\nb\nc", "a\x00b\x1b": "a\ufffdb\ufffd", "a\xffb": "a\ufffdb",
		strings.Repeat("é", 6): strings.Repeat("é", 5),
	} {
		if got := tidyText(in, 11); got != want {
			t.Errorf("%q becomes %q, want %q", in, got, want)
		}
	}
}

func TestWeightsPaths(t *testing.T) {
	for in, want := range map[string][]string{
		"weights/m/1/weights.bin": {"weights/m/1/weights.bin", "weights/weights/m/1/weights.bin"},
		"./m//1/w.bin":            {"m/1/w.bin", "weights/m/1/w.bin"},
		`weights\m\1\weights.bin`: {`weights\m\1\weights.bin`, `weights/weights\m\1\weights.bin`, "weights/m/1/weights.bin", "weights/weights/m/1/weights.bin"},
		"..m/w":                   {"..m/w", "weights/..m/w"},
		"":                        nil, ".": nil, "..": nil, "../x": nil, "a/../../x": nil, "a/..": nil, `..\x`: nil, `a\..\..\x`: nil, "a/.. /x": nil,
		"/etc/passwd": nil, `\\host\share\x`: nil, `C:\x`: nil, "c:x": nil, "//host/x": nil, `\x`: nil, "a\x00b": nil,
		strings.Repeat("x", 2000): nil,
	} {
		got, err := weightsPaths(in)
		if (err == nil) != (want != nil) || !slices.Equal(got, want) {
			t.Errorf("%.40q leads to %q, %v; want %q", in, got, err, want)
		}
	}
}

func FuzzWeightsPath(f *testing.F) {
	for _, s := range []string{"weights/m/1/weights.bin", "../x", `..\x`, "/etc/passwd", `C:\x`, `\\host\x`, "a\x00", "./a//b/", "a/.. /b"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		all, err := weightsPaths(s)
		if err != nil {
			return
		}
		for _, p := range all {
			if p != path.Clean(p) || path.IsAbs(p) || p == ".." || strings.HasPrefix(p, "../") || strings.ContainsRune(p, 0) {
				t.Fatalf("%q leads to %q", s, p)
			}
		}
	})
}

func FuzzMetadataFile(f *testing.F) {
	for _, s := range []string{"", "{", "[]", "null", `{"id":1,"name":"n","metadata":{"tags":[""]},"registered_at":"2024-01-02T03:04:05.123456789Z","children":[]}`,
		`{"id":null,"weights_size":1e400,"weights_hash":{},"parent_id":[],"status":"Production","extra":"\ud800"}`, `{"a":1,"a":2}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r := reading{rec: &record{from: "m/1"}, text: text}
		r.rec.cells[colName], r.rec.cells[colVersion] = "m", "1"
		if err := r.parse(); err != nil {
			return
		}
		s := newSurvey(1)
		s.add(r.rec, 0)
		_, verdicts, err := s.plan(func(int32, verdict) (bool, error) { return true, nil })
		if err != nil {
			t.Fatal(err)
		}
		it := convert(r.rec, verdicts[0]).finish()
		if it.Model.ID == uuid.Nil {
			t.Fatal("no id")
		}
		if it.Err == nil {
			if err := it.Model.Check(); err != nil {
				t.Fatalf("the registry refuses it: %v", err)
			}
			if it.Model.RegisteredAt <= 0 || it.Model.UpdatedAt <= 0 {
				t.Fatal("no time")
			}
		}
		back := restore(&it.Model)
		if _, err := back.metadata(); it.Err == nil && err != nil {
			t.Fatal(err)
		}
	})
}

func FuzzMetadata(f *testing.F) {
	for _, s := range []string{"", "null", "{}", `{"tags":["a"],"training_metrics":{"a":1.50}}`, `{"extra":null}`, `{"parameter_count":1e3}`, "x", "\xff", `{"architecture":null}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		rec := &record{}
		rec.cells[colName], rec.cells[colVersion], rec.cells[colStatus], rec.cells[colMetadata] = "m", "1", "pending", s
		rec.cells[colRegisteredAt] = int64(1)
		it := convert(rec, 0).finish()
		if it.Err != nil {
			return
		}
		if err := it.Model.Check(); err != nil {
			t.Fatalf("the registry refuses it: %v", err)
		}
		back := restore(&it.Model)
		v, err := back.metadata()
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := v.(string); got != s {
			a, errA := canon.Compact([]byte(got))
			b, errB := canon.Compact([]byte(s))
			if errA != nil || errB != nil || !equalJSON(a, b) {
				t.Fatalf("%q comes back as %q", s, got)
			}
		}
	})
}

func TestDefaultPlace(t *testing.T) {
	for _, bad := range []string{"", "..", "../x", "/x", "a//b", "a\x00", "con"} {
		if got := defaultPlace(bad, "1"); got != "" {
			t.Errorf("%q leads to %q", bad, got)
		}
		if got := defaultPlace("m", bad); got != "" {
			t.Errorf("version %q leads to %q", bad, got)
		}
	}
	if got := defaultPlace(strings.Repeat("x", name.MaxNameComponent), "1"); got == "" {
		t.Error("a long name leads nowhere")
	}
}
