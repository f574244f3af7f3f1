package main

import (
	"database/sql"
	"errors"
	"fmt"
	"slices"
	"strconv"

	"github.com/shoal-project/shoal/internal/bucket"
	"github.com/shoal-project/shoal/internal/command"
	"github.com/shoal-project/shoal/pkg/jobs"
)

// logRow is a version in the log as --json prints it.
type logRow struct {
	BucketID       bucket.ID     `json:"bucket_id"`
	Name           string        `json:"name"`
	Height         int64         `json:"height"`
	Link           string        `json:"link"`
	Previous       string        `json:"previous,omitempty"`
	Author         bucket.PeerID `json:"author"`
	AppliedAt      jobs.Seconds  `json:"applied_at"`
	PinsCompleteAt jobs.Seconds  `json:"pins_complete_at,omitempty"`
}

func rowOfEntry(e bucket.Entry) logRow {
	r := logRow{e.Bucket, e.Name, e.Height, e.Link.String(), "", e.Author, jobs.SecondsOf(e.AppliedAt), jobs.SecondsOf(e.PinsCompleteAt)}
	if e.Previous.Defined() {
		r.Previous = e.Previous.String()
	}
	return r
}

// blobs says whether a version can be read here.
func blobs(e bucket.Entry) string {
	if e.PinsCompleteAt.IsZero() {
		return "missing"
	}
	return "complete"
}

func (c *call) bucketList() error {
	heads, err := bucket.NewLog(c.home.Store, c.now).Heads(c.ctx)
	if err != nil {
		return err
	}
	return list(c, "buckets", heads, []string{"NAME", "ID", "VERSION", "CHANGED", "BLOBS"}, func(e bucket.Entry) (any, []string) {
		return rowOfEntry(e), []string{e.Name, e.Bucket.String(), strconv.FormatInt(e.Height, 10), command.Ago(c.now(), e.AppliedAt), blobs(e)}
	})
}

func (c *call) bucketLog() error {
	log := bucket.NewLog(c.home.Store, c.now)
	head, err := c.find(log, c.Args().First())
	if err != nil {
		return err
	}
	entries, err := log.Entries(c.ctx, head.Bucket)
	if err != nil {
		return err
	}
	slices.Reverse(entries)
	return list(c, "versions", entries, []string{"VERSION", "CHANGED", "AUTHOR", "BLOBS", "LINK"}, func(e bucket.Entry) (any, []string) {
		return rowOfEntry(e), []string{strconv.FormatInt(e.Height, 10), command.Ago(c.now(), e.AppliedAt), short(e.Author), blobs(e), e.Link.String()}
	})
}

// head opens the home and the newest version of the bucket that is named first.
func (c *call) head() (*bucket.Author, *bucket.Manifest, error) {
	a, err := c.author(existingFiles)
	if err != nil {
		return nil, nil, err
	}
	entry, err := c.find(a.Log, c.Args().First())
	if err != nil {
		return nil, nil, err
	}
	m, err := bucket.LoadManifest(a.Blobs, entry.Link)
	return a, m, err
}

func (c *call) bucketExport() error {
	a, m, err := c.head()
	if err != nil {
		return err
	}
	dir := c.Args().Get(1)
	stats, err := bucket.Export(c.ctx, a.Blobs, a.Identity, m, dir)
	if err != nil {
		return err
	}
	return c.out.Result(struct {
		BucketID bucket.ID `json:"bucket_id"`
		Height   int64     `json:"height"`
		Link     string    `json:"link"`
		bucket.Stats
	}{m.Bucket, m.Height, m.Link().String(), stats},
		"version %d: %s, %s in %s", m.Height, command.Plural(stats.Files, "file"), command.Bytes(stats.Bytes), dir)
}

func (c *call) bucketVerify() error {
	a, m, err := c.head()
	if err != nil {
		return err
	}
	report, err := bucket.Verify(c.ctx, a.Blobs, a.Identity, m)
	if _, damaged := errors.AsType[*bucket.DamageError](err); damaged {
		// The next ping finds the version incomplete, and has the blobs fetched.
		err = errors.Join(err, c.home.Store.Write(c.ctx, func(tx *sql.Tx) error {
			return a.Log.PinsIncomplete(c.ctx, tx, m.Bucket, m.Link())
		}))
	}
	if err != nil {
		return fmt.Errorf("version %d of %s: %w", m.Height, m.Name, err)
	}
	opened := "whole, and sealed: there is no key for them here"
	if report.Opened {
		opened = fmt.Sprintf("whole; %s decrypted and compared", command.Plural(report.Stats.Files, "file"))
	}
	return c.out.Result(struct {
		BucketID bucket.ID `json:"bucket_id"`
		Height   int64     `json:"height"`
		Link     string    `json:"link"`
		Blobs    int       `json:"blobs"`
		Stored   int64     `json:"blob_bytes"`
		Opened   bool      `json:"opened"`
		bucket.Stats
	}{m.Bucket, m.Height, m.Link().String(), report.Blobs, report.Bytes, report.Opened, report.Stats},
		"version %d: %s, %s, %s", m.Height, command.Plural(report.Blobs, "blob"), command.Bytes(report.Bytes), opened)
}
