package registry

import (
	"encoding/json"
	"errors"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/uuid"
	"github.com/heftstore/heft/internal/name"
)

func TestHostileNames(t *testing.T) {
	parent := t.TempDir()
	r, err := Create(t.Context(), filepath.Join(parent, "models", "store"), nil)
	must(t, err)
	t.Cleanup(func() { must(t, r.Close()) })
	ctx := t.Context()
	d, err := r.Begin(ctx, ofRef("m:1"))
	must(t, err)
	defer d.Close()
	asName := func(s string) error { _, err := r.Begin(ctx, Model{Name: s}); return err }
	asVersion := func(s string) error { _, err := r.Begin(ctx, Model{Name: "m", Version: s}); return err }
	asPath := func(s string) error { _, err := d.Put(ctx, s, strings.NewReader("x")); return err }
	asSaved := func(s string) error { _, err := r.Save(ctx, s, strings.NewReader("x")); return err }
	asRef := func(s string) error { _, err := r.Get(ctx, s); return err }
	asAlias := func(s string) error { return r.SetAlias(ctx, "m", s, "1", Note{}) }
	before := onDisk(t, parent)
	tests := []struct {
		what string
		try  func(string) error
		in   string
		rule name.Rule
	}{
		{"name", asName, "", name.RuleEmpty},
		{"name", asName, "../../etc", name.RuleParent},
		{"name", asName, "a/../../../b", name.RuleParent},
		{"name", asName, "/etc/passwd", name.RuleAbsolute},
		{"name", asName, `..\..\x`, name.RuleBackslash},
		{"name", asName, "a\x00b", name.RuleNUL},
		{"name", asName, "a\nb", name.RuleControl},
		{"name", asName, "a\u202eb", name.RuleInvisible},
		{"name", asName, "a\xffb", name.RuleNotUTF8},
		{"name", asName, "a:b", name.RuleSeparator},
		{"name", asName, "a@b", name.RuleSeparator},
		{"name", asName, "a//b", name.RuleEmptyComponent},
		{"name", asName, "./a", name.RuleDot},
		{"name", asName, "-rf", name.RuleDash},
		{"name", asName, "a/con", name.RuleReserved},
		{"name", asName, "b3", name.RuleReserved},
		{"name", asName, uuid.NewString(), name.RuleReserved},
		{"name", asName, "a/b.", name.RuleEdge},
		{"name", asName, strings.Repeat("a/", 200) + "a", name.RuleTooLong},
		{"version", asVersion, "..", name.RuleParent},
		{"version", asVersion, "1/2", name.RuleSeparator},
		{"version", asVersion, "1:2", name.RuleSeparator},
		{"version", asVersion, strings.Repeat("1", 129), name.RuleTooLong},
		{"path", asPath, "", name.RuleEmpty},
		{"path", asPath, "../../../../tmp/x", name.RuleParent},
		{"path", asPath, "a/../../../b", name.RuleParent},
		{"path", asPath, "/tmp/x", name.RuleAbsolute},
		{"path", asPath, `a\b`, name.RuleBackslash},
		{"path", asPath, "a\x00", name.RuleNUL},
		{"path", asPath, "a/", name.RuleEmptyComponent},
		{"path", asPath, ".", name.RuleDot},
		{"path", asPath, "\xf0\x28", name.RuleNotUTF8},
		{"path", asPath, strings.Repeat("x", 256), name.RuleTooLong},
		{"saved path", asSaved, "../m/1/x", name.RuleParent},
		{"saved path", asSaved, "m/1/..", name.RuleParent},
		{"saved path", asSaved, "m/../x", name.RuleParent},
		{"reference", asRef, "m:../1", name.RuleSeparator},
		{"reference", asRef, "m@xyz", name.RuleHash},
		{"reference", asRef, "b3:12", name.RuleHash},
		{"reference", asRef, "", name.RuleEmpty},
		{"alias", asAlias, "a/b", name.RuleSeparator},
		{"alias", asAlias, "-x", name.RuleDash},
	}
	for _, tt := range tests {
		err := tt.try(tt.in)
		bad, ok := errors.AsType[*NameError](err)
		if !ok || bad.Rule != tt.rule {
			t.Errorf("%s %.40q: got %v, want rule %q", tt.what, tt.in, err, tt.rule)
		}
		if !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("%s %.40q: %v does not wrap fs.ErrInvalid", tt.what, tt.in, err)
		}
	}
	for _, short := range []string{"", "x", "m/x"} {
		wantErr(t, "Save "+short, asSaved(short), ErrInvalid)
	}
	same(t, "what is on disk", onDisk(t, parent), before)
}

