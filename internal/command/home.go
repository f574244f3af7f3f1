package command

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/shoal-project/shoal/pkg/store"
)

const (
	defaultHome = "./shoal"
	dbFile      = "shoal.db"
)

// HomeFlags are --home and --db; see HomeOf.
func HomeFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "home", Value: defaultHome, EnvVars: []string{"SHOAL_HOME"}, Usage: "the node's `DIR`"},
		&cli.StringFlag{Name: "db", EnvVars: []string{"SHOAL_DB"}, Usage: "the queue's `FILE`", DefaultText: "shoal.db in the home"},
	}
}

// HomeOptions say where a home is and what may be made of it.
type HomeOptions struct {
	Dir string // empty: ./shoal
	DB  string // what store.Open takes; empty: shoal.db in Dir
	// Make makes what is not there; else OpenHome refuses.
	Make bool
	// Files says that the folder itself is used, for blobs or the identity: it
	// is needed then even if DB names a database elsewhere.
	Files bool
	Notes io.Writer     // is told of what was made
	Store store.Options // but Existing, which OpenHome sets
}

// HomeOf reads the flags of HomeFlags. Notes is the app's stderr.
func HomeOf(c *cli.Context) HomeOptions {
	return HomeOptions{Dir: c.String("home"), DB: c.String("db"), Notes: c.App.ErrWriter}
}

// Home is an open home. Dir need not be there unless its options said Files;
// see EnsureDir.
type Home struct {
	Dir   string
	DB    string // what was given to store.Open
	Store store.Store
	notes io.Writer
}

// OpenHome opens a home's queue. Where the home is not there it makes one and
// says so on Notes, if the options allow it, or returns an error that says how
// to come by one. The caller closes the home's Store.
func OpenHome(ctx context.Context, o HomeOptions) (*Home, error) {
	h := &Home{Dir: cmp.Or(o.Dir, defaultHome), DB: o.DB, notes: o.Notes}
	elsewhere := o.DB != ""
	if !elsewhere {
		h.DB = filepath.Join(h.Dir, dbFile)
	}
	made := false
	if !elsewhere || o.Files {
		var err error
		if made, err = h.prepareDir(o.Make); err != nil {
			return nil, err
		}
	}
	_, err := os.Stat(h.DB)
	fresh := h.DB != ":memory:" && errors.Is(err, fs.ErrNotExist)
	o.Store.Existing = !o.Make
	if h.Store, err = store.Open(ctx, h.DB, o.Store); err != nil {
		return nil, err
	}
	switch {
	case fresh && elsewhere:
		fmt.Fprintf(h.notes, "made a new database, %s\n", h.DB)
	case fresh && !made:
		fmt.Fprintf(h.notes, "made a new home in %s\n", h.Dir)
	}
	return h, nil
}

// EnsureDir makes the home's folder if it is not there, and says so: for what
// keeps files in it while its database is elsewhere.
func (h *Home) EnsureDir() error {
	_, err := h.prepareDir(true)
	return err
}

// prepareDir sees that the home's folder is there; with mayMake it makes it.
func (h *Home) prepareDir(mayMake bool) (made bool, err error) {
	info, err := os.Stat(h.Dir)
	switch {
	case err == nil && !info.IsDir():
		return false, fmt.Errorf("%s is not a folder; name another home with --home", h.Dir)
	case err == nil:
		return false, nil
	case !errors.Is(err, fs.ErrNotExist):
		return false, fmt.Errorf("home can't be reached: %w", err)
	case !mayMake:
		return false, fmt.Errorf("there is no home in %s: start a worker or enqueue a job first, or name another with --home", h.Dir)
	}
	if made, err = makeDir(h.Dir); err != nil {
		return false, fmt.Errorf("home can't be made: %w; name another with --home", err)
	}
	if made {
		fmt.Fprintf(h.notes, "made a new home in %s\n", h.Dir)
	}
	return made, nil
}

// makeDir makes a folder, and those above it, such that a power cut takes away
// nothing that is written into it later.
func makeDir(dir string) (made bool, err error) {
	above := filepath.Dir(filepath.Clean(dir))
	err = os.Mkdir(dir, 0o700)
	if errors.Is(err, fs.ErrNotExist) && above != dir {
		if _, err := makeDir(above); err != nil {
			return false, err
		}
		err = os.Mkdir(dir, 0o700)
	}
	if errors.Is(err, fs.ErrExist) {
		return false, nil // somebody else was faster
	}
	if err != nil {
		return false, err
	}
	d, err := os.Open(above)
	if err != nil {
		return false, err
	}
	return true, errors.Join(d.Sync(), d.Close())
}
