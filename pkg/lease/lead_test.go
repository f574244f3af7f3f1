package lease_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shoal-project/shoal/pkg/lease"
)

// A follower that is told asks at most each electionPause, any at the latest after
// electionLook.
const (
	electionPause = 500 * time.Millisecond
	electionLook  = 5 * time.Second
)

// grants is one named lease, as a store keeps it.
type grants struct {
	mu      sync.Mutex
	owner   string // "": free
	token   int64
	expires time.Time
	down    error           // what every call returns
	told    []chan struct{} // of a release
}

func (g *grants) change(fn func()) {
	g.mu.Lock()
	defer g.mu.Unlock()
	fn()
}

func (g *grants) holder() (owner string) {
	g.change(func() { owner = g.owner })
	return owner
}

// seat is a holder's view of the lease.
type seat struct {
	*grants
	name string
}

func (s seat) Acquire(_ context.Context, name string, ttl time.Duration) (lease.Held, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.down != nil:
		return lease.Held{}, s.down
	case s.owner == s.name:
	case s.owner != "" && s.expires.After(time.Now()):
		return lease.Held{}, lease.ErrHeld
	default:
		s.owner = s.name
		s.token++
	}
	s.expires = time.Now().Add(ttl)
	return lease.Held{Name: name, Token: s.token}, nil
}

func (s seat) Release(ctx context.Context, held lease.Held) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.down != nil:
		return s.down
	case ctx.Err() != nil:
		return ctx.Err()
	case s.owner != s.name || s.token != held.Token:
		return lease.ErrLost
	}
	s.owner = ""
	for _, told := range s.told {
		select {
		case told <- struct{}{}:
		default:
		}
	}
	return nil
}

// term is one time of leading.
type term struct {
	lease.Held
	who string
	ctx context.Context
	end chan error // what work is to return
}

// lead has who lead until ctx ends; each term is sent to terms, and its work
// ends when it is told to or when its context does.
func lead(ctx context.Context, g *grants, who string, terms chan<- term, report func(error)) (done chan error) {
	done = make(chan error, 1)
	told := make(chan struct{}, 1)
	g.change(func() { g.told = append(g.told, told) })
	go func() {
		defer close(done)
		lease.Lead(ctx, seat{g, who}, "lamp", ttl, told, func(ctx context.Context, held lease.Held) error {
			t := term{Held: held, who: who, ctx: ctx, end: make(chan error, 1)}
			terms <- t
			select {
			case err := <-t.end:
				return err
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}, report)
	}()
	return done
}

// ended waits for Lead to return after its context's end.
func ended(t *testing.T, done <-chan error) {
	t.Helper()
	if err := <-done; err != nil {
		t.Errorf("Lead returned %v at its context's end", err)
	}
}

// TestLeadOne proves that of five who want to lead one does at a time, each
// under a higher token, and that when a leader goes the next takes over soon.
func TestLeadOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, terms := &grants{}, make(chan term, 10)
		all := map[string]context.CancelFunc{}
		done := map[string]chan error{}
		for _, who := range []string{"a", "b", "c", "d", "e"} {
			ctx, cancel := context.WithCancel(t.Context())
			all[who] = cancel
			done[who] = lead(ctx, g, who, terms, nil)
		}
		var led []string
		for token := int64(1); token <= 5; token++ {
			since := time.Now()
			leader := <-terms
			if took := time.Since(since); took > electionPause {
				t.Errorf("%s took over after %v", leader.who, took)
			}
			if leader.Name != "lamp" || leader.Token != token {
				t.Errorf("%s holds %+v, want token %d", leader.who, leader.Held, token)
			}
			led = append(led, leader.who)
			<-time.After(10 * ttl) // it keeps the lease, the others follow
			if len(terms) != 0 || leader.ctx.Err() != nil {
				t.Fatalf("%d others lead beside %s, whose context says %v", len(terms), leader.who, leader.ctx.Err())
			}
			all[leader.who]()
			ended(t, done[leader.who])
		}
		slices.Sort(led)
		if !slices.Equal(led, []string{"a", "b", "c", "d", "e"}) {
			t.Errorf("led: %v", led)
		}
		if who := g.holder(); who != "" {
			t.Errorf("%s was not released", who)
		}
	})
}

