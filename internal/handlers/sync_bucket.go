package handlers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"

	"github.com/ipfs/go-cid"
	"golang.org/x/sync/errgroup"

	"github.com/shoal-project/shoal/internal/blob"
	"github.com/shoal-project/shoal/internal/bucket"
	"github.com/shoal-project/shoal/internal/peer"
	"github.com/shoal-project/shoal/pkg/jobs"
)

// syncResult is what a SyncBucket job leaves.
type syncResult struct {
	Status   string `json:"status"`             // applied, up-to-date, not-authorized or diverged
	Versions int    `json:"versions,omitempty"` // applied by the last step
	Height   int64  `json:"height"`             // of our head now
}

// manifestsAtOnce is how many manifests are fetched side by side.
const manifestsAtOnce = 8

// sync fetches the chain from our head to the target, checks all of it and
// appends it in one transaction with the job's completion.
func (h *Home) sync(ctx context.Context, j *jobs.Job[SyncBucket]) error {
	id, target := j.Payload.Bucket, j.Payload.Target
	head, known, err := h.head(ctx, id)
	if err != nil && !errors.Is(err, bucket.ErrUnknownBucket) {
		return err
	}
	there, err := h.Log.Contains(ctx, id, target.Link.Cid)
	if err != nil {
		return err
	}
	if there {
		return finish(ctx, j, syncResult{Status: "up-to-date", Height: head.Height}, nil)
	}
	if known != nil && target.Height <= head.Height {
		return finish(ctx, j, syncResult{Status: "diverged", Height: head.Height}, nil)
	}

	if err := h.open(); err != nil {
		return err
	}
	sources, err := h.sources(ctx, target.Peers)
	if err != nil {
		return err
	}
	var errs []error
	for _, from := range sources {
		err := h.syncFrom(ctx, j, from, head, known)
		if err == nil || ctx.Err() != nil {
			return err
		}
		// Which links lie between is the source's own word: another one's may
		// be better.
		h.note(ctx, from, err)
		errs = append(errs, err)
	}
	err = errors.Join(errs...)
	switch {
	case all(errs, func(err error) bool { return errors.Is(err, bucket.ErrDiverged) }):
		return finish(ctx, j, syncResult{Status: "diverged", Height: head.Height}, nil)
	case all(errs, forGood):
		return jobs.Permanent(err)
	}
	return err
}

// syncFrom syncs from one source. Nothing is taken from a chain before its end
// was looked at: that it is what was announced, and shares the bucket with us.
func (h *Home) syncFrom(ctx context.Context, j *jobs.Job[SyncBucket], from peer.Peer, head bucket.Entry, known *bucket.Manifest) error {
	target := j.Payload.Target
	raw, err := h.calls.Get(ctx, from, target.Link.Cid)
	if err != nil {
		return err
	}
	m, err := bucket.DecodeManifest(raw)
	if err != nil {
		return fmt.Errorf("manifest %s: %w", target.Link, err)
	}
	if err := bucket.CheckAnnounced(m, target.Height); err != nil {
		return err
	}
	if !m.Authorized(h.ident.ID()) {
		return finish(ctx, j, syncResult{Status: "not-authorized", Height: head.Height}, nil)
	}
	links, err := h.linksAfter(ctx, head, from, j.Payload)
	if err != nil {
		return err
	}
	chain := bucket.NewChain(j.Payload.Bucket, known)
	if err := h.walk(ctx, chain, from, links); err != nil {
		return err
	}
	h.note(ctx, from, nil)
	return h.believe(ctx, j, chain)
}

func all(errs []error, is func(error) bool) bool {
	return !slices.ContainsFunc(errs, func(err error) bool { return !is(err) })
}

// forGood tells errors in what a link names from those of getting it.
func forGood(err error) bool {
	var provenance *bucket.ProvenanceError
	return errors.As(err, &provenance) || errors.Is(err, bucket.ErrBadManifest)
}

