package blob

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/google/uuid"
	"github.com/heftstore/heft/internal/canon"
	"github.com/heftstore/heft/internal/durable"
	"github.com/zeebo/blake3"
)

// config is heft.json without its checksum.
type config struct {
	Access    string    `json:"access,omitempty"` // "" or accessGroup
	CreatedAt int64     `json:"created_at"`       // microseconds
	Format    int       `json:"format"`
	MinReader int       `json:"min_reader"`
	StoreID   uuid.UUID `json:"store_id"`
}

// The versions of a store: 2 brought access. A store that uses nothing new
// stays at 1, which older releases read.
const (
	configName    = "heft.json"
	privateStore  = 1
	sharedStore   = 2
	newestReader  = sharedStore // the newest that this release reads
	accessGroup   = "group"
	maxConfigSize = 64 << 10
)

type summed struct {
	config
	Sum string `json:"sum"`
}

func (c config) sum() (string, error) {
	b, err := canon.Marshal(c)
	if err != nil {
		return "", err
	}
	sum := blake3.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

// access says who may use the store's files.
func (c config) access() Access {
	if c.Access == accessGroup {
		return Shared
	}
	return Private
}

// newConfig describes a store.
func newConfig(id uuid.UUID, createdAt int64, a Access) config {
	c := config{CreatedAt: createdAt, Format: privateStore, MinReader: privateStore, StoreID: id}
	if a == Shared {
		// A release that knows nothing of it would make files that the group
		// can't read.
		c.Access, c.Format, c.MinReader = accessGroup, sharedStore, sharedStore
	}
	return c
}

// writeConfig makes the folder a store: it is the last file of a creation.
func writeConfig(fsys durable.FS, a Access) (config, error) {
	c := newConfig(uuid.New(), time.Now().UnixMicro(), a)
	return c, c.write(fsys)
}

// write writes heft.json, durably.
func (c config) write(fsys durable.FS) error {
	sum, err := c.sum()
	if err != nil {
		return err
	}
	b, err := canon.Marshal(summed{c, sum})
	if err != nil {
		return err
	}
	return durable.WriteFile(fsys, "tmp/"+uuid.NewString(), configName, append(b, '\n'))
}

func readConfig(fsys durable.FS) (config, error) {
	b, err := durable.ReadFile(fsys, configName, maxConfigSize)
	if errors.Is(err, fs.ErrNotExist) {
		return config{}, fmt.Errorf("%w: no %s here: not a heft store", ErrNotFound, configName)
	}
	if err != nil {
		return config{}, fmt.Errorf("blob: reading %s: %w", configName, err)
	}
	// A newer store may have keys that this release doesn't know, so the
	// version is read before the rest is checked.
	var v struct {
		MinReader int `json:"min_reader"`
	}
	if err := json.Unmarshal(b, &v); err != nil {
		return config{}, damagedConfig(err)
	}
	if v.MinReader > newestReader {
		return config{}, fmt.Errorf("blob: %s: %w", configName, &NewerError{What: "minimum reader version", Found: v.MinReader, Supported: newestReader})
	}
	var s summed
	if err := canon.Decode(b, &s); err != nil {
		return config{}, damagedConfig(err)
	}
	sum, err := s.config.sum()
	if err != nil {
		return config{}, err
	}
	if sum != s.Sum || s.StoreID == uuid.Nil {
		return config{}, damagedConfig(errors.New("its checksum does not match"))
	}
	if s.Access != "" && s.Access != accessGroup {
		return config{}, damagedConfig(fmt.Errorf("its access is %.40q, which there is not", s.Access))
	}
	return s.config, nil
}

// damagedConfig says what is wrong with heft.json.
func damagedConfig(err error) error {
	return fmt.Errorf("%w: %s is damaged (%w): restore it from a backup", ErrDamagedStore, configName, err)
}
