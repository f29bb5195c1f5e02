package registry

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestLimiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := &limiter{rate: 1000}
		start := time.Now()
		pass := func(n int64, want time.Duration) {
			t.Helper()
			must(t, l.wait(t.Context(), n))
			if got := time.Since(start); got != want {
				t.Fatalf("%d bytes pass after %v, want %v", n, got, want)
			}
		}
		pass(100, 0) // what a full bucket has
		pass(500, 500*time.Millisecond)
		pass(0, 500*time.Millisecond)
		pass(2000, 2500*time.Millisecond)
		time.Sleep(50 * time.Millisecond)
		pass(60, 2560*time.Millisecond) // half a bucket
		time.Sleep(time.Hour)
		start = time.Now()
		pass(150, 50*time.Millisecond) // a long pause fills it once

		start = time.Now()
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(func() {
				for range 10 {
					if err := l.wait(t.Context(), 100); err != nil {
						t.Error(err)
					}
				}
			})
		}
		wg.Wait()
		if got := time.Since(start); got != 10*time.Second {
			t.Errorf("10,000 bytes of ten goroutines took %v", got)
		}

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start = time.Now()
		if err := l.wait(ctx, 1<<40); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("%v after %v", err, time.Since(start))
		}
		must(t, (*limiter)(nil).wait(ctx, 1<<40))
	})
}

// TestVerifyRate verifies at a rate, and without one.
func TestVerifyRate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newRegistry(t)
		addFiles(t, r, "m:1", map[string][]byte{"a": weights(1, 3<<20), "b": weights(2, 2<<20)})
		size, err := r.VerifySize(t.Context(), "")
		must(t, err)
		for _, parallel := range []int{1, 4} {
			start := time.Now()
			all(t, r.Verify(t.Context(), "", &VerifyOptions{Rate: 1 << 20, Parallel: parallel}))
			want := time.Duration(float64(size)/(1<<20)*float64(time.Second)) - burst
			if got := time.Since(start); got < want-time.Millisecond || got > want+time.Second {
				t.Errorf("%d at once: %d bytes took %v, want %v", parallel, size, got, want)
			}
		}
		start := time.Now()
		all(t, r.Verify(t.Context(), "", nil))
		if got := time.Since(start); got != 0 {
			t.Errorf("without a rate it waited %v", got)
		}
	})
}
