package index

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/name"
)

func TestIndexRegister(t *testing.T) {
	s := newStore(t)
	x := openIndex(t, s, &Options{Now: clock()})
	one, two := put(t, s, "one"), put(t, s, "second")
	v := version(t, s, "team/model", "1.0.0")
	v.Metadata = []byte(`{ "b": 1.0, "a": [] }`)
	v.Description = "first"
	v.RegisteredAt = -5
	register(t, x, v, at(t, two, "z/two"), at(t, one, "one"))
	child := version(t, s, "team/model", "2.0.0")
	child.Parent = v.ID
	register(t, x, child, one)

	want := &Version{
		ID: v.ID, Name: v.Name, Version: v.Version, Status: "ready", Manifest: v.Manifest,
		Metadata: []byte(`{"a":[],"b":1.0}`), RegisteredAt: -5, UpdatedAt: v.UpdatedAt, Description: "first",
		Size: one.Size + two.Size, Hash: v.Manifest, Files: 2, Seq: 1,
	}
	err := x.View(t.Context(), func(tx *Tx) error {
		got, err := tx.Version(v.ID)
		if err != nil {
			return err
		}
		if d := cmp.Diff(want, got, cmp.Comparer(func(a, b name.Name) bool { return a == b }), cmp.Comparer(func(a, b name.Version) bool { return a == b })); d != "" {
			t.Errorf("version (-want +got):\n%s", d)
		}
		if got.UpdatedAt <= 0 {
			t.Errorf("UpdatedAt is %d", got.UpdatedAt)
		}
		if c, err := tx.Version(child.ID); err != nil || c.Hash != one.Digest || c.Seq != 2 {
			t.Errorf("child %+v, %v", c, err)
		}
		if ids := collect(t, tx.Children(v.ID)); !slices.Equal(ids, []uuid.UUID{child.ID}) {
			t.Errorf("children %v", ids)
		}
		if files := collect(t, tx.Files(v.ID)); !slices.Equal(files, []File{at(t, one, "one"), at(t, two, "z/two")}) {
			t.Errorf("files %v", files)
		}
		fe, err := tx.Path("team/model/1.0.0/z/two")
		if err != nil || fe.Version != v.ID || fe.File != at(t, two, "z/two") || fe.RegisteredAt != -5 {
			t.Errorf("path: %+v, %v", fe, err)
		}
		if all := collect(t, tx.Paths("team/model/2")); len(all) != 1 || all[0].Full != "team/model/2.0.0/model.bin" {
			t.Errorf("paths %v", all)
		}
		if all := collect(t, tx.Versions(v.Name)); len(all) != 2 || all[0].ID != v.ID || all[1].ID != child.ID {
			t.Errorf("versions %v", all)
		}
		if all := collect(t, tx.WithPrefix("team/m")); len(all) != 2 {
			t.Errorf("with prefix: %v", all)
		}
		if all := collect(t, tx.WithPrefix("team/model/")); len(all) != 0 {
			t.Errorf("with another prefix: %v", all)
		}
		for n := range 65 {
			if all := collect(t, tx.ByManifest(strings.ToUpper(v.Manifest.String()[:n]))); !slices.ContainsFunc(all, func(w *Version) bool { return w.ID == v.ID }) || n > 8 && len(all) != 1 {
				t.Errorf("by manifest, %d digits: %v", n, all)
			}
		}
		for _, none := range []string{"xyz", v.Manifest.String() + "0"} {
			if all := collect(t, tx.ByManifest(none)); len(all) != 0 {
				t.Errorf("by manifest %q: %v", none, all)
			}
		}
		if b, err := tx.Blob(one.Digest); err != nil || b.Size != one.Size || b.Digest != one.Digest || b.Stored == 0 {
			t.Errorf("blob %v, %v", b, err)
		}
		if ref, ok := tx.Frame(one.Digest); !ok || ref != (blob.FrameRef{Blob: one.Digest}) {
			t.Errorf("frame %v, %v", ref, ok)
		}
		if tx.Applied() != 2 {
			t.Errorf("applied %d", tx.Applied())
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

func TestTxErrors(t *testing.T) {
	s := newStore(t)
	x := openIndex(t, s, nil)
	one := put(t, s, "one")
	a1 := register(t, x, version(t, s, "a", "1"), at(t, one, "dir/file"))
	ab := register(t, x, version(t, s, "a/b", "1"), at(t, one, "f"))
	prod := parseAlias(t, "prod")
	update(t, x, "alias", func(tx *Tx) error { return tx.SetAlias(a1.Name, prod, uuid.Nil, a1.ID) })
	update(t, x, "sha256", func(tx *Tx) error { return tx.SetSHA256(one.Digest, SHA256{1}) })
	gone := blob.Sum([]byte("never put"))
	none := uuid.MustParse("aaaaaaaa-0000-4000-8000-000000000000")
	reg := func(edit func(*Version), files ...File) func(*Tx) error {
		return func(tx *Tx) error {
			v := version(t, s, "new", "1")
			edit(v)
			return tx.Register(v, files)
		}
	}
	conflict := func(path, other string) func(error) bool {
		return func(err error) bool {
			e, ok := errors.AsType[*PathConflictError](err)
			return ok && e.Path == path && e.Other == other
		}
	}
	is := func(want error) func(error) bool { return func(err error) bool { return errors.Is(err, want) } }
	duplicate := func(id uuid.UUID) func(error) bool {
		return func(err error) bool {
			e, ok := errors.AsType[*DuplicateError](err)
			return ok && e.ID == id && errors.Is(err, ErrDuplicate) && errors.Is(err, fs.ErrExist)
		}
	}
	alias := func(want, have uuid.UUID) func(error) bool {
		return func(err error) bool {
			e, ok := errors.AsType[*AliasConflictError](err)
			return ok && e.Want == want && e.Have == have && errors.Is(err, ErrConflict)
		}
	}
	tests := map[string]struct {
		fn func(*Tx) error
		ok func(error) bool
	}{
		"same name and version": {reg(func(v *Version) { v.Name = a1.Name }), duplicate(a1.ID)},
		"same id":               {reg(func(v *Version) { v.ID = ab.ID }), duplicate(ab.ID)},
		"no parent":             {reg(func(v *Version) { v.Parent = none }), is(ErrNotFound)},
		"own parent":            {reg(func(v *Version) { v.Parent = v.ID }), is(fs.ErrInvalid)},
		"no id":                 {reg(func(v *Version) { v.ID = uuid.Nil }), is(fs.ErrInvalid)},
		"no manifest":           {reg(func(v *Version) { v.Manifest = blob.Digest{} }), is(fs.ErrInvalid)},
		"no status":             {reg(func(v *Version) { v.Status = "" }), is(fs.ErrInvalid)},
		"status with NUL":       {reg(func(v *Version) { v.Status = "a\x00b" }), is(fs.ErrInvalid)},
		"metadata":              {reg(func(v *Version) { v.Metadata = []byte("{") }), is(fs.ErrInvalid)},
		"wrong size":            {reg(func(v *Version) {}, File{Path: one.Path, Digest: one.Digest, Size: 99}), is(fs.ErrInvalid)},
		"missing file": {reg(func(v *Version) {}, File{Path: one.Path, Digest: gone}), func(err error) bool {
			e, ok := errors.AsType[*MissingBlobError](err)
			return ok && e.Digest == gone && errors.Is(err, ErrNotFound) && errors.Is(err, fs.ErrNotExist)
		}},
		"missing manifest": {reg(func(v *Version) { v.Manifest = gone }), func(err error) bool {
			e, ok := errors.AsType[*MissingBlobError](err)
			return ok && e.Digest == gone
		}},
		"path twice":         {reg(func(v *Version) {}, one, one), conflict("new/1/model.bin", "new/1/model.bin")},
		"own file as folder": {reg(func(v *Version) {}, at(t, one, "x/y"), at(t, one, "x")), conflict("new/1/x/y", "new/1/x")},
		"taken path": {reg(func(v *Version) { v.Name, v.Version = parseName(t, "a"), parseVersion(t, "b") }, at(t, one, "1/f")),
			conflict("a/b/1/f", "a/b/1/f")},
		"below a file": {reg(func(v *Version) { v.Name, v.Version = parseName(t, "a/b"), parseVersion(t, "2") }, at(t, one, "f/g"), at(t, one, "f/g/h")),
			conflict("a/b/2/f/g/h", "a/b/2/f/g")},
		"below a file of another": {reg(func(v *Version) { v.Name, v.Version = parseName(t, "a/1"), parseVersion(t, "dir") }, at(t, one, "file/x")),
			conflict("a/1/dir/file/x", "a/1/dir/file")},
		"above a file of another": {reg(func(v *Version) { v.Name, v.Version = parseName(t, "a"), parseVersion(t, "b") }, at(t, one, "1")),
			conflict("a/b/1", "a/b/1/f")},
		"status of none":     {func(tx *Tx) error { return tx.SetStatus(none, "x") }, is(ErrNotFound)},
		"metadata of none":   {func(tx *Tx) error { return tx.SetMetadata(none, nil, "") }, is(ErrNotFound)},
		"delete none":        {func(tx *Tx) error { return tx.Delete(none) }, is(ErrNotFound)},
		"alias exists":       {func(tx *Tx) error { return tx.SetAlias(a1.Name, prod, uuid.Nil, a1.ID) }, alias(uuid.Nil, a1.ID)},
		"alias elsewhere":    {func(tx *Tx) error { return tx.SetAlias(a1.Name, prod, ab.ID, uuid.Nil) }, alias(ab.ID, a1.ID)},
		"alias missing":      {func(tx *Tx) error { return tx.SetAlias(ab.Name, prod, ab.ID, uuid.Nil) }, alias(ab.ID, uuid.Nil)},
		"alias to another":   {func(tx *Tx) error { return tx.SetAlias(a1.Name, prod, a1.ID, ab.ID) }, is(ErrNotFound)},
		"alias to none":      {func(tx *Tx) error { return tx.SetAlias(a1.Name, prod, a1.ID, none) }, is(ErrNotFound)},
		"look up none":       {func(tx *Tx) error { _, err := tx.Lookup(a1.Name, parseVersion(t, "9")); return err }, is(ErrNotFound)},
		"look up zero":       {func(tx *Tx) error { _, err := tx.Lookup(name.Name{}, name.Version{}); return err }, is(ErrNotFound)},
		"alias of none":      {func(tx *Tx) error { _, err := tx.Alias(ab.Name, prod); return err }, is(ErrNotFound)},
		"path of none":       {func(tx *Tx) error { _, err := tx.Path("a/1/dir"); return err }, is(ErrNotFound)},
		"empty path":         {func(tx *Tx) error { _, err := tx.Path(""); return err }, is(ErrNotFound)},
		"sentinel path":      {func(tx *Tx) error { _, err := tx.Path(sentinel); return err }, is(ErrNotFound)},
		"blob of none":       {func(tx *Tx) error { _, err := tx.Blob(gone); return err }, is(ErrNotFound)},
		"add a blob of none": {func(tx *Tx) error { return tx.AddBlob(t.Context(), gone) }, is(blob.ErrNotFound)},
		"files of none":      {func(tx *Tx) error { return firstError(tx.Files(none)) }, is(ErrNotFound)},
		"another sha256": {func(tx *Tx) error { return tx.SetSHA256(one.Digest, SHA256{2}) }, func(err error) bool {
			e, ok := errors.AsType[*SHA256ConflictError](err)
			return ok && *e == SHA256ConflictError{Blob: one.Digest, Given: SHA256{2}, Have: SHA256{1}} && errors.Is(err, ErrConflict)
		}},
		"sha256 of another": {func(tx *Tx) error { return tx.SetSHA256(gone, SHA256{1}) }, func(err error) bool {
			e, ok := errors.AsType[*SHA256ConflictError](err)
			return ok && *e == SHA256ConflictError{Blob: gone, Given: SHA256{1}, Other: one.Digest} && errors.Is(err, ErrConflict)
		}},
		"sha256 of nothing":    {func(tx *Tx) error { return tx.SetSHA256(blob.Digest{}, SHA256{3}) }, is(fs.ErrInvalid)},
		"the function's error": {func(tx *Tx) error { return errors.Join(tx.Delete(a1.ID), context.Canceled) }, is(context.Canceled)},
	}
	before := dump(t, s)
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			if err := x.Update(t.Context(), Change{Verb: "x"}, test.fn); !test.ok(err) {
				t.Errorf("error %v (%T)", err, err)
			}
		})
	}
	sameDump(t, dump(t, s), before)
	for name, fn := range map[string]func(*Tx) error{
		"register": reg(func(*Version) {}),
		"delete":   func(tx *Tx) error { return tx.Delete(a1.ID) },
		"add blob": func(tx *Tx) error { return tx.AddBlob(t.Context(), one.Digest) },
		"sha256":   func(tx *Tx) error { return tx.SetSHA256(one.Digest, SHA256{1}) },
	} {
		if err := x.View(t.Context(), fn); !errors.Is(err, errView) {
			t.Errorf("%s in a view: %v", name, err)
		}
	}
	for _, verb := range []string{"", "create"} {
		if err := x.Update(t.Context(), Change{Verb: verb}, func(*Tx) error { return nil }); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("verb %q: %v", verb, err)
		}
	}
	if n, err := x.CheckJournal(t.Context()); n != 5 || err != nil {
		t.Errorf("CheckJournal: %d, %v", n, err)
	}
}