// linksAfter are those after our head, up to the target or as many as one step takes.
func (h *Home) linksAfter(ctx context.Context, head bucket.Entry, from peer.Peer, p SyncBucket) ([]cid.Cid, error) {
	links, err := h.calls.Links(ctx, from, p.Bucket, head.Height, p.Target.Link.Cid)
	if err != nil {
		return nil, err
	}
	if len(links) == 0 {
		return nil, fmt.Errorf("%w: no links to %s", peer.ErrBadAnswer, p.Target.Link)
	}
	if !head.Link.Defined() {
		return links, nil
	}
	// The first is at our head's height: another one there is a fork.
	if links[0] != head.Link {
		return nil, bucket.ErrDiverged
	}
	return links[1:], nil
}

// walk fetches the manifests of links and adds them to the chain, as many as it
// takes. They are on disk when it returns.
func (h *Home) walk(ctx context.Context, chain *bucket.Chain, from peer.Peer, links []cid.Cid) error {
	batch := h.Blobs.NewBatch()
	defer batch.Discard()
	for step := range slices.Chunk(links, manifestsAtOnce) {
		raw := make([][]byte, len(step))
		fetches, gather := errgroup.WithContext(ctx)
		for i, link := range step {
			fetches.Go(func() (err error) {
				raw[i], err = h.calls.Get(gather, from, link)
				return err
			})
		}
		if err := fetches.Wait(); err != nil {
			return err
		}
		for i, link := range step {
			err := chain.Add(link, raw[i])
			if errors.Is(err, bucket.ErrChainFull) {
				return batch.Commit()
			}
			if err != nil {
				return err
			}
			if _, err := batch.Put(blob.DagCBOR, raw[i]); err != nil {
				return err
			}
		}
	}
	return batch.Commit()
}

// believe appends what was checked, in one transaction with the job's end or,
// where the target is not reached yet, with its return to the queue.
func (h *Home) believe(ctx context.Context, j *jobs.Job[SyncBucket], chain *bucket.Chain) error {
	versions := chain.Versions()
	if len(versions) == 0 {
		return fmt.Errorf("%w: a chain that does not reach %s", peer.ErrBadAnswer, j.Payload.Target.Link)
	}
	follow, err := h.downloads(versions, j.Payload.Target.Peers)
	if err != nil {
		return err
	}
	write := func(tx *sql.Tx) error { return h.Log.Append(ctx, tx, versions...) }
	if head := chain.Head(); head.Link() == j.Payload.Target.Link.Cid {
		err = finish(ctx, j, syncResult{"applied", len(versions), head.Height}, write, follow...)
	} else {
		err = j.CommitSnooze(ctx, 0, write, follow...)
	}
	if errors.Is(err, bucket.ErrDiverged) {
		// Another version came in while we walked; the next ping tells.
		return finish(ctx, j, syncResult{Status: "diverged", Height: versions[0].Height - 1}, nil)
	}
	return err
}

// downloads are the jobs that fetch the versions' content, the newest's first;
// versions that only changed the shares have one in common.
func (h *Home) downloads(versions []*bucket.Manifest, peers []bucket.PeerID) ([]jobs.New, error) {
	var list []jobs.New
	seen := make(map[cid.Cid]bool)
	for _, m := range slices.Backward(versions) {
		if seen[m.Pins.Cid] {
			continue
		}
		seen[m.Pins.Cid] = true
		n, err := downloadJob(m, peers)
		if err != nil {
			return nil, err
		}
		list = append(list, n)
	}
	return list, nil
}

// finish completes a job with its result, what write does (nil: nothing) and the
// jobs that follow.
func finish[T any](ctx context.Context, j *jobs.Job[T], result any, write func(*sql.Tx) error, follow ...jobs.New) error {
	if err := j.SetResult(result); err != nil {
		return err
	}
	return j.Commit(ctx, write, follow...)
}
