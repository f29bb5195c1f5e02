package huggingface

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/heftstore/heft/internal/canon"
	"github.com/heftstore/heft/internal/name"
	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/migrate/internal/entry"
)

const (
	// maxConfig is the most bytes of a config.json that are read. Those with
	// the labels of a large classifier have about a megabyte.
	maxConfig = 8 << 20
	// maxArchitecture is the most bytes of the name of an architecture.
	maxArchitecture = 256
)

// details is what Origin.Details has.
type details struct {
	Repo     string   `json:"repo"`
	Revision string   `json:"revision"`
	Refs     []string `json:"refs"`
}

// snapshot describes the snapshot of a commit. An error ends it all.
func (r *repository) snapshot(ctx context.Context, commit string, n *named) (*migrate.Item, error) {
	item := newItem(r.name+"/"+commit, r.name, commit)
	m := &item.Model
	m.Name, m.Version, m.Aliases, item.Notes = r.name, commit, n.aliases, n.notes
	m.Origin.LegacyID = strings.ToValidUTF8(r.name+"@"+commit, "\uFFFD")
	if _, item.Err = name.ParseName(r.name); item.Err != nil {
		return item, nil
	}
	if _, item.Err = name.ParseVersion(commit); item.Err != nil {
		return item, nil
	}
	w := walk{repository: r, dir: path.Join("snapshots", commit), item: item}
	if err := w.run(ctx); err != nil {
		if ctx.Err() != nil {
			return nil, err
		}
		item.Err, item.Files = err, nil
		return item, nil
	}
	if len(item.Files) == 0 {
		item.Skip = "there is no file in it"
	}
	m.RegisteredAt = entry.Time(w.newest)
	m.UpdatedAt = m.RegisteredAt
	m.Metadata.Architecture = w.architecture()
	d := details{r.name, commit, n.refs}
	m.Origin.Details, item.Err = canon.Marshal(d)
	if len(m.Origin.Details) > entry.MaxDetails {
		item.Notes = append(item.Notes, fmt.Sprintf("it has %d references, and only its aliases are kept", len(n.refs)))
		d.Refs = nil
		m.Origin.Details, item.Err = canon.Marshal(d)
	}
	return item, nil
}

// walk goes through the files of a snapshot.
type walk struct {
	*repository
	dir    string // of the snapshot, below the repository
	item   *migrate.Item
	newest time.Time
	config place // of config.json
}

func (w *walk) run(ctx context.Context) error {
	var plain, unnamed []string
	root := w.at(w.dir)
	err := fs.WalkDir(w.tree.FS(), root, func(p string, e fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		if err != nil || e.IsDir() && p != root || isLitter(e.Name()) {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		if e.IsDir() { // its time counts only when there are no files
			w.newest = info.ModTime()
			return nil
		}
		as := strings.TrimPrefix(p, root+"/")
		if _, err := name.ParsePath(as); err != nil {
			return fmt.Errorf("a file of it: %w", err)
		}
		from, want := place{w.tree, p}, migrate.Hashes{}
		if e.Type() == fs.ModeSymlink {
			blob, err := w.blob(as)
			if err != nil {
				return err
			}
			if from, err = w.content(blob); err != nil {
				return fmt.Errorf("%s: %w", path.Join(w.dir, as), err)
			}
			if want = hashes(blob); want == (migrate.Hashes{}) {
				unnamed = append(unnamed, as)
			}
		} else {
			plain = append(plain, as)
		}
		f, err := from.tree.File(from.path, as)
		if err != nil {
			return w.explain(as, from, err)
		}
		f.Want = want
		if as == "config.json" {
			w.config = from
		}
		if len(w.item.Files) == 0 || info.ModTime().After(w.newest) {
			w.newest = info.ModTime()
		}
		w.item.Files = append(w.item.Files, f)
		return nil
	})
	if len(plain) > 0 {
		w.item.Notes = append(w.item.Notes, fmt.Sprintf("%d files are no links to blobs, so there is no hash to check them by; the first is %s", len(plain), plain[0]))
	}
	if len(unnamed) > 0 {
		w.item.Notes = append(w.item.Notes, fmt.Sprintf("the blobs of %d files are not called by a hash to check them by; the first is %s", len(unnamed), unnamed[0]))
	}
	return err
}

// blob returns the name of the blob that a file of the snapshot is a link to.
func (w *walk) blob(file string) (string, error) {
	text, err := fs.ReadLink(w.tree.FS(), w.at(w.dir, file))
	if err != nil {
		return "", err
	}
	at := path.Join(w.dir, file)
	if filepath.IsAbs(text) || filepath.VolumeName(text) != "" {
		return "", foreign(at, text)
	}
	return target(at, filepath.ToSlash(text))
}

// target says which blob the link at, with the text, leads to, without a look
// at the disk; at and the blob are below the repository. Any other target is
// an error: links are only ever followed into blobs, so what a link names
// outside, or through other links, is never touched.
func target(at, text string) (string, error) {
	dir, blob := path.Split(path.Join(path.Dir(at), text))
	if path.IsAbs(text) || text == "" || dir != "blobs/" || !fs.ValidPath(blob) || strings.ContainsAny(blob, "\x00\\") {
		return "", foreign(at, text)
	}
	if strings.HasSuffix(blob, ".incomplete") {
		return "", fmt.Errorf("%s leads to %s, whose download never ended: download the model again", at, blob)
	}
	return blob, nil
}

func foreign(at, text string) error {
	return fmt.Errorf("%s is a link to %.200q, which is no blob of its repository, and it is not followed: put a copy of the file in its place", at, text)
}

// explain says more about content that can't be a file.
func (w *walk) explain(file string, from place, err error) error {
	at := path.Join(w.dir, file)
	if errors.Is(err, fs.ErrNotExist) && !strings.HasSuffix(from.path, at) {
		return fmt.Errorf("%s leads nowhere: %w: download the model again", at, err)
	}
	return fmt.Errorf("%s: %w", at, err)
}

// hashes returns what the name of a blob says of its content: large files are
// called by their SHA-256, the others as git calls them.
func hashes(blob string) (h migrate.Hashes) {
	if blob != strings.ToLower(blob) {
		return h
	}
	b, err := hex.DecodeString(blob)
	if err != nil {
		return h
	}
	switch len(b) {
	case len(h.SHA256):
		h.SHA256 = [32]byte(b)
	case len(h.GitSHA1):
		h.GitSHA1 = [20]byte(b)
	}
	return h
}

// architecture returns what config.json says of it; "" if it says nothing or
// can't be read.
func (w *walk) architecture() string {
	if w.config.tree == nil {
		return ""
	}
	raw, err := w.config.tree.ReadFile(w.config.path, maxConfig)
	if err != nil {
		return ""
	}
	var config struct {
		Architectures json.RawMessage `json:"architectures"`
		ModelType     json.RawMessage `json:"model_type"`
	}
	if json.Unmarshal(raw, &config) != nil {
		return ""
	}
	var all []string
	var one string
	if json.Unmarshal(config.Architectures, &all) == nil && len(all) > 0 && isText(all[0]) {
		return all[0]
	}
	if json.Unmarshal(config.ModelType, &one) == nil && isText(one) {
		return one
	}
	return ""
}

// isText reports whether s is short text as a registry takes it.
func isText(s string) bool {
	return s != "" && len(s) <= maxArchitecture && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
}
