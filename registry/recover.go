package registry

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/google/uuid"
	"github.com/heftstore/heft/blob"
	"github.com/heftstore/heft/index"
)

// Recovered says what was found again after records of the journal were lost.
type Recovered struct {
	Versions []string // that were registered again: name:version
	Changes  int      // of status, alias, metadata, SHA-256, and deletions that were made again
	Left     []string // what could not be made again, and why
}

// recovery makes again what records told that a journal has lost: from whole
// records behind the loss, and from manifests.
type recovery struct {
	r       *Registry
	later   []index.Record
	deleted map[uuid.UUID]bool // by any record that is known
	lost    map[uuid.UUID]*lostVersion
	order   []uuid.UUID // of lost, as found
	note    Note
	done    Recovered
}

type lostVersion struct {
	rec   index.Version
	files []index.File
}

// recoverLost makes again what a cut journal has lost, if there is one. It can be
// interrupted and run again.
func (r *Registry) recoverLost(ctx context.Context) (Recovered, bool, error) {
	later, pending, err := r.index.LaterRecords(ctx)
	if err != nil || !pending {
		return Recovered{}, false, named(err)
	}
	c := &recovery{
		r: r, later: later, deleted: map[uuid.UUID]bool{}, lost: map[uuid.UUID]*lostVersion{},
		note: Note{Reason: "journal records were lost"},
	}
	if err := c.find(ctx); err != nil {
		return c.done, true, named(err)
	}
	if err := c.register(ctx); err != nil {
		return c.done, true, named(err)
	}
	if err := c.repeat(ctx); err != nil {
		return c.done, true, named(err)
	}
	return c.done, true, named(r.index.ForgetLater())
}

