package bucket_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"sort"
	"strings"
	"testing"

	"github.com/shoal-project/shoal/internal/blob"
	"github.com/shoal-project/shoal/internal/bucket"
)

// A DAG-CBOR writer of its own, small enough to be seen to be right: the
// package's encoding is compared with it, and it can write what is not canonical.

func head(major byte, n int) string {
	switch {
	case n < 24:
		return string([]byte{major<<5 | byte(n)})
	case n < 256:
		return string([]byte{major<<5 | 24, byte(n)})
	}
	return string(binary.BigEndian.AppendUint16([]byte{major<<5 | 25}, uint16(n)))
}

func text(s string) string      { return head(3, len(s)) + s }
func bin[T ~[]byte](b T) string { return head(2, len(b)) + string(b) }
func link(l bucket.Link) string { return "\xd8\x2a" + bin(append([]byte{0}, l.Bytes()...)) }
func mapOf(m map[string]string) string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	sort.Slice(keys, func(i, j int) bool {
		if len(keys[i]) != len(keys[j]) {
			return len(keys[i]) < len(keys[j])
		}
		return keys[i] < keys[j]
	})
	out := head(5, len(m))
	for _, k := range keys {
		out += text(k) + m[k]
	}
	return out
}

// byHand encodes a manifest, changed by edit on the way.
func byHand(m *bucket.Manifest, edit func(map[string]string)) string {
	shares, keys := map[string]string{}, map[string]string{}
	for p, s := range m.Shares {
		shares[string(p)] = mapOf(map[string]string{"role": text(string(s.Role))})
	}
	for p, k := range m.Keys {
		keys[string(p)] = bin(k)
	}
	f := map[string]string{
		"format": head(0, 1), "bucket": bin(m.Bucket[:]), "name": text(m.Name),
		"height": head(0, int(m.Height)), "previous": "\xf6", "tree": link(m.Tree), "pins": link(m.Pins),
		"shares": mapOf(shares), "keys": mapOf(keys), "author": bin(m.Author), "signature": bin(m.Signature),
	}
	if m.Previous.Defined() {
		f["previous"] = link(m.Previous)
	}
	if len(m.Nonce) > 0 {
		f["nonce"] = bin(m.Nonce)
	}
	if edit != nil {
		edit(f)
	}
	return mapOf(f)
}

func TestManifestIsTheFormat(t *testing.T) {
	h := newHome(t, "owner")
	genesis := h.create(t, "fotos é")
	shared := h.share(t, genesis.Bucket, peerOf(identity("mirror")), bucket.Mirror)
	for _, m := range []*bucket.Manifest{genesis, shared} {
		if got := string(m.Bytes()); got != byHand(m, nil) {
			t.Errorf("encoded\n%x\nby hand\n%x", got, byHand(m, nil))
		}
		if m.Link() != blob.Sum(blob.DagCBOR, m.Bytes()) {
			t.Error("the link is not the encoding's")
		}
		bare := byHand(m, func(f map[string]string) { delete(f, "signature") })
		if !ed25519.Verify(m.Author, []byte("shoal-manifest-v1\x00"+bare), m.Signature) {
			t.Error("the signature is not over the encoding without it")
		}
		again, err := bucket.DecodeManifest(m.Bytes())
		if err != nil || again.Link() != m.Link() || again.Shares[h.self].Role != bucket.Owner {
			t.Errorf("decoded %+v, %v", again, err)
		}
	}
	if _, ok := shared.Keys[peerOf(identity("mirror"))]; ok || len(shared.Nonce) > 0 {
		t.Error("a mirror has a key, or a second version a nonce")
	}
}

