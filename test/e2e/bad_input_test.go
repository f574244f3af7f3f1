package e2e_test

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// refused runs a command that is to fail with one line that holds all of said.
func (h *home) refused(exit int, said []string, program string, args ...string) {
	h.Helper()
	stdout, stderr, code := h.run(program, args...)
	if code != exit || stdout != "" || strings.Contains(stderr, "\n") {
		h.Errorf("%s %q: exit %d, want %d, and one line: %q %q", program, args, code, exit, stdout, stderr)
	}
	for _, part := range said {
		if !strings.Contains(stderr, part) {
			h.Errorf("%s %q does not say %q: %s", program, args, part, stderr)
		}
	}
}

func TestBadPayload(t *testing.T) {
	h := newHome(t)
	w := h.worker("--exec", "Cat=cat")
	before := h.sql(`SELECT count(*) FROM sync_jobs`)
	h.refused(1, []string{"not JSON"}, "enqueuer", "enqueue", "Cat", `{"a":`)
	h.refused(1, []string{"bucket_id is missing", "peer_id is missing"}, "enqueuer", "enqueue", "PingPeer", `{}`)
	h.refused(1, []string{`unknown field "bucket"`}, "enqueuer", "enqueue", "PingPeer", `{"bucket":"x"}`)
	h.refused(1, []string{"target.height"}, "enqueuer", "enqueue", "SyncBucket", `{"bucket_id":"x","target":{"link":"y","peer_ids":["z"]}}`)
	h.refused(1, []string{"pins_link"}, "enqueuer", "enqueue", "DownloadPins", `{"bucket_id":"x","pins_link":7}`)

	big := filepath.Join(t.TempDir(), "big.json")
	if err := os.WriteFile(big, []byte(`"`+strings.Repeat("x", 1<<20)+`"`), 0o600); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(big)
	if err != nil {
		t.Fatal(err)
	}
	if _, stderr, exit := h.runWith(text, "enqueuer", "enqueue", "Cat", "-"); exit != 1 || !strings.Contains(stderr, "1 MiB") {
		t.Errorf("a payload over 1 MiB: exit %d: %s", exit, stderr)
	}
	if _, err := h.trySQL(`INSERT INTO sync_jobs (job_type, payload) VALUES ('Cat', '"' || hex(zeroblob(524288)) || '"')`); err == nil {
		t.Error("plain SQL brought in a payload over 1 MiB")
	}

	// By plain SQL a bad payload fails for good at its first attempt, and the
	// good ones beside it run.
	h.sql(`INSERT INTO sync_jobs (job_type, payload) VALUES ('Cat', '{"a":'), ('Cat', '1'), ('PingPeer', '{"bucket_id":"x"}'), ('Cat', '2')`)
	eventually(t, "the end of all", func() bool {
		return h.sql(`SELECT count(*) FROM sync_jobs WHERE completed_at IS NULL`) == "0"
	})
	want := "Cat|failed|1\nCat|completed|1\nPingPeer|failed|1\nCat|completed|1"
	if got := h.sql(`SELECT job_type, status, attempts FROM sync_jobs WHERE id > ` + before + ` ORDER BY id`); got != want {
		t.Errorf("jobs:\n%s\nwant:\n%s", got, want)
	}
	errors := h.sql(`SELECT error FROM sync_jobs WHERE status = 'failed' ORDER BY id`)
	for _, part := range []string{"unexpected end of JSON", "peer_id is missing"} {
		if !strings.Contains(errors, part) {
			t.Errorf("the errors do not say %q:\n%s", part, errors)
		}
	}
	w.signal(15)
	if code := w.exit(); code != 0 {
		t.Errorf("the worker ended with %d", code)
	}
}

// TestUnhandled: a job that nobody handles stays, and people are told.
func TestUnhandled(t *testing.T) {
	h := newHome(t)
	h.worker("--type", "Noop", "--exec", "Noop=true")
	id := h.enqueuer("enqueue", "Exotic")
	mail := h.enqueuer("enqueue", "Noop", "--queue", "mail")
	h.expectStatus(h.enqueuer("enqueue", "Noop"), "completed")
	for _, id := range []string{id, mail} {
		h.expectStatus(id, "pending")
		if show := h.enqueuer("job", "show", id); !strings.Contains(show, "no worker handles type ") {
			t.Errorf("job show does not say that nobody handles it:\n%s", show)
		}
	}
	if stats := h.enqueuer("stats"); strings.Count(stats, "no worker handles it") != 2 {
		t.Errorf("stats do not say that nobody handles two of them:\n%s", stats)
	}
}

