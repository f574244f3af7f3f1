//go:build linux

package torture_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/lease"
	"github.com/shoal-project/shoal/pkg/store"
)

// payload is that of every job here. The key is the job's name in the
// histories: an enqueue that was never answered has no id.
type payload struct {
	Key string `json:"key"`
	// Ms is how long the handler takes, Fail how many of the first attempts fail.
	Ms   int `json:"ms,omitempty"`
	Fail int `json:"fail,omitempty"`
	// Of a tick: who enqueued it, under which token of the leadership.
	Process string `json:"process,omitempty"`
	Token   int64  `json:"token,omitempty"`
}

func keyOf(n jobs.New) string {
	var p payload
	if err := json.Unmarshal(n.Payload, &p); err != nil {
		panic(err)
	}
	return p.Key
}

func keysOf(batch []jobs.New) (keys []string) {
	for _, n := range batch {
		keys = append(keys, keyOf(n))
	}
	return keys
}

// recorder is a store that notes what is asked of it and what it answers.
type recorder struct {
	store.Store
	process string
	*history
}

func (r *recorder) Enqueue(ctx context.Context, batch ...jobs.New) ([]jobs.Added, error) {
	end := r.begin(event{Op: "enqueue", Keys: keysOf(batch)})
	added, err := r.Store.Enqueue(ctx, batch...)
	e := answer(err)
	for _, a := range added {
		e.IDs = append(e.IDs, a.ID)
	}
	end(e)
	return added, err
}

func (r *recorder) Join(ctx context.Context, who jobs.Info) (jobs.Seat, error) {
	seat, err := r.Store.Join(ctx, who)
	if err != nil {
		return nil, err
	}
	r.add(event{Op: "join", ID: seat.ID()})
	return &recordedSeat{Seat: seat, recorder: r}, nil
}

// answer is the return of a call that ended with err.
func answer(err error) event {
	switch {
	case err == nil:
		return event{}
	case errors.Is(err, lease.ErrLost), errors.Is(err, lease.ErrHeld), errors.Is(err, jobs.ErrChanged):
		return event{Err: err.Error(), Fate: refused}
	case errors.Is(err, jobs.ErrUnknown):
		return event{Err: err.Error(), Fate: unknown}
	}
	return event{Err: err.Error(), Fate: failed}
}

type recordedSeat struct {
	jobs.Seat
	*recorder
	led int64 // the last token of the leadership that was noted
}

// Turn notes what is asked of the store as it asks: what comes with a later ask
// is a call of its own, with the same answer.
func (s *recordedSeat) Turn(ctx context.Context, ask jobs.Ask) (jobs.Turn, error) {
	from, noted := monotonic(), 0
	var ends []func(event)
	turn, err := s.Seat.Turn(ctx, func() ([]jobs.Outcome, jobs.Want) {
		outcomes, want := ask()
		if len(outcomes) > noted {
			e := event{Op: "turn"}
			for _, o := range outcomes[noted:] {
				e.Outcomes = append(e.Outcomes, outcome{ref: refOf(o.Ref), Status: string(o.Status), Uncounted: o.Uncounted})
			}
			noted, ends = len(outcomes), append(ends, s.begin(e))
		}
		return outcomes, want
	})
	e := answer(err)
	e.Refs = refsOf(turn.Rejected)
	for _, c := range turn.Claimed {
		e.Claimed = append(e.Claimed, claim{ref: refOf(c.Ref), Attempt: c.Attempt, Type: c.Type})
	}
	for _, end := range ends {
		end(e)
		e.Claimed = nil
	}
	if len(ends) == 0 && (len(e.Claimed) > 0 || e.Err != "") {
		e.Op, e.From = "turn", from
		s.add(e)
	}
	return turn, err
}

func (s *recordedSeat) Finish(ctx context.Context, o jobs.Outcome, write func(*sql.Tx) error, follow ...jobs.New) error {
	end := s.begin(event{Op: "finish", Keys: keysOf(follow),
		Outcomes: []outcome{{ref: refOf(o.Ref), Status: string(o.Status), Uncounted: o.Uncounted}}})
	err := s.Seat.Finish(ctx, o, write, follow...)
	e := answer(err)
	if e.Fate == refused && ctx.Err() != nil {
		e.Fate = failed // the handler's lease is what ended its context, whoever has the job
	}
	end(e)
	return err
}

// Tick names the tick in the jobs that it enqueues, by the time at which it was
// due: a tick that comes twice has one key twice.
func (s *recordedSeat) Tick(ctx context.Context, held lease.Held, due jobs.Due, batch ...jobs.New) error {
	for i := range batch {
		p, err := json.Marshal(payload{
			Key: fmt.Sprintf("tick %s %d", due.Name, due.At.UnixMicro()), Process: s.process, Token: held.Token,
		})
		if err != nil {
			return err
		}
		batch[i].Payload = p
	}
	end := s.begin(event{Op: "tick", Keys: keysOf(batch), Token: held.Token, Note: due.Name})
	err := s.Seat.Tick(ctx, held, due, batch...)
	end(answer(err))
	return err
}

func (s *recordedSeat) Acquire(ctx context.Context, name string, ttl time.Duration) (lease.Held, error) {
	from := monotonic()
	held, err := s.Seat.Acquire(ctx, name, ttl)
	if err == nil && held.Token != s.led {
		s.led = held.Token
		s.add(event{Op: "lead", From: from, Token: held.Token})
	}
	return held, err
}

func (s *recordedSeat) Renew(ctx context.Context, ttl time.Duration, holding []jobs.Holding) ([]jobs.Ref, error) {
	from := monotonic()
	lost, err := s.Seat.Renew(ctx, ttl, holding)
	e := answer(err)
	e.Op, e.From = "renew", from
	for _, h := range holding {
		e.Refs = append(e.Refs, refOf(h.Ref))
	}
	e.Lost = refsOf(lost)
	s.add(e)
	return lost, err
}

func (s *recordedSeat) Reap(ctx context.Context) ([]jobs.Reaped, bool, error) {
	from := monotonic()
	reaped, calm, err := s.Seat.Reap(ctx)
	if len(reaped) > 0 || err != nil {
		e := answer(err)
		e.Op, e.From = "reap", from
		for _, r := range reaped {
			e.Refs = append(e.Refs, ref{ID: r.ID, Token: r.Token, Failed: r.Failed})
		}
		s.add(e)
	}
	return reaped, calm, err
}

func (s *recordedSeat) Leave(ctx context.Context) error {
	end := s.begin(event{Op: "leave"})
	err := s.Seat.Leave(ctx)
	end(answer(err))
	return err
}

func refOf(r jobs.Ref) ref { return ref{ID: r.ID, Token: r.Token} }

func refsOf(list []jobs.Ref) (refs []ref) {
	for _, r := range list {
		refs = append(refs, refOf(r))
	}
	return refs
}
