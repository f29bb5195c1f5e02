package registry

import (
	"context"
	"sync"
	"time"
)

// limiter lets so many bytes pass a second, for all who share it: a bucket of
// tokens that is full after burst. It is safe for concurrent use.
type limiter struct {
	rate float64 // bytes a second

	mu   sync.Mutex
	paid time.Time // up to when all that has passed is paid for
}

// burst is how long a pause may be made up for: long enough that a slow disk, or a
// scheduler, costs nothing of the rate.
const burst = 100 * time.Millisecond

// wait counts n bytes that have passed, and returns when the next ones may.
func (l *limiter) wait(ctx context.Context, n int64) error {
	if l == nil {
		return nil
	}
	l.mu.Lock()
	now := time.Now()
	if least := now.Add(-burst); l.paid.Before(least) {
		l.paid = least
	}
	l.paid = l.paid.Add(time.Duration(float64(n) / l.rate * float64(time.Second)))
	rest := l.paid.Sub(now)
	l.mu.Unlock()
	if rest <= 0 {
		return nil
	}
	t := time.NewTimer(rest)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
