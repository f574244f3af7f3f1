package sqlitetx

import (
	"context"
	"fmt"

	"github.com/shoal-project/shoal/pkg/store/internal/insert"
)

// checkVersion refuses a queue that a newer shoal has made.
func checkVersion(ctx context.Context, tx Tx) error {
	version, err := schemaVersion(ctx, tx)
	if err == nil && version > insert.SchemaVersion {
		return fmt.Errorf("the queue has schema version %d, this program knows up to %d: build it with a newer shoal", version, insert.SchemaVersion)
	}
	return err
}

// explain says what a person can do where the statement failed because of the
// schema: then it can't be prepared either. In all other cases it must not look:
// a read in a transaction that could not get the write lock would keep it from
// getting it at the next try.
func explain(ctx context.Context, tx Tx, statement string, err error) error {
	if stmt, prepareErr := tx.PrepareContext(ctx, statement); prepareErr == nil {
		defer stmt.Close()
		return err
	}
	var tables int
	look := tx.QueryRowContext(ctx, `SELECT count(DISTINCT name) FROM pragma_table_list WHERE name IN ('sync_jobs', 'sync_meta')`).Scan(&tables)
	if look != nil {
		return err
	}
	if tables < 2 {
		return fmt.Errorf("this database holds no queue: start a worker or call store.Open on it once, or open the right file (%w)", err)
	}
	version, look := schemaVersion(ctx, tx)
	if look != nil || version == insert.SchemaVersion {
		return err
	}
	return fmt.Errorf("the queue has schema version %d, this program writes to %d: build it with the shoal of the workers (%w)", version, insert.SchemaVersion, err)
}

func schemaVersion(ctx context.Context, tx Tx) (version int, err error) {
	err = tx.QueryRowContext(ctx, `SELECT CAST(value AS INTEGER) FROM sync_meta WHERE key = 'schema_version'`).Scan(&version)
	return version, err
}
