package bucket

import (
	"fmt"

	"github.com/ipfs/go-cid"
)

// ProvenanceError says why a version is not believed: which one, and by which
// of the rules of PROTOCOL.md, "When a version is believed".
type ProvenanceError struct {
	Link   cid.Cid
	Rule   int
	Reason string
}

func (e *ProvenanceError) Error() string {
	return fmt.Sprintf("version %s is not believed: rule %d: %s", e.Link, e.Rule, e.Reason)
}

// Check says whether m is the believable successor of prev in bucket id, by
// rules 1 and 2; prev nil means that m is to be the genesis. The error is a
// *ProvenanceError. prev itself must have been believed before.
func Check(id ID, m, prev *Manifest) error {
	refuse := func(rule int, format string, args ...any) error {
		return &ProvenanceError{Link: m.Link(), Rule: rule, Reason: fmt.Sprintf(format, args...)}
	}

	if m.Bucket != id {
		return refuse(1, "it is of bucket %s, not of %s", m.Bucket, id)
	}
	owners := prev // those who may author m
	if prev == nil {
		owners = m
		switch {
		case m.Height != 0 || m.Previous.Defined():
			return refuse(1, "a genesis has height 0 and no predecessor, this has height %d", m.Height)
		case len(m.Nonce) != nonceSize || deriveID(m.Author, m.Nonce) != id:
			return refuse(1, "the bucket's id does not follow from its author and nonce")
		}
	} else {
		switch {
		case m.Height != prev.Height+1:
			return refuse(1, "height %d after height %d", m.Height, prev.Height)
		case m.Previous.Cid != prev.Link():
			return refuse(1, "its predecessor is not %s", prev.Link())
		case len(m.Nonce) != 0:
			return refuse(1, "a nonce, but it is no genesis")
		}
	}

	switch {
	case len(m.Signature) == 0:
		return refuse(2, "it is not signed")
	case !m.verify():
		return refuse(2, "the signature does not hold")
	case !owners.Owns(m.AuthorID()):
		return refuse(2, "its author %s was no owner", m.AuthorID())
	}
	return nil
}

// CheckAnnounced is rule 3: the head that was fetched has the height that was
// announced. The error is a *ProvenanceError.
func CheckAnnounced(head *Manifest, height int64) error {
	if head.Height == height {
		return nil
	}
	return &ProvenanceError{
		Link: head.Link(), Rule: 3,
		Reason: fmt.Sprintf("it has height %d, announced was %d", head.Height, height),
	}
}
