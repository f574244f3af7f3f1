package handlers

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/shoal-project/shoal/internal/bucket"
	"github.com/shoal-project/shoal/internal/peer"
	"github.com/shoal-project/shoal/pkg/jobs"
)

// pingResult is what a PingPeer job leaves: the peer's answer, or why there is none.
type pingResult struct {
	Status string `json:"status"` // a peer.Status, or no-head, not-shared, unreachable
	Height int64  `json:"height,omitempty"`
	Link   string `json:"link,omitempty"`
	Why    string `json:"why,omitempty"`
}

// ping is the initiator's side of PROTOCOL.md, "PingPeer".
func (h *Home) ping(ctx context.Context, j *jobs.Job[PingPeer]) error {
	result, follow, err := h.askPeer(ctx, j.Payload)
	if err != nil {
		return err
	}
	return finish(ctx, j, result, nil, follow...)
}

func (h *Home) askPeer(ctx context.Context, p PingPeer) (pingResult, []jobs.New, error) {
	head, m, err := h.head(ctx, p.Bucket)
	if errors.Is(err, bucket.ErrUnknownBucket) {
		return pingResult{Status: "no-head"}, nil, nil
	}
	if err != nil {
		return pingResult{}, nil, err
	}
	if err := h.open(); err != nil {
		return pingResult{}, nil, err
	}
	if p.Peer == h.ident.ID() || !m.Authorized(p.Peer) {
		return pingResult{Status: "not-shared"}, nil, nil
	}
	to, err := h.sources(ctx, []bucket.PeerID{p.Peer})
	if err != nil {
		return unreachable(ctx, err)
	}
	pongs, err := h.calls.Ping(ctx, to[0], []peer.Ping{{Bucket: p.Bucket, Link: bucket.Link{Cid: head.Link}, Height: head.Height}})
	h.note(ctx, to[0], err)
	if err != nil {
		return unreachable(ctx, err)
	}

	pong := pongs[0]
	result := pingResult{Status: string(pong.Status), Height: pong.Height}
	if pong.Link.Defined() {
		result.Link = pong.Link.String()
	}
	var follow []jobs.New
	switch pong.Status {
	case peer.InSync:
		follow, err = h.downloadIfMissing(head, m, p.Peer)
	case peer.Diverged, peer.Ahead:
		if pong.Height < head.Height || !pong.Link.Defined() {
			return pingResult{}, nil, fmt.Errorf("%w: %s, with height %d and ours %d", peer.ErrBadAnswer, pong.Status, pong.Height, head.Height)
		}
		follow, err = syncTo(p.Bucket, pong.Link, pong.Height, h.sharers(m, p.Peer))
	}
	return result, follow, err
}

// unreachable makes a result of not having reached the peer, unless it was we
// who stopped.
func unreachable(ctx context.Context, err error) (pingResult, []jobs.New, error) {
	if ctx.Err() != nil {
		return pingResult{}, nil, err
	}
	return pingResult{Status: "unreachable", Why: err.Error()}, nil, nil
}

// Answer is the responder's side: it compares, enqueues what follows, and does
// none of it itself.
func (h *Home) Answer(ctx context.Context, from bucket.PeerID, pings []peer.Ping) ([]peer.Pong, error) {
	var follow []jobs.New
	pongs := make([]peer.Pong, len(pings))
	for i, p := range pings {
		pong, jobs, err := h.answer(ctx, from, p)
		if err != nil {
			return nil, fmt.Errorf("answer ping: %w", err)
		}
		pongs[i] = pong
		follow = append(follow, jobs...)
	}
	if _, err := h.store.Enqueue(ctx, follow...); err != nil {
		return nil, fmt.Errorf("answer ping: %w", err)
	}
	return pongs, nil
}

