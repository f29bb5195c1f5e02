package blob

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/heftstore/heft/internal/durable"
)

// replacedMark is what the name of the file begins with that gets another one
// whenever a blob's file is about to be replaced by one that may need frames which
// that one did not: what was marked before may lack them.
const replacedMark = "pins/replaced-"

// outdateMarks makes all Marks outdated that were begun. The caller holds the
// publish lock, and renames the file after it. It need not be durable: a power cut
// ends what is marked too.
func (s *Store) outdateMarks() error {
	entries, err := s.readDir("pins")
	if err != nil {
		return fmt.Errorf("blob: %w", err)
	}
	to := replacedMark + hex.EncodeToString(random())
	for _, e := range entries {
		if name := "pins/" + e.Name(); strings.HasPrefix(name, replacedMark) {
			if err = s.fsys.Rename(name, to); !errors.Is(err, fs.ErrNotExist) {
				break
			}
		}
	}
	if err == nil {
		if _, err = s.fsys.Stat(to); err == nil {
			return nil
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		var f durable.File
		if f, err = s.createIn(to); err == nil {
			err = f.Close()
		}
	}
	if err != nil {
		return fmt.Errorf("blob: telling collections that a file is replaced: %w", err)
	}
	return nil
}

// replaced returns what outdateMarks changes.
func (s *Store) replaced() (string, error) {
	entries, err := s.readDir("pins")
	if err != nil {
		return "", fmt.Errorf("blob: reading the pins: %w", err)
	}
	var all []string
	for _, e := range entries {
		if strings.HasPrefix("pins/"+e.Name(), replacedMark) {
			all = append(all, e.Name())
		}
	}
	return strings.Join(all, "\n"), nil
}

// Begin says that the Marks are for a Collection; nothing was added yet. From now on
// Outdated tells whether files were replaced by ones that may need more.
func (m *Marks) Begin(ctx context.Context) (err error) {
	unlock, err := m.s.lockPublish(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	m.replaced, err = m.s.replaced()
	return err
}

// Outdated reports whether a blob's file was replaced, since Begin, by one that may
// need frames which are not in m: it has to be made anew before anything is removed.
// What is replaced while the Collection runs is seen to by Trash and Replace.
func (c *Collection) Outdated(m *Marks) bool { return c.replaced != m.replaced }

// free reports whether nobody has pinned the blob d, nor replaced the file of another
// one that may need d, since the Collection began. The caller holds the publish lock
// and has moved d's file: whoever pins it later finds it gone.
func (c *Collection) free(ctx context.Context, d Digest) (bool, error) {
	pinned, err := c.s.Pinned(ctx)
	if err != nil {
		return false, err
	}
	// After the pins: who replaces a file holds a pin until after that.
	replaced, err := c.s.replaced()
	if err != nil {
		return false, err
	}
	_, ok := pinned.Blobs[d]
	return !ok && replaced == c.replaced, nil
}
