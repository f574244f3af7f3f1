//go:build linux

package sqlite

import (
	"context"
	"errors"
	"testing"

	"github.com/ncruces/go-sqlite3"
)

// TestInterrupted proves that a statement which was interrupted before its first step
// says so: a COMMIT that did not happen is not to be acknowledged.
func TestInterrupted(t *testing.T) {
	path, _ := walDatabase(t)
	c := wrap(testConn(t, path))
	if err := errors.Join(c.begin(), c.commit(), c.begin()); err != nil { // both are prepared then
		t.Fatal(err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	c.SetInterrupt(ended)
	if err := c.commit(); !errors.Is(err, sqlite3.INTERRUPT) {
		t.Errorf("commit: %v, want %v", err, sqlite3.INTERRUPT)
	}
	c.SetInterrupt(context.Background())
	if c.GetAutocommit() {
		t.Error("the transaction has ended")
	}
	if err := errors.Join(c.commit(), c.forget()); err != nil {
		t.Error(err)
	}
}