func (h *Home) answer(ctx context.Context, from bucket.PeerID, p peer.Ping) (peer.Pong, []jobs.New, error) {
	head, m, err := h.head(ctx, p.Bucket)
	if errors.Is(err, bucket.ErrUnknownBucket) || (err == nil && !m.Authorized(from)) {
		follow, err := h.fromStranger(ctx, from, p)
		return peer.Pong{Status: peer.Unknown}, follow, err
	}
	if err != nil {
		return peer.Pong{}, nil, err
	}
	pong := peer.Pong{Link: bucket.Link{Cid: head.Link}, Height: head.Height}
	var follow []jobs.New
	switch {
	case head.Height < p.Height:
		pong.Status = peer.Behind
		follow, err = syncTo(p.Bucket, p.Link, p.Height, h.sharers(m, from))
	case head.Height > p.Height:
		pong.Status = peer.Ahead
	case pong.Link == p.Link:
		pong.Status = peer.InSync
		follow, err = h.downloadIfMissing(head, m, from)
	default:
		pong.Status = peer.Diverged
		follow, err = syncTo(p.Bucket, p.Link, p.Height, h.sharers(m, from))
	}
	return pong, follow, err
}

// fromStranger follows a ping about a bucket that we don't have, or whose
// sender has no share that we know of: only a peer that may offer buckets can
// have us look.
func (h *Home) fromStranger(ctx context.Context, from bucket.PeerID, p peer.Ping) ([]jobs.New, error) {
	entry, err := h.Book.Get(ctx, from)
	if err != nil || !entry.Offers {
		return nil, err
	}
	return syncTo(p.Bucket, p.Link, p.Height, []bucket.PeerID{from})
}

// syncTo is the way to a version that the first of the peers has announced; the
// others may have it. While it waits, its target moves to the newest.
func syncTo(id bucket.ID, link bucket.Link, height int64, peers []bucket.PeerID) ([]jobs.New, error) {
	n, err := jobs.NewJob("SyncBucket", SyncBucket{id, Target{link, height, peers}},
		jobs.UniqueKey(jobs.Unique{Key: id.String() + "/" + string(peers[0]), For: jobs.UniquePending, OnConflict: jobs.Replace}))
	return []jobs.New{n}, err
}

// downloadIfMissing is the download of the head's blobs, if they are not all here.
func (h *Home) downloadIfMissing(head bucket.Entry, m *bucket.Manifest, first bucket.PeerID) ([]jobs.New, error) {
	if !head.PinsCompleteAt.IsZero() {
		return nil, nil
	}
	n, err := downloadJob(m, h.sharers(m, first))
	return []jobs.New{n}, err
}

// PingJobs are the pings that make a version known to all who share it but
// self, the one who enqueues them.
func PingJobs(m *bucket.Manifest, self bucket.PeerID) ([]jobs.New, error) {
	return pingJobs(m, func(id bucket.PeerID) bool { return id != self })
}

func pingJobs(m *bucket.Manifest, whom func(bucket.PeerID) bool) (list []jobs.New, err error) {
	for _, id := range sortedShares(m) {
		if !whom(id) {
			continue
		}
		n, err := jobs.NewJob("PingPeer", PingPeer{m.Bucket, id}, jobs.MaxAttempts(1), // the next tick is its retry
			jobs.UniqueKey(jobs.Unique{Key: m.Bucket.String() + "/" + string(id)}))
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, nil
}

// PingSchedule has the leader ping, every interval, those who share our buckets
// and whose address we know.
func PingSchedule(h *Home, every time.Duration) jobs.Schedule {
	return jobs.Schedule{Name: "ping", Spec: "@every " + every.String(), Jobs: func(ctx context.Context) ([]jobs.New, error) {
		heads, err := h.Log.Heads(ctx)
		if err != nil {
			return nil, err
		}
		entries, err := h.Book.List(ctx)
		if err != nil {
			return nil, err
		}
		known := make(map[bucket.PeerID]bool) // never ourselves: the book refuses that
		for _, e := range entries {
			known[e.ID] = true
		}
		var list []jobs.New
		var errs []error // one bucket's trouble is not the others'
		for _, head := range heads {
			m, err := h.manifest(ctx, head)
			if err != nil {
				errs = append(errs, fmt.Errorf("bucket %s: %w", head.Name, err))
				continue
			}
			pings, err := pingJobs(m, func(id bucket.PeerID) bool { return known[id] })
			errs = append(errs, err)
			list = append(list, pings...)
		}
		return list, errors.Join(errs...)
	}}
}

func sortedShares(m *bucket.Manifest) []bucket.PeerID { return slices.Sorted(maps.Keys(m.Shares)) }
