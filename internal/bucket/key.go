package bucket

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"filippo.io/age"
	"filippo.io/age/agessh"
	"golang.org/x/crypto/ssh"
)

// maxWrapped bounds a wrapped key in a manifest, in bytes; age makes some 300.
const maxWrapped = 1024

func newKey() (k Key) {
	rand.Read(k[:]) // never fails, says crypto/rand
	return k
}

// wrap encrypts the key to an owner: an age file for the SSH form of the
// owner's Ed25519 key.
func (k Key) wrap(owner PeerID) (wrapped []byte, err error) {
	defer func() {
		if err != nil {
			err = fmt.Errorf("wrap key for %s: %w", owner, err)
		}
	}()
	pub, err := ssh.NewPublicKey(owner.PublicKey())
	if err != nil {
		return nil, err
	}
	recipient, err := agessh.NewEd25519Recipient(pub)
	if err != nil {
		return nil, err
	}
	var out bytes.Buffer
	w, err := age.Encrypt(&out, recipient)
	if err != nil {
		return nil, err
	}
	_, err = w.Write(k[:])
	err = errors.Join(err, w.Close())
	return out.Bytes(), err
}

// KeyFor returns the bucket's key as the manifest holds it for an identity.
// Who has none, a mirror or a stranger, gets ErrNoKey.
func (m *Manifest) KeyFor(identity ed25519.PrivateKey) (Key, error) {
	self := PeerIDOf(identity.Public().(ed25519.PublicKey))
	wrapped, ok := m.Keys[self]
	if !ok {
		who := "we don't share"
		if m.Shares[self].Role == Mirror {
			who = "we are a mirror of"
		}
		return Key{}, fmt.Errorf("%s %s: %w", who, m.Name, ErrNoKey)
	}
	id, err := agessh.NewEd25519Identity(identity)
	if err != nil {
		return Key{}, fmt.Errorf("unwrap key of %s: %w", m.Name, err)
	}
	r, err := age.Decrypt(bytes.NewReader(wrapped), id)
	if err != nil {
		return Key{}, fmt.Errorf("unwrap key of %s: %w", m.Name, err)
	}
	plain, err := io.ReadAll(io.LimitReader(r, maxWrapped))
	if err != nil {
		return Key{}, fmt.Errorf("unwrap key of %s: %w", m.Name, err)
	}
	if len(plain) != len(Key{}) {
		return Key{}, fmt.Errorf("unwrap key of %s: %d bytes are no bucket key", m.Name, len(plain))
	}
	return Key(plain), nil
}
