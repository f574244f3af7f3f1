package bucket_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"testing"

	"golang.org/x/crypto/chacha20poly1305"
	"lukechampine.com/blake3"

	"github.com/shoal-project/shoal/internal/bucket"
)

// sealByHand is the construction as PROTOCOL.md has it; siv nil means the right
// one.
func sealByHand(key bucket.Key, kind string, plain, siv []byte) []byte {
	derive := func(n int, context string, parts ...[]byte) []byte {
		out := make([]byte, n)
		blake3.DeriveKey(out, context, bytes.Join(parts, nil))
		return out
	}
	if siv == nil {
		h := blake3.New(32, derive(32, "github.com/shoal-project/shoal 2026 seal v1: siv", key[:], []byte(kind)))
		h.Write(plain)
		siv = h.Sum(nil)
	}
	kn := derive(56, "github.com/shoal-project/shoal 2026 seal v1: key and nonce", key[:], siv)
	aead, err := chacha20poly1305.NewX(kn[:32])
	if err != nil {
		panic(err)
	}
	return append(bytes.Clone(siv), aead.Seal(nil, kn[32:], plain, []byte(kind))...)
}

func testKey(b byte) (k bucket.Key) {
	for i := range k {
		k[i] = b + byte(i)
	}
	return k
}

func TestSealIsTheFormat(t *testing.T) {
	key := testKey(0)
	for _, n := range []int{0, 1, 1000, 1 << 20} {
		plain := bytes.Repeat([]byte{7}, n)
		sealed := key.Seal(bucket.KindChunk, plain)
		if !bytes.Equal(sealed, sealByHand(key, "chunk", plain, nil)) {
			t.Errorf("%d bytes: sealed otherwise than by hand", n)
		}
		if len(sealed) != n+48 {
			t.Errorf("%d bytes became %d", n, len(sealed))
		}
		if got, err := key.Open(bucket.KindChunk, sealed); err != nil || !bytes.Equal(got, plain) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	// Pinned: a change to it would orphan every bucket there is.
	const golden = "acc06ea51c651895a90629ed5d2ac78c1ed8e690f500b02aacc1ef9101552b59" +
		"9cfcecd244983da9054b774a381255c6e5c237bf35"
	if got := hex.EncodeToString(key.Seal(bucket.KindTreePage, []byte("shoal"))); got != golden {
		t.Errorf("sealed %s, want %s", got, golden)
	}
}

func TestOpenRefuses(t *testing.T) {
	key, plain := testKey(0), []byte("content")
	sealed := key.Seal(bucket.KindChunk, plain)
	refused := func(name string, k bucket.Key, kind bucket.Kind, data []byte) {
		t.Helper()
		if got, err := k.Open(kind, data); got != nil || !errors.Is(err, bucket.ErrSealed) {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	for i := range sealed {
		bad := bytes.Clone(sealed)
		bad[i] ^= 0x40
		refused("flipped bit", key, bucket.KindChunk, bad)
		refused("cut short", key, bucket.KindChunk, sealed[:i])
	}
	refused("longer", key, bucket.KindChunk, append(bytes.Clone(sealed), 0))
	refused("other kind", key, bucket.KindTreePage, sealed)
	refused("other key", testKey(1), bucket.KindChunk, sealed)
	// One who has the key encrypts other content under a siv it does not have:
	// the cipher alone would accept that.
	refused("forged siv", key, bucket.KindChunk, sealByHand(key, "chunk", []byte("another"), sealed[:32]))
}