// find looks for versions that the names lack.
func (c *recovery) find(ctx context.Context) error {
	note := func(rec *index.Record) {
		for i := range rec.Ops {
			if d := rec.Ops[i].Delete; d != nil {
				c.deleted[d.ID] = true
			}
		}
	}
	for rec, err := range c.r.index.Records(ctx, 0) {
		if err != nil {
			return err
		}
		note(&rec)
	}
	for i := range c.later {
		note(&c.later[i])
		for _, op := range c.later[i].Ops {
			if op.Register != nil {
				c.add(op.Register.Version, op.Register.Files)
			}
		}
	}
	for d, err := range c.r.store.All(ctx) {
		if err != nil {
			return err
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		if m := c.r.asManifest(ctx, d); m != nil {
			files := make([]index.File, len(m.Files))
			for i, f := range m.Files {
				files[i] = index.File{Path: f.Path, Digest: f.Digest, Size: f.Size}
			}
			c.add(index.Version{
				ID: m.ID, Name: m.Name, Version: m.Version, Status: string(Pending), Manifest: d, Metadata: m.Metadata, RegisteredAt: m.RegisteredAt,
				RegisteredBy: m.RegisteredBy, Description: m.Description, Parent: m.Parent, Origin: m.Origin,
			}, files)
		}
	}
	return c.r.view(ctx, func(v *view) error {
		for id := range c.lost {
			if _, err := v.tx.Version(id); err == nil {
				delete(c.lost, id)
			} else if !errors.Is(err, index.ErrNotFound) {
				return err
			}
		}
		return nil
	})
}

// asManifest returns the blob d as a manifest, nil if it is none.
func (r *Registry) asManifest(ctx context.Context, d blob.Digest) *manifest {
	b, err := r.store.Open(ctx, d)
	if err != nil {
		return nil
	}
	head := make([]byte, 2)
	_, err = b.ReadAt(head, 0)
	size := b.Size()
	if cerr := b.Close(); err != nil || cerr != nil || size > maxManifest || !bytes.Equal(head, []byte(`{"`)) {
		return nil
	}
	m, err := r.readManifest(ctx, d)
	if err != nil || m.ID == uuid.Nil || m.Name.IsZero() || m.Version.IsZero() {
		return nil
	}
	return m
}

func (c *recovery) add(rec index.Version, files []index.File) {
	if c.deleted[rec.ID] || c.lost[rec.ID] != nil {
		return
	}
	c.lost[rec.ID] = &lostVersion{rec, files}
	c.order = append(c.order, rec.ID)
}

// recoverAtOnce is how many versions are registered in one record, which has its
// limit: docs/format.md.
const recoverAtOnce = 50

// register registers the lost versions, parents first.
func (c *recovery) register(ctx context.Context) error {
	for len(c.lost) > 0 {
		var batch []*lostVersion
		for _, id := range c.order {
			if l := c.lost[id]; l != nil && c.lost[l.rec.Parent] == nil {
				batch = append(batch, l)
			}
		}
		if len(batch) == 0 {
			for _, l := range c.lost {
				c.left(refOf(&l.rec), errors.New("it descends from itself, by its manifest"))
			}
			return nil
		}
		for len(batch) > 0 {
			n := min(len(batch), recoverAtOnce)
			if err := c.registerSome(ctx, batch[:n]); err != nil {
				return err
			}
			batch = batch[n:]
		}
	}
	return nil
}

func (c *recovery) registerSome(ctx context.Context, batch []*lostVersion) error {
	change, err := c.r.change("recover", c.note)
	if err != nil {
		return err
	}
	var refs []string
	reasons := map[string]error{}
	err = c.r.update(ctx, change, func(v *view) error {
		refs = nil
		clear(reasons)
		for _, l := range batch {
			rec := l.rec
			if Status(rec.Status) == Production {
				if _, err := v.demote(rec.Name); err != nil {
					return err
				}
			}
			err := v.tx.RegisterAgain(&rec, l.files)
			switch {
			case err == nil:
				refs = append(refs, refOf(&rec))
			case refused(err):
				reasons[refOf(&rec)] = err
			default:
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for ref, err := range reasons {
		c.left(ref, err)
	}
	c.done.Versions = append(c.done.Versions, refs...)
	for _, l := range batch {
		delete(c.lost, l.rec.ID)
	}
	return nil
}

// refused reports whether err is about one version rather than about the index.
func refused(err error) bool {
	_, path := errors.AsType[*index.PathConflictError](err)
	_, corrupt := errors.AsType[*blob.CorruptError](err)
	return path || corrupt || errors.Is(err, index.ErrDuplicate) || errors.Is(err, index.ErrNotFound) || errors.Is(err, ErrInvalid)
}

func (c *recovery) left(what string, err error) {
	c.done.Left = append(c.done.Left, fmt.Sprintf("%s: %v", what, err))
}

// repeat makes the changes of the whole records again that fit.
func (c *recovery) repeat(ctx context.Context) error {
	for i := range c.later {
		rec := &c.later[i]
		change, err := c.r.change("recover", Note{Actor: rec.Actor, Reason: fmt.Sprintf("%s of record %d, which followed lost ones", rec.Verb, rec.Seq)})
		if err != nil {
			return err
		}
		made := 0
		reasons := []error{}
		err = c.r.update(ctx, change, func(v *view) error {
			made, reasons = 0, reasons[:0]
			for _, op := range rec.Ops {
				did, err := c.again(v, &op)
				if err != nil && !refused(err) && !errors.Is(err, ErrConflict) {
					return err
				}
				if err != nil {
					reasons = append(reasons, err)
				}
				if did {
					made++
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
		c.done.Changes += made
		for _, err := range reasons {
			c.left(fmt.Sprintf("record %d, %s", rec.Seq, rec.Verb), err)
		}
	}
	return nil
}

// again makes a change again, but for registrations, and those of versions that
// were deleted.
func (c *recovery) again(v *view, op *index.Op) (done bool, err error) {
	switch {
	case op.Status != nil && !c.deleted[op.Status.ID]:
		rec, err := v.tx.Version(op.Status.ID)
		if err != nil || rec.Status == op.Status.To {
			return false, err
		}
		if Status(op.Status.To) == Production {
			if _, err := v.demote(rec.Name); err != nil {
				return false, err
			}
		}
		return true, v.tx.SetStatus(rec.ID, op.Status.To)
	case op.Alias != nil && !c.deleted[op.Alias.To]:
		have, err := v.tx.Alias(op.Alias.Name, op.Alias.Alias)
		if err != nil && !errors.Is(err, index.ErrNotFound) || have == op.Alias.To {
			return false, err
		}
		return true, v.tx.SetAlias(op.Alias.Name, op.Alias.Alias, have, op.Alias.To)
	case op.Metadata != nil && !c.deleted[op.Metadata.ID]:
		return true, v.tx.SetMetadata(op.Metadata.ID, op.Metadata.Metadata, op.Metadata.Description)
	case op.SHA256 != nil:
		return true, v.tx.SetSHA256(op.SHA256.Blob, op.SHA256.SHA256)
	case op.Delete != nil:
		if _, err := v.tx.Version(op.Delete.ID); errors.Is(err, index.ErrNotFound) {
			return false, nil
		} else if err != nil {
			return false, err
		}
		return true, v.tx.Delete(op.Delete.ID)
	}
	return false, nil
}
