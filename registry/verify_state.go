package registry

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/internal/canon"
	"github.com/heftstore/heft/internal/durable"
	"github.com/zeebo/blake3"
)

// Names in the store's folder: docs/format.md, "The folder". The new one is only
// used by whoever has locked the side file.
const (
	verifyName = "verify.json"
	verifyNew  = "verify.json.new"
	verifyLock = "verify.lock"
)

const (
	verifyFormat = 1
	maxVerify    = 1 << 20 // bytes of verify.json
	// maxDue bounds the list of blobs that are due again, and with it the file.
	maxDue = 4096
	// A run notes how far it is after so many blobs or plain bytes: what is lost
	// when the process is killed takes some seconds to verify again.
	noteBlobs = 4096
	noteBytes = 4 << 30
)

// verifyState is how far a verification of a whole store is.
type verifyState struct {
	After    blob.Digest   `json:"after"`  // it and all below it were verified
	Blobs    int           `json:"blobs"`  // sound ones among them
	Bytes    int64         `json:"bytes"`  // of these
	Due      []blob.Digest `json:"due"`    // those among them that were not found sound
	Format   int           `json:"format"` // 1
	StoreID  uuid.UUID     `json:"store_id"`
	Versions uint64        `json:"versions"` // versions of records from here on came later
}

type summedState struct {
	verifyState
	Sum string `json:"sum"` // BLAKE3 of the canonical JSON of the rest
}

func (s *verifyState) sum() (string, error) {
	b, err := canon.Marshal(s)
	if err != nil {
		return "", err
	}
	sum := blake3.Sum256(b)
	return hex.EncodeToString(sum[:]), nil
}

// verifyKeeper notes how far a run is.
type verifyKeeper struct {
	dir   *durable.Dir
	lock  *os.File
	state verifyState
	begun bool // the state is an earlier run's
	noted bool // the file has it

	due     map[blob.Digest]bool // state.Due
	full    bool                 // a blob is due that has no place in due: After stays
	moved   bool                 // a blob above After was covered, so that state says something
	pending int64                // plain bytes since the last note
	count   int                  // blobs since then
}

// keepVerify takes the side file's lock and reads what an earlier run noted, if o
// asks for it. It returns nil if another run of the store has the lock.
func (r *Registry) keepVerify(o VerifyOptions) (k *verifyKeeper, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("registry: the note about verifications: %w", err)
		}
	}()
	k = &verifyKeeper{due: map[blob.Digest]bool{}}
	if k.dir, err = durable.OpenDir(r.Dir()); err != nil {
		return nil, err
	}
	k.dir.SetAccess(r.store.Access())
	k.lock, err = k.dir.OpenFile(verifyLock, os.O_RDWR|os.O_CREATE, 0o600)
	if _, ok := errors.AsType[*blob.ReadOnlyError](err); ok && !o.Resume {
		return nil, k.dir.Close() // this user can't keep a note
	}
	if err != nil {
		return nil, errors.Join(err, k.dir.Close())
	}
	ok, err := durable.TryLock(k.lock)
	if err == nil && !ok && o.Resume {
		err = fmt.Errorf("%w: another verification of the store is under way: wait for it", ErrConflict)
	}
	if err == nil && ok && o.Resume {
		err = k.read(r.ID())
	}
	if err != nil || !ok {
		return nil, errors.Join(err, k.close())
	}
	k.state.Format, k.state.StoreID = verifyFormat, r.ID()
	return k, nil
}

// read takes over what an earlier run noted, if there is a note.
func (k *verifyKeeper) read(store uuid.UUID) error {
	raw, err := durable.ReadFile(k.dir, verifyName, maxVerify)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		k.state, err = parseVerifyState(raw, store)
	}
	if err != nil {
		return fmt.Errorf("%s can't be used (%w): verify without resuming, which begins anew", verifyName, err)
	}
	k.begun, k.moved, k.noted = true, true, true
	for _, d := range k.state.Due {
		k.due[d] = true
	}
	return nil
}

