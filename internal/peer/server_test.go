package peer_test

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/ipfs/go-cid"

	"github.com/shoal-project/shoal/internal/blob"
	"github.com/shoal-project/shoal/internal/bucket"
	"github.com/shoal-project/shoal/internal/peer"
)

// It proves that a stranger can't tell what is here from what is not, and that
// who is a stranger is asked at each request, not at each connection.
func TestStrangersLearnNothing(t *testing.T) {
	friend := someone(t)
	h := newHome(t, nil, friend.ID())
	here := h.put(t, blob.Raw, []byte("here")).String()
	v := h.create(t, friend.ID())

	asks := []struct{ method, path string }{
		{"GET", "/ipfs/" + here + "?format=raw"},
		{"HEAD", "/ipfs/" + here + "?format=raw"},
		{"GET", "/ipfs/" + absent + "?format=raw"},
		{"GET", "/v1/buckets/" + v.Bucket.String() + "/links?from=0&to=" + v.Link().String()},
		{"POST", "/v1/ping"},
		{"DELETE", "/v1/ping"},
		{"GET", "/"},
		{"GET", "//x/../y"},
	}
	stranger := func(c *http.Client) {
		t.Helper()
		for _, a := range asks {
			res, body := do(t, c, a.method, "https://"+h.addr+a.path, nil)
			want := "forbidden\n"
			if a.method == "HEAD" {
				want = ""
			}
			if res.StatusCode != 403 || body != want || len(res.Header) != 4 {
				t.Errorf("%s %s: %d %q %v", a.method, a.path, res.StatusCode, body, res.Header)
			}
		}
	}
	stranger(plain(t, someone(t)))

	c := plain(t, friend)
	if res, _ := do(t, c, "GET", "https://"+h.addr+asks[0].path, nil); res.StatusCode != 200 {
		t.Fatalf("a friend got %d", res.StatusCode)
	}
	must(t, h.book.Remove(t.Context(), friend.ID()))
	stranger(c)
}

func TestBlockByTheGatewaySpecification(t *testing.T) {
	friend := someone(t)
	h := newHome(t, nil, friend.ID())
	data := strings.Repeat("0123456789", 100)
	c := h.put(t, blob.Raw, []byte(data)).String()
	client, base := plain(t, friend), "https://"+h.addr+"/ipfs/"
	etag := `"` + c + `.raw"`

	for _, step := range []struct {
		name, method, path string
		header             []string
		status             int
		body               string
	}{
		{"get", "GET", c + "?format=raw", nil, 200, data},
		{"head", "HEAD", c + "?format=raw", nil, 200, ""},
		{"accept", "GET", c, []string{"Accept", "text/html, " + rawType + ";q=0.9"}, 200, data},
		{"format beats accept", "GET", c + "?format=car", []string{"Accept", rawType}, 400, "only format=raw is served\n"},
		{"no format", "GET", c, []string{"Accept", "*/*"}, 400, "only format=raw is served\n"},
		{"range", "GET", c + "?format=raw", []string{"Range", "bytes=3-5"}, 206, "345"},
		{"last bytes", "GET", c + "?format=raw", []string{"Range", "bytes=-2"}, 206, "89"},
		{"range outside", "GET", c + "?format=raw", []string{"Range", "bytes=5000-"}, 416, "invalid range: failed to overlap\n"},
		{"known", "GET", c + "?format=raw", []string{"If-None-Match", etag}, 304, ""},
		{"not known", "GET", c + "?format=raw", []string{"If-None-Match", `"x"`}, 200, data},
		{"absent", "GET", absent + "?format=raw", nil, 404, "not found\n"},
		{"absent head", "HEAD", absent + "?format=raw", nil, 404, ""},
		{"no cid", "GET", "x?format=raw", nil, 400, "not a CID of this network\n"},
		{"upper case", "GET", strings.ToUpper(c) + "?format=raw", nil, 400, "not a CID of this network\n"},
		{"another hash", "GET", "bafkreigh2akiscaildcqabsyg3dfr6chu3fgpregiymsck7e7aqa4s52zy?format=raw", nil, 400, "not a CID of this network\n"},
		{"up", "GET", "..%2f..%2fidentity.pem?format=raw", nil, 400, "not a CID of this network\n"},
		{"a path in it", "GET", c + "/x?format=raw", nil, 404, "404 page not found\n"},
		{"post", "POST", c + "?format=raw", nil, 405, "Method Not Allowed\n"},
	} {
		res, body := do(t, client, step.method, base+step.path, nil, step.header...)
		if res.StatusCode != step.status || body != step.body || res.ProtoMajor != 2 {
			t.Errorf("%s: %d %q %s, want %d %q", step.name, res.StatusCode, body, res.Proto, step.status, step.body)
		}
		if step.status != 304 && res.Header.Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: no nosniff", step.name)
		}
		if step.status >= 300 {
			continue
		}
		for k, want := range map[string]string{
			"Content-Type":        rawType,
			"Content-Disposition": `attachment; filename="` + c + `.bin"`,
			"Etag":                etag,
			"Cache-Control":       "public, max-age=29030400, immutable",
		} {
			if got := res.Header.Get(k); got != want {
				t.Errorf("%s: %s is %q, want %q", step.name, k, got, want)
			}
		}
		if step.status == 200 && res.ContentLength != int64(len(data)) {
			t.Errorf("%s: length %d", step.name, res.ContentLength)
		}
	}
}

