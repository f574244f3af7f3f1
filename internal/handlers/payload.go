package handlers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/ipfs/go-cid"

	"github.com/shoal-project/shoal/internal/blob"
	"github.com/shoal-project/shoal/internal/bucket"
)

// The payloads. In JSON their fields are strings, checked when they are read:
// a payload comes from anybody who can write to the file.

// PingPeer asks a peer whether it stands where we do.
type PingPeer struct {
	Bucket bucket.ID
	Peer   bucket.PeerID
}

// SyncBucket brings a bucket to a version that a peer has announced.
type SyncBucket struct {
	Bucket bucket.ID
	Target Target
}

// Target is a version, and who is said to have it, best source first.
type Target struct {
	Link   cid.Cid
	Height int64
	Peers  []bucket.PeerID
}

// DownloadPins fetches the blobs of a pin list.
type DownloadPins struct {
	Bucket bucket.ID
	Pins   cid.Cid
	Peers  []bucket.PeerID // best source first
}

type pingPeerJSON struct {
	BucketID string `json:"bucket_id"`
	PeerID   string `json:"peer_id"`
}

type syncBucketJSON struct {
	BucketID string     `json:"bucket_id"`
	Target   targetJSON `json:"target"`
}

type targetJSON struct {
	Link    string          `json:"link"`
	Height  *int64          `json:"height"`
	PeerIDs []bucket.PeerID `json:"peer_ids"`
}

type downloadPinsJSON struct {
	BucketID string          `json:"bucket_id"`
	PinsLink string          `json:"pins_link"`
	PeerIDs  []bucket.PeerID `json:"peer_ids"`
}

// MarshalJSON writes {"bucket_id", "peer_id"}.
func (p PingPeer) MarshalJSON() ([]byte, error) {
	return json.Marshal(pingPeerJSON{p.Bucket.String(), string(p.Peer)})
}

// UnmarshalJSON reads that and nothing else; its errors name the field.
func (p *PingPeer) UnmarshalJSON(text []byte) error {
	var raw pingPeerJSON
	if err := DecodeStrictly(text, &raw); err != nil {
		return err
	}
	var errs [2]error
	p.Bucket, errs[0] = field("bucket_id", raw.BucketID, bucket.ParseID)
	p.Peer, errs[1] = field("peer_id", raw.PeerID, bucket.ParsePeerID)
	return errors.Join(errs[:]...)
}

// MarshalJSON writes {"bucket_id", "target": {"link", "height", "peer_ids"}}.
func (p SyncBucket) MarshalJSON() ([]byte, error) {
	return json.Marshal(syncBucketJSON{p.Bucket.String(),
		targetJSON{p.Target.Link.String(), &p.Target.Height, p.Target.Peers}})
}

// UnmarshalJSON reads that and nothing else; its errors name the field.
func (p *SyncBucket) UnmarshalJSON(text []byte) error {
	var raw syncBucketJSON
	if err := DecodeStrictly(text, &raw); err != nil {
		return err
	}
	var errs [4]error
	p.Bucket, errs[0] = field("bucket_id", raw.BucketID, bucket.ParseID)
	p.Target.Link, errs[1] = field("target.link", raw.Target.Link, blob.Parse)
	p.Target.Peers, errs[2] = peers("target.peer_ids", raw.Target.PeerIDs)
	switch {
	case raw.Target.Height == nil:
		errs[3] = errors.New("target.height is missing")
	case *raw.Target.Height < 0:
		errs[3] = fmt.Errorf("target.height: %d is negative", *raw.Target.Height)
	default:
		p.Target.Height = *raw.Target.Height
	}
	return errors.Join(errs[:]...)
}

// MarshalJSON writes {"bucket_id", "pins_link", "peer_ids"}.
func (p DownloadPins) MarshalJSON() ([]byte, error) {
	return json.Marshal(downloadPinsJSON{p.Bucket.String(), p.Pins.String(), p.Peers})
}

// UnmarshalJSON reads that and nothing else; its errors name the field.
func (p *DownloadPins) UnmarshalJSON(text []byte) error {
	var raw downloadPinsJSON
	if err := DecodeStrictly(text, &raw); err != nil {
		return err
	}
	var errs [3]error
	p.Bucket, errs[0] = field("bucket_id", raw.BucketID, bucket.ParseID)
	p.Pins, errs[1] = field("pins_link", raw.PinsLink, blob.Parse)
	p.Peers, errs[2] = peers("peer_ids", raw.PeerIDs)
	return errors.Join(errs[:]...)
}

// DecodeStrictly decodes one JSON object without fields that into does not
// have. Its errors are for the person who wrote the object.
func DecodeStrictly(text []byte, into any) error {
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	err := d.Decode(into)
	var mismatch *json.UnmarshalTypeError
	switch {
	case errors.As(err, &mismatch) && mismatch.Field == "":
		return fmt.Errorf("want a JSON object, not a JSON %s", mismatch.Value)
	case mismatch != nil:
		return fmt.Errorf("%s: a JSON %s can't stand here", mismatch.Field, mismatch.Value)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return errors.New("the JSON object has no end")
	case err != nil:
		return errors.New(strings.TrimPrefix(err.Error(), "json: "))
	}
	if _, err := d.Token(); err != io.EOF {
		return errors.New("more than one JSON value")
	}
	return nil
}

// field reads a required field.
func field[T any](name, text string, parse func(string) (T, error)) (value T, err error) {
	if text == "" {
		return value, fmt.Errorf("%s is missing", name)
	}
	if value, err = parse(text); err != nil {
		err = fmt.Errorf("%s: %w", name, err)
	}
	return value, err
}

// maxPeers bounds a payload's sources.
const maxPeers = 1000

func peers(name string, ids []bucket.PeerID) ([]bucket.PeerID, error) {
	if len(ids) == 0 {
		return nil, fmt.Errorf("%s is missing: name at least one peer", name)
	}
	if len(ids) > maxPeers {
		return nil, fmt.Errorf("%s: %d peers, at most %d", name, len(ids), maxPeers)
	}
	for _, id := range ids {
		if _, err := bucket.ParsePeerID(string(id)); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
	}
	return ids, nil
}