// parseVerifyState reads the note of a store. A wrong one would have damage passed
// over, so it is held to every rule.
func parseVerifyState(raw []byte, store uuid.UUID) (s verifyState, err error) {
	var v struct {
		Format int `json:"format"`
	}
	if err := json.Unmarshal(raw, &v); err != nil {
		return s, err
	}
	if v.Format != verifyFormat {
		return s, fmt.Errorf("its format %d is not known to this heft", v.Format)
	}
	var in summedState
	if err := canon.Decode(raw, &in); err != nil {
		return s, err
	}
	sum, err := in.sum()
	if err != nil {
		return s, err
	}
	again, err := canon.Marshal(in)
	switch {
	case err != nil:
		return s, err
	case !bytes.Equal(again, bytes.TrimSuffix(raw, []byte("\n"))):
		return s, errors.New("it is not in canonical form")
	case sum != in.Sum:
		return s, errors.New("its checksum does not match")
	case in.StoreID != store:
		return s, errors.New("it is another store's")
	case len(in.Due) > maxDue || in.Blobs < 0 || in.Bytes < 0:
		return s, errors.New("its numbers make no sense")
	}
	return in.verifyState, nil
}

// remaining returns the part of work, which is in order, that is left to do: first
// what is due again, or was registered since, then the rest. next is the number of
// the first record to come.
func (k *verifyKeeper) remaining(work []*check, next uint64) []*check {
	if !k.begun {
		k.state.Versions = next
		return work
	}
	var first, rest []*check
	for _, c := range work {
		switch {
		case compareDigests(c.Digest, k.state.After) > 0:
			rest = append(rest, c)
		case k.due[c.Digest] || c.seq >= k.state.Versions:
			first = append(first, c)
		}
	}
	return append(first, rest...)
}

// begin forgets the note of an earlier run that is not resumed.
func (k *verifyKeeper) begin() error {
	if k.begun {
		return nil
	}
	return k.forget()
}

// covered notes that c was verified and seen.
func (k *verifyKeeper) covered(c *check) error {
	above := !k.moved || compareDigests(c.Digest, k.state.After) > 0
	again := k.due[c.Digest]
	switch {
	case c.Err == nil:
		delete(k.due, c.Digest)
	case !again && len(k.due) < maxDue:
		k.due[c.Digest] = true
	case !again:
		k.full = true
	}
	if above && !k.full {
		k.state.After, k.moved = c.Digest, true
	}
	if c.Err == nil && (above && !k.full || again) {
		k.state.Blobs++
		k.state.Bytes += c.Size
	}
	k.pending += c.Size
	if k.count++; k.count < noteBlobs && k.pending < noteBytes {
		return nil
	}
	return k.note()
}

// end notes how far the run has come, or that it is done.
func (k *verifyKeeper) end(done bool) error {
	if done {
		return k.forget()
	}
	if !k.moved {
		return nil // nothing was verified
	}
	return k.note()
}

// note writes the state, durably.
func (k *verifyKeeper) note() (err error) {
	k.count, k.pending = 0, 0
	k.state.Due = make([]blob.Digest, 0, len(k.due))
	for d := range k.due {
		k.state.Due = append(k.state.Due, d)
	}
	slices.SortFunc(k.state.Due, compareDigests)
	s := summedState{verifyState: k.state}
	if s.Sum, err = k.state.sum(); err != nil {
		return err
	}
	raw, err := canon.Marshal(s)
	if err == nil {
		// Left by a process that died.
		if err = k.dir.Remove(verifyNew); errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
	}
	if err == nil {
		err = durable.WriteFile(k.dir, verifyNew, verifyName, append(raw, '\n'))
	}
	if err != nil {
		return fmt.Errorf("registry: noting how far the verification is: %w", err)
	}
	k.noted = true
	return nil
}

// forget removes the note, durably.
func (k *verifyKeeper) forget() error {
	k.noted = false
	err := k.dir.Remove(verifyName)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err == nil {
		err = k.dir.SyncDir(".")
	}
	if err != nil {
		return fmt.Errorf("registry: removing the note about an earlier verification: %w", err)
	}
	return nil
}

func (k *verifyKeeper) close() error { return errors.Join(k.lock.Close(), k.dir.Close()) }
