package lattice

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"io/fs"
	"path"
	"slices"
	"strings"

	"github.com/heftstore/heft/internal/name"
	"github.com/heftstore/heft/migrate"
	"github.com/heftstore/heft/migrate/internal/entry"
	"github.com/heftstore/heft/migrate/internal/tree"
	"github.com/heftstore/heft/registry"
)

// weights finds the weights of a row below the folder of the database.
func (c *conversion) weights(t *tree.Tree) {
	given := c.rec.cells[colWeightsPath]
	m := &c.item.Model
	if !none(given) {
		candidates, err := weightsPaths(text(given))
		if err != nil {
			c.fail("weights_path %s: %w", show(given), err)
			return
		}
		f, at, err := firstFile(t, candidates)
		c.claim(at)
		if err != nil {
			c.fail("weights_path %s: %w", show(given), err)
			return
		}
		c.keepPlace(given, at)
		c.addWeights(f)
		return
	}
	at := defaultPlace(m.Name, m.Version)
	f, err := t.File(at, weightsFile)
	switch {
	case at == "" || errors.Is(err, fs.ErrNotExist):
		c.noWeights()
	case err != nil:
		c.claim(at)
		c.fail("it has no weights_path, and at the usual place: %w", err)
	default:
		c.claim(at)
		c.note("it has no weights_path: its weights were found at the usual place, %s", at)
		c.keepPlace(given, at)
		c.addWeights(f)
	}
}

// claim says that a file is the row's, which is no orphan then even if the row
// fails.
func (c *conversion) claim(at string) { c.claims = append(c.claims, at) }

// claimUnread claims the weights of a row that is too large, of which only what
// is surveyed was read.
func (c *conversion) claimUnread(t *tree.Tree) {
	if candidates, err := weightsPaths(text(c.rec.cells[colWeightsPath])); err == nil {
		_, at, _ := firstFile(t, candidates)
		c.claim(at)
	}
}

// defaultPlace returns where lattice puts weights, "" if no name leads there.
func defaultPlace(model, version string) string {
	_, nameErr := name.ParseName(model)
	_, versionErr := name.ParseVersion(version)
	if nameErr != nil || versionErr != nil {
		return ""
	}
	return path.Join(weightsDir, model, version, weightsFile)
}

// firstFile returns the first of the candidates that there is, and its path. If
// there is none, or it can't be read, the path is still what was meant.
func firstFile(t *tree.Tree, candidates []string) (f migrate.File, at string, err error) {
	for _, at := range candidates {
		f, err := t.File(at, weightsFile)
		if err == nil || !errors.Is(err, fs.ErrNotExist) {
			return f, at, err
		}
	}
	return f, candidates[0], fmt.Errorf("there is no such file, nor one below %s/: put it there, or clear the column to import the metadata alone: %w", weightsDir, fs.ErrNotExist)
}

// weightsPaths returns where a weights_path may lead to, by preference. It
// returns an error for one that leads out of the folder.
func weightsPaths(given string) ([]string, error) {
	if len(given) > name.MaxPath {
		return nil, fmt.Errorf("it is longer than %d bytes", name.MaxPath)
	}
	slashes := strings.ReplaceAll(given, `\`, "/")
	switch {
	case strings.ContainsRune(given, 0):
		return nil, errors.New("it has a NUL byte")
	case strings.HasPrefix(slashes, "/"), len(slashes) > 1 && slashes[1] == ':':
		return nil, errors.New("it is absolute, and only paths below the database's folder are read: make it relative")
	}
	for part := range strings.SplitSeq(slashes, "/") {
		if strings.TrimRight(part, " ") == ".." {
			return nil, errors.New(`it has "..", and only paths below the database's folder are read`)
		}
	}
	var all []string
	for _, p := range []string{given, slashes} { // Windows wrote backslashes
		if p = path.Clean(p); p == "." {
			return nil, errors.New("it names no file")
		}
		for _, at := range []string{p, path.Join(weightsDir, p)} {
			if !slices.Contains(all, at) {
				all = append(all, at)
			}
		}
	}
	return all, nil
}

// keepPlace keeps where the weights were, if they would be written elsewhere.
func (c *conversion) keepPlace(given any, at string) {
	if given != any(defaultPlace(c.item.Model.Name, c.item.Model.Version)) {
		c.keep(colWeightsPath, c.item.Model.Name+"\x00"+c.item.Model.Version)
	}
	if given != any(at) {
		c.details.WeightsFile = at
	}
}

