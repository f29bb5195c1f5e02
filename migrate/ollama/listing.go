package ollama

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/heftstore/heft/internal/name"
	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/registry"
)

// tag is a file that holds, or a link that leads to, a manifest.
type tag struct {
	name string
	path string
	link bool
}

// listing is what one call of Items has found so far.
type listing struct {
	source *Source
	models map[model][]tag
	tags   map[string]string // the path of each, by its model and name
	odd    []*migrate.Item   // what is no manifest
	used   map[string]bool   // digests that manifests name, in hexadecimal digits
	failed int               // manifests that could not be read
}

// depth is how many folders and files below the root make a tag: host,
// namespace, model, tag.
const depth = 4

// collect finds the tags below root/parts.
func (l *listing) collect(ctx context.Context, root string, parts []string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	dir := path.Join(append([]string{root}, parts...)...)
	entries, err := fs.ReadDir(l.source.tree.FS(), dir)
	if err != nil {
		if len(parts) == 0 {
			return fmt.Errorf("ollama: listing %s: %w", dir, err)
		}
		l.strange(dir).Err = fmt.Errorf("listing the folder: %w", err)
		return nil
	}
	for _, e := range entries {
		at := path.Join(dir, e.Name())
		all := append(slices.Clip(parts), e.Name())
		kind := e.Type()
		switch {
		case len(all) == depth && (kind.IsRegular() || kind == fs.ModeSymlink):
			l.add(all, tag{name: e.Name(), path: at, link: !kind.IsRegular()})
		case len(all) < depth && kind.IsDir():
			if err := l.collect(ctx, root, all); err != nil {
				return err
			}
		case kind == fs.ModeSymlink:
			l.strange(at).Err = fmt.Errorf("%.200q is a link, and links are not followed: put what it leads to in its place", at)
		case !strings.HasPrefix(e.Name(), "."): // such as .DS_Store
			l.strange(at).Skip = "it is not where a manifest is: host/namespace/model/tag"
		}
	}
	return nil
}

func (l *listing) strange(at string) *migrate.Item {
	item := newItem(at, "path", at)
	l.odd = append(l.odd, item)
	return item
}

// add keeps a tag, unless the newer layout, which comes first, has it already.
func (l *listing) add(parts []string, t tag) {
	m := newModel(parts[0], parts[1], parts[2])
	key := m.String() + "/" + t.name
	if other, ok := l.tags[key]; ok {
		l.strange(t.path).Skip = fmt.Sprintf("%s is the same tag, and the one that counts", other)
		return
	}
	l.tags[key] = t.path
	l.models[m] = append(l.models[m], t)
}

// sorted returns the models in the order of their items.
func (l *listing) sorted() []model {
	all := make([]model, 0, len(l.models))
	for m := range l.models {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b model) int {
		x, _ := a.name()
		y, _ := b.name()
		return cmp.Or(strings.Compare(x, y), strings.Compare(a.String(), b.String()))
	})
	return all
}

// version is a distinct manifest of a model.
type version struct {
	sum  registry.SHA256 // of raw
	raw  []byte
	path string // of the file with the manifest
	from string // the first tag's path
	tags []string
	at   time.Time // when the oldest of the tags was written
}

// versions returns the items of a model.
func (l *listing) versions(m model) []*migrate.Item {
	var items []*migrate.Item
	byHash := map[registry.SHA256]*version{}
	var all []*version
	for _, t := range l.models[m] {
		v, err := l.read(t)
		if err != nil {
			l.failed++
			item := newItem(t.path, "path", t.path)
			item.Model.Name, _ = m.name()
			item.Err = err
			items = append(items, item)
			continue
		}
		same, ok := byHash[v.sum]
		if !ok {
			byHash[v.sum], same = v, v
			all = append(all, v)
		}
		same.tags = append(same.tags, t.name)
		if v.at.Before(same.at) {
			same.at = v.at
		}
	}
	slices.SortFunc(all, func(a, b *version) int {
		return cmp.Or(a.at.Compare(b.at), slices.Compare(a.sum[:], b.sum[:]))
	})
	taken := map[string]bool{}
	for _, t := range l.models[m] { // a tag that needs no change has its name before all others
		if _, err := name.ParseAlias(t.name); err == nil {
			taken[t.name] = true
		}
	}
	for _, v := range all {
		items = append(items, l.item(m, v, taken))
	}
	return items
}

// read reads the manifest of a tag.
func (l *listing) read(t tag) (*version, error) {
	s := l.source
	v := &version{path: t.path, from: t.path}
	info, err := fs.Lstat(s.tree.FS(), t.path)
	if err != nil {
		return nil, err
	}
	v.at = info.ModTime()
	want := ""
	if t.link {
		text, err := fs.ReadLink(s.tree.FS(), t.path)
		if err != nil {
			return nil, err
		}
		if v.path, want, err = manifestBlob(t.path, filepath.ToSlash(text)); err != nil {
			return nil, err
		}
	}
	if v.raw, err = s.tree.ReadFile(v.path, maxManifest); err != nil {
		return nil, fmt.Errorf("the manifest: %w", err)
	}
	v.sum = sha256.Sum256(v.raw)
	if got := hex.EncodeToString(v.sum[:]); want != "" && got != want {
		return nil, fmt.Errorf("the manifest in %s is damaged, its SHA-256 is %s: pull the model again", v.path, got)
	}
	return v, nil
}

// manifestBlob says which blob the text of the link at leads to, without a
// look at the disk, and which SHA-256 it has to have.
func manifestBlob(at, text string) (blob, digits string, err error) {
	blob = path.Join(path.Dir(at), text)
	dir, file := path.Split(blob)
	digits, ok := blobDigits(file)
	if path.IsAbs(text) || filepath.IsAbs(text) || dir != blobs+"/" || !ok {
		return "", "", fmt.Errorf("%s is a link to %.200q, which is no blob of this store, and it is not followed: pull the model again", at, text)
	}
	return blob, digits, nil
}

// blobDigits returns the SHA-256 that the file name of a blob says, in
// lower-case digits, and whether it is one. Old releases have a colon in it.
func blobDigits(file string) (string, bool) {
	digits, ok := strings.CutPrefix(file, "sha256-")
	if !ok {
		digits, ok = strings.CutPrefix(file, "sha256:")
	}
	b, err := hex.DecodeString(digits)
	return strings.ToLower(digits), ok && err == nil && len(b) == sha256.Size
}

// unused returns an item that counts the blobs that no manifest names, nil if
// there are none.
func (l *listing) unused() *migrate.Item {
	entries, err := fs.ReadDir(l.source.tree.FS(), blobs)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	item := newItem(blobs, "blobs")
	if err != nil {
		item.Err = fmt.Errorf("listing the blobs: %w", err)
		return item
	}
	var count int
	var size int64
	for _, e := range entries {
		digits, ok := blobDigits(e.Name())
		if !ok || !e.Type().IsRegular() || l.used[digits] {
			continue
		}
		if info, err := e.Info(); err == nil {
			count++
			size += info.Size()
		}
	}
	if count == 0 {
		return nil
	}
	item.Skip = fmt.Sprintf("no manifest names %d of the blobs, of %d bytes in all", count, size)
	if l.failed > 0 {
		item.Skip += fmt.Sprintf("; %d manifests could not be read, and may name some of them", l.failed)
	}
	return item
}