func TestDamagedBlockIsNotServed(t *testing.T) {
	friend := someone(t)
	h := newHome(t, nil, friend.ID())
	c := h.put(t, blob.Raw, []byte("whole")).String()
	must(t, os.WriteFile(filepath.Join(h.blobDir, c[len(c)-3:len(c)-1], c), []byte("wrong"), 0o600))
	client, url := plain(t, friend), "https://"+h.addr+"/ipfs/"+c+"?format=raw"
	if res, body := do(t, client, "GET", url, nil); res.StatusCode != 500 || body != "internal error\n" {
		t.Errorf("found damaged: %d %q", res.StatusCode, body)
	}
	if res, _ := do(t, client, "HEAD", url, nil); res.StatusCode != 404 {
		t.Errorf("set aside: %d", res.StatusCode)
	}
}

func TestManifestsAndLinksAreForSharers(t *testing.T) {
	sharer, other := someone(t), someone(t)
	h := newHome(t, nil, sharer.ID(), other.ID())
	m := h.create(t, sharer.ID())
	genesis := m.Previous.Cid
	foreign := h.foreignManifest(t) // a blob of ours, of a bucket that we don't have

	in, out := newClient(t, sharer), newClient(t, other)
	for _, link := range []cid.Cid{genesis, m.Link()} {
		data, err := in.Get(t.Context(), h.peer(), link)
		if err != nil || !blob.Sum(blob.DagCBOR, data).Equals(link) {
			t.Errorf("a sharer: %v", err)
		}
		if _, err := out.Get(t.Context(), h.peer(), link); !errors.Is(err, peer.ErrNotFound) {
			t.Errorf("another: %v", err)
		}
	}
	if _, err := in.Get(t.Context(), h.peer(), foreign); !errors.Is(err, peer.ErrNotFound) {
		t.Errorf("a manifest of no bucket here: %v", err)
	}
	if _, err := out.Get(t.Context(), h.peer(), m.Pins.Cid); err != nil {
		t.Errorf("what is no manifest is for every peer: %v", err)
	}

	links, err := in.Links(t.Context(), h.peer(), m.Bucket, 0, m.Link())
	if err != nil || len(links) != 2 || links[0] != genesis || links[1] != m.Link() {
		t.Errorf("Links: %v, %v", links, err)
	}
	for name, ask := range map[string]func() ([]cid.Cid, error){
		"another":        func() ([]cid.Cid, error) { return out.Links(t.Context(), h.peer(), m.Bucket, 0, m.Link()) },
		"no such bucket": func() ([]cid.Cid, error) { return in.Links(t.Context(), h.peer(), noBucket(t), 0, m.Link()) },
		"no such link":   func() ([]cid.Cid, error) { return in.Links(t.Context(), h.peer(), m.Bucket, 0, foreign) },
		"above it":       func() ([]cid.Cid, error) { return in.Links(t.Context(), h.peer(), m.Bucket, 2, m.Link()) },
	} {
		if got, err := ask(); !errors.Is(err, peer.ErrNotFound) {
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}

	c, base := plain(t, sharer), "https://"+h.addr+"/v1/buckets/"
	for _, path := range []string{
		"x/links?from=0&to=" + genesis.String(),
		m.Bucket.String() + "/links?to=" + genesis.String(),
		m.Bucket.String() + "/links?from=-x&to=" + genesis.String(),
		m.Bucket.String() + "/links?from=0",
		m.Bucket.String() + "/links?from=0&to=x",
	} {
		if res, body := do(t, c, "GET", base+path, nil); res.StatusCode != 400 {
			t.Errorf("%s: %d %q", path, res.StatusCode, body)
		}
	}
}

// It proves that a chain longer than one answer is had by asking on from where
// the last answer ended.
func TestLinksComeInPages(t *testing.T) {
	sharer := someone(t)
	h := newHome(t, nil, sharer.ID())
	head := h.create(t, sharer.ID())
	head = h.grow(t, head, peer.MaxLinks+5)
	client := newClient(t, sharer)

	first, err := client.Links(t.Context(), h.peer(), head.Bucket, 1, head.Link())
	must(t, err)
	rest, err := client.Links(t.Context(), h.peer(), head.Bucket, 1+int64(len(first)), head.Link())
	must(t, err)
	if len(first) != peer.MaxLinks || len(rest) != 6 || rest[5] != head.Link() {
		t.Fatalf("pages of %d and %d", len(first), len(rest))
	}
}

func TestPing(t *testing.T) {
	friend := someone(t)
	link := bucket.Link{Cid: blob.Sum(blob.DagCBOR, []byte("a head"))}
	asked := make(chan []peer.Ping, 10)
	h := newHome(t, func(o *peer.Options) {
		o.Ping = func(_ context.Context, from bucket.PeerID, pings []peer.Ping) ([]peer.Pong, error) {
			if from != friend.ID() {
				return nil, fmt.Errorf("from %s", from)
			}
			asked <- pings
			pongs := make([]peer.Pong, len(pings))
			for i := range pings {
				pongs[i] = peer.Pong{Status: peer.Ahead, Link: link, Height: pings[i].Height + 1}
			}
			if len(pings) > 2 {
				return pongs[:1], nil // a bug
			}
			if len(pings) > 1 {
				pongs[1] = peer.Pong{Status: peer.Unknown}
			}
			return pongs, nil
		}
	}, friend.ID())

	client, id := newClient(t, friend), noBucket(t)
	got, err := client.Ping(t.Context(), h.peer(), []peer.Ping{{Bucket: id, Link: link, Height: 6}, {Bucket: id, Link: link}})
	must(t, err)
	want := []peer.Pong{{Status: peer.Ahead, Link: link, Height: 7}, {Status: peer.Unknown}}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("pongs %v", got)
	}
	if pings := <-asked; pings[0] != (peer.Ping{Bucket: id, Link: link, Height: 6}) {
		t.Errorf("pings %v", pings)
	}
	if got, err := client.Ping(t.Context(), h.peer(), nil); err != nil || len(got) != 0 {
		t.Errorf("no pings: %v, %v", got, err)
	}
	if _, err := client.Ping(t.Context(), h.peer(), make([]peer.Ping, peer.MaxPings+1)); err == nil {
		t.Error("more than MaxPings were sent")
	}

	one := fmt.Sprintf(`{"bucket":%q,"link":%q,"height":1}`, id, link)
	many := func(n int) string { return "[" + strings.TrimSuffix(strings.Repeat(one+",", n), ",") + "]" }
	c, url := plain(t, friend), "https://"+h.addr+"/v1/ping"
	for _, step := range []struct {
		name, body string
		status     int
		answer     string
	}{
		{"one", "[" + one + "]", 200, fmt.Sprintf(`[{"status":"ahead","link":%q,"height":2}]`, link)},
		{"a later version's field", `[{"more":1,` + one[1:] + `]`, 200, fmt.Sprintf(`[{"status":"ahead","link":%q,"height":2}]`, link)},
		{"unknown", many(2), 200, fmt.Sprintf(`[{"status":"ahead","link":%q,"height":2},{"status":"unknown","height":0}]`, link)},
		{"a bug here", many(3), 500, "internal error\n"},
		{"too many", many(peer.MaxPings + 1), 400, "more than 1000 pings\n"},
		{"too long", "[" + strings.Repeat(" ", 1<<20) + one + "]", 413, "the body is over 1 MiB\n"},
		{"no array", one, 400, "the body is no JSON array of {bucket, link, height}\n"},
		{"no bucket", "[{}]", 400, "the body is no JSON array of {bucket, link, height}\n"},
		{"null", "[null]", 400, "the body is no JSON array of {bucket, link, height}\n"},
		{"below 0", "[" + strings.Replace(one, "1}", "-1}", 1) + "]", 400, "the body is no JSON array of {bucket, link, height}\n"},
		{"no body", "", 400, "the body is no JSON array of {bucket, link, height}\n"},
	} {
		res, body := do(t, c, "POST", url, strings.NewReader(step.body))
		if res.StatusCode != step.status || body != step.answer {
			t.Errorf("%s: %d %q, want %d %q", step.name, res.StatusCode, body, step.status, step.answer)
		}
	}
}

