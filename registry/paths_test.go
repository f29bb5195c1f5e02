package registry

import (
	"io"
	"strings"
	"testing"
)

func TestPaths(t *testing.T) {
	r := newRegistry(t)
	ctx := t.Context()
	m, err := r.Save(ctx, "org/model/1.0/weights.gguf", strings.NewReader("weights"))
	must(t, err)
	if m.Ref() != "org/model:1.0" || m.Files != 1 {
		t.Fatalf("saved as %s, %d files", m.Ref(), m.Files)
	}
	addFiles(t, r, "org/two:1", map[string][]byte{"a/x.bin": []byte("x"), "b.bin": []byte("bb")})

	f, err := r.Load(ctx, "org/model/1.0/weights.gguf")
	must(t, err)
	b, err := io.ReadAll(f)
	must(t, err)
	must(t, f.Close())
	if string(b) != "weights" || f.Size() != 7 || f.Digest() != m.WeightsHash {
		t.Errorf("loaded %q, %d bytes, %s", b, f.Size(), f.Digest())
	}
	f, err = r.Load(ctx, "org/two/1/a/x.bin")
	must(t, err)
	must(t, f.Close())

	_, err = r.Save(ctx, "org/model/1.0/weights.gguf", strings.NewReader("other"))
	wantErr(t, "Save again", err, ErrDuplicate)
	_, err = r.Save(ctx, "org/model/1.0/second.gguf", strings.NewReader("other"))
	wantErr(t, "Save beside it", err, ErrDuplicate)

	for _, tt := range []struct {
		path string
		want bool
	}{
		{"org/model/1.0/weights.gguf", true}, {"org/two/1/b.bin", true}, {"org/two/1/a", false},
		{"org/two/1", false}, {"", false}, {"../x", false}, {"org/model/1.0/weights.ggu", false}, {strings.Repeat("x", 1<<16), false},
	} {
		got, err := r.Exists(ctx, tt.path)
		if err != nil || got != tt.want {
			t.Errorf("Exists(%.40q) = %v, %v", tt.path, got, err)
		}
		if _, err := r.Load(ctx, tt.path); !tt.want {
			wantErr(t, "Load "+tt.path[:min(40, len(tt.path))], err, ErrNotFound)
			wantErr(t, "Remove "+tt.path[:min(40, len(tt.path))], r.Remove(ctx, tt.path, Note{}), ErrNotFound)
		}
	}

	list := func(prefix string) (got []string) {
		for _, e := range all(t, r.List(ctx, prefix)) {
			got = append(got, e.Path)
			if f, err := r.Load(ctx, e.Path); err != nil || f.Size() != e.Size || f.Digest() != e.Digest || e.RegisteredAt == 0 || f.Close() != nil {
				t.Errorf("entry %+v: %v", e, err)
			}
		}
		return got
	}
	same(t, "all", list(""), []string{"org/model/1.0/weights.gguf", "org/two/1/a/x.bin", "org/two/1/b.bin"})
	same(t, "of a prefix", list("org/two/1/a"), []string{"org/two/1/a/x.bin"})
	same(t, "of no prefix", list("x"), []string(nil))

	wantErr(t, "removing one of two files", r.Remove(ctx, "org/two/1/b.bin", Note{}), ErrConflict)
	promote(t, r, "org/model:1.0")
	wantErr(t, "removing what is in production", r.Remove(ctx, "org/model/1.0/weights.gguf", Note{}), ErrConflict)
	_, err = r.SetStatus(ctx, "org/model:1.0", Archived, Note{})
	must(t, err)
	must(t, r.Remove(ctx, "org/model/1.0/weights.gguf", Note{Reason: "old"}))
	_, err = r.Get(ctx, "org/model:1.0")
	wantErr(t, "removed", err, ErrNotFound)
	same(t, "what is left", list(""), []string{"org/two/1/a/x.bin", "org/two/1/b.bin"})
}
