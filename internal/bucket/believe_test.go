package bucket_test

import (
	"crypto/ed25519"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/shoal-project/shoal/internal/blob"
	"github.com/shoal-project/shoal/internal/bucket"
)

// draft is a copy of a version that can be changed and signed again.
func draft(m *bucket.Manifest) *bucket.Manifest {
	return &bucket.Manifest{
		Format: m.Format, Bucket: m.Bucket, Nonce: m.Nonce, Name: m.Name, Height: m.Height, Previous: m.Previous,
		Tree: m.Tree, Pins: m.Pins, Shares: maps.Clone(m.Shares), Keys: maps.Clone(m.Keys),
		Author: m.Author, Signature: m.Signature,
	}
}

func signed(t *testing.T, m *bucket.Manifest, key ed25519.PrivateKey) *bucket.Manifest {
	t.Helper()
	if err := m.Sign(key); err != nil {
		t.Fatal(err)
	}
	return m
}

// decoded is m with an encoding of its own, whatever its signature.
func decoded(t *testing.T, m *bucket.Manifest, edit func(map[string]string)) *bucket.Manifest {
	t.Helper()
	got, err := bucket.DecodeManifest([]byte(byHand(m, edit)))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestBelief(t *testing.T) {
	h := newHome(t, "owner")
	owner, mirror, thief := identity("owner"), identity("mirror"), identity("thief")
	zero := h.create(t, "b")
	one := h.share(t, zero.Bucket, peerOf(mirror), bucket.Mirror)
	two := h.share(t, zero.Bucket, peerOf(identity("second")), bucket.Owner)
	other := h.create(t, "other")

	for i, m := range []*bucket.Manifest{zero, one, two} {
		prev := []*bucket.Manifest{nil, zero, one}[i]
		if err := bucket.Check(zero.Bucket, m, prev); err != nil {
			t.Fatalf("version %d: %v", i, err)
		}
	}
	three := draft(two)
	three.Height, three.Previous = 3, bucket.Link{Cid: two.Link()}
	if err := bucket.Check(zero.Bucket, signed(t, three, identity("second")), two); err != nil {
		t.Fatalf("by the second owner: %v", err)
	}

	change := func(m *bucket.Manifest, key ed25519.PrivateKey, edit func(*bucket.Manifest)) *bucket.Manifest {
		d := draft(m)
		edit(d)
		return signed(t, d, key)
	}
	joins := func(d *bucket.Manifest, who ed25519.PrivateKey) {
		d.Shares[peerOf(who)] = bucket.Share{Role: bucket.Owner}
		d.Keys[peerOf(who)] = []byte("wrapped")
	}
	for name, tc := range map[string]struct {
		m, prev *bucket.Manifest
		rule    int
	}{
		"of another bucket":         {change(one, owner, func(d *bucket.Manifest) { d.Bucket = other.Bucket }), zero, 1},
		"height skipped":            {change(one, owner, func(d *bucket.Manifest) { d.Height = 2 }), zero, 1},
		"height stays":              {change(one, owner, func(d *bucket.Manifest) { d.Height = 0 }), zero, 1},
		"other predecessor":         {change(one, owner, func(d *bucket.Manifest) { d.Previous = bucket.Link{Cid: other.Link()} }), zero, 1},
		"no predecessor":            {change(one, owner, func(d *bucket.Manifest) { d.Previous = bucket.Link{} }), zero, 1},
		"a version left out":        {two, zero, 1},
		"a nonce again":             {change(one, owner, func(d *bucket.Manifest) { d.Nonce = zero.Nonce }), zero, 1},
		"genesis again":             {zero, zero, 1},
		"no genesis":                {one, nil, 1},
		"genesis at height 1":       {change(zero, owner, func(d *bucket.Manifest) { d.Height = 1 }), nil, 1},
		"genesis with predecessor":  {change(zero, owner, func(d *bucket.Manifest) { d.Previous = bucket.Link{Cid: other.Link()} }), nil, 1},
		"genesis without nonce":     {change(zero, owner, func(d *bucket.Manifest) { d.Nonce = nil }), nil, 1},
		"genesis, other nonce":      {change(zero, owner, func(d *bucket.Manifest) { d.Nonce = other.Nonce }), nil, 1},
		"genesis, id taken":         {change(zero, thief, func(d *bucket.Manifest) { joins(d, thief) }), nil, 1},
		"genesis, author no owner":  {change(zero, owner, func(d *bucket.Manifest) { clear(d.Shares); clear(d.Keys); joins(d, thief) }), nil, 2},
		"unsigned":                  {decoded(t, one, func(f map[string]string) { delete(f, "signature") }), zero, 2},
		"unsigned genesis":          {decoded(t, zero, func(f map[string]string) { delete(f, "signature") }), nil, 2},
		"signature of zeros":        {decoded(t, one, func(f map[string]string) { f["signature"] = bin(make([]byte, 64)) }), zero, 2},
		"signature of another":      {decoded(t, one, func(f map[string]string) { f["signature"] = bin(two.Signature) }), zero, 2},
		"changed after signing":     {decoded(t, one, func(f map[string]string) { f["name"] = text("c") }), zero, 2},
		"author changed":            {decoded(t, one, func(f map[string]string) { f["author"] = bin(thief.Public().(ed25519.PublicKey)) }), zero, 2},
		"by a stranger":             {change(one, thief, func(*bucket.Manifest) {}), zero, 2},
		"by a mirror":               {change(two, mirror, func(*bucket.Manifest) {}), one, 2},
		"an owner who added itself": {change(one, thief, func(d *bucket.Manifest) { joins(d, thief) }), zero, 2},
	} {
		err := bucket.Check(zero.Bucket, tc.m, tc.prev)
		var p *bucket.ProvenanceError
		if !errors.As(err, &p) || p.Rule != tc.rule || p.Link != tc.m.Link() || p.Reason == "" {
			t.Errorf("%s: %v, want rule %d", name, err, tc.rule)
			continue
		}
		if !strings.Contains(err.Error(), p.Link.String()) {
			t.Errorf("%s: %q does not name the link", name, err)
		}
	}

	var p *bucket.ProvenanceError
	if err := bucket.CheckAnnounced(two, 3); !errors.As(err, &p) || p.Rule != 3 || bucket.CheckAnnounced(two, 2) != nil {
		t.Errorf("announced: %v", err)
	}
	if two.Authorized(peerOf(thief)) || !two.Authorized(peerOf(mirror)) || two.Owns(peerOf(mirror)) {
		t.Error("rule 4 is wrong")
	}
}

func TestChain(t *testing.T) {
	h := newHome(t, "owner")
	var all []*bucket.Manifest
	all = append(all, h.create(t, "b"))
	id := all[0].Bucket
	for _, who := range []string{"x", "y", "z"} {
		all = append(all, h.share(t, id, peerOf(identity(who)), bucket.Mirror))
	}

	c := bucket.NewChain(id, nil)
	for _, m := range all {
		if err := c.Add(m.Link(), m.Bytes()); err != nil {
			t.Fatal(err)
		}
	}
	if len(c.Versions()) != 4 || c.Head().Link() != all[3].Link() {
		t.Errorf("%d versions, head %s", len(c.Versions()), c.Head().Link())
	}

	c = bucket.NewChain(id, all[1])
	var p *bucket.ProvenanceError
	for name, tc := range map[string]struct {
		as   *bucket.Manifest
		raw  []byte
		want func(error) bool
	}{
		"a gap":   {as: all[3], raw: all[3].Bytes(), want: func(err error) bool { return errors.As(err, &p) && p.Rule == 1 }},
		"a lie":   {as: all[2], raw: all[3].Bytes(), want: func(err error) bool { return errors.Is(err, blob.ErrMismatch) }},
		"garbage": {as: all[2], raw: []byte("?"), want: func(err error) bool { return errors.Is(err, blob.ErrMismatch) }},
	} {
		if err := c.Add(tc.as.Link(), tc.raw); !tc.want(err) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if c.Head() != all[1] || len(c.Versions()) != 0 {
		t.Error("a refused version changed the chain")
	}
	garbage := []byte("no manifest")
	if err := c.Add(blob.Sum(blob.DagCBOR, garbage), garbage); !errors.Is(err, bucket.ErrBadManifest) {
		t.Errorf("garbage under its own link: %v", err)
	}
	if err := c.Add(all[2].Link(), make([]byte, bucket.MaxChainBytes+1)); !errors.Is(err, bucket.ErrChainFull) {
		t.Errorf("beyond the bound: %v", err)
	}
	if err := c.Add(all[2].Link(), all[2].Bytes()); err != nil {
		t.Error(err)
	}
}
