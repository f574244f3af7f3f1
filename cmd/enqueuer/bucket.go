package main

import (
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"

	"github.com/urfave/cli/v2"

	"github.com/shoal-project/shoal/internal/blob"
	"github.com/shoal-project/shoal/internal/bucket"
	"github.com/shoal-project/shoal/internal/command"
	"github.com/shoal-project/shoal/internal/handlers"
	"github.com/shoal-project/shoal/internal/peer"
)

func (s *shell) bucketCommand() *cli.Command {
	return &cli.Command{
		Name:        "bucket",
		Usage:       "make, share, commit and export buckets",
		Description: "BUCKET is a bucket's id, or its name where only one has it.",
		Subcommands: []*cli.Command{{
			Name:      "create",
			Usage:     "make an empty bucket and print its id",
			ArgsUsage: "NAME",
			Action:    s.action((*call).bucketCreate),
		}, {
			Name:      "share",
			Usage:     "give a peer a share of a bucket",
			ArgsUsage: "BUCKET PEER",
			Flags:     []cli.Flag{&cli.StringFlag{Name: "role", Usage: "as `ROLE`: owner (reads, commits) or mirror (keeps what it can't read)"}},
			Action:    s.action((*call).bucketShare),
		}, {
			Name:      "commit",
			Usage:     "make a folder, as it is now, the bucket's next version",
			ArgsUsage: "BUCKET DIR",
			Action:    s.action((*call).bucketCommit),
		}, {
			Name:   "list",
			Usage:  "list the buckets",
			Action: s.inHome((*call).bucketList),
		}, {
			Name:      "log",
			Usage:     "list a bucket's versions, newest first",
			ArgsUsage: "BUCKET",
			Action:    s.inHome((*call).bucketLog),
		}, {
			Name:      "export",
			Usage:     "write a bucket's files to a new or an empty folder",
			ArgsUsage: "BUCKET DIR",
			Action:    s.action((*call).bucketExport),
		}, {
			Name:      "verify",
			Usage:     "read all of a bucket's blobs and check them",
			ArgsUsage: "BUCKET",
			Action:    s.action((*call).bucketVerify),
		}},
	}
}

// author opens the home as one who makes and reads versions.
func (c *call) author(need command.HomeOptions) (*bucket.Author, error) {
	if err := c.open(need); err != nil {
		return nil, err
	}
	var self peer.Identity
	var err error
	if need.Make {
		self, err = c.identity()
	} else if self, err = peer.LoadIdentity(c.home.Dir); errors.Is(err, fs.ErrNotExist) {
		err = fmt.Errorf("%s has no identity yet, and so no bucket: \"bucket create\" makes both", c.home.Dir)
	}
	if err != nil {
		return nil, err
	}
	return &bucket.Author{
		Log:      bucket.NewLog(c.home.Store, c.now),
		Blobs:    blob.Open(filepath.Join(c.home.Dir, "blobs")),
		Identity: self.Key(),
	}, nil
}

// find is the head of the bucket that a person names.
func (c *call) find(log *bucket.Log, name string) (bucket.Entry, error) {
	head, err := log.Find(c.ctx, name)
	if errors.Is(err, bucket.ErrUnknownBucket) {
		err = fmt.Errorf("unknown bucket %q: \"bucket list\" shows those that are here", command.Shorten(name, 64))
	}
	return head, err
}

// appendTries is how often a version is made again because another came first.
const appendTries = 5

// append makes a version and appends it to the log, in one transaction with the
// pings that make it known.
func (c *call) append(a *bucket.Author, makeVersion func() (*bucket.Version, error)) (*bucket.Version, error) {
	for try := 1; ; try++ {
		v, err := makeVersion()
		if err != nil || v.Unchanged {
			return v, err
		}
		pings, err := handlers.PingJobs(v.Manifest, v.Manifest.AuthorID())
		if err != nil {
			return nil, err
		}
		err = c.home.Store.Write(c.ctx, func(tx *sql.Tx) error { return a.Log.AppendVersion(c.ctx, tx, v) }, pings...)
		if !errors.Is(err, bucket.ErrHeadMoved) || try == appendTries {
			return v, err
		}
	}
}
