package e2e_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"
	"github.com/ipfs/go-cid"

	"github.com/shoal-project/shoal/internal/blob"
	"github.com/shoal-project/shoal/internal/bucket"
	"github.com/shoal-project/shoal/internal/peer"
)

// node is a home that serves peers.
type node struct {
	*home
	id  string
	url string
}

// newNode starts a node with so many workers, which ping every 200 ms.
func newNode(t *testing.T, workers int, args ...string) *node {
	n := &node{home: newHome(t)}
	n.id = n.enqueuer("peer", "id")
	for range workers {
		n.worker(append(args, "--listen", "127.0.0.1:0", "--ping-interval", "200ms")...)
	}
	var listed struct{ Listen string }
	if err := json.Unmarshal([]byte(strings.SplitN(n.enqueuer("workers", "--json"), "\n", 2)[0]), &listed); err != nil {
		t.Fatal(err)
	}
	n.url = "https://" + listed.Listen
	return n
}

// knows puts the other into the address book; it may bring buckets.
func (n *node) knows(other *node) {
	n.Helper()
	n.enqueuer("peer", "add", "--offers", other.id, other.url)
}

// complete waits until the node has all blobs of the bucket's version.
func (n *node) complete(id string, height int) {
	n.Helper()
	eventually(n.T, fmt.Sprintf("version %d", height), func() bool {
		return n.sql(fmt.Sprintf(`SELECT count(*) FROM sync_bucket_log WHERE bucket_id = '%s' AND height = %d
			AND pins_complete_at IS NOT NULL`, id, height)) == "1"
	})
}