func firstError[T any](seq func(func(T, error) bool)) error {
	for _, err := range seq {
		return err
	}
	return nil
}

func TestTxChanges(t *testing.T) {
	s := newStore(t)
	x := openIndex(t, s, &Options{Now: clock()})
	one := put(t, s, "one")
	v1 := register(t, x, version(t, s, "a", "1"), one)
	v2 := version(t, s, "a", "2")
	v2.Parent = v1.ID
	register(t, x, v2, one)
	prod, test := parseAlias(t, "prod"), parseAlias(t, "test")
	update(t, x, "alias", func(tx *Tx) error {
		return errors.Join(tx.SetAlias(v1.Name, prod, uuid.Nil, v1.ID), tx.SetAlias(v1.Name, test, uuid.Nil, v2.ID))
	})
	var now int64
	update(t, x, "rollback", func(tx *Tx) error {
		now = tx.Now()
		return errors.Join(
			tx.SetAlias(v1.Name, prod, v1.ID, v2.ID),
			tx.SetStatus(v2.ID, "production"),
			tx.SetMetadata(v1.ID, []byte(`{"a": 1}`), "text"),
		)
	})
	view := func(fn func(tx *Tx)) {
		t.Helper()
		if err := x.View(t.Context(), func(tx *Tx) error { fn(tx); return nil }); err != nil {
			t.Fatal(err)
		}
	}
	view(func(tx *Tx) {
		if id, err := tx.Alias(v1.Name, prod); id != v2.ID || err != nil {
			t.Errorf("alias: %v, %v", id, err)
		}
		if all := collect(t, tx.ByStatus("production")); len(all) != 1 || all[0].ID != v2.ID || all[0].UpdatedAt != now {
			t.Errorf("by status: %v", all)
		}
		if all := collect(t, tx.ByStatus("ready")); len(all) != 1 || all[0].ID != v1.ID {
			t.Errorf("by the other status: %v", all)
		}
		if v, err := tx.Version(v1.ID); err != nil || string(v.Metadata) != `{"a":1}` || v.Description != "text" || v.UpdatedAt != now {
			t.Errorf("metadata: %+v, %v", v, err)
		}
		if all := collect(t, tx.Aliases(v1.Name)); !slices.Equal(all, []AliasEntry{{v1.Name, prod, v2.ID}, {v1.Name, test, v2.ID}}) {
			t.Errorf("aliases: %v", all)
		}
	})
	// Reading while writing: each version is seen once.
	seen := 0
	update(t, x, "delete", func(tx *Tx) error {
		for v, err := range tx.All() {
			if err != nil {
				return err
			}
			seen++
			if v.ID == v2.ID {
				if err := tx.Delete(v.ID); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if seen != 2 {
		t.Errorf("%d versions seen", seen)
	}
	view(func(tx *Tx) {
		if all := collect(t, tx.Aliases(v1.Name)); len(all) != 0 {
			t.Errorf("aliases of a deleted version: %v", all)
		}
		if all := collect(t, tx.Children(v1.ID)); len(all) != 0 {
			t.Errorf("children: %v", all)
		}
		if all := collect(t, tx.Paths("")); len(all) != 1 {
			t.Errorf("paths: %v", all)
		}
		if all := collect(t, tx.All()); len(all) != 1 {
			t.Errorf("versions: %v", all)
		}
	})
	// What was deleted can be registered again.
	register(t, x, v2, one)
	var verbs []string
	for r, err := range x.Records(t.Context(), 2) {
		if err != nil {
			t.Fatal(err)
		}
		verbs = append(verbs, fmt.Sprintf("%d %s %s %d", r.Seq, r.Verb, r.Actor, len(r.Ops)))
	}
	if want := []string{"2 register test 1", "3 alias test 2", "4 rollback test 3", "5 delete test 1", "6 register test 1"}; !slices.Equal(verbs, want) {
		t.Errorf("records %q, want %q", verbs, want)
	}
	want := dump(t, s)
	if err := x.Rebuild(t.Context()); err != nil {
		t.Fatal(err)
	}
	sameDump(t, dump(t, s), want)
}

func TestTxNames(t *testing.T) {
	s := newStore(t)
	x := openIndex(t, s, nil)
	names := []string{"a", "a-b", "a/b", "ab", "b"}
	for _, n := range names {
		register(t, x, version(t, s, n, "1"))
		register(t, x, version(t, s, n, "10"))
	}
	for prefix, want := range map[string][]string{"": names, "a": names[:4], "a/": names[2:3], "c": nil, "\x00": nil, "a\x00": nil} {
		err := x.View(t.Context(), func(tx *Tx) error {
			var got []string
			for n, err := range tx.Names(prefix) {
				if err != nil {
					return err
				}
				got = append(got, n.String())
			}
			if prefix != "a\x00" && !slices.Equal(got, want) {
				t.Errorf("names with %q: %q, want %q", prefix, got, want)
			}
			if all := collect(t, tx.WithPrefix(prefix)); len(all) != 2*len(want) {
				t.Errorf("with prefix %q: %d versions, want %d", prefix, len(all), 2*len(want))
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestTxBlobs(t *testing.T) {
	s := newStore(t)
	x := openIndex(t, s, nil)
	f := put(t, s, "loose")
	update(t, x, "x", func(tx *Tx) error { return tx.AddBlob(t.Context(), f.Digest) })
	update(t, x, "x", func(tx *Tx) error { return tx.AddBlob(t.Context(), f.Digest) })
	has := func() (known, frame bool) {
		if err := x.View(t.Context(), func(tx *Tx) error {
			_, err := tx.Blob(f.Digest)
			known = err == nil
			_, frame = tx.Frame(f.Digest)
			return nil
		}); err != nil {
			t.Fatal(err)
		}
		return known, frame
	}
	if known, frame := has(); !known || !frame {
		t.Errorf("added: known %v, frame %v", known, frame)
	}
	update(t, x, "x", func(tx *Tx) error { return tx.RemoveBlob(t.Context(), f.Digest) })
	update(t, x, "x", func(tx *Tx) error { return tx.RemoveBlob(t.Context(), f.Digest) })
	if known, frame := has(); known || frame {
		t.Errorf("removed: known %v, frame %v", known, frame)
	}
	if n, err := x.CheckJournal(t.Context()); n != 1 || err != nil {
		t.Errorf("blobs are not for the journal: %d records, %v", n, err)
	}
}

func TestTxAfterEnd(t *testing.T) {
	s := newStore(t)
	x := openIndex(t, s, nil)
	var kept *Tx
	update(t, x, "x", func(tx *Tx) error { kept = tx; return nil })
	if _, err := kept.Version(uuid.New()); !errors.Is(err, errDone) {
		t.Errorf("read: %v", err)
	}
	if err := kept.Delete(uuid.New()); !errors.Is(err, errDone) {
		t.Errorf("write: %v", err)
	}
}

func TestIndexPanic(t *testing.T) {
	s := newStore(t)
	for _, exclusive := range []*Options{{}, {Exclusive: true}} {
		x := openIndex(t, s, exclusive)
		v := version(t, s, "a", "1")
		func() {
			defer func() {
				if p := recover(); p != "mine" {
					t.Errorf("panic %v", p)
				}
			}()
			_ = x.Update(t.Context(), Change{Verb: "x"}, func(tx *Tx) error {
				if err := tx.Register(v, nil); err != nil {
					t.Error(err)
				}
				panic("mine")
			})
		}()
		if err := x.View(t.Context(), func(tx *Tx) error { _, err := tx.Version(v.ID); return err }); !errors.Is(err, ErrNotFound) {
			t.Errorf("after a panic: %v", err)
		}
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestIndexClosed(t *testing.T) {
	s := newStore(t)
	x := openIndex(t, s, nil)
	if err := x.Close(); err != nil {
		t.Fatal(err)
	}
	for what, err := range map[string]error{
		"View":    x.View(t.Context(), func(*Tx) error { return nil }),
		"Update":  x.Update(t.Context(), Change{Verb: "x"}, func(*Tx) error { return nil }),
		"Rebuild": x.Rebuild(t.Context()),
		"Records": firstError(x.Records(t.Context(), 0)),
		"Close":   x.Close(),
	} {
		if !errors.Is(err, fs.ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestOpenMemory(t *testing.T) {
	s, err := blob.NewMemory(nil)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if _, err := Open(t.Context(), s, nil); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("error %v", err)
	}
}

func TestOpenOtherStore(t *testing.T) {
	s, other := newStore(t), newStore(t)
	openIndex(t, s, nil)
	x := openIndex(t, other, nil)
	// The index of another store is damage; its journal is not ours to read.
	copyFile(t, filepath.Join(other.Dir(), databaseName), filepath.Join(s.Dir(), databaseName))
	openIndex(t, s, nil)
	copyFile(t, filepath.Join(s.Dir(), journalName), filepath.Join(other.Dir(), journalName))
	if _, ok := errors.AsType[*JournalError](x.Rebuild(t.Context())); !ok {
		t.Errorf("the journal of another store was taken")
	}
}