func TestTooManyRequests(t *testing.T) {
	t.Parallel()
	greedy, modest := someone(t), someone(t)
	h := newHome(t, func(o *peer.Options) { o.Rate, o.Burst = 0.01, 3 }, greedy.ID(), modest.ID())
	url := "https://" + h.addr + "/ipfs/" + absent + "?format=raw"
	c := plain(t, greedy)
	for range 3 {
		if res, _ := do(t, c, "GET", url, nil); res.StatusCode != 404 {
			t.Fatalf("within the burst: %d", res.StatusCode)
		}
	}
	res, body := do(t, c, "GET", url, nil)
	if wait := res.Header.Get("Retry-After"); res.StatusCode != 429 || wait != "100" || body != "too many requests\n" {
		t.Errorf("above the burst: %d, Retry-After %q, %q", res.StatusCode, wait, body)
	}
	var busy *peer.BusyError
	_, err := newClient(t, greedy).Get(t.Context(), h.peer(), cid.MustParse(absent))
	if !errors.Is(err, peer.ErrBusy) || !errors.As(err, &busy) || busy.RetryAfter != 100*time.Second {
		t.Errorf("our client: %v", err)
	}
	if res, _ := do(t, plain(t, modest), "GET", url, nil); res.StatusCode != 404 {
		t.Errorf("another peer suffers: %d", res.StatusCode)
	}
}

