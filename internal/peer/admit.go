package peer

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log"
	"net/http"
	"strconv"
	"time"

	"go.uber.org/zap"
	"golang.org/x/time/rate"

	"github.com/shoal-project/shoal/internal/bucket"
)

// queueFor is how long a request waits for its turn before it hears 429.
const queueFor = time.Second

type callerKey struct{}

// callerOf returns who sent a request that was admitted.
func callerOf(r *http.Request) bucket.PeerID {
	return r.Context().Value(callerKey{}).(bucket.PeerID)
}

// admit lets through the requests of peers in the address book, within the
// limits. It stands before the routes, so that a stranger can't tell one path
// from another.
func (s *Server) admit(w http.ResponseWriter, r *http.Request) {
	// The handshake has checked the certificate.
	caller := bucket.PeerIDOf(r.TLS.PeerCertificates[0].PublicKey.(ed25519.PublicKey))
	_, err := s.o.Book.Get(r.Context(), caller)
	switch {
	case errors.Is(err, ErrUnknownPeer):
		// Each further try costs the stranger a handshake.
		w.Header().Set("Connection", "close")
		http.Error(w, "forbidden", http.StatusForbidden)
		return
	case err != nil:
		s.fail(w, r, err)
		return
	}
	if wait := s.wait(caller); wait > 0 {
		tooMany(w, wait)
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), queueFor)
	err = s.slots.Acquire(ctx, 1)
	cancel()
	if err != nil {
		tooMany(w, queueFor)
		return
	}
	defer s.slots.Release(1)
	s.mux.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), callerKey{}, caller)))
}

// wait takes a request off the caller's allowance; it returns 0, or for how
// long there is none. Only peers in the address book have one, so the map is
// bounded by whom the user ever added.
func (s *Server) wait(caller bucket.PeerID) time.Duration {
	s.mu.Lock()
	limit := s.limits[caller]
	if limit == nil {
		limit = rate.NewLimiter(rate.Limit(s.o.Rate), s.o.Burst)
		s.limits[caller] = limit
	}
	s.mu.Unlock()
	taken := limit.Reserve()
	wait := taken.Delay()
	if wait > 0 {
		taken.Cancel()
	}
	return wait
}

func tooMany(w http.ResponseWriter, wait time.Duration) {
	// Whole seconds (RFC 9110, section 10.2.3), rounded up.
	w.Header().Set("Retry-After", strconv.FormatInt(int64((wait+time.Second-1)/time.Second), 10))
	http.Error(w, "too many requests", http.StatusTooManyRequests)
}

func stdLog(l *zap.Logger) *log.Logger {
	std, _ := zap.NewStdLogAt(l, zap.DebugLevel) // knows the level: no error
	return std
}
