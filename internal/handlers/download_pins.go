package handlers

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/ipfs/go-cid"
	"golang.org/x/sync/errgroup"

	"github.com/shoal-project/shoal/internal/blob"
	"github.com/shoal-project/shoal/internal/bucket"
	"github.com/shoal-project/shoal/internal/peer"
	"github.com/shoal-project/shoal/pkg/jobs"
)

// downloadResult is what a DownloadPins job leaves. Blobs and Bytes are what
// this attempt fetched, the pin list's own included.
type downloadResult struct {
	Status string `json:"status"` // complete, or up-to-date: there was nothing to fetch for
	Blobs  int    `json:"blobs"`
	Bytes  int64  `json:"bytes"`
}

const (
	blobsAtOnce = 16  // fetched side by side, from all sources together
	blobsABatch = 512 // made durable together; what an attempt can lose
)

func downloadJob(m *bucket.Manifest, peers []bucket.PeerID) (jobs.New, error) {
	return jobs.NewJob("DownloadPins", DownloadPins{m.Bucket, m.Pins, peers},
		jobs.UniqueKey(jobs.Unique{Key: m.Bucket.String() + "/" + m.Pins.String()}))
}

func (h *Home) download(ctx context.Context, j *jobs.Job[DownloadPins]) error {
	waiting, err := bucket.PinnedBy(ctx, h.Log, h.manifest, j.Payload.Bucket, j.Payload.Pins.Cid)
	if err != nil {
		return err
	}
	if len(waiting) == 0 {
		return finish(ctx, j, downloadResult{Status: "up-to-date"}, nil)
	}
	sources, err := h.sources(ctx, j.Payload.Peers)
	if err != nil {
		return err
	}
	if err := h.open(); err != nil {
		return err
	}
	f := &fetcher{home: h, sources: sources, busy: make(map[bucket.PeerID]int)}
	if err := f.all(ctx, j.Payload.Pins.Cid, j.Progress); err != nil {
		return err
	}
	return finish(ctx, j, downloadResult{"complete", f.fetched, f.bytes}, func(tx *sql.Tx) error {
		for _, version := range waiting {
			if err := h.Log.PinsComplete(ctx, tx, version.Bucket, version.Link); err != nil {
				return err
			}
		}
		return nil
	})
}

var errNoSource = errors.New("no source has it")

// fetcher fetches blobs from several peers at once.
type fetcher struct {
	home *Home

	mu      sync.Mutex
	sources []peer.Peer           // those still trusted and reached, best first
	busy    map[bucket.PeerID]int // calls under way
	errs    []error               // why others are not among them any more
	lacking []error               // blobs that no source has
	fetched int
	bytes   int64
}

// all fetches a pin list and then every blob on it that is not here.
func (f *fetcher) all(ctx context.Context, pins cid.Cid, progress func(done, total int64, note string)) error {
	if err := f.fetch(ctx, []cid.Cid{pins}, nil); err != nil {
		return fmt.Errorf("pin list: %w", err)
	}
	index, err := f.home.Blobs.Get(pins)
	if err != nil {
		return fmt.Errorf("pin list: %w", err)
	}
	pages, err := bucket.PinPages(index)
	if err != nil {
		return jobs.Permanent(err)
	}
	if err := f.fetch(ctx, pages, nil); err != nil {
		return fmt.Errorf("pin list: %w", err)
	}
	list, err := bucket.Pins(f.home.Blobs, pins)
	if errors.Is(err, bucket.ErrBadPins) {
		return jobs.Permanent(err)
	}
	if err != nil {
		return err
	}
	done := int64(0)
	for _, c := range list {
		if f.home.Blobs.Has(c) {
			done++
		}
	}
	return f.fetch(ctx, list, func() {
		done++
		progress(done, int64(len(list)), fmt.Sprintf("%d blobs, %d bytes fetched", f.fetched, f.bytes))
	})
}