// everything is a Model with each field set that Begin takes.
func everything() Model {
	return Model{
		ID: uuid.New(), Name: "team/model", Version: "1.0.0-rc.1", Status: Validated, RegisteredAt: 1_600_000_000_123_456,
		RegisteredBy: "ann <ann@example.com>", Description: "two\nlines, ümlaut",
		Metadata: Metadata{
			Architecture: "resnet50", InputDimensions: []int64{3, 224, math.MaxInt64}, OutputDimensions: []int64{-1, 1000},
			ParameterCount: math.MaxInt64, ConfigHash: "sha256:00ff", DatasetID: "imagenet", TrainingExamples: 1_281_167,
			TrainingMetrics:    map[string]float64{"loss": 0.1, "tiny": 5e-324, "huge": math.MaxFloat64, "minus": -0.25},
			ValidationAccuracy: new(0.0), TestAccuracy: new(0.9), Tags: []string{"b", "a", "b"},
			Extra: json.RawMessage(`{"a":[1,2.50,{"x":null}],"n":123456789012345678901234567890,"z":"\u0001"}`),
		},
	}
}

func TestMetadataRoundTrip(t *testing.T) {
	r := newRegistry(t)
	parent := add(t, r, "team/model:0")
	want := everything()
	want.Parent = parent.ID
	m, err := r.Register(t.Context(), want, strings.NewReader("weights"))
	must(t, err)
	got := get(t, again(t, r), "team/model:1.0.0-rc.1")
	same(t, "the registered model", got, m)
	want.UpdatedAt, want.WeightsSize, want.WeightsHash, want.Files, want.Manifest = got.UpdatedAt, 7, got.WeightsHash, 1, got.Manifest
	same(t, "the model", *got, want)
	if got := all(t, m.List(t.Context())); len(got) != 1 || got[0].Digest != m.WeightsHash || got[0].Path != WeightsFile {
		t.Errorf("files %+v", got)
	}

	// And once more from the manifest alone.
	raw, err := r.readManifest(t.Context(), m.Manifest)
	must(t, err)
	meta, err := decodeMetadata(raw.Metadata)
	must(t, err)
	same(t, "the manifest's metadata", meta, want.Metadata)
	if raw.Description != want.Description || raw.RegisteredBy != want.RegisteredBy || raw.Parent != parent.ID || raw.RegisteredAt != want.RegisteredAt {
		t.Errorf("the manifest: %+v", raw)
	}
}