// It proves that requests above the cap wait, hear 429 when that is too long,
// and that a server which is told to stop lets the running one end.
func TestConcurrencyIsCappedAndDrained(t *testing.T) {
	t.Parallel()
	friend := someone(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	h := newHome(t, func(o *peer.Options) {
		o.Concurrent = 1
		o.Ping = func(context.Context, bucket.PeerID, []peer.Ping) ([]peer.Pong, error) {
			entered <- struct{}{}
			<-leave
			return nil, nil
		}
	}, friend.ID())
	c := plain(t, friend)
	first := make(chan int)
	go func() {
		res, err := c.Post("https://"+h.addr+"/v1/ping", "", strings.NewReader("[]"))
		if err != nil {
			t.Error(err)
			first <- 0
			return
		}
		defer res.Body.Close()
		first <- res.StatusCode
	}()
	<-entered
	res, _ := do(t, c, "GET", "https://"+h.addr+"/ipfs/"+absent+"?format=raw", nil)
	if res.StatusCode != 429 || res.Header.Get("Retry-After") != "1" {
		t.Errorf("a second one: %d, Retry-After %q", res.StatusCode, res.Header.Get("Retry-After"))
	}
	h.stop()
	close(leave)
	if status := <-first; status != 200 {
		t.Errorf("the running one got %d", status)
	}
	must(t, <-h.done)
	close(h.done)
}

func TestDrainIsBounded(t *testing.T) {
	t.Parallel()
	friend := someone(t)
	entered, leave := make(chan struct{}), make(chan struct{})
	defer close(leave)
	h := newHome(t, func(o *peer.Options) {
		o.Drain = 10 * time.Millisecond
		o.Ping = func(context.Context, bucket.PeerID, []peer.Ping) ([]peer.Pong, error) {
			close(entered)
			<-leave
			return nil, nil
		}
	}, friend.ID())
	failed := make(chan error)
	go func() {
		_, err := newClient(t, friend).Ping(context.Background(), h.peer(), nil)
		failed <- err
	}()
	<-entered
	h.stop()
	must(t, <-h.done)
	close(h.done)
	if err := <-failed; !errors.Is(err, peer.ErrUnreachable) {
		t.Errorf("the call that was cut: %v", err)
	}
}

func TestServerOptions(t *testing.T) {
	if _, err := peer.NewServer(peer.Options{}); err == nil {
		t.Error("no options were accepted")
	}
	if _, err := peer.NewClient(peer.ClientOptions{}); err == nil {
		t.Error("no identity was accepted")
	}
}

const rawType = "application/vnd.ipld.raw"

// absent is a CID that no test stores.
var absent = blob.Sum(blob.Raw, []byte("absent")).String()

// noBucket is the ID of a bucket that nobody has.
func noBucket(t *testing.T) bucket.ID {
	t.Helper()
	id, err := bucket.ParseID("01234567-89ab-8def-8123-456789abcdef")
	must(t, err)
	return id
}

// create makes a bucket of two versions in h, the second shared with who.
func (h *home) create(t *testing.T, who bucket.PeerID) *bucket.Manifest {
	t.Helper()
	author := &bucket.Author{Log: h.log, Blobs: h.blobs, Identity: h.Key()}
	v, err := author.Create("papers")
	must(t, err)
	h.append(t, v.Manifest)
	v, err = author.Share(t.Context(), v.Manifest.Bucket, who, bucket.Mirror)
	must(t, err)
	h.append(t, v.Manifest)
	return v.Manifest
}

// grow puts n versions on top of head and returns the last, the only one whose
// manifest is real: of the others nothing but the log's row is read.
func (h *home) grow(t *testing.T, head *bucket.Manifest, n int64) *bucket.Manifest {
	t.Helper()
	last, previous := *head, head.Link()
	must(t, h.tables.Write(t.Context(), func(tx *sql.Tx) error {
		for last.Height++; last.Height < head.Height+n; last.Height++ {
			link := blob.Sum(blob.DagCBOR, fmt.Appendf(nil, "version %d", last.Height))
			if _, err := tx.ExecContext(t.Context(), `INSERT INTO sync_bucket_log
				(bucket_id, height, link, previous, name, author, applied_at) VALUES ($1, $2, $3, $4, 'papers', '', 0)`,
				head.Bucket.String(), last.Height, link.String(), previous.String()); err != nil {
				return err
			}
			previous = link
		}
		return nil
	}))
	last.Previous = bucket.Link{Cid: previous}
	must(t, last.Sign(h.Key()))
	h.put(t, blob.DagCBOR, last.Bytes())
	h.append(t, &last)
	return &last
}

// foreignManifest stores a manifest of a bucket that is not in the log.
func (h *home) foreignManifest(t *testing.T) cid.Cid {
	t.Helper()
	v, err := (&bucket.Author{Log: h.log, Blobs: h.blobs, Identity: h.Key()}).Create("foreign")
	must(t, err)
	return v.Manifest.Link()
}

func (h *home) append(t *testing.T, ms ...*bucket.Manifest) {
	t.Helper()
	must(t, h.tables.Write(t.Context(), func(tx *sql.Tx) error { return h.log.Append(t.Context(), tx, ms...) }))
}
