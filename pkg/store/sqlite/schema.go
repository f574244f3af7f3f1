package sqlite

import (
	"fmt"
	"strconv"
)

// now is the wall clock in SQL, in Unix seconds with milliseconds. SQLite 3.40
// has no unixepoch('subsec') yet.
const now = `((julianday('now') - 2440587.5) * 86400.0)`

// migrations are the schema's versions: the one at i leads from version i to
// i+1. What was released is never changed, only added to. Each changes the
// schema, not only rows: that is how the programs that run find out about it.
//
// They use what SQLite 3.38 knows, as other programs open the file too.
var migrations = []string{`
CREATE TABLE sync_jobs (
	id               INTEGER PRIMARY KEY AUTOINCREMENT,
	job_type         TEXT    NOT NULL,
	payload          TEXT    NOT NULL CHECK (length(CAST(payload AS BLOB)) <= 1048576),
	-- Written out, as for a list SQLite makes a b-tree with each INSERT. Older files
	-- have lists here and at unique_for, which say the same.
	status           TEXT    NOT NULL DEFAULT 'pending'
	                 CHECK (status = 'pending' OR status = 'running' OR status = 'completed' OR status = 'failed' OR status = 'cancelled'),
	attempts         INTEGER NOT NULL DEFAULT 0 CHECK (attempts BETWEEN 0 AND 1000000000),
	created_at       REAL    NOT NULL DEFAULT ` + now + `,
	started_at       REAL,
	completed_at     REAL,    -- when it ended, however it ended
	error            TEXT,    -- of the last attempt, if that did not complete
	priority         INTEGER NOT NULL DEFAULT 0,
	queue            TEXT    NOT NULL DEFAULT 'default',
	run_at           REAL    NOT NULL DEFAULT ` + now + `,
	due              INTEGER NOT NULL DEFAULT 0, -- 1: run_at was seen to have come
	max_attempts     INTEGER, -- these two: NULL until the first claim, if the job names none
	timeout          REAL,    -- seconds; 0: none
	unique_key       TEXT,    -- as long as the job keeps it to itself
	unique_for       TEXT CHECK (unique_for = 'active' OR unique_for = 'pending' OR unique_for = 'forever'),
	lease_owner      INTEGER, -- sync_workers.id; of the last holder, once it has ended
	lease_token      INTEGER NOT NULL DEFAULT 0 CHECK (lease_token BETWEEN 0 AND 1000000000000000),
	lease_expires_at INTEGER, -- ms on the kernel's monotonic clock
	result           TEXT,
	progress         TEXT,
	CHECK (status <> 'running' OR lease_owner IS NOT NULL)
) STRICT;

-- Who moves a due job into the future takes it from among those that a claim reads.
CREATE TRIGGER sync_jobs_moved AFTER UPDATE OF run_at ON sync_jobs
	WHEN NEW.due = 1 AND NEW.status = 'pending' AND NEW.run_at > ` + now + ` + 0.001 BEGIN
	UPDATE sync_jobs SET due = 0 WHERE id = NEW.id;
END;

-- What can be claimed, in the order of claims.
CREATE INDEX sync_jobs_due ON sync_jobs (queue, job_type, priority DESC, run_at, id)
	WHERE status = 'pending' AND due = 1;
-- What waits for its time, and what a plain INSERT has added just now.
CREATE INDEX sync_jobs_delayed ON sync_jobs (run_at) WHERE status = 'pending' AND due = 0;
CREATE INDEX sync_jobs_running ON sync_jobs (lease_owner, lease_expires_at) WHERE status = 'running';
CREATE UNIQUE INDEX sync_jobs_unique ON sync_jobs (job_type, unique_key) WHERE unique_key IS NOT NULL;

CREATE TABLE sync_job_errors (
	job_id      INTEGER NOT NULL,
	lease_token INTEGER NOT NULL,
	attempt     INTEGER NOT NULL,
	worker_id   INTEGER NOT NULL,
	host        TEXT,
	pid         INTEGER,
	started_at  REAL    NOT NULL,
	ended_at    REAL    NOT NULL,
	ending      TEXT    NOT NULL CHECK (ending IN ('failed', 'died', 'stuck')), -- the last two: its worker
	error       TEXT    NOT NULL,
	rejected    TEXT, -- the outcome that came too late
	PRIMARY KEY (job_id, lease_token)
) STRICT, WITHOUT ROWID;
CREATE INDEX sync_job_errors_rejected ON sync_job_errors (rejected) WHERE rejected IS NOT NULL;
-- A trigger rather than a foreign key: other programs delete jobs too, and
-- SQLite enforces foreign keys only for those who ask.
CREATE TRIGGER sync_jobs_deleted AFTER DELETE ON sync_jobs BEGIN
	DELETE FROM sync_job_errors WHERE job_id = OLD.id;
END;

CREATE TABLE sync_workers (
	id          INTEGER PRIMARY KEY AUTOINCREMENT, -- its byte in the -workers file is locked while it lives
	host        TEXT    NOT NULL,
	pid         INTEGER NOT NULL,
	concurrency INTEGER NOT NULL,
	types       TEXT    NOT NULL, -- JSON array, like queues
	queues      TEXT    NOT NULL,
	listen      TEXT,
	started_at  REAL    NOT NULL,
	stuck       INTEGER NOT NULL DEFAULT 0, -- handlers that ignore the end of their contexts
	seat_file   INTEGER NOT NULL, -- the inode of the -workers file that it locked
	boot        TEXT    NOT NULL  -- of the kernel that it runs under
) STRICT;

CREATE TABLE sync_leases (
	name        TEXT PRIMARY KEY,
	owner       INTEGER, -- sync_workers.id; NULL: free
	token       INTEGER NOT NULL,
	expires_at  INTEGER NOT NULL, -- ms on the kernel's monotonic clock
	acquired_at REAL    NOT NULL
) STRICT;

CREATE TABLE sync_schedules (
	name    TEXT PRIMARY KEY,
	next_at REAL NOT NULL
) STRICT;

CREATE TABLE sync_peers (
	peer_id    TEXT PRIMARY KEY,
	url        TEXT NOT NULL,
	offers     INTEGER NOT NULL DEFAULT 0, -- 1: may bring new buckets
	added_at   REAL NOT NULL,
	last_seen  REAL,
	last_error TEXT
) STRICT;

CREATE TABLE sync_bucket_log (
	bucket_id        TEXT    NOT NULL,
	height           INTEGER NOT NULL,
	link             TEXT    NOT NULL,
	previous         TEXT,
	name             TEXT    NOT NULL,
	author           TEXT    NOT NULL,
	applied_at       REAL    NOT NULL,
	pins_complete_at REAL,
	UNIQUE (bucket_id, link)
) STRICT;
CREATE INDEX sync_bucket_log_height ON sync_bucket_log (bucket_id, height);
`, `
-- What holds for the jobs of a type, or of a queue, in the whole fleet. NULL: not
-- said here. What the operator says goes before what a handler brings.
CREATE TABLE sync_policies (
	kind         TEXT    NOT NULL CHECK (kind IN ('type', 'queue')),
	name         TEXT    NOT NULL,
	source       TEXT    NOT NULL DEFAULT 'operator' CHECK (source IN ('operator', 'handler')),
	paused       INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1)),
	max_attempts INTEGER CHECK (max_attempts > 0),
	timeout      REAL    CHECK (timeout > 0),      -- seconds, like those below
	retry_delay  REAL    CHECK (retry_delay > 0),  -- after the first failed attempt; doubled with each
	retry_cap    REAL    CHECK (retry_cap > 0),
	retry_jitter REAL    CHECK (retry_jitter BETWEEN 0 AND 1), -- a part of the delay, either way
	max_running  INTEGER CHECK (max_running > 0),
	max_starts   INTEGER CHECK (max_starts > 0),   -- in any starts_per
	starts_per   REAL    CHECK (starts_per >= 0.001),
	CHECK ((max_starts IS NULL) = (starts_per IS NULL)),
	PRIMARY KEY (kind, name, source)
) STRICT, WITHOUT ROWID;

-- The starts under a policy with max_starts, as far back as it looks.
CREATE TABLE sync_starts (
	kind TEXT    NOT NULL,
	name TEXT    NOT NULL,
	at   REAL    NOT NULL,
	n    INTEGER NOT NULL,
	PRIMARY KEY (kind, name, at)
) STRICT, WITHOUT ROWID;

-- A job's history is of its last 100 attempts that did not complete.
CREATE TRIGGER sync_job_errors_bounded AFTER INSERT ON sync_job_errors WHEN NEW.lease_token > 100 BEGIN
	DELETE FROM sync_job_errors WHERE job_id = NEW.job_id AND lease_token < (SELECT lease_token FROM sync_job_errors
		WHERE job_id = NEW.job_id ORDER BY lease_token DESC LIMIT 1 OFFSET 99);
END;

-- With what limits go by.
DROP INDEX sync_jobs_running;
CREATE INDEX sync_jobs_running ON sync_jobs (lease_owner, lease_expires_at, job_type, queue) WHERE status = 'running';

ALTER TABLE sync_jobs ADD COLUMN meta TEXT; -- JSON object of strings: what travels with the job

-- Without a job_type its jobs are made by the program that brings the schedule.
ALTER TABLE sync_schedules ADD COLUMN spec TEXT;
ALTER TABLE sync_schedules ADD COLUMN zone TEXT;
ALTER TABLE sync_schedules ADD COLUMN missed TEXT NOT NULL DEFAULT 'skip' CHECK (missed IN ('skip', 'once', 'all'));
ALTER TABLE sync_schedules ADD COLUMN paused INTEGER NOT NULL DEFAULT 0 CHECK (paused IN (0, 1));
ALTER TABLE sync_schedules ADD COLUMN job_type TEXT;
ALTER TABLE sync_schedules ADD COLUMN payload TEXT;
ALTER TABLE sync_schedules ADD COLUMN queue TEXT;
ALTER TABLE sync_schedules ADD COLUMN priority INTEGER NOT NULL DEFAULT 0;
ALTER TABLE sync_schedules ADD COLUMN last_at REAL; -- the last tick that was enqueued
`, `
-- What ended without completing: few jobs beside those that did.
CREATE INDEX sync_jobs_unsuccessful ON sync_jobs (status) WHERE status = 'failed' OR status = 'cancelled';
`, `
-- With what AnyLeft goes by.
DROP INDEX sync_jobs_delayed;
CREATE INDEX sync_jobs_delayed ON sync_jobs (run_at, queue, job_type) WHERE status = 'pending' AND due = 0;
`, `
-- How many jobs there are. The writer keeps count by itself: see counts.go. Another's
-- trigger may come before these, with an UPDATE or a DELETE of what is not counted yet.
CREATE TABLE sync_counts (
	queue    TEXT    NOT NULL,
	job_type TEXT    NOT NULL,
	jobs     INTEGER NOT NULL, -- all of them
	pending  INTEGER NOT NULL,
	PRIMARY KEY (queue, job_type)
) STRICT, WITHOUT ROWID;
INSERT INTO sync_counts SELECT queue, job_type, count(*), sum(status = 'pending') FROM sync_jobs GROUP BY queue, job_type;
CREATE TRIGGER sync_counts_added AFTER INSERT ON sync_jobs BEGIN
	INSERT INTO sync_counts VALUES (NEW.queue, NEW.job_type, 1, NEW.status = 'pending')
		ON CONFLICT (queue, job_type) DO UPDATE SET jobs = jobs + 1, pending = pending + excluded.pending;
END;
CREATE TRIGGER sync_counts_changed AFTER UPDATE OF status, queue, job_type ON sync_jobs
	WHEN (OLD.status = 'pending') <> (NEW.status = 'pending') OR OLD.queue <> NEW.queue OR OLD.job_type <> NEW.job_type BEGIN
	INSERT INTO sync_counts VALUES (OLD.queue, OLD.job_type, -1, -(OLD.status = 'pending'))
		ON CONFLICT (queue, job_type) DO UPDATE SET jobs = jobs - 1, pending = pending + excluded.pending;
	INSERT INTO sync_counts VALUES (NEW.queue, NEW.job_type, 1, NEW.status = 'pending')
		ON CONFLICT (queue, job_type) DO UPDATE SET jobs = jobs + 1, pending = pending + excluded.pending;
END;
DROP TRIGGER IF EXISTS sync_jobs_deleted;
CREATE TRIGGER sync_jobs_deleted AFTER DELETE ON sync_jobs BEGIN
	DELETE FROM sync_job_errors WHERE job_id = OLD.id;
	INSERT INTO sync_counts VALUES (OLD.queue, OLD.job_type, -1, -(OLD.status = 'pending'))
		ON CONFLICT (queue, job_type) DO UPDATE SET jobs = jobs - 1, pending = pending + excluded.pending;
	DELETE FROM sync_counts WHERE queue = OLD.queue AND job_type = OLD.job_type AND jobs = 0 AND pending = 0;
END;

-- Nobody else writes history: what adds to it bounds it.
DROP TRIGGER IF EXISTS sync_job_errors_bounded;
`}

