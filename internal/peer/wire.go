package peer

import (
	"encoding/json"
	"errors"
	"fmt"

	"github.com/shoal-project/shoal/internal/bucket"
)

// Bounds of the API, the same on both sides.
const (
	// MaxPings is how many pings one request may hold.
	MaxPings = 1000
	// MaxLinks is how many links one answer holds.
	MaxLinks = 1000

	maxBody   = 1 << 20 // of a request, and of an answer that is no block
	maxHeader = 16 << 10
)

// rawType is the media type of a block (IPFS Trustless Gateway).
const rawType = "application/vnd.ipld.raw"

// Ping says which version of a bucket its sender stands at.
type Ping struct {
	Bucket bucket.ID   `json:"bucket"`
	Link   bucket.Link `json:"link"`
	Height int64       `json:"height"`
}

// Status is how the responder's head compares with the one in the ping.
type Status string

// The answers to a ping, as seen by the responder.
const (
	Unknown  Status = "unknown"  // no such bucket, or not for the sender
	Behind   Status = "behind"   // the responder's head is lower
	InSync   Status = "in-sync"  // the same link
	Diverged Status = "diverged" // the same height, another link
	Ahead    Status = "ahead"    // the responder's head is higher
)

// Pong answers one ping. Link and Height are the responder's head; they are
// zero when Status is Unknown.
type Pong struct {
	Status Status      `json:"status"`
	Link   bucket.Link `json:"link,omitzero"`
	Height int64       `json:"height"`
}

type linksJSON struct {
	Links []bucket.Link `json:"links"`
}

// UnmarshalJSON refuses a ping that lacks an ID or a link.
func (p *Ping) UnmarshalJSON(text []byte) error {
	type plain Ping // without this method
	err := json.Unmarshal(text, (*plain)(p))
	if err == nil && (p.Bucket == bucket.ID{} || !p.Link.Defined() || p.Height < 0) {
		err = errors.New("a ping without bucket, link or height")
	}
	return err
}

// UnmarshalJSON refuses a head without a link.
func (p *Pong) UnmarshalJSON(text []byte) error {
	type plain Pong // without this method
	err := json.Unmarshal(text, (*plain)(p))
	if err == nil && p.Status != Unknown && (!p.Link.Defined() || p.Height < 0) {
		err = fmt.Errorf("%q without a head", p.Status)
	}
	return err
}
