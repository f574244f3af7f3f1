package peer_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shoal-project/shoal/internal/bucket"
	"github.com/shoal-project/shoal/internal/peer"
)

func TestBookKeepsPeers(t *testing.T) {
	ctx, clock := t.Context(), newClock()
	book := peer.NewBook(newTables(t), clock.Now)
	a, b := someone(t).ID(), someone(t).ID()

	must(t, book.Add(ctx, "", a, "https://10.0.0.1:4242", false))
	added := clock.Now()
	clock.Advance(time.Hour)
	must(t, book.Add(ctx, "", b, "https://[2001:db8::1]:4242", true))
	must(t, book.Add(ctx, "", a, "https://Peer.Example:1/", true)) // a new word on an old peer

	got, err := book.List(ctx)
	must(t, err)
	want := []peer.Entry{
		{Peer: peer.Peer{ID: a, URL: "https://peer.example:1"}, Offers: true, AddedAt: added},
		{Peer: peer.Peer{ID: b, URL: "https://[2001:db8::1]:4242"}, Offers: true, AddedAt: clock.Now()},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(diff)
	}
	one, err := book.Get(ctx, a)
	must(t, err)
	if diff := cmp.Diff(want[0], one); diff != "" {
		t.Fatal(diff)
	}

	must(t, book.Remove(ctx, a))
	if err := book.Remove(ctx, a); !errors.Is(err, peer.ErrUnknownPeer) {
		t.Fatalf("Remove: %v", err)
	}
	if _, err := book.Get(ctx, a); !errors.Is(err, peer.ErrUnknownPeer) {
		t.Fatalf("Get: %v", err)
	}
}

func TestBookRefuses(t *testing.T) {
	ctx := t.Context()
	self, other := someone(t).ID(), someone(t).ID()
	book := peer.NewBook(newTables(t), newClock().Now)
	if err := book.Add(ctx, self, self, "https://h:1", false); err == nil || !strings.Contains(err.Error(), "this home itself") {
		t.Errorf("ourselves: %v", err)
	}
	for _, id := range []bucket.PeerID{
		"", "abc", bucket.PeerID(strings.ToUpper(string(other))),
		bucket.PeerID("01" + strings.Repeat("0", 62)),        // the identity point
		bucket.PeerID("ee" + strings.Repeat("f", 60) + "7f"), // not canonical
	} {
		if err := book.Add(ctx, self, id, "https://h:1", false); err == nil {
			t.Errorf("id %q was accepted", id)
		}
	}
	for _, u := range []string{
		"", "h:1", "http://h:1", "https://h", "https://:1", "https://h:0", "https://h:65536", "https://h:1/path",
		"https://h:1?q", "https://h:1#f", "https://me@h:1", "https://h:1 ", "https://h:1//", "https:h:1", "https://h:x",
	} {
		if err := book.Add(ctx, self, other, u, false); err == nil {
			t.Errorf("URL %q was accepted", u)
		}
	}
	if es, err := book.List(ctx); err != nil || len(es) != 0 {
		t.Errorf("the book holds %v, %v", es, err)
	}
}

func TestBookFindsByPrefix(t *testing.T) {
	ctx := t.Context()
	tables := newTables(t)
	book := peer.NewBook(tables, newClock().Now)
	a, b := twinA, twinB
	must(t, book.Add(ctx, "", a, "https://h:1", false))
	must(t, book.Add(ctx, "", b, "https://h:2", false))

	for _, s := range []string{string(a), string(a)[:63]} {
		if e, err := book.Find(ctx, s); err != nil || e.ID != a {
			t.Errorf("Find(%q) = %v, %v", s, e.ID, err)
		}
	}
	if _, err := book.Find(ctx, string(a)[:6]); err == nil || errors.Is(err, peer.ErrUnknownPeer) {
		t.Errorf("two peers, one prefix: %v", err)
	}
	for _, s := range []string{"", string(a)[:5]} {
		if _, err := book.Find(ctx, s); err == nil || !strings.Contains(err.Error(), "at least 6") {
			t.Errorf("Find(%q): %v", s, err)
		}
	}
	for _, s := range []string{"%%%%%%", "______", string(a) + "0", strings.Repeat("z", 6)} {
		if _, err := book.Find(ctx, s); !errors.Is(err, peer.ErrUnknownPeer) {
			t.Errorf("Find(%q): %v", s, err)
		}
	}
}

// It proves that contacts that tell nothing new cost no commit.
func TestBookWritesOnlyNews(t *testing.T) {
	ctx, clock, tables := t.Context(), newClock(), newTables(t)
	book := peer.NewBook(tables, clock.Now)
	id := someone(t).ID()
	must(t, book.Add(ctx, "", id, "https://h:1", false))

	refused := errors.New("dial tcp 10.0.0.1:1:\nconnection refused")
	for _, step := range []struct {
		name   string
		do     func(context.Context) error
		writes bool
	}{
		{"first seen", func(ctx context.Context) error { return book.Seen(ctx, id) }, true},
		{"seen again", func(ctx context.Context) error { return book.Seen(ctx, id) }, false},
		{"failed", func(ctx context.Context) error { return book.Failed(ctx, id, refused) }, true},
		{"failed the same way", func(ctx context.Context) error { return book.Failed(ctx, id, refused) }, false},
		{"back", func(ctx context.Context) error { return book.Seen(ctx, id) }, true},
		{"a minute later", func(ctx context.Context) error { clock.Advance(61 * time.Second); return book.Seen(ctx, id) }, true},
		{"the clock steps back", func(ctx context.Context) error { clock.Advance(-time.Hour); return book.Seen(ctx, id) }, true},
		{"a stranger", func(ctx context.Context) error { return book.Seen(ctx, someone(t).ID()) }, false},
	} {
		before := tables.changes(t)
		must(t, step.do(ctx))
		if wrote := tables.changes(t) != before; wrote != step.writes {
			t.Errorf("%s: wrote %v, want %v", step.name, wrote, step.writes)
		}
	}
	must(t, book.Failed(ctx, id, errors.New("one\nline "+strings.Repeat("é", 400))))
	e, err := book.Get(ctx, id)
	must(t, err)
	if !e.LastSeen.Equal(clock.Now()) || !strings.HasPrefix(e.LastError, "one line é") || len(e.LastError) > 500 {
		t.Errorf("got %+v", e)
	}
}
