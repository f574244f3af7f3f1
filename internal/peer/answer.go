package peer

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"
)

// errTooLong says that an answer is longer than it may be.
var errTooLong = errors.New("the answer is too long")

// answer reads a body that is bounded in size, and in the time that a read may
// take.
type answer struct {
	body  io.ReadCloser
	left  int64 // bytes that may still come
	guard *guard
}

// Read returns errTooLong for the first byte over the limit.
func (a *answer) Read(p []byte) (int, error) {
	if int64(len(p)) > a.left+1 {
		p = p[:a.left+1]
	}
	a.guard.resume()
	n, err := a.body.Read(p)
	a.guard.pause()
	a.left -= int64(n)
	switch {
	case a.left < 0:
		return n, errTooLong
	case err != nil && err != io.EOF:
		return n, a.guard.explain(err)
	}
	return n, err
}

func (a *answer) Close() error {
	a.guard.end()
	return a.body.Close()
}

// guard ends a call that waits for the peer too long at a time. Time that the
// caller spends between two reads does not count.
type guard struct {
	parent, ctx context.Context
	cancel      context.CancelCauseFunc
	patience    time.Duration
	timer       *time.Timer
}

// newGuard returns a guard whose time runs.
func newGuard(parent context.Context, patience time.Duration) *guard {
	g := &guard{parent: parent, patience: patience}
	g.ctx, g.cancel = context.WithCancelCause(parent)
	g.timer = time.AfterFunc(patience, func() { g.cancel(errStalled) })
	return g
}

func (g *guard) resume() { g.timer.Reset(g.patience) }
func (g *guard) pause()  { g.timer.Stop() }

func (g *guard) end() {
	g.timer.Stop()
	g.cancel(nil)
}

// explain says why a call ended: by its caller, by the guard, or by err.
func (g *guard) explain(err error) error {
	if g.parent.Err() != nil {
		return context.Cause(g.parent)
	}
	if errors.Is(context.Cause(g.ctx), errStalled) {
		return unreachable(fmt.Errorf("%w for %v", errStalled, g.patience))
	}
	return unreachable(err)
}