// TestLeadTakesOver proves that the place of a leader that is gone without a
// word is taken when its lease has ended, and not before.
func TestLeadTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, terms := &grants{owner: "dead", token: 7, expires: time.Now().Add(ttl)}, make(chan term, 1)
		ctx, cancel := context.WithCancel(t.Context())
		start := time.Now()
		done := lead(ctx, g, "a", terms, func(err error) { t.Errorf("reported: %v", err) })
		leader := <-terms
		if took := time.Since(start); took < ttl || took > ttl+electionLook {
			t.Errorf("took over after %v, want %v", took, ttl)
		}
		if leader.Token != 8 {
			t.Errorf("token %d, want 8", leader.Token)
		}
		cancel()
		ended(t, done)
	})
}

// TestLeadLost proves that the work's context ends, with ErrLost, at the next
// renewal after the lease went to another, and that the other's is let alone.
func TestLeadLost(t *testing.T) {
	for name, c := range map[string]struct {
		happens func(*grants)
		ends    time.Duration
		next    int64 // token of the next term
	}{
		"another took it": {
			func(g *grants) { g.owner, g.token, g.expires = "b", g.token+1, time.Now().Add(2*ttl) }, ttl / 3, 3,
		},
		"it changed hands and came back": {
			func(g *grants) { g.token++ }, ttl / 3, 2,
		},
		"it was free in between": {
			func(g *grants) { g.owner = "" }, ttl / 3, 2,
		},
		"the store is away": {
			func(g *grants) { g.down = errBoom }, trust, 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g, terms := &grants{}, make(chan term, 1)
				ctx, cancel := context.WithCancel(t.Context())
				reports := make(chan error, 10)
				start := time.Now()
				done := lead(ctx, g, "a", terms, func(err error) { reports <- err })
				leader := <-terms
				g.change(func() { c.happens(g) })
				<-leader.ctx.Done()
				if took := time.Since(start); took != c.ends {
					t.Errorf("ended after %v, want %v", took, c.ends)
				}
				if cause := context.Cause(leader.ctx); !errors.Is(cause, lease.ErrLost) {
					t.Errorf("cause: %v, want ErrLost", cause)
				}
				reported := <-reports
				if !errors.Is(reported, lease.ErrLost) {
					t.Errorf("reported: %v, want what work returned", reported)
				}
				g.change(func() {
					if g.down != nil && !errors.Is(reported, errBoom) {
						t.Errorf("reported: %v, want the failed release too", reported)
					}
					g.down = nil
				})
				if next := <-terms; next.Token != c.next {
					t.Errorf("leads again with token %d, want %d", next.Token, c.next)
				}
				cancel()
				ended(t, done)
			})
		})
	}
}

// TestLeadReleases proves that the lease is free as soon as work has returned,
// and that what work returned is reported.
func TestLeadReleases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, terms := &grants{}, make(chan term, 1)
		ctx, cancel := context.WithCancel(t.Context())
		var between []string // holders when work's error was reported
		var reported error
		done := lead(ctx, g, "a", terms, func(err error) {
			between = append(between, g.holder())
			reported = err
		})
		first := <-terms
		first.end <- errBoom
		second := <-terms
		if !errors.Is(reported, errBoom) || !slices.Equal(between, []string{""}) {
			t.Errorf("reported %v, held by %q", reported, between)
		}
		if first.Token != 1 || second.Token != 2 {
			t.Errorf("tokens %d and %d, want 1 and 2", first.Token, second.Token)
		}
		if first.ctx.Err() == nil {
			t.Error("the context of work lives on")
		}
		second.end <- nil // no error, no report
		<-terms
		if len(between) != 1 {
			t.Errorf("%d reports, want 1: %v", len(between), reported)
		}
		cancel()
		ended(t, done)
	})
}

func TestLeadReports(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g, terms := &grants{down: errBoom}, make(chan term, 1)
		ctx, cancel := context.WithCancel(t.Context())
		reports := make(chan error, 100)
		done := lead(ctx, g, "a", terms, func(err error) { reports <- err })
		start := time.Now()
		for range 3 {
			if err := <-reports; !errors.Is(err, errBoom) {
				t.Errorf("reported %v", err)
			}
		}
		if took := time.Since(start); took < 2*electionPause {
			t.Errorf("asked three times within %v", took)
		}
		g.change(func() { g.down = nil })
		leader := <-terms
		cancel()
		ended(t, done)
		if cause := context.Cause(leader.ctx); !errors.Is(cause, context.Canceled) {
			t.Errorf("cause: %v", cause)
		}
		if who := g.holder(); who != "" {
			t.Errorf("%s was not released at the end", who)
		}
		// A follower ends, too; and report may be nil.
		ctx, cancel = context.WithCancel(t.Context())
		g.change(func() { g.down = errBoom })
		done = lead(ctx, g, "a", terms, nil)
		<-time.After(time.Minute)
		cancel()
		ended(t, done)
	})
}
