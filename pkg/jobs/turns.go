package jobs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"go.uber.org/zap"
)

// retryPause is the wait after a turn that failed.
const retryPause = 100 * time.Millisecond

// turns hands the store what has ended and claims for the slots that are free, or will
// be soon, one Turn after the other: what ends during one goes into the next. It is
// used by one goroutine.
type turns struct {
	*run
	room     *room       // what is held, and may be claimed now
	outcomes []Outcome   // to be handed in
	endings  []ending    // collect's, to be used again
	look     bool        // there may be something to claim
	stopping bool        // nothing more is claimed
	told     time.Time   // when the loop last heard of a commit
	heard    *time.Timer // wakes the loop lostEvery after that: it listens again (heeded)
	next     time.Time   // look for work then at the latest
	delayed  bool        // something comes due by time alone (Turn.Next): the poll does not rest, as clocks are set
	retryAt  time.Time   // no turn before that: the last one failed
}

// loop ends when claiming has ended and every outcome is handed in, when nothing is
// left and UntilEmpty was asked for, or when words ends.
func (t *turns) loop(claiming, words context.Context) error {
	t.look = true
	// A timer's own channel would have to be waited for anew with each turn, which wakes
	// a thread.
	t.heard = time.AfterFunc(lostEvery, func() { signal(t.crew.news) })
	defer t.heard.Stop()
	for {
		t.collect(false)
		select { // a busy worker does not come to wait
		case <-t.heeded(true):
			t.changed()
		case <-t.gone:
			return t.goneErr
		case <-t.asked:
		default:
		}
		stopped := claiming.Done()
		t.stopping = claiming.Err() != nil
		if t.stopping {
			stopped = nil // known: wait for what is still running
		}
		t.giveBack()
		if t.stopping && t.room.Held == 0 && len(t.outcomes) == 0 {
			return nil
		}
		if words.Err() != nil {
			t.leaveBehind()
			return nil
		}
		if !time.Now().Before(t.retryAt) && (len(t.outcomes) > 0 || t.look && !t.stopping && freeIn(t.room.Pools) > 0) {
			empty, err := t.take(words)
			if err != nil || empty {
				return err
			}
			continue
		}
		t.wait(words, stopped)
	}
}

// leaveBehind says what a worker did not get done before it ends.
func (t *turns) leaveBehind() {
	if t.room.Held > 0 {
		var ids []int64
		for _, h := range t.live() {
			ids = append(ids, h.ID)
		}
		slices.Sort(ids)
		t.log.Warn("handlers that did not end in time are left behind", zap.Int("jobs", t.room.Held), zap.Int64s("ids", ids))
	}
	if n := len(t.outcomes); n > 0 {
		t.log.Warn("outcomes could not be handed in: their jobs run again", zap.Int("jobs", n))
	}
}

// collect frees the slots of attempts that have ended; now says that it does not wait
// for those which end in a moment.
func (t *turns) collect(now bool) {
	t.endings = t.crew.take(t.endings, now)
	for _, e := range t.endings {
		t.room.ends(e.pool, e.ran)
		if !e.open {
			t.look = true // no turn will come of it otherwise
			continue
		}
		t.outcomes = append(t.outcomes, e.outcome)
	}
}

