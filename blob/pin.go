package blob

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"sync"

	"github.com/heftstore/heft/internal/durable"
)

// generation numbers what is moved to the trash: a pin relies on nothing that was
// moved in a generation before it was made, so what was moved later has to wait
// until the pin is gone. That orders the two without a clock.
type generation uint64

// hexGeneration is the length of a generation in a file's name.
const hexGeneration = 16

func (g generation) String() string { return fmt.Sprintf("%0*x", hexGeneration, uint64(g)) }

// parseGeneration reads what String writes.
func parseGeneration(s string) (generation, bool) {
	n, err := strconv.ParseUint(s, 16, 64)
	return generation(n), err == nil && generation(n).String() == s
}

// marker is what the name of the file begins with that tells the generation: a
// renaming raises it, which needs no space on the disk.
const marker = "pins/generation-"

// Pin keeps blobs from being collected that no version names yet. It is a locked
// file in pins/ and ends with the process at the latest. It is safe for concurrent
// use.
type Pin struct {
	s    *Store
	mu   sync.Mutex
	name string
	f    durable.File
	size int64 // bytes that were written
	seen map[Digest]struct{}
}

// Pin returns a Pin without blobs. What is moved to the trash from now on stays
// there until the Pin is closed. The caller closes it.
func (s *Store) Pin(ctx context.Context) (*Pin, error) {
	if err := context.Cause(ctx); err != nil {
		return nil, err
	}
	gen, err := s.generation()
	if err != nil {
		return nil, fmt.Errorf("blob: pinning: %w", err)
	}
	name, f, err := s.createLocked("pins/" + gen.String() + "-")
	if err != nil {
		return nil, fmt.Errorf("blob: making a pin: %w", err)
	}
	return &Pin{s: s, name: name, f: f, seen: map[Digest]struct{}{}}, nil
}

// Add pins blobs, whether the store has them or not. What is there after Add has
// returned stays there until Close; what is in the trash stays in the trash.
func (p *Pin) Add(ds ...Digest) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var line []byte
	for _, d := range ds {
		if _, ok := p.seen[d]; !ok {
			line = append(line, d[:]...)
		}
	}
	if line == nil {
		return nil
	}
	// What an earlier one wrote in part, on a full disk, is written over: readers
	// take whole digests.
	if _, err := p.f.WriteAt(line, p.size); err != nil {
		return fmt.Errorf("blob: pinning: %w", err)
	}
	p.size += int64(len(line))
	for _, d := range ds {
		p.seen[d] = struct{}{}
	}
	return nil
}

// Close lets go of the blobs.
func (p *Pin) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.f == nil {
		return nil
	}
	// Removed before the lock goes with the handle: nobody takes it for a dead one.
	err := p.s.fsys.Remove(p.name)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil
	}
	err = errors.Join(err, p.f.Close())
	p.f = nil
	if err != nil {
		return fmt.Errorf("blob: removing a pin: %w", err)
	}
	return nil
}

// generation returns that of the pins to be made: 0 before the first collection.
func (s *Store) generation() (generation, error) {
	entries, err := s.readDir("pins")
	if err != nil {
		return 0, err
	}
	most := generation(0)
	for _, e := range entries {
		if g, ok := parseGeneration(strings.TrimPrefix("pins/"+e.Name(), marker)); ok {
			most = max(most, g)
		}
	}
	return most, nil
}

// readDir lists a folder that may be missing.
func (s *Store) readDir(name string) ([]fs.DirEntry, error) {
	entries, err := s.fsys.ReadDir(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	return entries, err
}

// raise makes g the generation of the pins to be made.
func (s *Store) raise(g generation) error {
	entries, err := s.readDir("pins")
	if err != nil {
		return err
	}
	for _, e := range entries {
		name := "pins/" + e.Name()
		if have, ok := parseGeneration(strings.TrimPrefix(name, marker)); ok && have < g {
			if err := s.fsys.Rename(name, marker+g.String()); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		} else if ok {
			return nil
		}
	}
	f, err := s.fsys.Create(marker + g.String())
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	if err != nil {
		return err
	}
	return f.Close()
}

// Pinned is what the pins of running processes hold.
type Pinned struct {
	Pins  int // how many there are
	Blobs map[Digest]struct{}

	oldest, newest generation // of the pins
}

// Pinned reads the live pins, and removes those whose process is gone.
func (s *Store) Pinned(ctx context.Context) (Pinned, error) {
	p := Pinned{Blobs: map[Digest]struct{}{}}
	entries, err := s.readDir("pins")
	if err != nil {
		return p, fmt.Errorf("blob: reading the pins: %w", err)
	}
	for _, e := range entries {
		if err := context.Cause(ctx); err != nil {
			return p, err
		}
		hex, _, ok := strings.Cut(e.Name(), "-")
		gen, isPin := parseGeneration(hex)
		if !ok || !isPin {
			continue
		}
		if err := s.readPin("pins/"+e.Name(), gen, &p); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return p, fmt.Errorf("blob: reading the pins: %w", err)
		}
	}
	return p, nil
}

func (s *Store) readPin(name string, gen generation, p *Pinned) (err error) {
	f, err := s.fsys.OpenWrite(name)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if dead, err := f.TryLock(); err != nil {
		return err
	} else if dead {
		return s.fsys.Remove(name)
	}
	if p.Pins == 0 || gen < p.oldest {
		p.oldest = gen
	}
	p.newest = max(p.newest, gen)
	p.Pins++
	buf := make([]byte, 1024*len(Digest{}))
	for off := int64(0); ; {
		// Whole digests only: the last one may be on its way.
		n, err := f.ReadAt(buf, off)
		n -= n % len(Digest{})
		for b := buf[:n]; len(b) > 0; b = b[len(Digest{}):] {
			p.Blobs[Digest(b[:len(Digest{})])] = struct{}{}
		}
		off += int64(n)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// holdsBack reports whether what was moved to the trash in a generation has to
// stay there.
func (p *Pinned) holdsBack(g generation) bool { return p.Pins > 0 && p.oldest < g }

// createIn makes a file in tmp/ or pins/, and the folder if that was deleted:
// nothing in it was ever acknowledged.
func (s *Store) createIn(name string) (durable.File, error) {
	f, err := s.fsys.Create(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err = s.fsys.Mkdir(durable.Parent(name)); err == nil || errors.Is(err, fs.ErrExist) {
			f, err = s.fsys.Create(name)
		}
	}
	return f, err
}

// createLocked makes a file of its own and locks it, which tells other processes
// that it is in use.
func (s *Store) createLocked(prefix string) (name string, f durable.File, err error) {
	for {
		name := prefix + hex.EncodeToString(random())
		f, err := s.createIn(name)
		if err != nil {
			return "", nil, err
		}
		ok, err := f.TryLock()
		if ok {
			_, err = s.fsys.Stat(name)
		}
		switch {
		case ok && err == nil:
			return name, f, nil
		case ok && errors.Is(err, fs.ErrNotExist), !ok && err == nil:
			// A sweep got hold of it before it was locked, and has removed it
			// or is about to.
			if err := f.Close(); err != nil {
				return "", nil, err
			}
		default:
			return "", nil, errors.Join(err, s.fsys.Remove(name), f.Close())
		}
	}
}