const metaTable = `CREATE TABLE IF NOT EXISTS sync_meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT`

// migrate brings the schema to this program's version, in one transaction:
// many processes may do so at once. A newer schema is refused.
func migrate(c *conn, path string) error {
	current, err := schemaVersion(c)
	if err != nil || current == len(migrations) {
		return err
	}
	if current > len(migrations) {
		return fmt.Errorf("%s has schema version %d, this program knows up to %d: use a newer shoal", path, current, len(migrations))
	}
	if err := c.begin(); err != nil {
		return err
	}
	defer c.rollback()
	if err := c.Exec(metaTable); err != nil {
		return err
	}
	if current, err = schemaVersion(c); err != nil {
		return err
	}
	for ; current < len(migrations); current++ {
		if err := c.Exec(migrations[current]); err != nil {
			return fmt.Errorf("migration %d: %w", current+1, err)
		}
	}
	if _, err := c.exec(`INSERT INTO sync_meta (key, value) VALUES ('schema_version', ?)
		ON CONFLICT (key) DO UPDATE SET value = excluded.value`, strconv.Itoa(current)); err != nil {
		return err
	}
	return c.commit()
}

// schemaVersion is 0 for a file without our tables.
func schemaVersion(c *conn) (int, error) {
	ours, err := c.exists(`SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'sync_meta'`)
	if err != nil || !ours {
		return 0, err
	}
	version, err := c.number(`SELECT CAST(value AS INTEGER) FROM sync_meta WHERE key = 'schema_version'`)
	return int(version), err
}

// checkSchema closes the store when a newer program has migrated the file: this one
// would go on writing by the old rules. It asks for SQLite's own count of schema
// changes, which costs next to nothing, and for our version only when that count has
// moved: an application may change its own tables as it likes. Inside a write
// transaction the answer holds until the transaction ends. It returns that count.
func (db *DB) checkSchema(c *conn) (count int64, err error) {
	count, err = c.number(`PRAGMA schema_version`)
	if err != nil || count == db.schema.Load() {
		return count, err
	}
	version, err := schemaVersion(c)
	if err != nil {
		return 0, err
	}
	if version > len(migrations) {
		db.failed(fmt.Errorf("%s was migrated to schema version %d by a newer shoal: start that version", db.path, version))
		return 0, db.closed()
	}
	db.schema.Store(count)
	return count, nil
}
