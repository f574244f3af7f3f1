package sqlite

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/driver"
)

// conn is a connection of the engine's own, with its prepared statements. It is
// used by one goroutine at a time.
type conn struct {
	*sqlite3.Conn
	stmts map[string]*sqlite3.Stmt
}

// uri is the file as a connection string. A path may hold '?' and '%'.
func uri(path, options string) string {
	u := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: options + "&vfs=" + syncName}
	return u.String()
}

// newConn opens a connection that waits for locks as long as patience says.
func newConn(path string, patience func(context.Context, int) bool, readOnly bool) (*conn, error) {
	options := "mode=rw"
	if readOnly {
		options = "mode=ro"
	}
	raw, err := sqlite3.Open(uri(path, options))
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	c := wrap(raw)
	if err := prepareConn(raw, patience); err != nil {
		c.close()
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	return c, nil
}

// prepareConn sets what holds for every connection, the busy handler first: the
// statements after it may have to wait.
func prepareConn(raw *sqlite3.Conn, patience func(context.Context, int) bool) error {
	if err := raw.BusyHandler(patience); err != nil {
		return err
	}
	return raw.Exec(fmt.Sprintf(`PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA journal_size_limit = %d;`, walCap))
}

func wrap(raw *sqlite3.Conn) *conn {
	return &conn{Conn: raw, stmts: make(map[string]*sqlite3.Stmt)}
}

// native has fn use a pool's connection as one of the engine's own.
func native(pooled *sql.Conn, fn func(*conn) error) error {
	return pooled.Raw(func(raw any) error {
		c := wrap(raw.(driver.Conn).Raw())
		return errors.Join(fn(c), c.forget())
	})
}

func (c *conn) close() error { return errors.Join(c.forget(), c.Conn.Close()) }

// forget closes the prepared statements.
func (c *conn) forget() (err error) {
	for _, s := range c.stmts {
		err = errors.Join(err, s.Close())
	}
	clear(c.stmts)
	return err
}

func (c *conn) begin() error { return c.query(`BEGIN IMMEDIATE`, nil) }

func (c *conn) commit() error {
	end, err := c.gatherFrames()
	if err != nil {
		return err
	}
	defer end()
	return c.query(`COMMIT`, nil)
}

// rollback ends a transaction that is still open, and does nothing otherwise.
func (c *conn) rollback() {
	if !c.GetAutocommit() {
		// It fails only where SQLite has rolled back by itself.
		_ = c.Exec(`ROLLBACK`)
	}
}

// query runs a statement and calls row for each row that it returns. The
// statement stays prepared: its text must come from a small set.
func (c *conn) query(sql string, row func(*sqlite3.Stmt) error, args ...any) error {
	s, ok := c.stmts[sql]
	if !ok {
		var err error
		if s, _, err = c.PrepareFlags(sql, sqlite3.PREPARE_PERSISTENT); err != nil {
			return err
		}
		c.stmts[sql] = s
	}
	for i, arg := range args {
		if err := bind(s, i+1, arg); err != nil {
			return err
		}
	}
	var err error
	for err == nil && s.Step() {
		if row != nil {
			err = row(s)
		}
	}
	if err == nil {
		err = s.Err() // also of an interrupt before the first step, of which Reset knows nothing
	}
	if e := s.Reset(); err == nil {
		err = e
	}
	return err
}

// exec runs a statement and returns how many rows it touched.
func (c *conn) exec(sql string, args ...any) (int64, error) {
	if err := c.query(sql, nil, args...); err != nil {
		return 0, err
	}
	return c.Changes(), nil
}

// exists says whether a query returns a row.
func (c *conn) exists(sql string, args ...any) (yes bool, err error) {
	err = c.query(sql, func(*sqlite3.Stmt) error { yes = true; return nil }, args...)
	return yes, err
}

// number is what a query returns in its one row; 0 where it returns none.
func (c *conn) number(sql string, args ...any) (n int64, err error) {
	err = c.query(sql, func(s *sqlite3.Stmt) error { n = s.ColumnInt64(0); return nil }, args...)
	return n, err
}

// null is bound where a value that is its type's zero means NULL.
func null[T comparable](v T) any {
	var zero T
	if v == zero {
		return nil
	}
	return v
}

func bind(s *sqlite3.Stmt, at int, arg any) error {
	switch v := arg.(type) {
	case nil:
		return s.BindNull(at)
	case bool:
		return s.BindBool(at, v)
	case int:
		return s.BindInt(at, v)
	case int64:
		return s.BindInt64(at, v)
	case float64:
		return s.BindFloat(at, v)
	case string:
		return s.BindText(at, v)
	case []byte: // text that needs no copy; nil is NULL
		if v == nil {
			return s.BindNull(at)
		}
		return s.BindRawText(at, v)
	}
	return fmt.Errorf("bind %T: not a type that is stored", arg)
}
