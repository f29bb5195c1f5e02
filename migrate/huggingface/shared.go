package huggingface

import (
	"errors"
	"fmt"
	"io/fs"
	"path"
	"path/filepath"
	"strings"

	"github.com/heftstore/heft/migrate/internal/tree"
)

// Since 1.32 the Hub's library keeps the large files of all repositories once,
// in a folder of the cache, and makes their blobs relative links to them. See
// docs/decisions/0012-shared-blobs-of-a-hub-cache.md.
const (
	// toShared is what the text of such a link begins with. The name of the
	// file follows: the two first digits of its Xet hash, a slash, the hash.
	toShared = "../../blobs/"
	// xetDigits is how many digits a Xet hash has.
	xetDigits = 64
	// marker is in the folder of shared blobs, and says that it is one.
	marker = "blobs/.huggingface-shared-blobs"
	// layout is all that the marker holds: the version of what is described here.
	layout = "1\n"
)

// place is where the content of a file is.
type place struct {
	tree *tree.Tree
	path string
}

// content returns where the content of the blob is: in the repository, or among
// the blobs that the cache shares if it is a link to there. No other link is
// followed. That a file is there is for the caller to see.
func (r *repository) content(blob string) (place, error) {
	own := place{r.tree, r.at("blobs", blob)}
	_, err := r.tree.Stat(own.path)
	if link, ok := errors.AsType[*tree.LinkError](err); !ok || link.Path != own.path {
		return own, nil
	}
	text, err := fs.ReadLink(r.tree.FS(), own.path)
	if err != nil {
		return place{}, err
	}
	at, ok := shared(filepath.ToSlash(text))
	if !ok {
		return place{}, fmt.Errorf("blobs/%s is a link to %.200q, which is no blob that the cache shares between repositories, and it is not followed: put a copy of the file in its place", blob, text)
	}
	if r.cache == nil {
		return place{}, fmt.Errorf("blobs/%s is kept in the folder of the cache, which can't be opened: make it readable and import again: %w", blob, r.closed)
	}
	held, err := r.cache.ReadFile(marker, int64(len(layout)))
	if err == nil && string(held) != layout {
		err = fmt.Errorf("%s holds %q, not %q: %w", marker, held, layout, fs.ErrInvalid)
	}
	if err != nil {
		return place{}, fmt.Errorf("blobs/%s is a link to %s of the cache, which is no folder of shared blobs that heft knows: import from the whole cache, or download the model again with HF_HUB_DISABLE_SHARED_BLOBS=1: %w", blob, path.Dir(marker), err)
	}
	return place{r.cache, at}, nil
}

// shared says which file below the cache the blob of a repository leads to that
// is a link with the text, without a look at the disk. ok is false for any text
// but the one that the Hub's library writes.
func shared(text string) (at string, ok bool) {
	file, ok := strings.CutPrefix(text, toShared)
	prefix, hash, parted := strings.Cut(file, "/")
	if !ok || !parted || len(hash) != xetDigits || strings.Trim(hash, "0123456789abcdef") != "" || prefix != hash[:2] {
		return "", false
	}
	return path.Join("blobs", prefix, hash), true
}

// above opens the cache that the folder of a repository is in, which is not
// what its path says if that leads through links.
func above(repository string) (*tree.Tree, error) {
	actual, err := filepath.EvalSymlinks(repository)
	if err != nil {
		return nil, err
	}
	return tree.Open(filepath.Dir(actual))
}
