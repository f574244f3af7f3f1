package bucket

import (
	"fmt"

	"github.com/ipfs/go-cid"

	"github.com/shoal-project/shoal/internal/blob"
)

const (
	// MaxChainBytes is how many bytes of manifests one step of a walk takes.
	MaxChainBytes = 64 << 20
	// MaxChainVersions is how many versions are appended in one transaction.
	MaxChainVersions = 1000
)

// Chain checks versions as they are fetched, oldest first, each against its
// immediate predecessor. What it holds is believed (rules 1 and 2) and bounded
// (rule 5); CheckAnnounced and Manifest.Authorized are for its head, once that
// is the one which was asked for.
type Chain struct {
	id       ID
	head     *Manifest
	versions []*Manifest
	size     int
}

// NewChain returns an empty chain of bucket id that goes on from known, a
// version in our log; nil means from the genesis.
func NewChain(id ID, known *Manifest) *Chain { return &Chain{id: id, head: known} }

// Add checks raw, what was fetched as link, and adds it. Errors: ErrChainFull,
// before which append what is there and go on with a new chain; blob.ErrMismatch,
// the peer lied; ErrBadManifest; *ProvenanceError. After an error the chain is
// as it was.
func (c *Chain) Add(link cid.Cid, raw []byte) error {
	if c.size+len(raw) > MaxChainBytes || len(c.versions) == MaxChainVersions {
		return ErrChainFull
	}
	if blob.Sum(blob.DagCBOR, raw) != link {
		return fmt.Errorf("manifest %s: %w", link, blob.ErrMismatch)
	}
	m, err := DecodeManifest(raw)
	if err != nil {
		return fmt.Errorf("manifest %s: %w", link, err)
	}
	if err := Check(c.id, m, c.head); err != nil {
		return err
	}
	c.head = m
	c.size += len(raw)
	c.versions = append(c.versions, m)
	return nil
}

// Head is the newest version that the chain knows; nil when it knows none.
func (c *Chain) Head() *Manifest { return c.head }

// Versions are those added, oldest first: for Log.Append.
func (c *Chain) Versions() []*Manifest { return c.versions }
