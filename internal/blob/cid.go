// Package blob keeps content-addressed blobs of at most 2 MiB in a folder.
//
// It promises that a blob which is present is whole: it was hashed while it
// was written, it reached the disk before it got its name, and a read checks
// it again. What no longer matches its name is set aside and reported as
// ErrCorrupt, never returned. What Commit has acknowledged survives kill -9
// and a power cut, as far as the disk keeps its word. Any number of processes
// may use one folder at once; they need no lock, as equal names mean equal
// content.
//
// It does not know what a blob means, who may read it or whether anybody still
// needs it: nothing here deletes one.
package blob

import (
	"errors"
	"fmt"

	"github.com/ipfs/go-cid"
	"github.com/multiformats/go-multihash"
	"lukechampine.com/blake3"
)

const (
	// MaxSize is the largest blob, in bytes. It is also what other
	// implementations of the IPFS gateway's raw blocks accept.
	MaxSize = 2 << 20
	// ChunkSize is the length of the pieces that a file is cut into, in bytes;
	// sealed, a piece still is well under MaxSize.
	ChunkSize = 1 << 20
)

// The codecs that a CID may name.
const (
	Raw     uint64 = cid.Raw
	DagCBOR uint64 = cid.DagCBOR
)

// What can be wrong with a blob. Errors of this package wrap one of them, or
// what the operating system said.
var (
	ErrBadCID   = errors.New("not a CID that we use")
	ErrNotFound = errors.New("blob not found")
	ErrCorrupt  = errors.New("blob is corrupt")
	ErrMismatch = errors.New("content does not match its CID")
	ErrTooLarge = errors.New("blob is larger than 2 MiB")
)

// Sum is the CID of data: version 1, the codec, BLAKE3-256.
func Sum(codec uint64, data []byte) cid.Cid {
	return sumCID(codec, blake3.Sum256(data))
}

func sumCID(codec uint64, digest [32]byte) cid.Cid {
	mh, err := multihash.Encode(digest[:], multihash.BLAKE3)
	if err != nil {
		panic(err) // only an unknown code can fail
	}
	return cid.NewCidV1(codec, mh)
}

// Check returns ErrBadCID unless c is version 1, raw or dag-cbor, BLAKE3-256.
func Check(c cid.Cid) error {
	// Compared byte by byte, as the parts that go-cid takes it apart into say
	// nothing about how they were spelled.
	b := c.KeyString()
	if len(b) != 36 || b[0] != 1 || b[1] != byte(Raw) && b[1] != byte(DagCBOR) ||
		b[2] != multihash.BLAKE3 || b[3] != 32 {
		return fmt.Errorf("%w: want version 1, raw or dag-cbor, blake3-256", ErrBadCID)
	}
	return nil
}

// Parse reads a CID in its one accepted spelling, base32 in lower case. What
// it returns passes Check; everything else is ErrBadCID.
func Parse(s string) (cid.Cid, error) {
	c, err := cid.Decode(s)
	if err != nil {
		return cid.Undef, fmt.Errorf("%w: %q: %v", ErrBadCID, s, err)
	}
	if err := Check(c); err != nil {
		return cid.Undef, fmt.Errorf("%q: %w", s, err)
	}
	if c.String() != s {
		return cid.Undef, fmt.Errorf("%w: %q: not in canonical base32", ErrBadCID, s)
	}
	return c, nil
}
