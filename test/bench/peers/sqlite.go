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

// sqliteStore is a library's file, and how durable that is.
type sqliteStore struct {
	*sql.DB
	durable string
}

// openSQLite opens a file with the driver of a module. It asks a connection for its
// durability rather than the settings: drivers have defaults of their own, and
// mattn's in WAL mode is not SQLite's.
func openSQLite(ctx context.Context, driver, module, path, settings string) (_ sqliteStore, err error) {
	version, err := versionOf(module)
	if err != nil {
		return sqliteStore{}, err
	}
	if path, err = filepath.Abs(path); err != nil {
		return sqliteStore{}, err
	}
	name := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: settings}
	db, err := sql.Open(driver, name.String())
	if err != nil {
		return sqliteStore{}, err
	}
	var journal string
	var synchronous int
	err = db.QueryRowContext(ctx, "SELECT journal_mode, synchronous FROM pragma_journal_mode, pragma_synchronous").Scan(&journal, &synchronous)
	if err != nil {
		db.Close()
		return sqliteStore{}, fmt.Errorf("how durable it is: %w", err)
	}
	levels := []string{"OFF", "NORMAL", "FULL", "EXTRA"}
	return sqliteStore{db, fmt.Sprintf("%s %s, journal_mode=%s, synchronous=%s", module, version, journal, levels[synchronous])}, nil
}

// count is the answer of a query that counts.
func (s sqliteStore) count(ctx context.Context, query string) (n int, err error) {
	err = s.QueryRowContext(ctx, query).Scan(&n)
	return n, err
}
