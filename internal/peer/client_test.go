package peer_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/shoal-project/shoal/internal/blob"
	"github.com/shoal-project/shoal/internal/bucket"
	"github.com/shoal-project/shoal/internal/peer"
)

func TestClientFetches(t *testing.T) {
	friend := someone(t)
	h := newHome(t, nil, friend.ID())
	largest := make([]byte, blob.MaxSize)
	c := h.put(t, blob.Raw, largest)
	client, mine := newClient(t, friend), blob.Open(t.TempDir())

	if got, err := client.Get(t.Context(), h.peer(), c); err != nil || len(got) != len(largest) {
		t.Errorf("Get: %d bytes, %v", len(got), err)
	}
	batch := mine.NewBatch()
	defer batch.Discard()
	if n, err := client.Fetch(t.Context(), h.peer(), c, batch); err != nil || n != blob.MaxSize {
		t.Errorf("Fetch: %d bytes, %v", n, err)
	}
	must(t, batch.Commit())
	if got, err := mine.Get(c); err != nil || len(got) != len(largest) {
		t.Errorf("stored: %d bytes, %v", len(got), err)
	}
	if _, err := client.Fetch(t.Context(), h.peer(), cid.MustParse(absent), batch); !errors.Is(err, peer.ErrNotFound) {
		t.Errorf("absent: %v", err)
	}
	if _, err := newClient(t, someone(t)).Get(t.Context(), h.peer(), c); !errors.Is(err, peer.ErrForbidden) {
		t.Errorf("as a stranger: %v", err)
	}
}

// It proves that many first calls at once all succeed, though they are more than
// a server lets run on one connection.
func TestClientCallsSideBySide(t *testing.T) {
	friend := someone(t)
	h := newHome(t, nil, friend.ID())
	client := newClient(t, friend)
	var wg sync.WaitGroup
	blobs := make([][]byte, 100)
	for i := range blobs {
		blobs[i] = fmt.Appendf(nil, "blob %d", i)
	}
	h.put(t, blob.Raw, blobs...)
	for _, data := range blobs {
		wg.Go(func() {
			c := blob.Sum(blob.Raw, data)
			if got, err := client.Get(t.Context(), h.peer(), c); err != nil || string(got) != string(data) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	wg.Wait()
}

func TestClientDetectsWrongBytes(t *testing.T) {
	wanted := blob.Sum(blob.Raw, []byte("wanted"))
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		why    error
	}{
		"other bytes": {func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("WANTED")) }, blob.ErrMismatch},
		"cut":         {func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("want")) }, blob.ErrMismatch},
		"nothing":     {func(http.ResponseWriter, *http.Request) {}, blob.ErrMismatch},
		"endless": {func(w http.ResponseWriter, r *http.Request) {
			for r.Context().Err() == nil {
				w.Write(make([]byte, 1<<16))
			}
		}, blob.ErrTooLarge},
	} {
		t.Run(name, func(t *testing.T) {
			p, client := liar(t, someone(t), c.answer), newClient(t, someone(t))
			batch := blob.Open(t.TempDir()).NewBatch()
			defer batch.Discard()
			if _, err := client.Fetch(t.Context(), p, wanted, batch); !errors.Is(err, peer.ErrWrongBytes) || !errors.Is(err, c.why) {
				t.Errorf("Fetch: %v", err)
			}
			if _, err := client.Get(t.Context(), p, wanted); !errors.Is(err, peer.ErrWrongBytes) || !errors.Is(err, c.why) {
				t.Errorf("Get: %v", err)
			}
			if batch.Added().Blobs != 0 {
				t.Error("it was kept")
			}
		})
	}
}

func TestClientRefusesBadAnswers(t *testing.T) {
	link := blob.Sum(blob.DagCBOR, []byte("link"))
	status := func(code int) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Location", "https://127.0.0.1:1/") // a redirect must not be followed
			w.WriteHeader(code)
		}
	}
	says := func(text string) http.HandlerFunc {
		return func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte(text)) }
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   error
	}{
		"redirect":     {status(302), peer.ErrBadAnswer},
		"moved":        {status(308), peer.ErrBadAnswer},
		"server error": {status(500), peer.ErrBadAnswer},
		"no content":   {status(204), peer.ErrBadAnswer},
		"forbidden":    {status(403), peer.ErrForbidden},
		"not found":    {status(404), peer.ErrNotFound},
		"no json":      {says("<html>"), peer.ErrBadAnswer},
		"no pong":      {says("[]"), peer.ErrBadAnswer},
		"two pongs":    {says(`[{"status":"unknown"},{"status":"unknown"}]`), peer.ErrBadAnswer},
		"no head":      {says(`[{"status":"ahead","height":1}]`), peer.ErrBadAnswer},
		"bad link":     {says(`[{"status":"ahead","link":"x","height":1}]`), peer.ErrBadAnswer},
		"long":         {says("[" + strings.Repeat(" ", 1<<20)), peer.ErrBadAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			p := liar(t, someone(t), c.answer)
			_, err := newClient(t, someone(t)).Ping(t.Context(), p, []peer.Ping{{Bucket: noBucket(t), Link: bucket.Link{Cid: link}}})
			if !errors.Is(err, c.want) {
				t.Errorf("got %v, want %v", err, c.want)
			}
		})
	}
	p := liar(t, someone(t), says(`{"links":[`+strings.TrimSuffix(strings.Repeat(fmt.Sprintf("%q,", link), 1001), ",")+`]}`))
	if _, err := newClient(t, someone(t)).Links(t.Context(), p, bucket.ID{}, 0, link); !errors.Is(err, peer.ErrBadAnswer) {
		t.Errorf("1,001 links: %v", err)
	}
}