func TestMetadataExtraForms(t *testing.T) {
	r := newRegistry(t)
	for _, tt := range []struct{ in, want string }{
		{`"text"`, `"text"`}, {` [ 1 , true ] `, `[1,true]`}, {`{"b":1,"a":2}`, `{"a":2,"b":1}`}, {`0`, `0`}, {``, ``},
	} {
		m := addModel(t, r, Model{Name: "m", Metadata: Metadata{Extra: json.RawMessage(tt.in)}}, "x")
		if got := string(get(t, r, m.Ref()).Metadata.Extra); got != tt.want {
			t.Errorf("extra %q came back as %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestMetadataRefused(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	add(t, r, "m:1")
	before := list(t, r)
	long := func(n int) string { return strings.Repeat("x", n) }
	tests := []struct {
		name string
		m    Model
	}{
		{"accuracy is not a number", Model{Metadata: Metadata{ValidationAccuracy: new(math.NaN())}}},
		{"accuracy is infinite", Model{Metadata: Metadata{TestAccuracy: new(math.Inf(-1))}}},
		{"metric is not a number", Model{Metadata: Metadata{TrainingMetrics: map[string]float64{"x": math.NaN()}}}},
		{"metric's name is not UTF-8", Model{Metadata: Metadata{TrainingMetrics: map[string]float64{"\xff": 1}}}},
		{"architecture is not UTF-8", Model{Metadata: Metadata{Architecture: "a\xc3"}}},
		{"architecture holds an escape", Model{Metadata: Metadata{Architecture: "\x1b[2J"}}},
		{"config hash is too long", Model{Metadata: Metadata{ConfigHash: long(maxReason + 1)}}},
		{"dataset holds NUL", Model{Metadata: Metadata{DatasetID: "a\x00"}}},
		{"tag is not UTF-8", Model{Metadata: Metadata{Tags: []string{"fine", "\xff"}}}},
		{"tag is empty", Model{Metadata: Metadata{Tags: []string{""}}}},
		{"tag is blank", Model{Metadata: Metadata{Tags: []string{" \t"}}}},
		{"tag is too long", Model{Metadata: Metadata{Tags: []string{long(maxTag + 1)}}}},
		{"extra is not JSON", Model{Metadata: Metadata{Extra: json.RawMessage(`{"a":`)}}},
		{"extra has a key twice", Model{Metadata: Metadata{Extra: json.RawMessage(`{"a":1,"a":2}`)}}},
		{"extra is not UTF-8", Model{Metadata: Metadata{Extra: json.RawMessage("\"\xff\"")}}},
		{"extra is too large", Model{Metadata: Metadata{Extra: json.RawMessage(`"` + long(maxMetadata) + `"`)}}},
		{"description is too long", Model{Description: long(maxDescription + 1)}},
		{"description is not UTF-8", Model{Description: "\xff"}},
		{"description holds C1 controls", Model{Description: "a\u0085b"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			tt.m.Name = "new"
			_, err := r.Register(ctx, tt.m, strings.NewReader("x"))
			wantErr(t, "Register", err, ErrInvalid)
			_, err = r.Edit(ctx, "m:1", Note{}, func(m *Model) error {
				m.Metadata, m.Description = tt.m.Metadata, tt.m.Description
				return nil
			})
			wantErr(t, "Edit", err, ErrInvalid)
		})
	}
	for what, err := range map[string]error{
		"status":          failureOf(r.Begin(ctx, Model{Name: "new", Status: "live"})),
		"registered by":   failureOf(r.Begin(ctx, Model{Name: "new", RegisteredBy: long(maxActor + 1)})),
		"actor of a note": failureOf(r.Promote(ctx, "m:1", Note{Actor: "a\nb\x00"})),
		"reason":          failureOf(r.Promote(ctx, "m:1", Note{Reason: long(maxReason + 1)})),
		"new status":      failureOf(r.SetStatus(ctx, "m:1", "live", Note{})),
		"option":          failureOf(Open(ctx, r.Dir(), &Options{Actor: "\xff"})),
	} {
		wantErr(t, what, err, ErrInvalid)
	}
	same(t, "listing", list(t, r), before)
}

func failureOf[T any](_ T, err error) error { return err }

func TestStatusAnyCase(t *testing.T) {
	for _, s := range Statuses() {
		got, err := ParseStatus(strings.ToUpper(string(s)))
		if err != nil || got != s {
			t.Errorf("ParseStatus(%q) = %q, %v", strings.ToUpper(string(s)), got, err)
		}
	}
	r := newRegistry(t)
	if m := addModel(t, r, Model{Name: "m", Status: "Staged"}, "x"); m.Status != Staged {
		t.Errorf("status %q", m.Status)
	}
}

func TestPutFSLinks(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	outside := filepath.Join(t.TempDir(), "secret")
	must(t, os.WriteFile(outside, []byte("secret"), 0o600))
	folder := func(t *testing.T, links map[string]string) *os.Root {
		dir := t.TempDir()
		must(t, os.MkdirAll(filepath.Join(dir, "sub", "deep"), 0o700))
		must(t, os.WriteFile(filepath.Join(dir, "sub", "w.bin"), []byte("weights"), 0o600))
		must(t, os.WriteFile(filepath.Join(dir, "sub", "deep", "empty"), nil, 0o600))
		for at, to := range links {
			if err := os.Symlink(to, filepath.Join(dir, at)); err != nil {
				t.Skipf("no symbolic links here: %v", err)
			}
		}
		root, err := os.OpenRoot(dir)
		must(t, err)
		t.Cleanup(func() { must(t, root.Close()) })
		return root
	}
	t.Run("inside", func(t *testing.T) {
		root := folder(t, map[string]string{"link": "sub/w.bin", "sub/up": "../link"})
		d, err := r.Begin(ctx, ofRef("m:1"))
		must(t, err)
		defer d.Close()
		must(t, d.PutFS(ctx, root.FS()))
		m, err := d.Commit(ctx)
		must(t, err)
		got := map[string]string{}
		for _, f := range all(t, m.List(ctx)) {
			got[f.Path] = string(read(t, m, f.Path))
		}
		same(t, "files", got, map[string]string{"link": "weights", "sub/up": "weights", "sub/w.bin": "weights", "sub/deep/empty": ""})
	})
	for _, tt := range []struct {
		name, to string
		want     error
	}{
		{"out, relative", "../../../../../../../../" + outside, nil},
		{"out, absolute", outside, nil},
		{"dangling", "nowhere", fs.ErrNotExist},
		{"to a folder", "sub", ErrInvalid},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := folder(t, map[string]string{"a-link": tt.to})
			d, err := r.Begin(ctx, ofRef("refused:1"))
			must(t, err)
			defer d.Close()
			err = d.PutFS(ctx, root.FS())
			if err == nil || tt.want != nil && !errors.Is(err, tt.want) {
				t.Fatalf("got %v, want an error that is %v", err, tt.want)
			}
			if got := d.Files(); len(got) != 0 {
				t.Errorf("stored %+v", got)
			}
		})
	}
	t.Run("a path that no version can have", func(t *testing.T) {
		d, err := r.Begin(ctx, ofRef("refused:1"))
		must(t, err)
		defer d.Close()
		err = d.PutFS(ctx, fstest.MapFS{`a\b`: {Data: []byte("x")}})
		if _, ok := errors.AsType[*NameError](err); !ok {
			t.Errorf("got %v, want a *NameError", err)
		}
	})
}
