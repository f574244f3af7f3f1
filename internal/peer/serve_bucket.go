package peer

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"

	"go.uber.org/zap"

	"github.com/shoal-project/shoal/internal/blob"
	"github.com/shoal-project/shoal/internal/bucket"
)

// servePing is POST /v1/ping.
func (s *Server) servePing(w http.ResponseWriter, r *http.Request) {
	var pings []Ping
	err := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody)).Decode(&pings)
	var big *http.MaxBytesError
	switch {
	case errors.As(err, &big):
		http.Error(w, "the body is over 1 MiB", http.StatusRequestEntityTooLarge)
		return
	case err != nil:
		http.Error(w, "the body is no JSON array of {bucket, link, height}", http.StatusBadRequest)
		return
	case len(pings) > MaxPings:
		http.Error(w, fmt.Sprintf("more than %d pings", MaxPings), http.StatusBadRequest)
		return
	}
	pongs, err := s.o.Ping(r.Context(), callerOf(r), pings)
	if err == nil && len(pongs) != len(pings) {
		err = fmt.Errorf("%d pongs for %d pings", len(pongs), len(pings))
	}
	if err != nil {
		s.fail(w, r, err)
		return
	}
	s.reply(w, r, append([]Pong{}, pongs...)) // never null
}

// serveLinks is GET /v1/buckets/{id}/links: the chain that ends at the link
// to, from the height from on, oldest first, at most MaxLinks of it.
func (s *Server) serveLinks(w http.ResponseWriter, r *http.Request) {
	query := r.URL.Query()
	id, err := bucket.ParseID(r.PathValue("id"))
	from, errFrom := strconv.ParseInt(query.Get("from"), 10, 64)
	to, errTo := blob.Parse(query.Get("to"))
	if err := errors.Join(err, errFrom, errTo); err != nil {
		http.Error(w, "want /v1/buckets/ID/links?from=HEIGHT&to=LINK", http.StatusBadRequest)
		return
	}
	if !s.forSharers(w, r, id) {
		return
	}
	chain, err := s.o.Log.Links(r.Context(), id, from, to, MaxLinks)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	if len(chain) == 0 {
		notFound(w)
		return
	}
	answer := linksJSON{Links: make([]bucket.Link, len(chain))}
	for i, c := range chain {
		answer.Links[i] = bucket.Link{Cid: c}
	}
	s.reply(w, r, answer)
}

// forSharers reports whether the caller is in the shares of our head of a
// bucket. If not, or if there is no such bucket, it has answered: not found.
func (s *Server) forSharers(w http.ResponseWriter, r *http.Request, id bucket.ID) bool {
	var m *bucket.Manifest
	head, err := s.o.Log.Head(r.Context(), id)
	if err == nil {
		m, err = bucket.LoadManifest(s.o.Blobs, head.Link)
	}
	switch {
	case err == nil && m.Authorized(callerOf(r)):
		return true
	case err == nil, errors.Is(err, bucket.ErrUnknownBucket):
		notFound(w)
	default:
		s.fail(w, r, err)
	}
	return false
}

func (s *Server) reply(w http.ResponseWriter, r *http.Request, answer any) {
	text, err := json.Marshal(answer)
	if err != nil {
		s.fail(w, r, err)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.Write(text) // an error here means that the caller has gone
}

func notFound(w http.ResponseWriter) {
	http.Error(w, "not found", http.StatusNotFound)
}

// fail logs what went wrong here and tells the caller only that it did.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, err error) {
	if r.Context().Err() == nil { // else the caller has gone
		s.o.Logger.Error("peer request", zap.String("path", r.URL.Path), zap.Error(err))
	}
	http.Error(w, "internal error", http.StatusInternalServerError)
}
