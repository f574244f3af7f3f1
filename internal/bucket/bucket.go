// Package bucket says what a bucket's versions are and when one is believed.
//
// A bucket is a folder with a history: a chain of signed manifests over a
// sealed tree. It promises that content leaves this package only encrypted and
// comes back only authenticated; that a manifest has one encoding and so one
// link; that a version is believed only if an owner named by its predecessor
// signed it; that a commit reads a folder without changing it and appears in
// the log whole or not at all; and that an export writes nothing outside its
// folder, however hostile the tree.
//
// It does not hide sizes, the bucket's name, who shares it, or when it changed
// from the peers that mirror it; it takes no key back from an owner who once
// had it; and it does not resolve forks yet: the second version at one height
// is refused as ErrDiverged.
//
// It knows no network: what to fetch is told by Chain, PinPages and Pins,
// and fetched elsewhere.
package bucket

import (
	"crypto/ed25519"
	"encoding/hex"
	"errors"
	"fmt"

	"filippo.io/edwards25519"
	"github.com/google/uuid"
	"lukechampine.com/blake3"
)

// What can be wrong with a bucket. A bad manifest, chain, tree, pin list or
// folder is an error that wraps one of these or one of package blob's, or is a
// *ProvenanceError or a *DamageError. Other errors are plain: of an ID, a name or
// a role that is none, of a wrapped key that does not open, of the disk and of
// the database.
var (
	ErrUnknownBucket = errors.New("unknown bucket")
	ErrAmbiguous     = errors.New("several buckets have that name")
	ErrNotOwner      = errors.New("not an owner of the bucket")
	ErrNoKey         = errors.New("no key here to read it")
	ErrBadManifest   = errors.New("bad manifest")
	ErrBadTree       = errors.New("bad tree")
	ErrBadPins       = errors.New("bad pin list")
	ErrSealed        = errors.New("sealed blob does not open")
	ErrUnfit         = errors.New("folder can't be committed")
	ErrDiverged      = errors.New("another version has that height")
	ErrHeadMoved     = errors.New("the bucket has a newer version")
	ErrGap           = errors.New("the version's predecessor is not in the log")
	ErrChainFull     = errors.New("chain is longer than one step takes")
)

// ID names a bucket: the version 8 UUID of its genesis' author and nonce, so
// that nobody can take another's.
type ID [16]byte

func deriveID(author ed25519.PublicKey, nonce []byte) ID {
	sum := blake3.Sum256(append(append([]byte{}, author...), nonce...))
	id := ID(sum[:16])
	id[6] = id[6]&0x0f | 0x80 // version 8 and the variant, RFC 9562
	id[8] = id[8]&0x3f | 0x80
	return id
}

// ParseID reads an ID as String writes it: hyphenated, in lower case.
func ParseID(s string) (ID, error) {
	u, err := uuid.Parse(s)
	if err != nil || u.String() != s || u.Version() != 8 || u.Variant() != uuid.RFC4122 {
		return ID{}, fmt.Errorf("%q is no bucket id: want a version 8 UUID in lower case", s)
	}
	return ID(u), nil
}

func (id ID) String() string { return uuid.UUID(id).String() }

// MarshalText is String, for JSON.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is ParseID, for JSON.
func (id *ID) UnmarshalText(text []byte) (err error) {
	*id, err = ParseID(string(text))
	return err
}

// PeerID is a peer's Ed25519 public key as 64 lowercase hex digits. One that
// ParsePeerID or PeerIDOf returned is valid; the zero value is nobody.
type PeerID string

// ParsePeerID reads a peer ID. It refuses what is not the canonical encoding of
// a point of full order: under such a key, signatures can be forged or made to
// hold for several messages.
func ParsePeerID(s string) (PeerID, error) {
	key, err := hex.DecodeString(s)
	if err != nil || len(key) != ed25519.PublicKeySize || hex.EncodeToString(key) != s {
		return "", fmt.Errorf("%q is no peer ID: want 64 lowercase hex digits", s)
	}
	if !fullOrder(key) {
		return "", fmt.Errorf("%q is no peer ID: not a canonical Ed25519 point of full order", s)
	}
	return PeerID(s), nil
}

// PeerIDOf is the ID of the peer with that public key. The key is trusted to be
// a valid one.
func PeerIDOf(key ed25519.PublicKey) PeerID { return PeerID(hex.EncodeToString(key)) }

// PublicKey is the key that the ID spells. It panics on an ID that is not valid.
func (p PeerID) PublicKey() ed25519.PublicKey {
	key, err := hex.DecodeString(string(p))
	if err != nil || len(key) != ed25519.PublicKeySize {
		panic("bucket: PublicKey of an unchecked peer ID")
	}
	return key
}

// fullOrder says whether key encodes, canonically, a point P whose order is the
// prime l: [l-1]P = -P, and P is not the identity.
func fullOrder(key []byte) bool {
	p, err := new(edwards25519.Point).SetBytes(key)
	if err != nil || string(p.Bytes()) != string(key) {
		return false
	}
	one, err := edwards25519.NewScalar().SetCanonicalBytes(append([]byte{1}, make([]byte, 31)...))
	if err != nil {
		panic(err) // a constant
	}
	minusOne := edwards25519.NewScalar().Negate(one)
	identity := edwards25519.NewIdentityPoint()
	rest := new(edwards25519.Point).VarTimeDoubleScalarBaseMult(minusOne, p, edwards25519.NewScalar())
	return p.Equal(identity) == 0 && rest.Equal(new(edwards25519.Point).Negate(p)) == 1
}
