package index

import (
	"context"
	"errors"
	"fmt"
	"io/fs"

	"github.com/heftstore/heft/internal/durable"
)

// Sweep removes what a process has left that died while it built index.db or
// made the journal. If there is something it waits for the lock, as an Update
// does.
func (x *Index) Sweep(ctx context.Context) error {
	x.mu.RLock()
	defer x.mu.RUnlock()
	if x.closed {
		return errClosed()
	}
	for _, name := range []string{databaseNew, journalNew} {
		if _, err := x.dir.Stat(name); errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err := x.sweep(ctx, name); err != nil {
			return fmt.Errorf("index: removing %s, which was left behind: %w", name, err)
		}
	}
	return nil
}

// sweep removes a file that is written under the exclusive lock: who holds that
// writes none.
func (x *Index) sweep(ctx context.Context, name string) error {
	if !x.exclusive { // else nobody writes one while mu is held shared
		lock, err := x.dir.Lock(ctx, lockName, durable.Exclusive)
		if err != nil {
			return err
		}
		defer x.logged(ctx, "unlocking the index", lock.Unlock)
	}
	if err := x.dir.Remove(name); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
