package blob_test

import (
	"bytes"
	"encoding/base32"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/shoal-project/shoal/internal/blob"
)

// The digests are from BLAKE3's published test vectors; the rest of the CID is
// put together by hand.
func TestSumIsBlake3CIDv1(t *testing.T) {
	lower := func(codec byte, digest string) string {
		sum, err := hex.DecodeString(digest)
		if err != nil {
			t.Fatal(err)
		}
		raw := append([]byte{1, codec, 0x1e, 32}, sum...)
		return "b" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(raw))
	}
	for _, tc := range []struct {
		codec uint64
		data  []byte
		want  string
	}{
		{blob.Raw, nil, lower(0x55, "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262")},
		{blob.DagCBOR, []byte{0}, lower(0x71, "2d3adedff11b61f14c886e35afa036736dcd87a74d27b5c1510225d0f592e213")},
	} {
		got := blob.Sum(tc.codec, tc.data)
		if got.String() != tc.want {
			t.Errorf("Sum(%#x, %x) = %s, want %s", tc.codec, tc.data, got, tc.want)
		}
		if back, err := blob.Parse(tc.want); err != nil || back != got {
			t.Errorf("Parse(%s) = %s, %v", tc.want, back, err)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	good := blob.Sum(blob.Raw, []byte("x"))
	spell := func(raw ...[]byte) string {
		return "b" + strings.ToLower(base32.StdEncoding.WithPadding(base32.NoPadding).
			EncodeToString(bytes.Join(raw, nil)))
	}
	digest := good.Bytes()[4:]
	if spell([]byte{1, 0x55, 0x1e, 32}, digest) != good.String() {
		t.Fatal("the test spells CIDs wrong")
	}
	for name, s := range map[string]string{
		"empty":            "",
		"one letter":       "b",
		"a path":           "../../etc/passwd",
		"gateway path":     "/ipfs/" + good.String(),
		"upper case":       strings.ToUpper(good.String()),
		"one upper letter": strings.Replace(good.String(), good.String()[20:21], strings.ToUpper(good.String()[20:21]), 1),
		"base16":           "f" + hex.EncodeToString(good.Bytes()),
		"version 0":        "QmdfTbBqBPQ7VNxZEYEj14VmRuZBkqFbiwReogJgS1zR1n",
		"dag-pb":           spell([]byte{1, 0x70, 0x1e, 32}, digest),
		"sha2-256":         spell([]byte{1, 0x55, 0x12, 32}, digest),
		"identity":         spell([]byte{1, 0x55, 0x00, 3}, []byte("abc")),
		"short digest":     spell([]byte{1, 0x55, 0x1e, 16}, digest[:16]),
		"long digest":      spell([]byte{1, 0x55, 0x1e, 33}, digest, []byte{0}),
		"trailing byte":    spell([]byte{1, 0x55, 0x1e, 32}, digest, []byte{0}),
		"long varint":      spell([]byte{1, 0xd5, 0x00, 0x1e, 32}, digest),
		"version 2":        spell([]byte{2, 0x55, 0x1e, 32}, digest),
		"set spare bits":   good.String()[:len(good.String())-1] + "b",
		"newline":          good.String() + "\n",
	} {
		if s == good.String() {
			t.Fatalf("%s: the test's own spelling is good", name)
		}
		if c, err := blob.Parse(s); !errors.Is(err, blob.ErrBadCID) {
			t.Errorf("%s: Parse(%q) = %s, %v; want ErrBadCID", name, s, c, err)
		}
	}
}
