package main

import (
	"context"
	"database/sql"
	"fmt"
	"net/url"
	"path/filepath"
)

// batch is how many jobs go into one transaction where a library takes many: as
// many as River's own benchmark inserts at once (cmd/river/riverbench).
const batch = 5000

// batches calls insert with sizes of up to batch that sum up to jobs.
func batches(jobs int, insert func(size int) error) error {
	for jobs > 0 {
		size := min(jobs, batch)
		if err := insert(size); err != nil {
			return err
		}
		jobs -= size
	}
	return nil
}

// sqliteName is a data source name, which may hold any path.
func sqliteName(dir, file, query string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	name := url.URL{Scheme: "file", OmitHost: true, Path: filepath.Join(dir, file), RawQuery: query}
	return name.String(), nil
}

// durability asks a connection rather than its data source name: drivers have
// defaults of their own, and mattn's in WAL mode is not SQLite's.
func durability(ctx context.Context, db *sql.DB, driver string) (string, error) {
	version, err := versionOf(driver)
	if err != nil {
		return "", err
	}
	var journal string
	var synchronous int
	if err := db.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&journal); err != nil {
		return "", fmt.Errorf("journal_mode: %w", err)
	}
	if err := db.QueryRowContext(ctx, "PRAGMA synchronous").Scan(&synchronous); err != nil {
		return "", fmt.Errorf("synchronous: %w", err)
	}
	levels := []string{"OFF", "NORMAL", "FULL", "EXTRA"}
	return fmt.Sprintf("%s %s, journal_mode=%s, synchronous=%s", driver, version, journal, levels[synchronous]), nil
}

// count is the answer of a query that counts.
func count(ctx context.Context, db *sql.DB, query string) (n int, err error) {
	err = db.QueryRowContext(ctx, query).Scan(&n)
	return n, err
}
