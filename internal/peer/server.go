package peer

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/semaphore"
	"golang.org/x/time/rate"

	"github.com/shoal-project/shoal/internal/blob"
	"github.com/shoal-project/shoal/internal/bucket"
)

// Options says what a server serves and how much of it.
type Options struct {
	Identity Identity    // required
	Book     *Book       // required: who may ask
	Blobs    *blob.Store // required
	Log      *bucket.Log // required

	// Ping answers a peer's pings, one pong each in their order. It is quick:
	// work that follows is enqueued, not done. Required.
	Ping func(ctx context.Context, from bucket.PeerID, pings []Ping) ([]Pong, error)

	Rate       float64       // requests a second of one peer; 0: 2,000
	Burst      int           // requests of one peer at once, above Rate; 0: 4,000
	Concurrent int           // requests under way, of all peers; 0: 128, of up to 2 MiB each
	Drain      time.Duration // for requests under way when Serve's context ends; 0: 5 s
	Logger     *zap.Logger   // nil: none
}

// Server answers the API of a peer. It keeps nothing but rate limits: any
// number of servers, in any number of processes, may serve one home.
type Server struct {
	o     Options
	http  *http.Server
	mux   http.ServeMux
	slots *semaphore.Weighted

	mu     sync.Mutex
	limits map[bucket.PeerID]*rate.Limiter
}

// NewServer checks the options and returns a server that does not serve yet.
func NewServer(o Options) (*Server, error) {
	if o.Book == nil || o.Blobs == nil || o.Log == nil || o.Ping == nil {
		return nil, errors.New("peer.Options: Book, Blobs, Log and Ping are required")
	}
	if o.Rate < 0 || o.Burst < 0 || o.Concurrent < 0 || o.Drain < 0 {
		return nil, errors.New("peer.Options: a limit is negative")
	}
	o.Rate = cmp.Or(o.Rate, 2000)
	o.Burst = cmp.Or(o.Burst, 4000)
	o.Concurrent = cmp.Or(o.Concurrent, 128)
	o.Drain = cmp.Or(o.Drain, 5*time.Second)
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	cert, err := o.Identity.certificate()
	if err != nil {
		return nil, fmt.Errorf("peer server: %w", err)
	}
	s := &Server{
		o:      o,
		slots:  semaphore.NewWeighted(int64(o.Concurrent)),
		limits: make(map[bucket.PeerID]*rate.Limiter),
	}
	s.mux.HandleFunc("GET /ipfs/{cid}", s.serveBlock)
	s.mux.HandleFunc("GET /v1/buckets/{id}/links", s.serveLinks)
	s.mux.HandleFunc("POST /v1/ping", s.servePing)
	s.http = &http.Server{
		Handler:           http.HandlerFunc(s.admit),
		TLSConfig:         serverTLS(cert),
		Protocols:         onlyHTTP2(),
		ReadHeaderTimeout: 10 * time.Second,
		ReadTimeout:       30 * time.Second,
		WriteTimeout:      60 * time.Second,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    maxHeader,
		HTTP2: &http.HTTP2Config{
			MaxConcurrentStreams: 64,
			SendPingTimeout:      30 * time.Second,
			WriteByteTimeout:     30 * time.Second,
		},
		// Handshakes that fail are the callers' trouble: strangers knock.
		ErrorLog: stdLog(o.Logger),
	}
	return s, nil
}

// Serve answers on ln until ctx ends; then it takes no new connection, lets
// requests under way end for Options.Drain, closes ln, and returns nil. A
// server serves once.
func (s *Server) Serve(ctx context.Context, ln net.Listener) error {
	drained := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(drained)
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.o.Drain)
		defer cancel()
		if s.http.Shutdown(last) != nil {
			s.http.Close() // whoever is left has had the time
		}
	})
	err := s.http.ServeTLS(ln, "", "")
	if !stop() {
		<-drained
		return nil
	}
	return fmt.Errorf("serve peers: %w", err)
}

func onlyHTTP2() *http.Protocols {
	var p http.Protocols
	p.SetHTTP2(true)
	return &p
}
