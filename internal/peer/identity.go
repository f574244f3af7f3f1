package peer

import (
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/shoal-project/shoal/internal/bucket"
)

// identityFile is the name of the key within a home.
const identityFile = "identity.pem"

// pemType is the PEM label of a PKCS#8 key (RFC 7468, section 10).
const pemType = "PRIVATE KEY"

// Identity is a home's Ed25519 key. The zero value is no identity.
type Identity struct {
	id  bucket.PeerID
	key ed25519.PrivateKey
}

// ID returns the peer ID, which is the public key.
func (i Identity) ID() bucket.PeerID { return i.id }

// Key returns the private key; it must not be changed.
func (i Identity) Key() ed25519.PrivateKey { return i.key }

// LoadIdentity reads the identity of a home. The error wraps fs.ErrNotExist
// when it has none. A key that the group or others can read is refused.
func LoadIdentity(home string) (Identity, error) {
	f, err := os.Open(filepath.Join(home, identityFile))
	if err != nil {
		return Identity{}, fmt.Errorf("load identity: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Identity{}, fmt.Errorf("load identity: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return Identity{}, fmt.Errorf("%s is readable by others (mode %04o): chmod 600 it", f.Name(), mode)
	}
	text, err := io.ReadAll(f)
	if err != nil {
		return Identity{}, fmt.Errorf("load identity: %w", err)
	}
	id, err := parseIdentity(text)
	if err != nil {
		return Identity{}, fmt.Errorf("%s is no Ed25519 key in PKCS#8 PEM: %w", f.Name(), err)
	}
	return id, nil
}

// EnsureIdentity returns the identity of a home and makes it if there is none;
// created says that this call made it. The home itself must exist. Any number
// of processes may call it at once: all get the same identity.
func EnsureIdentity(home string) (id Identity, created bool, err error) {
	id, err = LoadIdentity(home)
	if !errors.Is(err, fs.ErrNotExist) {
		return id, false, err
	}
	created, err = placeIdentity(home)
	if err != nil {
		return Identity{}, false, fmt.Errorf("make identity: %w", err)
	}
	// What stands there now is the identity, whoever put it there.
	id, err = LoadIdentity(home)
	return id, created, err
}

// placeIdentity puts a new key into home unless one is there, and returns when
// the one that is there would survive a power cut.
func placeIdentity(home string) (created bool, err error) {
	text, err := newIdentity()
	if err != nil {
		return false, err
	}
	tmp, err := os.CreateTemp(home, ".identity-*") // made with mode 0600
	if err != nil {
		return false, err
	}
	defer os.Remove(tmp.Name())
	_, err = tmp.Write(text)
	if err == nil {
		err = tmp.Sync()
	}
	if err := errors.Join(err, tmp.Close()); err != nil {
		return false, err
	}
	// A link, unlike a rename, never replaces what another process just made.
	err = os.Link(tmp.Name(), filepath.Join(home, identityFile))
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return false, err
	}
	return err == nil, syncFolder(home)
}

func newIdentity() ([]byte, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemType, Bytes: der}), nil
}

func parseIdentity(text []byte) (Identity, error) {
	block, _ := pem.Decode(text)
	if block == nil || block.Type != pemType {
		return Identity{}, fmt.Errorf("it holds no %q block", pemType)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	if err != nil {
		return Identity{}, err
	}
	key, ok := parsed.(ed25519.PrivateKey)
	if !ok {
		return Identity{}, fmt.Errorf("it holds a %T", parsed)
	}
	return Identity{id: bucket.PeerIDOf(key.Public().(ed25519.PublicKey)), key: key}, nil
}

func syncFolder(path string) error {
	d, err := os.Open(path)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
