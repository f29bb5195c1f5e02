package blob

import "sync"

// pipe runs work on several jobs at once and hands them to sink one at a time
// in the order of push. At most 2×workers jobs are under way, which bounds
// memory whatever the size of the blob.
type pipe[J any] struct {
	work  chan *slot[J]
	order chan *slot[J]
	wg    sync.WaitGroup
	done  chan struct{} // closed when sink has seen the last job
	fail  chan struct{} // closed at sink's first error
	err   error         // sink's first error; read after fail or done is closed
}

type slot[J any] struct {
	job   *J
	ready chan struct{}
}

// newPipe starts the workers and the sink. Each worker gets a do of its own,
// so that it may keep buffers. After sink's first error the later jobs are
// only worked off: sink no longer sees them, and drop gets every job at its
// end to take its buffers back.
func newPipe[J any](workers int, newWorker func() (do func(*J), stop func()), sink func(*J) error, drop func(*J)) *pipe[J] {
	p := &pipe[J]{
		work:  make(chan *slot[J], 2*workers), // never full: order is first
		order: make(chan *slot[J], 2*workers),
		done:  make(chan struct{}),
		fail:  make(chan struct{}),
	}
	for range workers {
		p.wg.Go(func() {
			do, stop := newWorker()
			defer stop()
			for s := range p.work {
				do(s.job)
				close(s.ready)
			}
		})
	}
	go func() {
		defer close(p.done)
		for s := range p.order {
			<-s.ready
			if p.err == nil {
				if p.err = sink(s.job); p.err != nil {
					close(p.fail)
				}
			}
			drop(s.job)
		}
	}()
	return p
}

// push hands a job in. It blocks while enough are under way, and returns
// sink's first error; the job is then the caller's still.
func (p *pipe[J]) push(j *J) error {
	s := &slot[J]{job: j, ready: make(chan struct{})}
	select {
	case <-p.fail:
		return p.err
	case p.order <- s:
	}
	p.work <- s
	return nil
}

// wait returns once every job has been through the sink, with its first
// error. It must be called exactly once, and no push may follow.
func (p *pipe[J]) wait() error {
	close(p.work)
	close(p.order)
	p.wg.Wait()
	<-p.done
	return p.err
}
