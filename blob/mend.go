package blob

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
)

// MissingFolders returns the folders of the store that are not there. Each is made
// when it is needed, but for blobs/, trash/ and tmp/.
func (s *Store) MissingFolders() (missing []string, err error) {
	for _, name := range folders {
		if _, err := s.fsys.Stat(name); errors.Is(err, fs.ErrNotExist) {
			missing = append(missing, name)
		} else if err != nil {
			return nil, fmt.Errorf("blob: %w", err)
		}
	}
	return missing, nil
}

// MakeFolders makes the folders of the store that are missing, durably.
func (s *Store) MakeFolders() error {
	if err := makeFolders(s.fsys, s.Access()); err != nil {
		return fmt.Errorf("blob: %w", err)
	}
	return nil
}

// ReplaceFromTrash is Restore for a blob whose file is there and damaged: that goes
// to quarantine, if the trash has a sound one. It reports whether it was so.
func (s *Store) ReplaceFromTrash(ctx context.Context, d Digest) (done bool, err error) {
	names, err := s.inTrash(d)
	if err != nil {
		return false, err
	}
	for _, name := range names {
		err := s.checkFile(ctx, name, d)
		if unsound(err) || isDamaged(err) || errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return false, err
		}
		return s.swap(ctx, name, d)
	}
	return false, nil
}

// swap gives the sound file name the place of the blob d's damaged one, durably.
func (s *Store) swap(ctx context.Context, name string, d Digest) (done bool, err error) {
	found, err := s.findFault(ctx, blobPath(d), d)
	if err != nil || found == nil {
		return false, err
	}
	unlock, err := s.lockPublish(ctx)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	if gone, err := s.giveWay(found, d); err != nil || !gone {
		return false, err
	}
	err = s.restore(name, d)
	return err == nil, err
}