// addWeights makes f the version's file, if the row's size and hash allow it.
func (c *conversion) addWeights(f migrate.File) {
	switch size := c.rec.cells[colWeightsSize].(type) {
	case nil:
		c.keepAlways(colWeightsSize)
	case int64:
		if size != f.Size {
			c.fail("weights_size is %d, but the file has %d bytes: it was cut off or replaced", size, f.Size)
		}
	case string:
		if size != fmt.Sprint(f.Size) {
			c.fail("weights_size is %s, but the file has %d bytes", show(size), f.Size)
		}
		c.keepAlways(colWeightsSize)
	default:
		c.fail("weights_size is %s, not an integer", show(size))
	}
	hash := c.rec.cells[colWeightsHash]
	if none(hash) {
		c.note("it has no weights_hash: what was read is what is stored, but nothing tells whether it is what was saved")
		c.keepAlways(colWeightsHash)
	} else if sum, err := registry.ParseSHA256(text(hash)); err != nil || sum == (registry.SHA256{}) {
		c.fail("weights_hash is %s, not the 64 hexadecimal digits of a SHA-256", show(hash))
	} else {
		f.Want.SHA256 = sum
		if hash != any(sum.String()) {
			c.keepAlways(colWeightsHash)
		}
	}
	c.item.Files = []migrate.File{f}
}

// noWeights is for a version of which only the metadata is left.
func (c *conversion) noWeights() {
	gone := false
	for _, col := range []column{colWeightsPath, colWeightsSize, colWeightsHash} {
		was := c.rec.cells[col]
		gone = gone || !none(was)
		if was != nil {
			c.keepAlways(col)
		}
	}
	if gone {
		c.note("its weights are gone: it is imported with its metadata alone")
	}
}

// pathSet is a set of paths in 8 bytes each. Two paths are taken for one about
// once in ten million imports of a million rows.
type pathSet struct {
	seed   maphash.Seed
	hashes []uint64
	sorted bool
}

func newPathSet(paths int) *pathSet {
	return &pathSet{seed: maphash.MakeSeed(), hashes: make([]uint64, 0, paths)}
}

func (s *pathSet) add(p string) {
	s.hashes = append(s.hashes, maphash.String(s.seed, p))
	s.sorted = false
}

func (s *pathSet) has(p string) bool {
	if !s.sorted {
		slices.Sort(s.hashes)
		s.sorted = true
	}
	_, found := slices.BinarySearch(s.hashes, maphash.String(s.seed, p))
	return found
}

const skipLink = "it is a link, and links are not followed"

// findOrphans yields the files below weights/ that are not named. It returns an
// error unless yield returned false.
func (d *Database) findOrphans(ctx context.Context, named *pathSet, yield func(*migrate.Item, error) bool) error {
	if _, err := d.tree.Stat(weightsDir); err != nil {
		if _, ok := errors.AsType[*tree.LinkError](err); ok {
			yield(&migrate.Item{From: weightsDir, Model: registry.Model{ID: derive("orphan", weightsDir), Origin: &registry.Origin{Source: kind}}, Skip: skipLink}, nil)
			return nil
		}
	}
	err := fs.WalkDir(d.tree.FS(), weightsDir, func(at string, e fs.DirEntry, err error) error {
		if err == nil {
			err = ctx.Err()
		}
		switch {
		case errors.Is(err, fs.ErrNotExist) && at == weightsDir:
			return fs.SkipAll
		case err != nil:
			return fmt.Errorf("looking for weights that no row names: %w", err)
		case e.IsDir() || named.has(at):
			return nil
		}
		if !yield(d.orphan(at, e), nil) {
			return fs.SkipAll
		}
		return nil
	})
	return err
}

// orphan describes a file that no row names.
func (d *Database) orphan(at string, e fs.DirEntry) *migrate.Item {
	item := &migrate.Item{From: at}
	m := &item.Model
	m.ID = derive("orphan", at)
	dir := path.Dir(strings.TrimPrefix(at, weightsDir+"/"))
	m.Name, m.Version = path.Dir(dir), path.Base(dir)
	m.Origin = &registry.Origin{Source: kind}
	if m.Name == "." {
		m.Name = ""
	}
	switch {
	case e.Type()&fs.ModeSymlink != 0:
		item.Skip = skipLink
		return item
	case !e.Type().IsRegular():
		item.Skip = "it is neither a file nor a folder"
		return item
	case m.Name == "":
		m.Version = ""
		item.Err = fmt.Errorf("no row names it, and it is too near the top to tell a name and a version: move it to %s/<name>/<version>/", weightsDir)
		return item
	case !d.orphans:
		item.Skip = "no row names it; --orphans imports it"
		return item
	}
	info, err := d.tree.Stat(at)
	if err != nil {
		item.Err = err
		return item
	}
	micros := entry.Time(info.ModTime())
	rec := &record{from: at}
	rec.cells[colID], rec.cells[colName], rec.cells[colVersion] = m.ID.String(), m.Name, m.Version
	rec.cells[colStatus], rec.cells[colRegisteredAt], rec.cells[colUpdatedAt] = string(registry.Pending), micros, micros
	c := convert(rec, 0)
	c.details.Orphan = true
	f, err := d.tree.File(at, weightsFile)
	if err != nil {
		c.fail("%w", err)
		return c.finish()
	}
	c.note("no row names it: its name, version and time are those of the file")
	c.keepPlace(at, at)
	c.item.Files = []migrate.File{f}
	return c.finish()
}
