package peer

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"strconv"
	"sync"
	"time"

	"github.com/shoal-project/shoal/internal/bucket"
)

const (
	dialTimeout = 5 * time.Second  // to connect, and again for the handshake
	maxWait     = 10 * time.Second // longest Retry-After that a call waits for
	maxTries    = 3                // of one call, the waits between them honoured
)

// Client calls peers. It keeps connections open for the next call and may be
// used from any number of goroutines.
type Client struct {
	cert  tls.Certificate
	stall time.Duration

	mu         sync.Mutex
	transports map[bucket.PeerID]*http.Transport
}

// ClientOptions says who calls.
type ClientOptions struct {
	Identity Identity      // required
	Stall    time.Duration // a call without progress for so long ends; 0: 30 s
}

// NewClient returns a client without connections.
func NewClient(o ClientOptions) (*Client, error) {
	if o.Stall < 0 {
		return nil, errors.New("peer.ClientOptions: Stall is negative")
	}
	cert, err := o.Identity.certificate()
	if err != nil {
		return nil, fmt.Errorf("peer client: %w", err)
	}
	return &Client{
		cert:       cert,
		stall:      cmp.Or(o.Stall, 30*time.Second),
		transports: make(map[bucket.PeerID]*http.Transport),
	}, nil
}

// transport returns the connections to one peer. They are never shared with
// another: a connection is checked against one key, when it is opened.
func (c *Client) transport(id bucket.PeerID) *http.Transport {
	c.mu.Lock()
	defer c.mu.Unlock()
	if t := c.transports[id]; t != nil {
		return t
	}
	// No Proxy: the environment's is meant for the web, not for peers.
	t := &http.Transport{
		DialContext:            (&net.Dialer{Timeout: dialTimeout}).DialContext,
		TLSHandshakeTimeout:    dialTimeout,
		TLSClientConfig:        clientTLS(c.cert, id),
		Protocols:              onlyHTTP2(),
		DisableCompression:     true,
		IdleConnTimeout:        90 * time.Second,
		MaxResponseHeaderBytes: maxHeader,
		// Neither MaxConnsPerHost nor StrictMaxConcurrentRequests: with either,
		// many first calls at once hang (golang/go issues 34941 and 70809).
		HTTP2: &http.HTTP2Config{
			SendPingTimeout:  15 * time.Second,
			PingTimeout:      10 * time.Second,
			WriteByteTimeout: c.stall,
		},
	}
	c.transports[id] = t
	return t
}

// do sends a request and returns the body of a 200, of at most limit bytes. It
// asks again when the peer is busy, and once at once when a connection that was
// kept open breaks: the worker behind it may be gone while others of its home
// serve the same port. All requests of the API may be sent twice.
func (c *Client) do(ctx context.Context, p Peer, method, path string, body []byte, limit int64) (*answer, error) {
	for try := 1; ; try++ {
		a, reused, err := c.once(ctx, p, method, path, body, limit)
		var busy *BusyError
		switch {
		case err == nil || try == maxTries:
			return a, err
		case errors.As(err, &busy) && busy.RetryAfter <= maxWait:
			select {
			case <-time.After(busy.RetryAfter):
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
		case reused && try == 1 && errors.Is(err, ErrUnreachable) && !errors.Is(err, errStalled):
		default:
			return nil, err
		}
	}
}

func (c *Client) once(ctx context.Context, p Peer, method, path string, body []byte, limit int64) (a *answer, reused bool, err error) {
	g := newGuard(ctx, c.stall)
	trace := &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }}
	req, err := http.NewRequestWithContext(httptrace.WithClientTrace(g.ctx, trace), method, p.URL+path, bytes.NewReader(body))
	if err != nil {
		g.end()
		return nil, false, fmt.Errorf("call peer: %w", err)
	}
	// Below http.Client, which would follow redirects: a peer has none to give.
	res, err := c.transport(p.ID).RoundTrip(req)
	g.pause()
	if err != nil {
		err = g.explain(err)
		g.end()
		return nil, reused, err
	}
	a = &answer{body: res.Body, left: limit, guard: g}
	if err := statusError(res, a); err != nil {
		a.Close()
		return nil, reused, err
	}
	return a, reused, nil
}

// statusError says what a status other than 200 means. It reads the body by a,
// which bounds that.
func statusError(res *http.Response, a *answer) error {
	switch res.StatusCode {
	case http.StatusOK:
		return nil
	case http.StatusForbidden:
		return ErrForbidden
	case http.StatusNotFound:
		return ErrNotFound
	case http.StatusTooManyRequests:
		wait, err := strconv.ParseUint(res.Header.Get("Retry-After"), 10, 32)
		if err != nil {
			wait = 1
		}
		return &BusyError{RetryAfter: time.Duration(wait) * time.Second}
	}
	text, _ := io.ReadAll(io.LimitReader(a, 200))
	return fmt.Errorf("%w: %d %s", ErrBadAnswer, res.StatusCode, oneLine(string(text), 200))
}
