package sqlitetx_test

import (
	"context"
	"database/sql"
	"fmt"
	"log"
	"os"
	"path/filepath"

	_ "github.com/ncruces/go-sqlite3/driver"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
	"github.com/shoal-project/shoal/pkg/store/sqlitetx"
)

// An order and the job that ships it are committed together. The application
// has its own pool on the file; any driver will do where no store is open in
// the same process.
func ExampleEnqueue() {
	ctx := context.Background()
	dir, err := os.MkdirTemp("", "shoal-example-")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "shop.db")
	q, err := store.Open(ctx, path) // makes the queue's tables, and works below
	if err != nil {
		log.Fatal(err)
	}
	defer q.Close()

	db, err := sql.Open("sqlite3", "file:"+path+"?_txlock=immediate&_pragma=busy_timeout(5000)&_pragma=synchronous(full)")
	if err != nil {
		log.Fatal(err)
	}
	defer db.Close()
	if _, err := db.ExecContext(ctx, `CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT NOT NULL)`); err != nil {
		log.Fatal(err)
	}
	order := func(item string) (int64, error) {
		tx, err := db.BeginTx(ctx, nil)
		if err != nil {
			return 0, err
		}
		defer tx.Rollback()
		row, err := tx.ExecContext(ctx, `INSERT INTO orders (item) VALUES (?)`, item)
		if err != nil {
			return 0, err
		}
		id, err := row.LastInsertId()
		if err != nil {
			return 0, err
		}
		ship, err := jobs.NewJob("Ship", id)
		if err != nil {
			return 0, err
		}
		if _, err := sqlitetx.Enqueue(ctx, tx, ship); err != nil {
			return 0, err
		}
		if item == "dragon" {
			return 0, fmt.Errorf("no %s in stock", item)
		}
		return id, tx.Commit()
	}
	for _, item := range []string{"lamp", "dragon"} {
		id, err := order(item)
		fmt.Println("ordered:", id, err)
	}

	w := jobs.NewWorker(q, jobs.WorkerOptions{UntilEmpty: true})
	jobs.Handle(w, "Ship", func(ctx context.Context, j *jobs.Job[int64]) error {
		var item string
		err := db.QueryRowContext(ctx, `SELECT item FROM orders WHERE id = ?`, j.Payload).Scan(&item)
		fmt.Println("shipping:", item)
		return err
	})
	if err := w.Run(ctx); err != nil {
		log.Fatal(err)
	}
	// Output:
	// ordered: 1 <nil>
	// ordered: 0 no dragon in stock
	// shipping: lamp
}