func TestBadCalls(t *testing.T) {
	h := newHome(t)
	// Nothing is made by whoever only looks.
	for _, args := range [][]string{{"job", "list"}, {"stats"}, {"workers"}, {"sql", "SELECT 1"}, {"peer", "list"}, {"bucket", "list"}} {
		h.refused(1, []string{h.dir}, "enqueuer", args...)
	}
	if _, err := os.Stat(h.dir); err == nil {
		t.Error("a look made the home")
	}
	h.refused(2, []string{"--nonsense"}, "enqueuer", "stats", "--nonsense")
	h.refused(2, []string{"--nonsense"}, "worker", "--nonsense")
	h.refused(2, []string{"frobnicate"}, "enqueuer", "frobnicate")
	h.refused(2, []string{"job"}, "enqueuer", "job")
	h.refused(2, []string{"--concurrency"}, "worker", "--concurrency", "0")
	h.refused(2, []string{"--lease"}, "worker", "--lease", "soon")
	h.refused(2, []string{"--ping-interval 500µs"}, "worker", "--ping-interval", "500us")
	h.refused(2, []string{"--exec"}, "worker", "--exec", "NoCommand")
	h.refused(2, []string{"--type Ghost"}, "worker", "--type", "Ghost")
	h.refused(2, []string{"--queue"}, "worker", "--queue", "a=0")

	h.enqueuer("enqueue", "A")
	h.refused(1, []string{"unknown bucket"}, "enqueuer", "bucket", "log", "nowhere")
	h.refused(1, []string{"unknown peer"}, "enqueuer", "peer", "remove", "abcdef")
	h.refused(1, []string{"99"}, "enqueuer", "job", "show", "99")
	h.refused(1, []string{"--write"}, "enqueuer", "sql", "DELETE FROM sync_jobs")
}

func TestBadPlaces(t *testing.T) {
	h := newHome(t)
	h.enqueuer("enqueue", "A")
	known := h.schemaVersion()
	h.sql(`UPDATE sync_meta SET value = '999' WHERE key = 'schema_version'`)
	for _, call := range [][]string{{"enqueuer", "stats"}, {"enqueuer", "enqueue", "A"}, {"worker"}} {
		h.refused(1, []string{"schema version 999", "newer"}, call[0], call[1:]...)
	}
	h.sql(fmt.Sprintf(`UPDATE sync_meta SET value = '%d' WHERE key = 'schema_version'`, known))

	noDB := filepath.Join(t.TempDir(), "text.db")
	if err := os.WriteFile(noDB, []byte(strings.Repeat("no database ", 100)), 0o600); err != nil {
		t.Fatal(err)
	}
	h.refused(1, []string{noDB, "no SQLite database"}, "enqueuer", "--db", noDB, "enqueue", "A")
	h.refused(1, []string{noDB, "no SQLite database"}, "worker", "--db", noDB)
	if text, _ := os.ReadFile(noDB); !strings.HasPrefix(string(text), "no database") {
		t.Error("the file was changed")
	}
	h.refused(1, []string{"/proc"}, "worker", "--home", "/proc/shoal")
	h.refused(1, []string{"postgres"}, "worker", "--db", "postgres://localhost/x")

	// A folder that can't be committed, and a bucket and peer that are not there.
	h.enqueuer("bucket", "create", "docs")
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "fine"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(folder, "socket")
	ln, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	h.refused(1, []string{`"socket"`, "a socket"}, "enqueuer", "bucket", "commit", "docs", folder)
	h.refused(1, []string{"unknown bucket"}, "enqueuer", "bucket", "commit", "no-docs", folder)
	h.refused(1, []string{"unknown peer"}, "enqueuer", "bucket", "share", "docs", "abcdef", "--role", "owner")
	if got := h.sql(`SELECT count(*), max(height) FROM sync_bucket_log`); got != "1|0" {
		t.Errorf("versions: %s; want the genesis alone", got)
	}
}
