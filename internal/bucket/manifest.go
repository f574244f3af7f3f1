package bucket

import (
	"crypto/ed25519"
	"errors"
	"fmt"
	"unicode"
	"unicode/utf8"

	"github.com/ipfs/go-cid"
	"golang.org/x/text/unicode/norm"

	"github.com/shoal-project/shoal/internal/blob"
)

const (
	manifestFormat = 1
	nonceSize      = 16
	maxShares      = 1000
	maxName        = 255

	// signContext keeps a manifest's signature from meaning anything else.
	signContext = "shoal-manifest-v1\x00"
)

// Role is what a share allows its peer.
type Role string

// An Owner has the key and may add versions, a Mirror keeps what it can't read.
const (
	Owner  Role = "owner"
	Mirror Role = "mirror"
)

// ParseRole reads "owner" or "mirror".
func ParseRole(s string) (Role, error) {
	if r := Role(s); r == Owner || r == Mirror {
		return r, nil
	}
	return "", fmt.Errorf("%q is no role: want owner or mirror", s)
}

// Share is what a manifest says of a peer.
type Share struct {
	Role Role `cbor:"role"`
}

// Manifest is one version of a bucket. It comes from DecodeManifest, or is
// filled in and then signed; from there on it is not to be changed.
type Manifest struct {
	Format    int64             `cbor:"format"`
	Bucket    ID                `cbor:"bucket"`
	Nonce     []byte            `cbor:"nonce,omitempty"` // in the genesis only
	Name      string            `cbor:"name"`
	Height    int64             `cbor:"height"`
	Previous  Link              `cbor:"previous"` // null in the genesis
	Tree      Link              `cbor:"tree"`     // sealed index of the tree
	Pins      Link              `cbor:"pins"`     // plain index of the pin list
	Shares    map[PeerID]Share  `cbor:"shares"`
	Keys      map[PeerID][]byte `cbor:"keys"` // the bucket's key, wrapped for each owner
	Author    ed25519.PublicKey `cbor:"author"`
	Signature []byte            `cbor:"signature,omitempty"`

	raw  []byte
	link cid.Cid
}

// DecodeManifest reads a manifest, or fails with ErrBadManifest: on what is not
// canonical, too large or malformed. It checks neither the signature nor the
// history: that is Check's.
func DecodeManifest(data []byte) (*Manifest, error) {
	m := &Manifest{}
	if err := decode(data, m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadManifest, err)
	}
	if err := m.validate(); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrBadManifest, err)
	}
	m.raw, m.link = data, blob.Sum(blob.DagCBOR, data)
	return m, nil
}

// LoadManifest reads the manifest that link names from the blobs.
func LoadManifest(blobs *blob.Store, link cid.Cid) (*Manifest, error) {
	data, err := blobs.Get(link)
	if err != nil {
		return nil, fmt.Errorf("load manifest: %w", err)
	}
	m, err := DecodeManifest(data)
	if err != nil {
		return nil, fmt.Errorf("load manifest %s: %w", link, err)
	}
	return m, nil
}

// Link is the CID of the encoded manifest; undefined before Sign.
func (m *Manifest) Link() cid.Cid { return m.link }

// Bytes is the encoded manifest, not to be changed; nil before Sign.
func (m *Manifest) Bytes() []byte { return m.raw }

// AuthorID is the peer who signed the manifest, if the signature holds.
func (m *Manifest) AuthorID() PeerID { return PeerIDOf(m.Author) }

// Authorized says whether the manifest shares the bucket with the peer: rule 4
// of belief asks it of the head that was fetched, for ourselves.
func (m *Manifest) Authorized(peer PeerID) bool { return m.Shares[peer].Role != "" }

// Owns says whether the peer may author the version after this one.
func (m *Manifest) Owns(peer PeerID) bool { return m.Shares[peer].Role == Owner }

// Sign makes identity the author, signs and encodes. It fails with
// ErrBadManifest on what DecodeManifest would refuse.
func (m *Manifest) Sign(identity ed25519.PrivateKey) error {
	m.Author = identity.Public().(ed25519.PublicKey)
	msg, err := m.signed()
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadManifest, err)
	}
	m.Signature = ed25519.Sign(identity, msg)
	data, err := encode(m)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrBadManifest, err)
	}
	again, err := DecodeManifest(data)
	if err != nil {
		return err
	}
	*m = *again
	return nil
}

// signed is what the signature covers.
func (m *Manifest) signed() ([]byte, error) {
	bare := *m
	bare.Signature = nil
	data, err := encode(&bare)
	return append([]byte(signContext), data...), err
}

// verify says whether the author signed the manifest.
func (m *Manifest) verify() bool {
	msg, err := m.signed()
	return err == nil && len(m.Signature) == ed25519.SignatureSize && ed25519.Verify(m.Author, msg, m.Signature)
}

// validate checks what a manifest says by itself.
func (m *Manifest) validate() error {
	switch {
	case m.Format != manifestFormat:
		return fmt.Errorf("format %d: this program knows %d", m.Format, manifestFormat)
	case len(m.Nonce) != 0 && len(m.Nonce) != nonceSize:
		return fmt.Errorf("nonce of %d bytes", len(m.Nonce))
	case m.Height < 0:
		return fmt.Errorf("height %d", m.Height)
	case !m.Tree.Defined() || !m.Pins.Defined():
		return errors.New("no tree or no pin list")
	case len(m.Shares) > maxShares:
		return fmt.Errorf("%d shares: at most %d", len(m.Shares), maxShares)
	case len(m.Author) != ed25519.PublicKeySize || !fullOrder(m.Author):
		return errors.New("author is no Ed25519 point of full order")
	case len(m.Signature) != 0 && len(m.Signature) != ed25519.SignatureSize:
		return fmt.Errorf("signature of %d bytes", len(m.Signature))
	}
	owners := 0
	for peer, share := range m.Shares {
		if _, err := ParsePeerID(string(peer)); err != nil {
			return fmt.Errorf("shares: %w", err)
		}
		if _, err := ParseRole(string(share.Role)); err != nil {
			return fmt.Errorf("share of %s: %w", peer, err)
		}
		if share.Role == Owner {
			owners++
			if n := len(m.Keys[peer]); n == 0 || n > maxWrapped {
				return fmt.Errorf("wrapped key of %d bytes for owner %s", n, peer)
			}
		}
	}
	if len(m.Keys) != owners {
		return errors.New("a key for somebody who is no owner")
	}
	return CheckName(m.Name)
}

// CheckName returns an error unless name can be a bucket's: 1 to 255 bytes of
// printable UTF-8 in NFC. Peers show it on terminals of people who did not
// choose it.
func CheckName(name string) error {
	if name == "" || len(name) > maxName || !utf8.ValidString(name) || !norm.NFC.IsNormalString(name) {
		return fmt.Errorf("bucket name %q: want 1 to %d bytes of UTF-8 in NFC", name, maxName)
	}
	for _, r := range name {
		if !unicode.IsPrint(r) {
			return fmt.Errorf("bucket name %q: %q can't be shown", name, r)
		}
	}
	return nil
}
