package main

import (
	"bytes"
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/driver"
	"github.com/urfave/cli/v2"

	"github.com/shoal-project/shoal/internal/command"
)

func (s *shell) sqlCommand() *cli.Command {
	return &cli.Command{
		Name:      "sql",
		Usage:     "run a query on the queue's file, read-only unless told otherwise",
		ArgsUsage: "QUERY",
		Description: `Runs one query and prints its rows. With --write it may change the file;
several statements, separated by semicolons, are one transaction then, which
must not be ended by one of them. It has 5 s, as nobody else can write meanwhile.`,
		Flags:  []cli.Flag{&cli.BoolFlag{Name: "write", Usage: "allow the query to change the file", DisableDefaultText: true}},
		Action: s.inHome((*call).sql),
	}
}

func (c *call) sql() error {
	query := c.Args().First()
	n, err := statements(c.ctx, c.home.Store.Read(), query)
	switch {
	case err != nil:
		return sqlError(err)
	case n == 0:
		return command.Usage("QUERY holds no statement: sql QUERY")
	case c.Bool("write"):
		return c.sqlWrite(query, n)
	case n > 1:
		return errors.New("several statements: give one at a time (with --write they are one transaction)")
	}
	_, err = printQuery(c.ctx, c.home.Store.Read(), query, c.out)
	return sqlError(err)
}

// sqlWrite prints what the transaction did once it is committed: until then the
// rows are kept, and must fit into memory. Of several statements only the number
// of changed rows is told.
func (c *call) sqlWrite(query string, statements int) error {
	var result bytes.Buffer
	out := *c.out
	out.Writer = &result
	var columns int
	var changed int64
	err := c.home.Store.Write(c.ctx, func(tx *sql.Tx) error {
		before, err := totalChanges(c.ctx, tx)
		if err != nil {
			return err
		}
		if statements == 1 {
			columns, err = printQuery(c.ctx, tx, query, &out)
		} else {
			_, err = tx.ExecContext(c.ctx, query)
		}
		if err != nil {
			return err
		}
		after, err := totalChanges(c.ctx, tx)
		changed = after - before
		return err
	})
	switch {
	case errors.Is(err, context.DeadlineExceeded):
		return errors.New("the query took longer than 5 s and was undone: change fewer rows at a time")
	case err != nil:
		return sqlError(err)
	case columns > 0:
		_, err := result.WriteTo(c.out)
		return err
	}
	return c.out.Result(map[string]int64{"changed": changed}, "%s changed", command.Plural(changed, "row"))
}

// totalChanges counts the rows that the connection has changed so far, those
// that triggers changed too.
func totalChanges(ctx context.Context, tx *sql.Tx) (n int64, err error) {
	err = tx.QueryRowContext(ctx, `SELECT total_changes()`).Scan(&n)
	return n, err
}

// statements counts what is to run: 0, 1, or 2 for more. The first one's
// mistakes are found here; a later one may build on it.
func statements(ctx context.Context, db *sql.DB, query string) (n int, err error) {
	pooled, err := db.Conn(ctx)
	if err != nil {
		return 0, err
	}
	defer pooled.Close()
	err = pooled.Raw(func(c any) error {
		for rest := query; rest != "" && n < 2; {
			s, tail, err := c.(driver.Conn).Raw().Prepare(rest)
			switch {
			case err != nil && n == 0:
				return err
			case err != nil || s != nil:
				n++
			}
			if s != nil {
				if err := s.Close(); err != nil {
					return err
				}
			}
			rest = tail
		}
		return nil
	})
	return n, err
}

// sqlError says what to do about the errors that have a way out.
func sqlError(err error) error {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, sqlite3.READONLY):
		return errors.New("the query would change the file: sql only reads, unless --write is given")
	}
	return fmt.Errorf("sql: %w", err)
}