func TestClientWaitsForABusyPeer(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	p := liar(t, someone(t), func(w http.ResponseWriter, _ *http.Request) {
		if asked.Add(1) == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(429)
			return
		}
		w.Write([]byte("data"))
	})
	client := newClient(t, someone(t))
	if _, err := client.Get(t.Context(), p, blob.Sum(blob.Raw, []byte("data"))); err != nil || asked.Load() != 2 {
		t.Errorf("after %d requests: %v", asked.Load(), err)
	}
}

func TestClientGivesUpOnABusyPeer(t *testing.T) {
	for _, after := range []string{"0", "11", "soon"} {
		var asked atomic.Int32
		p := liar(t, someone(t), func(w http.ResponseWriter, _ *http.Request) {
			asked.Add(1)
			w.Header().Set("Retry-After", after)
			w.WriteHeader(429)
		})
		ctx, cancel := context.WithCancelCause(t.Context())
		if after == "soon" {
			cancel(errGone) // it would wait for a second, and then for another
		}
		_, err := newClient(t, someone(t)).Get(ctx, p, cid.MustParse(absent))
		want, tries := peer.ErrBusy, int32(3)
		switch after {
		case "11":
			tries = 1
		case "soon":
			want, tries = errGone, 0
		}
		if !errors.Is(err, want) || asked.Load() != tries {
			t.Errorf("Retry-After %s: %d requests, %v", after, asked.Load(), err)
		}
		cancel(nil)
	}
}

// It proves that a call on a kept connection that breaks is made once more, as
// the worker behind it may be gone, and that a first call is not.
func TestClientAsksAgainWhenAKeptConnectionBreaks(t *testing.T) {
	var asked atomic.Int32
	var broken atomic.Bool
	p := liar(t, someone(t), func(w http.ResponseWriter, _ *http.Request) {
		asked.Add(1)
		if broken.CompareAndSwap(true, false) {
			panic(http.ErrAbortHandler)
		}
		w.Write([]byte("data"))
	})
	client, data := newClient(t, someone(t)), blob.Sum(blob.Raw, []byte("data"))
	broken.Store(true)
	if _, err := client.Get(t.Context(), p, data); !errors.Is(err, peer.ErrUnreachable) || asked.Load() != 1 {
		t.Errorf("a first call: %d requests, %v", asked.Load(), err)
	}
	broken.Store(true)
	if _, err := client.Get(t.Context(), p, data); err != nil || asked.Load() != 3 {
		t.Errorf("a later call: %d requests, %v", asked.Load(), err)
	}
}

func TestClientEndsWithoutProgress(t *testing.T) {
	stuck := func(status int, text string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			if status != 0 {
				w.WriteHeader(status)
				w.Write([]byte(text))
				w.(http.Flusher).Flush()
			}
			<-r.Context().Done()
		}
	}
	for name, c := range map[string]struct {
		answer http.HandlerFunc
		want   error
		why    string
	}{
		"no answer":      {stuck(0, ""), peer.ErrUnreachable, "no progress for 300ms"},
		"half an answer": {stuck(200, "da"), peer.ErrUnreachable, "no progress for 300ms"},
		"half an error":  {stuck(500, "oh"), peer.ErrBadAnswer, "500 oh"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := liar(t, someone(t), c.answer)
			client, err := peer.NewClient(peer.ClientOptions{Identity: someone(t), Stall: 300 * time.Millisecond})
			must(t, err)
			_, err = client.Get(t.Context(), p, cid.MustParse(absent))
			if !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.why) {
				t.Errorf("got %v", err)
			}
		})
	}
}

func TestClientEndsWithItsCaller(t *testing.T) {
	entered := make(chan struct{})
	p := liar(t, someone(t), func(_ http.ResponseWriter, r *http.Request) {
		close(entered)
		<-r.Context().Done()
	})
	ctx, cancel := context.WithCancelCause(t.Context())
	go func() {
		<-entered
		cancel(errGone)
	}()
	if _, err := newClient(t, someone(t)).Get(ctx, p, cid.MustParse(absent)); !errors.Is(err, errGone) || errors.Is(err, peer.ErrUnreachable) {
		t.Errorf("got %v", err)
	}
}

func TestClientSaysWhyAPeerIsUnreachable(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	closed := ln.Addr().String()
	must(t, ln.Close())
	_, err = newClient(t, someone(t)).Ping(t.Context(), peer.Peer{ID: someone(t).ID(), URL: "https://" + closed}, nil)
	if !errors.Is(err, peer.ErrUnreachable) || !strings.Contains(err.Error(), "dial tcp "+closed+": connect: connection refused") {
		t.Errorf("nobody listens: %v", err)
	}

	h := newHome(t, nil)
	wrong := peer.Peer{ID: someone(t).ID(), URL: h.peer().URL}
	_, err = newClient(t, someone(t)).Ping(t.Context(), wrong, nil)
	if !errors.Is(err, peer.ErrUnreachable) || !errors.Is(err, peer.ErrWrongKey) || !strings.Contains(err.Error(), string(h.ID())) {
		t.Errorf("somebody else answers: %v", err)
	}
}

var errGone = errors.New("the caller has gone")
