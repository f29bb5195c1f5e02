package folder

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/google/uuid"
	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/migrate/internal/sourcetest"
	"github.com/heftstore/heft/registry"
)

var _ migrate.Source = (*Source)(nil)

// write makes the files, by path below dir, each with its path as content; one
// that ends with a slash is a folder, "a -> b" a link.
func write(t *testing.T, dir string, paths ...string) {
	t.Helper()
	for _, p := range paths {
		link, to, isLink := strings.Cut(p, " -> ")
		full := filepath.Join(dir, filepath.FromSlash(link))
		if strings.HasSuffix(p, "/") && !isLink {
			if err := os.MkdirAll(full, 0o755); err != nil {
				t.Fatal(err)
			}
			continue
		}
		err := os.MkdirAll(filepath.Dir(full), 0o755)
		if err == nil && isLink {
			err = os.Symlink(filepath.FromSlash(to), full)
		} else if err == nil {
			err = os.WriteFile(full, []byte(p), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func items(t *testing.T, pattern string, o *Options) []*migrate.Item {
	t.Helper()
	s, err := Open(t.Context(), pattern, o)
	if err != nil {
		t.Fatal(err)
	}
	return sourcetest.Items(t, s)
}

// brief tells items on one line each: name:version, files, what is wrong.
func brief(t *testing.T, all []*migrate.Item) []string {
	t.Helper()
	var lines []string
	for _, item := range all {
		var line strings.Builder
		line.WriteString(item.Model.Name + ":" + item.Model.Version)
		switch {
		case item.Err != nil:
			line.WriteString(" failed")
		case item.Skip != "":
			line.WriteString(" skipped")
		}
		for _, f := range item.Files {
			line.WriteString(" " + f.Path)
			r, err := f.Open(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			b, err := io.ReadAll(r)
			if err := errors.Join(err, r.Close()); err != nil || int64(len(b)) != f.Size || !strings.HasSuffix(string(b), f.Path) {
				t.Errorf("%s of %s: %q of %d bytes, %v", f.Path, item.From, b, f.Size, err)
			}
		}
		lines = append(lines, line.String())
	}
	return lines
}

func TestItems(t *testing.T) {
	tests := []struct {
		name    string
		files   []string
		pattern string
		options *Options
		want    []string
	}{
		{"folders in natural order",
			[]string{"runs/a/step-10/w", "runs/a/step-2/w", "runs/a/step-2/sub/deep/v", "runs/b/step-1/w", "runs/a/log.txt", "runs/step-9/w", "runs/a/step-x", "other/a/step-1/w"},
			"runs/{name}/step-{version}/", nil,
			[]string{"a:2 sub/deep/v w", "a:10 w", "b:1 w"}},
		{"files",
			[]string{"a-1.pt", "a-10.pt", "a-9.pt", "a-9.txt", "b-1.pt"},
			"{name}-{version}.pt", nil,
			[]string{"a:1 a-1.pt", "a:9 a-9.pt", "a:10 a-10.pt", "b:1 b-1.pt"}},
		{"folders too without the slash",
			[]string{"a/1/w", "a/2"},
			"{name}/{version}", nil,
			[]string{"a:1 w", "a:2 2"}},
		{"files are not folders",
			[]string{"a/1/w", "a/2"},
			"{name}/{version}/", nil,
			[]string{"a:1 w"}},
		{"joined names",
			[]string{"org/m/1/w", "org/m/2/w", "org/n/1/w"},
			"{name}/{name}/{version}/", nil,
			[]string{"org/m:1 w", "org/m:2 w", "org/n:1 w"}},
		{"a name for all",
			[]string{"1/w", "2/w"},
			"{version}/", &Options{Name: "org/m"},
			[]string{"org/m:1 w", "org/m:2 w"}},
		{"literal below a placeholder",
			[]string{"a/ckpt/1/w", "b/other/1/w", "c/ckpt"},
			"{name}/ckpt/{version}/", nil,
			[]string{"a:1 w"}},
		{"same twice",
			[]string{"x/a/1/w", "y/a/1/w", "z/a/1/w", "y/a/2/w"},
			"*/{name}/{version}/", nil,
			[]string{"a:1 w", "a:1 failed", "a:1 failed", "a:2 w"}},
		{"same twice, the first empty",
			[]string{"x/a/1/", "y/a/1/w"},
			"*/{name}/{version}/", nil,
			[]string{"a:1 skipped", "a:1 w"}},
		{"empty",
			[]string{"a/1/", "a/2/sub/sub/", "a/3/w"},
			"{name}/{version}/", nil,
			[]string{"a:1 skipped", "a:2 skipped", "a:3 w"}},
		{"links",
			[]string{"a/1/w", "a/1/bad -> w", "a/2/w", "a/latest -> 2", "b -> a", "a/3/sub -> ../2", "a/4/x -> /etc/passwd", "a/5/x -> nowhere", "a/6 -> 6", "a/7/.tmp"},
			"{name}/{version}/", nil,
			[]string{"a:1 failed", "a:2 w", "a:3 failed", "a:4 failed", "a:5 failed", "a:6 skipped", "a:7 .tmp", "a:latest skipped", "b: skipped"}},
		{"literal link",
			[]string{"a/x/1/w", "b/ckpt -> ../a/x"},
			"{name}/ckpt/{version}/", nil,
			[]string{"b: skipped"}},
		{"names that heft can't hold",
			[]string{"con/1/w", "-a/1/w", "a/v:1/w", "a/@/w", "a/ 1/w", "b3/1/w", "ok/1/w", "ok/2/a\nb", "ok/3/" + strings.Repeat("n", 200), strings.Repeat("n", 200) + "/1/w", "ok/\xff/w", "ok/4/\xff/w", "ok/5/\xff"},
			"{name}/{version}/", nil,
			[]string{"-a:1 failed", "a: 1 failed", "a:@ failed", "a:v:1 failed", "b3:1 failed", "con:1 failed",
				strings.Repeat("n", 200) + ":1 failed", "ok:1 w", "ok:2 failed", "ok:3 " + strings.Repeat("n", 200), "ok:4 failed", "ok:5 failed", "ok:\xff failed"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if runtime.GOOS == "windows" && strings.Contains(tt.name, "can't hold") {
				t.Skip("such names can't be made here")
			}
			parent := t.TempDir()
			dir := filepath.Join(parent, "in")
			write(t, dir, tt.files...)
			before := sourcetest.Listing(t, parent)
			got := items(t, filepath.ToSlash(dir)+"/"+tt.pattern, tt.options)
			if diff := cmp.Diff(tt.want, brief(t, got)); diff != "" {
				t.Errorf("items (-want +got):\n%s", diff)
			}
			if diff := cmp.Diff(before, sourcetest.Listing(t, parent)); diff != "" {
				t.Errorf("the source changed:\n%s", diff)
			}
			ids := map[uuid.UUID]string{}
			for i, item := range got {
				if other, ok := ids[item.Model.ID]; ok {
					t.Errorf("%s and %s have one id", other, item.From)
				}
				ids[item.Model.ID] = item.From
				if item.Model.Parent != uuid.Nil && !slices.ContainsFunc(got[:i], func(p *migrate.Item) bool {
					return p.Model.ID == item.Model.Parent && p.Model.Name == item.Model.Name && p.Err == nil && p.Skip == ""
				}) {
					t.Errorf("the parent of %s does not come before it", item.From)
				}
			}
		})
	}
}

func TestItem(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a/2/w", "a/2/x", "a/3/", "a/10/w")
	old, newer := time.UnixMicro(1_600_000_000_123_456), time.UnixMicro(1_700_000_000_654_321)
	if err := errors.Join(os.Chtimes(filepath.Join(dir, "a/2/w"), old, old), os.Chtimes(filepath.Join(dir, "a/2/x"), newer, newer),
		os.Chtimes(filepath.Join(dir, "a/10/w"), time.Unix(-5, 0), time.Unix(-5, 0))); err != nil {
		t.Fatal(err)
	}
	got := items(t, filepath.ToSlash(dir)+"/{name}/{version}/", &Options{Status: "STAGED"})
	if len(got) != 3 {
		t.Fatalf("%d items", len(got))
	}
	first, last := got[0], got[2]
	if id := uuid.NewSHA1(uuid.MustParse(namespace), []byte("folder\x00a\x002")); first.Model.ID != id {
		t.Errorf("id %v, want %v", first.Model.ID, id)
	}
	want := registry.Model{
		ID: first.Model.ID, Name: "a", Version: "2", Status: registry.Staged, RegisteredAt: newer.UnixMicro(), UpdatedAt: newer.UnixMicro(),
		Origin: &registry.Origin{Source: "folder", Details: json.RawMessage(`{"path":"a/2"}`)},
	}
	if diff := cmp.Diff(want, first.Model, cmpopts.IgnoreUnexported(registry.Model{})); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if first.From != "a/2" || first.Files[0].Modified != old.UnixNano() || first.Files[0].Want != (migrate.Hashes{}) {
		t.Errorf("%+v", first)
	}
	// The empty one between is no parent, and a time before 1970 becomes the first after it.
	if last.Model.Parent != first.Model.ID || last.Model.RegisteredAt != 1 {
		t.Errorf("parent %v, time %d", last.Model.Parent, last.Model.RegisteredAt)
	}
	if again := items(t, filepath.ToSlash(dir)+"/{name}/{version}/", &Options{Status: "STAGED"}); again[2].Model.ID != last.Model.ID {
		t.Error("a second reading gives other ids")
	}
}

func TestItemErrors(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "x/a/1/w", "y/a/1/w", "x/b/1/sub/l -> ../../w", "x/c/1/w")
	got := items(t, filepath.ToSlash(dir)+"/*/{name}/{version}/", nil)
	if err := got[1].Err; err == nil || !strings.Contains(err.Error(), "x/a/1 and y/a/1") {
		t.Errorf("the second of two: %v; want both places", err)
	}
	if err := got[2].Err; err == nil || !strings.Contains(err.Error(), "x/b/1/sub/l is a link") {
		t.Errorf("with a link inside: %v; want its path", err)
	}
}

func TestNothingMatches(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "runs/exp1/checkpoint-1/w", "runs/exp1/checkpoint-2/w", "runs/exp1/a", "runs/exp1/b", "runs/exp1/c", "runs/exp1/d", "runs/notes", "empty/")
	tests := []struct{ pattern, want string }{
		{"runs/{name}/step-{version}/", `no "step-{version}/" in ` + filepath.Join(dir, "runs", "exp1") + `, where there are "a", "b", "c", "checkpoint-1/", "checkpoint-2/", and 1 more`},
		{"runs/{name}/deep/step-{version}", `no "deep/" in ` + filepath.Join(dir, "runs", "exp1")},
		{"empty/{name}/{version}/", `no "{name}/" in ` + filepath.Join(dir, "empty") + ", which is empty"},
		{"runs/{name}/checkpoint-{version}/x*/y", `no "x*/" in ` + filepath.Join(dir, "runs", "exp1", "checkpoint-1") + `, where there are "w"`},
	}
	for _, tt := range tests {
		s, err := Open(t.Context(), filepath.ToSlash(dir)+"/"+tt.pattern, nil)
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for item, err := range s.Items(t.Context()) {
			n++
			if item != nil || !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %v, %v; want an error with %q", tt.pattern, item, err, tt.want)
			}
		}
		if err := s.Close(); err != nil || n != 1 {
			t.Errorf("%s: %d items, %v", tt.pattern, n, err)
		}
	}
}

func TestOpenErrors(t *testing.T) {
	dir := filepath.ToSlash(t.TempDir())
	tests := []struct {
		pattern string
		options *Options
		want    error
	}{
		{dir + "/{name}/x", nil, ErrPattern},
		{dir + "/nowhere/{name}/{version}", nil, fs.ErrNotExist},
		{dir + "/{version}", &Options{Name: "a:b"}, fs.ErrInvalid},
		{dir + "/{name}/{version}", &Options{Status: "ripe"}, fs.ErrInvalid},
	}
	for _, tt := range tests {
		s, err := Open(t.Context(), tt.pattern, tt.options)
		if s != nil || !errors.Is(err, tt.want) {
			t.Errorf("Open(%q, %+v) = %v, %v; want %v", tt.pattern, tt.options, s, err, tt.want)
		}
	}
}

func TestItemsStop(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "a/1/w", "a/2/w")
	s, err := Open(t.Context(), filepath.ToSlash(dir)+"/{name}/{version}/", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	for _, err := range s.Items(t.Context()) {
		if err != nil {
			t.Error(err)
		}
		break
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	for _, err := range s.Items(ctx) {
		if ctx.Err() != nil && !errors.Is(err, context.Canceled) {
			t.Errorf("after cancelling: %v", err)
		}
		cancel()
	}
	if ctx.Err() == nil {
		t.Error("nothing was yielded")
	}
}