// giveBack gives back the jobs that were claimed ahead of a slot and did not get one in
// time, or at all as the worker stops: others may have slots.
func (t *turns) giveBack() {
	late := t.crew.withdraw(time.Now().Add(-t.room.patience()), t.stopping)
	if len(late) == 0 {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, a := range late {
		t.room.gone(a.pool)
		a.until = time.Time{}
		o, _ := a.conclude(Outcome{Status: Pending, Delay: KeepDue, Uncounted: true}, ended)
		t.outcomes = append(t.outcomes, o)
	}
}

// ask says what the turn is to do, as of now.
func (t *turns) ask() ([]Outcome, Want) {
	t.collect(true)
	want := t.room.Want
	if t.stopping {
		want.Pools = nil
	}
	return t.outcomes, want
}

// take takes one turn and starts what was claimed. empty says that nothing is
// left to do for a worker that runs UntilEmpty.
func (t *turns) take(words context.Context) (empty bool, err error) {
	asked := time.Now()
	t.room.turn(asked)
	t.turning.Store(true)
	if t.room.Held > 0 {
		signal(t.changes) // while it waits for the store it does not hear of any
	}
	turn, err := t.seat.Turn(words, t.ask)
	t.turning.Store(false)
	t.room.turned()
	if err != nil {
		if errors.Is(err, ErrClosed) {
			return false, fmt.Errorf("turn: %w", err)
		}
		if words.Err() == nil {
			t.failing.Warn("turn failed, trying again", zap.Error(err))
			t.retryAt = time.Now().Add(retryPause)
		}
		return false, nil
	}
	for _, ref := range turn.Rejected {
		t.log.Warn("late outcome rejected: another has the job", zap.Int64("job", ref.ID), zap.Int64("token", ref.Token))
	}
	t.handedIn(turn.Rejected)
	if t.stopping {
		return false, nil
	}

	free := freeIn(t.room.Pools)
	if len(turn.Claimed) > 0 {
		t.crew.start(t.hold(turn.Claimed, asked))
	}
	// As many as were asked for: there may be more.
	t.look = free > 0 && freeIn(t.room.Pools) == 0
	t.delayed = turn.Next > 0
	t.next = t.poll()
	if t.delayed {
		t.next = earlier(t.next, time.Now().Add(turn.Next))
	}
	if !t.opts.UntilEmpty || t.room.Held > 0 || len(turn.Claimed) > 0 {
		return false, nil
	}
	left, err := t.seat.AnyLeft(words, t.room.Want)
	if err != nil {
		t.log.Warn("can't tell whether the queue is empty", zap.Error(err))
	}
	return err == nil && !left, nil
}

// wait returns when there may be something to do, or stopped is closed.
func (t *turns) wait(words context.Context, stopped <-chan struct{}) {
	t.next = earlier(t.next, t.poll()) // it rests no longer, perhaps
	until := time.Until(t.next)
	if pause := time.Until(t.retryAt); pause > 0 {
		until = pause
	} else if came := t.crew.oldest(); !came.IsZero() {
		until = min(until, time.Until(came.Add(t.room.patience())))
	}
	timer := time.NewTimer(until)
	defer timer.Stop()
	select {
	case <-t.crew.news:
	case <-t.heeded(freeIn(t.room.Pools) == 0):
		t.changed()
	case <-t.gone:
	case <-t.asked:
	case <-timer.C:
		t.look = true
		t.next = t.poll()
	case <-stopped:
	case <-words.Done():
	}
}

// poll is when to look for work that nobody has told of.
func (t *turns) poll() time.Time {
	every := t.opts.Poll
	if t.calm.Load() && !t.delayed {
		every = max(every, calmPoll)
	}
	return time.Now().Add(jitter(every))
}

// heeded is the channel of commits to listen to: none for a busy worker that heard of
// one within lostEvery. It would mostly hear of its own, and to hear costs.
func (t *turns) heeded(busy bool) <-chan struct{} {
	if busy && time.Since(t.told) < lostEvery {
		return nil
	}
	return t.seat.Changes()
}

// changed notes that somebody has committed.
func (t *turns) changed() {
	t.look, t.told = true, time.Now()
	t.heard.Reset(lostEvery)
	signal(t.changes)
	signal(t.stir)
}

// handedIn forgets the outcomes that the store has taken, and their leases.
func (t *turns) handedIn(rejected []Ref) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range t.outcomes {
		if o.Status == Failed && !slices.Contains(rejected, o.Ref) {
			a := t.held[o.Ref]
			t.failed(Failure{ID: a.ID, Type: a.Type, Queue: a.Queue, Attempt: a.Attempt, MaxAttempts: a.MaxAttempts, Error: o.Error})
		}
		delete(t.held, o.Ref)
	}
	t.outcomes = t.outcomes[:0]
}

// poolOf is the index of the pool that the queue belongs to.
func poolOf(pools []Pool, queue string) int {
	return max(0, slices.IndexFunc(pools, func(p Pool) bool { return slices.Contains(p.Queues, queue) }))
}

// jitter spreads d by a fifth, so that a fleet does not look all at once.
func jitter(d time.Duration) time.Duration {
	return time.Duration(float64(d) * (0.8 + 0.4*rand.Float64()))
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}
