package bucket

import (
	"crypto/cipher"
	"crypto/subtle"
	"fmt"

	"golang.org/x/crypto/chacha20poly1305"
	"lukechampine.com/blake3"
)

// Key is a bucket's content key: what the owners share and mirrors don't have.
type Key [32]byte

// Kind says what a sealed blob is. A blob sealed as one kind does not open as
// another.
type Kind string

// The kinds of sealed blobs.
const (
	KindChunk     Kind = "chunk"
	KindTreePage  Kind = "tree-page"
	KindTreeIndex Kind = "tree-index"
)

const (
	sivSize = 32
	// sealOverhead is what sealing adds to a blob, in bytes.
	sealOverhead = sivSize + chacha20poly1305.Overhead

	// BLAKE3 wants contexts that are used for nothing else in the world.
	sivContext    = "github.com/shoal-project/shoal 2026 seal v1: siv"
	cipherContext = "github.com/shoal-project/shoal 2026 seal v1: key and nonce"
)

// Seal encrypts a blob. It is deterministic, so that equal content of a bucket
// is one blob: with derive being BLAKE3's derive_key mode,
//
//	siv         = BLAKE3 keyed with derive(sivContext, key ‖ kind), of plain: 32 bytes
//	k ‖ n       = derive(cipherContext, key ‖ siv): 32 + 24 bytes
//	ciphertext  = XChaCha20-Poly1305(k, n, plain, additional data: kind)
//	sealed blob = siv ‖ ciphertext
//
// The construction is SIV's (RFC 5297, RFC 8452): without the key nobody can
// test a guess of the content, and a nonce never serves two plaintexts.
func (k Key) Seal(kind Kind, plain []byte) []byte {
	siv := k.siv(kind, plain)
	aead, nonce := k.cipher(siv)
	out := make([]byte, 0, len(plain)+sealOverhead)
	out = append(out, siv...)
	return aead.Seal(out, nonce, plain, []byte(kind))
}

// Open decrypts what Seal made, or fails with ErrSealed. It recomputes siv from
// the plaintext: one who has the key could otherwise make a blob that means
// something else than it says.
func (k Key) Open(kind Kind, sealed []byte) ([]byte, error) {
	if len(sealed) < sealOverhead {
		return nil, fmt.Errorf("%w: too short", ErrSealed)
	}
	siv := sealed[:sivSize]
	aead, nonce := k.cipher(siv)
	plain, err := aead.Open(nil, nonce, sealed[sivSize:], []byte(kind))
	if err != nil || subtle.ConstantTimeCompare(siv, k.siv(kind, plain)) != 1 {
		return nil, fmt.Errorf("%w as %s", ErrSealed, kind)
	}
	return plain, nil
}

func (k Key) siv(kind Kind, plain []byte) []byte {
	var kindKey [32]byte
	blake3.DeriveKey(kindKey[:], sivContext, append(k[:], kind...))
	h := blake3.New(sivSize, kindKey[:])
	h.Write(plain)
	return h.Sum(nil)
}

func (k Key) cipher(siv []byte) (aead cipher.AEAD, nonce []byte) {
	var out [chacha20poly1305.KeySize + chacha20poly1305.NonceSizeX]byte
	blake3.DeriveKey(out[:], cipherContext, append(k[:], siv...))
	aead, err := chacha20poly1305.NewX(out[:chacha20poly1305.KeySize])
	if err != nil {
		panic(err) // only a wrong length can fail
	}
	return aead, out[chacha20poly1305.KeySize:]
}