// fetch fetches the blobs that are not here, a batch after the other: what a
// batch has brought stays, whatever comes after. report is called for each blob,
// one at a time.
func (f *fetcher) fetch(ctx context.Context, list []cid.Cid, report func()) error {
	missing := make([]cid.Cid, 0, blobsABatch)
	for i, c := range list {
		if len(f.lacking) > 0 && len(f.sources) == 0 {
			break // nobody is left to ask
		}
		if !f.home.Blobs.Has(c) {
			missing = append(missing, c)
		}
		if len(missing) == blobsABatch || (i == len(list)-1 && len(missing) > 0) {
			if err := f.fetchBatch(ctx, missing, report); err != nil {
				return err
			}
			missing = missing[:0]
		}
	}
	if n := len(f.lacking); n > 0 {
		return fmt.Errorf("%d blobs could not be fetched: %w", n, f.lacking[0])
	}
	return nil
}

func (f *fetcher) fetchBatch(ctx context.Context, list []cid.Cid, report func()) error {
	batch := f.home.Blobs.NewBatch()
	defer batch.Discard()
	fetches, gather := errgroup.WithContext(ctx)
	fetches.SetLimit(blobsAtOnce)
	for _, c := range list {
		fetches.Go(func() error {
			n, err := f.fetchOne(gather, c, batch)
			f.mu.Lock()
			defer f.mu.Unlock()
			if errors.Is(err, errNoSource) {
				f.lacking = append(f.lacking, err) // the others are worth having
				return nil
			}
			if err != nil {
				return err
			}
			f.fetched++
			f.bytes += n
			if report != nil {
				report()
			}
			return nil
		})
	}
	// What has come is worth keeping, also if the rest did not.
	return errors.Join(fetches.Wait(), batch.Commit())
}

// fetchOne asks one source after the other. One that can't be reached, or sends
// wrong bytes, is not asked again in this attempt; one that just lacks this
// blob is.
func (f *fetcher) fetchOne(ctx context.Context, c cid.Cid, batch *blob.Batch) (int64, error) {
	asked := make(map[bucket.PeerID]bool)
	var lacking error
	for {
		from, ok := f.pick(asked)
		if !ok {
			f.mu.Lock()
			defer f.mu.Unlock()
			return 0, fmt.Errorf("blob %s: %w: %w", c, errNoSource, errors.Join(append(f.errs, lacking)...))
		}
		asked[from.ID] = true
		n, err := f.home.calls.Fetch(ctx, from, c, batch)
		f.release(from)
		switch {
		case err == nil:
			return n, nil
		case ctx.Err() != nil:
			return 0, err
		case errors.Is(err, peer.ErrNotFound):
			lacking = err
		case errors.Is(err, peer.ErrUnreachable), errors.Is(err, peer.ErrWrongBytes), errors.Is(err, peer.ErrForbidden),
			errors.Is(err, peer.ErrBusy), errors.Is(err, peer.ErrBadAnswer):
			f.drop(ctx, from, err)
		default:
			return 0, err // our own disk
		}
	}
}

// pick takes the source that has the least to do, the better one of equals.
func (f *fetcher) pick(asked map[bucket.PeerID]bool) (best peer.Peer, ok bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, s := range f.sources {
		if !asked[s.ID] && (!ok || f.busy[s.ID] < f.busy[best.ID]) {
			best, ok = s, true
		}
	}
	f.busy[best.ID]++
	return best, ok
}

func (f *fetcher) release(p peer.Peer) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.busy[p.ID]--
}

// drop takes a source off the list; of what several calls say at once the first
// is noted.
func (f *fetcher) drop(ctx context.Context, p peer.Peer, err error) {
	f.mu.Lock()
	i := slices.Index(f.sources, p)
	if i >= 0 {
		f.sources = slices.Delete(f.sources, i, i+1)
		f.errs = append(f.errs, err)
	}
	f.mu.Unlock()
	if i >= 0 {
		f.home.note(ctx, p, err)
	}
}
