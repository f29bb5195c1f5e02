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
	CreatedAt int64     `json:"created_at"` // microseconds
	Format    int       `json:"format"`
	MinReader int       `json:"min_reader"`
	StoreID   uuid.UUID `json:"store_id"`
}

const (
	configName   = "heft.json"
	storeVersion = 1
	storeReader  = 1
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

// writeConfig makes the folder a store: it is the last file of a creation.
func writeConfig(fsys durable.FS) (config, error) {
	c := config{CreatedAt: time.Now().UnixMicro(), Format: storeVersion, MinReader: storeReader, StoreID: uuid.New()}
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
	b, err := durable.ReadFile(fsys, configName, 64<<10)
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
	if v.MinReader > storeReader {
		return config{}, fmt.Errorf("blob: %s: %w", configName, &NewerError{What: "minimum reader version", Found: v.MinReader, Supported: storeReader})
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
	return s.config, nil
}

// damagedConfig says what is wrong with heft.json.
func damagedConfig(err error) error {
	return fmt.Errorf("%w: %s is damaged (%w): restore it from a backup", ErrDamagedStore, configName, err)
}