// writeTree makes a folder with what a folder may hold.
func writeTree(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	big := bytes.Repeat([]byte("0123456789abcdef"), 3<<16) // 3 MiB, in 3 chunks that are equal
	for name, content := range map[string][]byte{
		"zebra-secret-name.txt": []byte("walrus-secret-content\n"),
		"sub/deep/ünïcode":      []byte("ü"),
		"empty":                 {},
		"big":                   big,
		"run.sh":                []byte("#!/bin/sh\n"),
	} {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, err := range []error{
		os.Chmod(filepath.Join(dir, "run.sh"), 0o755),
		os.Mkdir(filepath.Join(dir, "empty-folder"), 0o700),
		os.Symlink("sub/deep", filepath.Join(dir, "link")),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// sameTree compares two folders with programs of the system: content, modes, links.
func sameTree(t *testing.T, want, got string) {
	t.Helper()
	if out, err := exec.Command("diff", "-r", "--no-dereference", want, got).CombinedOutput(); err != nil {
		t.Errorf("%s and %s differ: %v\n%s", want, got, err, out)
	}
	list := func(dir string) string {
		out, err := exec.Command("sh", "-c", `cd "$0" && find . -mindepth 1 -printf '%P %y %m %l\n' | LC_ALL=C sort`, dir).CombinedOutput()
		if err != nil {
			t.Fatalf("%v: %s", err, out)
		}
		return string(out)
	}
	if a, b := list(want), list(got); a != b {
		t.Errorf("committed:\n%s\nexported:\n%s", a, b)
	}
}

// TestSync: owners exchange versions in both directions, by their pings alone;
// a mirror holds and verifies every blob and can read nothing.
func TestSync(t *testing.T) {
	alice, bob, mirror := newNode(t, 1), newNode(t, 2), newNode(t, 1)
	for _, n := range []*node{alice, bob, mirror} {
		for _, other := range []*node{alice, bob, mirror} {
			if n != other {
				n.knows(other)
			}
		}
	}
	tree := writeTree(t)
	id := alice.enqueuer("bucket", "create", "docs")
	alice.enqueuer("bucket", "share", "docs", bob.id, "--role", "owner")
	alice.enqueuer("bucket", "share", id, mirror.id[:8], "--role", "mirror")
	alice.enqueuer("bucket", "commit", "docs", tree)
	bob.complete(id, 3)
	mirror.complete(id, 3)
	out := filepath.Join(t.TempDir(), "out")
	bob.enqueuer("bucket", "export", "docs", out)
	sameTree(t, tree, out)
	bob.enqueuer("bucket", "verify", "docs")

	// Bob, an owner, changes one file; it comes back to Alice.
	if err := os.WriteFile(filepath.Join(out, "empty"), []byte("no more"), 0o600); err != nil {
		t.Fatal(err)
	}
	bob.enqueuer("bucket", "commit", "docs", out)
	alice.complete(id, 4)
	mirror.complete(id, 4)
	back := filepath.Join(t.TempDir(), "back")
	alice.enqueuer("bucket", "export", "docs", back)
	sameTree(t, out, back)

	// The mirror: all blobs, whole; no key, no name, no content.
	mirror.enqueuer("bucket", "verify", "docs")
	if a, b := blobNames(t, alice), blobNames(t, mirror); a != b {
		t.Errorf("the mirror's blobs are not the owner's:\n%s\n%s", a, b)
	}
	_, stderr, exit := mirror.run("enqueuer", "bucket", "export", "docs", filepath.Join(t.TempDir(), "no"))
	if exit != 1 || !strings.Contains(stderr, "key") || strings.Contains(stderr, "\n") {
		t.Errorf("a mirror's export: exit %d: %s", exit, stderr)
	}
	for _, secret := range []string{"zebra-secret-name", "walrus-secret-content", "empty-folder"} {
		if found, _ := exec.Command("grep", "-rl", secret, mirror.dir).Output(); len(found) > 0 {
			t.Errorf("%q is readable in the mirror's home: %s", secret, found)
		}
	}
	if _, stderr, exit := mirror.run("enqueuer", "bucket", "commit", "docs", tree); exit != 1 || !strings.Contains(stderr, "owner") {
		t.Errorf("a mirror's commit: exit %d: %s", exit, stderr)
	}

	// A blob that rots is named.
	for name := range strings.FieldsSeq(blobNames(t, mirror)) {
		path := filepath.Join(mirror.dir, "blobs", name[len(name)-3:len(name)-1], name)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Size() < 1<<20 {
			continue
		}
		if err := os.WriteFile(path, make([]byte, info.Size()), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, stderr, exit := mirror.run("enqueuer", "bucket", "verify", "docs"); exit != 1 || !strings.Contains(stderr, name) {
			t.Errorf("a corrupt blob: exit %d: %s", exit, stderr)
		}
		break
	}
	// It is fetched again, and so is a manifest.
	eventually(t, "a whole mirror", func() bool {
		_, _, exit := mirror.run("enqueuer", "bucket", "verify", "docs")
		return exit == 0
	})
	link := mirror.sql(`SELECT link FROM sync_bucket_log ORDER BY height DESC LIMIT 1`)
	if err := os.Remove(filepath.Join(mirror.dir, "blobs", link[len(link)-3:len(link)-1], link)); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the manifest", func() bool {
		_, _, exit := mirror.run("enqueuer", "bucket", "verify", "docs")
		return exit == 0
	})
	for _, n := range []*node{alice, bob, mirror} {
		if got := n.sql(`SELECT count(*) FROM sync_jobs WHERE status = 'failed'`); got != "0" {
			t.Errorf("failed jobs:\n%s", n.sql(`SELECT job_type, error FROM sync_jobs WHERE status = 'failed'`))
		}
	}
}

func blobNames(t *testing.T, n *node) string {
	t.Helper()
	out, err := exec.Command("sh", "-c", `cd "$0" && find . -path './??/*' -type f -printf '%f\n' | LC_ALL=C sort`, filepath.Join(n.dir, "blobs")).Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// hostile is a node whose log and blobs hold what no honest program writes.
type hostile struct {
	*node
	key   ed25519.PrivateKey
	blobs *blob.Store
}

// TestDisbelief: a hostile peer, with the real server, offers versions that
// break one rule each. Every one is refused, with the rule in the job's error,
// and nothing of the chain is appended.
func TestDisbelief(t *testing.T) {
	victim := newNode(t, 1)
	// It pings nobody: the test says when the victim is to look.
	evil := &hostile{node: newNode(t, 1, "--type", "DownloadPins")}
	identity, err := peer.LoadIdentity(evil.dir)
	if err != nil {
		t.Fatal(err)
	}
	evil.key, evil.blobs = identity.Key(), blob.Open(filepath.Join(evil.dir, "blobs"))
	victim.knows(evil.node)
	evil.enqueuer("peer", "add", victim.id, victim.url)
	_, stranger, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	other := evil.bucket("other", victim)

	for name, c := range map[string]struct {
		want string
		bad  func(head *bucket.Manifest) []byte // on top of a good chain
	}{
		"non-owner": {"rule 2", func(m *bucket.Manifest) []byte {
			return evil.sign(m, stranger)
		}},
		"owner who added itself": {"rule 2", func(m *bucket.Manifest) []byte {
			self := bucket.PeerIDOf(stranger.Public().(ed25519.PublicKey))
			m.Shares[self] = bucket.Share{Role: bucket.Owner}
			for owner := range m.Keys {
				m.Keys[self] = m.Keys[owner]
			}
			return evil.sign(m, stranger)
		}},
		"wrong height": {"rule 1", func(m *bucket.Manifest) []byte {
			m.Height += 5
			return evil.sign(m, evil.key)
		}},
		"wrong bucket": {"rule 1", func(m *bucket.Manifest) []byte {
			m.Bucket = other.Bucket
			return evil.sign(m, evil.key)
		}},
		"wrong predecessor": {"rule 1", func(m *bucket.Manifest) []byte {
			m.Previous = bucket.Link{Cid: other.Link()}
			return evil.sign(m, evil.key)
		}},
		"broken signature": {"rule 2", func(m *bucket.Manifest) []byte {
			raw := evil.sign(m, evil.key)
			raw[bytes.Index(raw, m.Signature)+7] ^= 1
			return raw
		}},
		"missing signature": {"rule 2", func(m *bucket.Manifest) []byte {
			return without(t, evil.sign(m, evil.key), "signature")
		}},
	} {
		t.Run(name, func(t *testing.T) {
			head := evil.bucket(strings.ReplaceAll(name, " ", "-"), victim)
			next := *head
			next.Height, next.Previous = head.Height+1, bucket.Link{Cid: head.Link()}
			next.Shares, next.Keys = maps.Clone(head.Shares), maps.Clone(head.Keys)
			raw := c.bad(&next)
			link := evil.plant(head, &next, raw)
			status, said := victim.sync(head.Bucket, link, next.Height, evil.id)
			if status != "failed" || !strings.Contains(said, c.want) || !strings.Contains(said, link.String()) {
				t.Errorf("%s: %s; want failed, with %q and the link %s", status, said, c.want, link)
			}
			victim.hasNothingOf(t, head.Bucket)
		})
	}

	t.Run("announced with another height", func(t *testing.T) {
		head := evil.bucket("rule-3", victim)
		if status, said := victim.sync(head.Bucket, head.Link(), 9, evil.id); status != "failed" || !strings.Contains(said, "rule 3") {
			t.Errorf("%s: %s", status, said)
		}
		victim.hasNothingOf(t, head.Bucket)
	})
	t.Run("not shared with us", func(t *testing.T) {
		head := evil.bucket("rule-4", victim)
		// The genesis names its author alone.
		if status, said := victim.sync(head.Bucket, head.Previous.Cid, 0, evil.id); status != "completed" || !strings.Contains(said, "not-authorized") {
			t.Errorf("%s: %s", status, said)
		}
		victim.hasNothingOf(t, head.Bucket)
	})
	t.Run("a good one", func(t *testing.T) {
		head := evil.bucket("good", victim)
		if status, said := victim.sync(head.Bucket, head.Link(), head.Height, evil.id); status != "completed" || !strings.Contains(said, `"applied"`) {
			t.Errorf("%s: %s", status, said)
		}
	})
}

// bucket makes a bucket that is shared with the victim, and returns its head.
func (e *hostile) bucket(name string, victim *node) *bucket.Manifest {
	e.Helper()
	id := e.enqueuer("bucket", "create", name)
	e.enqueuer("bucket", "share", id, victim.id, "--role", "mirror")
	text := e.sql(`SELECT link FROM sync_bucket_log WHERE bucket_id = '` + id + `' AND height = 1`)
	link, err := blob.Parse(text)
	if err != nil {
		e.Fatal(err)
	}
	m, err := bucket.LoadManifest(e.blobs, link)
	if err != nil {
		e.Fatal(err)
	}
	return m
}

func (e *hostile) sign(m *bucket.Manifest, key ed25519.PrivateKey) []byte {
	e.Helper()
	if err := m.Sign(key); err != nil {
		e.Fatal(err)
	}
	return bytes.Clone(m.Bytes())
}

// plant puts raw into the blobs and, as m, on top of head into the log.
func (e *hostile) plant(head, m *bucket.Manifest, raw []byte) cid.Cid {
	e.Helper()
	batch := e.blobs.NewBatch()
	defer batch.Discard()
	link, err := batch.Put(blob.DagCBOR, raw)
	if err != nil {
		e.Fatal(err)
	}
	if err := batch.Commit(); err != nil {
		e.Fatal(err)
	}
	e.sql(fmt.Sprintf(`INSERT INTO sync_bucket_log (bucket_id, height, link, previous, name, author, applied_at)
		VALUES ('%s', %d, '%s', '%s', 'x', '%s', unixepoch())`, head.Bucket, m.Height, link, head.Link(), e.id))
	return link
}

// without re-encodes a manifest without a field.
func without(t *testing.T, raw []byte, field string) []byte {
	t.Helper()
	var fields map[string]cbor.RawMessage
	if err := cbor.Unmarshal(raw, &fields); err != nil {
		t.Fatal(err)
	}
	delete(fields, field)
	mode, err := cbor.EncOptions{Sort: cbor.SortLengthFirst}.EncMode()
	if err != nil {
		t.Fatal(err)
	}
	raw, err = mode.Marshal(fields)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// sync has the node look at a version, and returns how the job ended.
func (n *node) sync(id bucket.ID, link cid.Cid, height int64, from string) (status, said string) {
	n.Helper()
	job := n.enqueuer("enqueue", "SyncBucket", fmt.Sprintf(
		`{"bucket_id":"%s","target":{"link":"%s","height":%d,"peer_ids":["%s"]}}`, id, link, height, from))
	eventually(n.T, "the end of job "+job, func() bool {
		status = n.sql(`SELECT status FROM sync_jobs WHERE id = ` + job)
		return status == "completed" || status == "failed"
	})
	return status, n.sql(`SELECT coalesce(error, '') || coalesce(result, '') FROM sync_jobs WHERE id = ` + job)
}

func (n *node) hasNothingOf(t *testing.T, id bucket.ID) {
	t.Helper()
	if got := n.sql(`SELECT count(*) FROM sync_bucket_log WHERE bucket_id = '` + id.String() + `'`); got != "0" {
		t.Errorf("%s versions were appended", got)
	}
}