func TestDecodeManifestRefuses(t *testing.T) {
	h := newHome(t, "owner")
	m := h.share(t, h.create(t, "b").Bucket, peerOf(identity("mirror")), bucket.Mirror)
	good := string(m.Bytes())
	self := string(h.self)
	edit := func(field, value string) string {
		return byHand(m, func(f map[string]string) { f[field] = value })
	}
	share := func(peer, role string) string {
		return edit("shares", mapOf(map[string]string{
			self: mapOf(map[string]string{"role": text("owner")}), peer: mapOf(map[string]string{"role": text(role)}),
		}))
	}
	many := map[string]string{self: mapOf(map[string]string{"role": text("owner")})}
	for i := range 1000 {
		many[string(peerOf(identity(fmt.Sprint(i))))] = mapOf(map[string]string{"role": text("mirror")})
	}
	point := func(last string) string { return strings.Repeat("00", 31) + last }
	other := string(peerOf(identity("x")))
	for name, data := range map[string]string{
		"empty":               "",
		"cut short":           good[:len(good)-1],
		"trailing byte":       good + "\x00",
		"too large":           edit("name", head(3, 10)+strings.Repeat("x", blob.MaxSize)),
		"no map":              "\x80",
		"unknown field":       edit("extra", "\x00"),
		"missing field":       byHand(m, func(f map[string]string) { delete(f, "name") }),
		"duplicate field":     head(5, 12) + text("name") + text("b") + good[1:],
		"other order":         head(5, 11) + good[len(good)-64-2-10:] + good[1:len(good)-64-2-10],
		"long integer":        edit("height", "\x18\x01"),
		"float height":        edit("height", "\xf9\x3c\x00"),
		"negative height":     edit("height", "\x20"),
		"height over 2^63":    edit("height", "\x1b\xff\xff\xff\xff\xff\xff\xff\xff"),
		"indefinite map":      "\xbf" + good[1:] + "\xff",
		"upper-case field":    byHand(m, func(f map[string]string) { f["Name"] = f["name"]; delete(f, "name") }),
		"text for bytes":      edit("author", head(3, 32)+strings.Repeat("a", 32)),
		"format 2":            edit("format", "\x02"),
		"short bucket":        edit("bucket", bin(m.Bucket[:15])),
		"long bucket":         edit("bucket", bin(append(m.Bucket[:], 0))),
		"short nonce":         edit("nonce", bin(make([]byte, 15))),
		"empty nonce":         edit("nonce", "\x40"),
		"short signature":     edit("signature", bin(m.Signature[:63])),
		"empty signature":     edit("signature", "\x40"),
		"short author":        edit("author", bin(m.Author[:31])),
		"author of low order": edit("author", bin(append([]byte{1}, make([]byte, 31)...))),
		"null tree":           edit("tree", "\xf6"),
		"text tree":           edit("tree", text(m.Tree.String())),
		"sha2 tree":           edit("tree", strings.Replace(link(m.Tree), "\x1e\x20", "\x12\x20", 1)),
		"empty name":          edit("name", text("")),
		"escape in name":      edit("name", text("a\x1b[2J")),
		"right-to-left name":  edit("name", text("a\u202eb")),
		"decomposed name":     edit("name", text("e\u0301")),
		"broken UTF-8 name":   edit("name", text("\xff")),
		"long name":           edit("name", text(strings.Repeat("n", 256))),
		"bad role":            share(other, "reader"),
		"owner without key":   share(other, "owner"),
		"share with more":     edit("shares", mapOf(map[string]string{self: mapOf(map[string]string{"role": text("owner"), "x": "\x00"})})),
		"no shares":           edit("shares", "\xa0"),
		"null shares":         edit("shares", "\xf6"),
		"1,001 shares":        edit("shares", mapOf(many)),
		"upper-case peer":     share(strings.ToUpper(other), "mirror"),
		"short peer":          share(other[:62], "mirror"),
		"no point":            share(strings.Repeat("0", 62)+"80", "mirror"),
		"identity point":      share("01"+strings.Repeat("00", 31), "mirror"),
		"order 2":             share("ec"+strings.Repeat("ff", 30)+"7f", "mirror"),
		"order 4":             share(point("00"), "mirror"),
		"not canonical":       share("ed"+strings.Repeat("ff", 30)+"7f", "mirror"),
		"key for a mirror":    edit("keys", mapOf(map[string]string{self: bin(m.Keys[h.self]), other: bin([]byte("k"))})),
		"empty key":           edit("keys", mapOf(map[string]string{self: "\x40"})),
		"huge key":            edit("keys", mapOf(map[string]string{self: bin(make([]byte, 1025))})),
	} {
		if data == good {
			t.Fatalf("%s: the test changes nothing", name)
		}
		if got, err := bucket.DecodeManifest([]byte(data)); got != nil || !errors.Is(err, bucket.ErrBadManifest) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := bucket.DecodeManifest(bytes.Clone(m.Bytes())); err != nil {
		t.Error(err)
	}
}

// The points are RFC 8032's base point and those of order 8 with which the
// edwards25519 literature forges signatures.
func TestParsePeerID(t *testing.T) {
	const base = "5866666666666666666666666666666666666666666666666666666666666666"
	if id, err := bucket.ParsePeerID(base); err != nil || hex.EncodeToString(id.PublicKey()) != base {
		t.Error(err)
	}
	if id, err := bucket.ParsePeerID(string(peerOf(identity("x")))); err != nil || bucket.PeerIDOf(id.PublicKey()) != id {
		t.Error(err)
	}
	for _, s := range []string{
		"", base[:62], base + "00", strings.Repeat("zz", 32),
		"26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
		"c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
		"CD" + base[2:],
	} {
		if id, err := bucket.ParsePeerID(s); err == nil {
			t.Errorf("%q is a peer: %s", s, id)
		}
	}
}

func TestParseID(t *testing.T) {
	id := newHome(t, "owner").create(t, "b").Bucket
	s := id.String()
	if got, err := bucket.ParseID(s); err != nil || got != id || s[14] != '8' {
		t.Errorf("%s: %s, %v", s, got, err)
	}
	for _, bad := range []string{
		"", strings.ToUpper(s), "{" + s + "}", "urn:uuid:" + s, strings.ReplaceAll(s, "-", ""),
		s[:14] + "4" + s[15:], s[:19] + "f" + s[20:], s[:35],
	} {
		if got, err := bucket.ParseID(bad); err == nil {
			t.Errorf("%q is a bucket: %s", bad, got)
		}
	}
}
