package sqlite_test

import (
	"context"
	"path/filepath"
	"testing"

	"go.uber.org/zap/zaptest"

	"github.com/shoal-project/shoal/pkg/store/sqlite"
	"github.com/shoal-project/shoal/pkg/store/storetest"
)

func TestStore(t *testing.T) {
	storetest.Run(t, func(t *testing.T) storetest.Opener {
		path := filepath.Join(t.TempDir(), "a b?c%.db")
		return func() storetest.Store { return open(t, path, sqlite.Options{}) }
	})
}

func open(t *testing.T, path string, o sqlite.Options) *sqlite.DB {
	t.Helper()
	if o.Logger == nil {
		o.Logger = zaptest.NewLogger(t)
	}
	db, err := sqlite.Open(context.Background(), path, o)
	if err != nil {
		t.Fatal(err)
	}
	return db
}
