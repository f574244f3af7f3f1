package handlers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/shoal-project/shoal/internal/blob"
	"github.com/shoal-project/shoal/internal/bucket"
)

// The payloads. Their fields are strings in JSON, checked when they are read: a
// payload comes from anybody who can write to the file. Errors name the field.

// PingPeer asks a peer whether it stands where we do.
type PingPeer struct {
	Bucket bucket.ID     `json:"bucket_id"`
	Peer   bucket.PeerID `json:"peer_id"`
}

// SyncBucket brings a bucket to a version that a peer has announced.
type SyncBucket struct {
	Bucket bucket.ID `json:"bucket_id"`
	Target Target    `json:"target"`
}

// Target is a version, and who is said to have it, best source first.
type Target struct {
	Link   bucket.Link     `json:"link"`
	Height int64           `json:"height"`
	Peers  []bucket.PeerID `json:"peer_ids"`
}

// DownloadPins fetches the blobs of a pin list.
type DownloadPins struct {
	Bucket bucket.ID       `json:"bucket_id"`
	Pins   bucket.Link     `json:"pins_link"`
	Peers  []bucket.PeerID `json:"peer_ids"` // best source first
}

// UnmarshalJSON reads what json.Marshal writes, and nothing else.
func (p *PingPeer) UnmarshalJSON(text []byte) error {
	var raw struct {
		BucketID string `json:"bucket_id"`
		PeerID   string `json:"peer_id"`
	}
	if err := DecodeStrictly(text, &raw); err != nil {
		return err
	}
	var errs [2]error
	p.Bucket, errs[0] = field("bucket_id", raw.BucketID, bucket.ParseID)
	p.Peer, errs[1] = field("peer_id", raw.PeerID, bucket.ParsePeerID)
	return errors.Join(errs[:]...)
}

// UnmarshalJSON reads what json.Marshal writes, and nothing else.
func (p *SyncBucket) UnmarshalJSON(text []byte) error {
	var raw struct {
		BucketID string `json:"bucket_id"`
		Target   struct {
			Link    string          `json:"link"`
			Height  *int64          `json:"height"`
			PeerIDs []bucket.PeerID `json:"peer_ids"`
		} `json:"target"`
	}
	if err := DecodeStrictly(text, &raw); err != nil {
		return err
	}
	var errs [4]error
	p.Bucket, errs[0] = field("bucket_id", raw.BucketID, bucket.ParseID)
	p.Target.Link.Cid, errs[1] = field("target.link", raw.Target.Link, blob.Parse)
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

// UnmarshalJSON reads what json.Marshal writes, and nothing else.
func (p *DownloadPins) UnmarshalJSON(text []byte) error {
	var raw struct {
		BucketID string          `json:"bucket_id"`
		PinsLink string          `json:"pins_link"`
		PeerIDs  []bucket.PeerID `json:"peer_ids"`
	}
	if err := DecodeStrictly(text, &raw); err != nil {
		return err
	}
	var errs [3]error
	p.Bucket, errs[0] = field("bucket_id", raw.BucketID, bucket.ParseID)
	p.Pins.Cid, errs[1] = field("pins_link", raw.PinsLink, blob.Parse)
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
