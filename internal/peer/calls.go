package peer

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"

	"github.com/ipfs/go-cid"

	"github.com/shoal-project/shoal/internal/blob"
	"github.com/shoal-project/shoal/internal/bucket"
)

// Ping tells a peer where we stand in some buckets, at most MaxPings, and
// returns its answers in the same order.
func (c *Client) Ping(ctx context.Context, p Peer, pings []Ping) ([]Pong, error) {
	if len(pings) > MaxPings {
		return nil, fmt.Errorf("ping peer: %d pings, at most %d go at once", len(pings), MaxPings)
	}
	body, err := json.Marshal(pings)
	if err != nil {
		return nil, fmt.Errorf("ping peer: %w", err)
	}
	var pongs []Pong
	err = c.ask(ctx, p, http.MethodPost, "/v1/ping", body, &pongs)
	if err == nil && len(pongs) != len(pings) {
		err = fmt.Errorf("%w: %d pongs for %d pings", ErrBadAnswer, len(pongs), len(pings))
	}
	if err != nil {
		return nil, fmt.Errorf("ping peer %s: %w", p.ID, err)
	}
	return pongs, nil
}

// Links returns links of the peer's chain that ends at the link to: those from
// the height from on, oldest first, at most MaxLinks. Until the last of them is
// to, ask again from where they end. ErrNotFound when the peer has no such
// bucket or chain, or not for us.
func (c *Client) Links(ctx context.Context, p Peer, id bucket.ID, from int64, to cid.Cid) ([]cid.Cid, error) {
	query := url.Values{"from": {strconv.FormatInt(from, 10)}, "to": {to.String()}}
	var got linksJSON
	err := c.ask(ctx, p, http.MethodGet, "/v1/buckets/"+id.String()+"/links?"+query.Encode(), nil, &got)
	if err == nil && len(got.Links) > MaxLinks {
		err = fmt.Errorf("%w: %d links", ErrBadAnswer, len(got.Links))
	}
	if err != nil {
		return nil, fmt.Errorf("ask peer %s for links: %w", p.ID, err)
	}
	links := make([]cid.Cid, len(got.Links))
	for i, l := range got.Links {
		links[i] = l.Cid
	}
	return links, nil
}

// Fetch receives the blob b into a batch as it streams, and returns how many
// bytes came. A batch that has the blob already is not read into. It returns
// ErrWrongBytes when what came is not the blob; an error of the batch's disk is
// none of this package's.
func (c *Client) Fetch(ctx context.Context, p Peer, b cid.Cid, into *blob.Batch) (int64, error) {
	var n int64
	err := c.block(ctx, p, b, func(r io.Reader) (err error) {
		n, err = into.Receive(b, r)
		return err
	})
	return n, err
}

// Get returns the blob b, verified: ErrWrongBytes when what came is not it.
func (c *Client) Get(ctx context.Context, p Peer, b cid.Cid) ([]byte, error) {
	var data []byte
	err := c.block(ctx, p, b, func(r io.Reader) (err error) {
		data, err = io.ReadAll(r)
		if err == nil && !blob.Sum(b.Type(), data).Equals(b) {
			err = blob.ErrMismatch
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return data, nil
}

// block asks for a blob, lets read read it, and says what an error is.
func (c *Client) block(ctx context.Context, p Peer, b cid.Cid, read func(io.Reader) error) error {
	a, err := c.do(ctx, p, http.MethodGet, "/ipfs/"+b.String()+"?format=raw", nil, blob.MaxSize)
	if err == nil {
		err = read(a)
		a.Close()
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, errTooLong):
		err = fmt.Errorf("%w: %w", ErrWrongBytes, blob.ErrTooLarge)
	case errors.Is(err, blob.ErrMismatch):
		err = fmt.Errorf("%w: %w", ErrWrongBytes, blob.ErrMismatch)
	}
	return fmt.Errorf("fetch %s from peer %s: %w", b, p.ID, err)
}

// ask sends a request and reads its JSON answer.
func (c *Client) ask(ctx context.Context, p Peer, method, path string, body []byte, into any) error {
	a, err := c.do(ctx, p, method, path, body, maxBody)
	if err != nil {
		return err
	}
	defer a.Close()
	text, err := io.ReadAll(a)
	if err != nil && !errors.Is(err, errTooLong) {
		return err
	}
	if err == nil {
		err = json.Unmarshal(text, into)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadAnswer, err)
	}
	return nil
}
