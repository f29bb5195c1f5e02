package registry

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"

	"github.com/heftstore/heft/blob"
)

// ahead is how many blobs for each that is verified at once may be finished before
// the first of them: they are yielded in order, and one may be long.
const ahead = 16

// blobs verifies and yields the work in order.
func (v *Verification) blobs(ctx context.Context, yield func(Checked) bool) error {
	parallel := min(v.opts.Parallel, len(v.work))
	window := ahead * parallel
	tasks := make(chan *check, window) // never full
	stop := make(chan struct{})
	var wg sync.WaitGroup
	defer func() {
		close(stop)
		close(tasks)
		wg.Wait()
	}()
	for range parallel {
		wg.Go(func() {
			for c := range tasks {
				select {
				case <-stop:
				default:
					c.verify(ctx, v, max(1, runtime.GOMAXPROCS(0)/parallel), stop)
				}
				close(c.done)
			}
		})
	}
	sent := 0
	for i, c := range v.work {
		for ; sent < len(v.work) && sent < i+window; sent++ {
			tasks <- v.work[sent]
		}
		if err := context.Cause(ctx); err != nil {
			return err
		}
		<-c.done
		if err := context.Cause(ctx); err != nil && c.Err != nil {
			return err // it was not found damaged, but not read
		}
		if !c.In.IsZero() {
			v.bad[c.In] = append(v.bad[c.In], c)
		}
		more := yield(c.Checked)
		if v.keep != nil {
			if err := v.keep.covered(c); err != nil {
				return err
			}
		}
		if !more {
			return errEnough
		}
		v.work[i] = nil // let go of the memory
	}
	return nil
}

// errManifest says that a manifest is not that of its version.
var errManifest = errors.New("the manifest does not fit")

// verify reads all of a blob, on that many goroutines, until stop is closed.
func (c *check) verify(ctx context.Context, v *Verification, workers int, stop chan struct{}) {
	left := c.Size
	c.Err = v.r.store.VerifyWith(ctx, c.Digest, &blob.VerifyOptions{Workers: workers, Whole: len(c.Uses) > 0, Progress: func(n int64) error {
		select {
		case <-stop:
			return errEnough
		default:
		}
		left -= n
		v.progressed(n)
		return v.limit.wait(ctx, n)
	}})
	v.progressed(left) // of a blob that can't be read
	if _, bad := errors.AsType[*blob.CorruptError](c.Err); bad && len(c.Uses) == 0 {
		// Of what no version needs, a donor may have been collected. Its own file
		// counts.
		c.Err = v.r.store.Check(ctx, c.Digest)
	}
	if ce, ok := errors.AsType[*blob.CorruptError](c.Err); ok {
		c.In = ce.In
	} else if errors.Is(c.Err, blob.ErrNotFound) {
		c.In = c.Digest
	}
	if c.Err != nil {
		c.Err = c.first(c.Err)
		return
	}
	for _, m := range c.manifests {
		if err := v.r.checkManifest(ctx, m.rec, m.files); err != nil {
			c.Err = &CorruptError{Ref: refOf(m.rec), Err: fmt.Errorf("%w: %w", errManifest, err)}
			return
		}
	}
}

// progressed tells the caller.
func (v *Verification) progressed(n int64) {
	v.progress.Lock()
	defer v.progress.Unlock()
	v.opts.Progress(n)
}
