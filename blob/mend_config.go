package blob

import (
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/heftstore/heft/internal/durable"
)

// RestoreConfig gives the folder dir, which held a store, a heft.json with that id
// and time of creation in microseconds. One that is damaged goes to quarantine/.
// One that can be read is an error that wraps ErrExist, one of a newer heft
// a *NewerError. Who may use the store is told by the folder's mode. It is
// durable on return.
func RestoreConfig(ctx context.Context, dir string, id uuid.UUID, createdAt int64) (err error) {
	d, err := durable.OpenDir(dir)
	if err != nil {
		return fmt.Errorf("blob: opening the store folder %s: %w", dir, err)
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	l, err := d.Lock(ctx, publishLock, durable.Exclusive)
	if err != nil {
		return fmt.Errorf("blob: %w", err)
	}
	defer func() { err = errors.Join(err, l.Unlock()) }()
	_, err = readConfig(d)
	switch {
	case err == nil:
		return fmt.Errorf("%w: %s of %s is sound", ErrExist, configName, dir)
	case !errors.Is(err, ErrNotFound) && !errors.Is(err, ErrDamagedStore):
		return err
	}
	damaged := errors.Is(err, ErrDamagedStore)
	access, err := d.FindAccess()
	if err != nil {
		return fmt.Errorf("blob: %w", err)
	}
	if err := makeFolders(d, access); err != nil {
		return fmt.Errorf("blob: %w", err)
	}
	if damaged {
		if err := d.Rename(configName, quarantineDir+"/"+configName+"."+uuid.NewString()); err != nil {
			return fmt.Errorf("blob: moving %s to quarantine: %w", configName, err)
		}
		if err := d.SyncDir(quarantineDir); err != nil {
			return fmt.Errorf("blob: syncing the folder %s: %w", quarantineDir, err)
		}
	}
	c := newConfig(id, createdAt, access)
	if err := c.write(d); err != nil {
		return fmt.Errorf("blob: writing %s: %w", configName, err)
	}
	return nil
}
