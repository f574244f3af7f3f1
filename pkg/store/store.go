// Package store opens a queue by its data source name. There is one engine so far,
// package sqlite, which says what is guaranteed.
package store

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store/sqlite"
)

// Store is an open queue with everything that an engine offers.
type Store interface {
	jobs.Store
	jobs.Operator
	jobs.Tables
	// Waits is how long this process has been waiting to write because another
	// holds the file's lock; 0 where it does not wait. It is for a watchdog: who
	// waits for another is not stuck.
	Waits() time.Duration
}

// Options configure the engine; see sqlite.Options.
type Options = sqlite.Options

// Open opens the queue that dsn names: the path of an SQLite file, which is
// made if need be, or ":memory:" for a private, temporary one. It refuses what
// can't keep the promises of package jobs.
func Open(ctx context.Context, dsn string, options ...Options) (Store, error) {
	var o Options
	if len(options) > 0 {
		o = options[0]
	}
	if scheme, _, ok := strings.Cut(dsn, "://"); ok {
		return nil, fmt.Errorf("%s://…: no such engine: give the path of a file, or :memory:", scheme)
	}
	if dsn == "" {
		return nil, fmt.Errorf("no database named: give the path of a file, or :memory:")
	}
	return sqlite.Open(ctx, dsn, o)
}
