package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/shoal-project/shoal/internal/bucket"
	"github.com/shoal-project/shoal/internal/command"
)

func (c *call) bucketCreate() error {
	name := c.Args().First()
	if err := bucket.CheckName(name); err != nil {
		return err
	}
	a, err := c.author(makeFiles)
	if err != nil {
		return err
	}
	switch _, err := a.Log.Find(c.ctx, name); {
	case err == nil || errors.Is(err, bucket.ErrAmbiguous):
		fmt.Fprintf(c.App.ErrWriter, "another bucket is called %s, too: name each by its id from now on\n", name)
	case !errors.Is(err, bucket.ErrUnknownBucket):
		return err
	}
	v, err := c.append(a, func() (*bucket.Version, error) { return a.Create(name) })
	if err != nil {
		return err
	}
	return c.out.Result(map[string]any{"bucket_id": v.Manifest.Bucket}, "%s", v.Manifest.Bucket)
}

// versionRow is what --json prints of a version that was made.
type versionRow struct {
	BucketID  bucket.ID `json:"bucket_id"`
	Name      string    `json:"name"`
	Height    int64     `json:"height"`
	Link      string    `json:"link"`
	Unchanged bool      `json:"unchanged"`
}

func rowOfVersion(v *bucket.Version) versionRow {
	m := v.Manifest
	return versionRow{m.Bucket, m.Name, m.Height, m.Link().String(), v.Unchanged}
}

func (c *call) bucketShare() error {
	role, err := bucket.ParseRole(c.String("role"))
	if err != nil {
		return command.Usage("--role is %q: want owner or mirror", c.String("role"))
	}
	a, err := c.author(existingFiles)
	if err != nil {
		return err
	}
	head, err := c.find(a.Log, c.Args().Get(0))
	if err != nil {
		return err
	}
	with, err := c.findPeer(c.book(), c.Args().Get(1))
	if err != nil {
		return err
	}
	v, err := c.append(a, func() (*bucket.Version, error) { return a.Share(c.ctx, head.Bucket, with.ID, role) })
	if err != nil {
		return err
	}
	said := fmt.Sprintf("version %d: peer %s is %s", v.Manifest.Height, short(with.ID), as(role))
	if v.Unchanged {
		said = fmt.Sprintf("unchanged: peer %s is %s already", short(with.ID), as(role))
	}
	return c.out.Result(struct {
		versionRow
		PeerID bucket.PeerID `json:"peer_id"`
		Role   bucket.Role   `json:"role"`
	}{rowOfVersion(v), with.ID, role}, "%s", said)
}

func as(role bucket.Role) string {
	if role == bucket.Owner {
		return "an owner"
	}
	return "a mirror"
}

func (c *call) bucketCommit() error {
	a, err := c.author(existingFiles)
	if err != nil {
		return err
	}
	if err := apart(c.Args().Get(1), c.home.Dir, filepath.Dir(c.home.DB)); err != nil {
		return err
	}
	head, err := c.find(a.Log, c.Args().Get(0))
	if err != nil {
		return err
	}
	v, err := c.append(a, func() (*bucket.Version, error) { return a.Commit(c.ctx, head.Bucket, c.Args().Get(1)) })
	if err != nil {
		return err
	}
	fresh := ""
	if v.Added.Blobs > 0 {
		fresh = fmt.Sprintf(", %s, %s new", command.Plural(v.Added.Blobs, "new blob"), command.Bytes(v.Added.Bytes))
	}
	said := fmt.Sprintf("version %d: %s%s", v.Manifest.Height, command.Plural(v.Stats.Files, "file"), fresh)
	switch {
	case v.Unchanged && fresh == "":
		said = fmt.Sprintf("unchanged: version %d holds the folder as it is", v.Manifest.Height)
	case v.Unchanged:
		said = fmt.Sprintf("unchanged: version %d, made whole again%s", v.Manifest.Height, fresh)
	}
	return c.out.Result(struct {
		versionRow
		bucket.Stats
		NewBlobs int   `json:"new_blobs"`
		NewBytes int64 `json:"new_bytes"`
	}{rowOfVersion(v), v.Stats, v.Added.Blobs, v.Added.Bytes}, "%s", said)
}

// apart returns an error if one of the home's folders lies in dir, or dir in
// it: a version that holds the identity gives it away.
func apart(dir string, own ...string) error {
	for _, home := range own {
		for _, pair := range [][2]string{{dir, home}, {home, dir}} {
			inside, err := within(pair[0], pair[1])
			if err != nil {
				return err
			}
			if inside {
				return fmt.Errorf("%s can't be committed: %s lies in %s, and with it the home's private key would be given away; keep them apart",
					dir, pair[1], pair[0])
			}
		}
	}
	return nil
}

// within says whether the folder inner is outer, or lies in it.
func within(outer, inner string) (bool, error) {
	want, err := os.Stat(outer)
	if err != nil {
		return false, err
	}
	at, err := filepath.Abs(inner)
	if err != nil {
		return false, err
	}
	if at, err = filepath.EvalSymlinks(at); err != nil {
		return false, err
	}
	for {
		info, err := os.Stat(at)
		if err != nil {
			return false, err
		}
		if os.SameFile(want, info) {
			return true, nil
		}
		above := filepath.Dir(at)
		if above == at {
			return false, nil
		}
		at = above
	}
}
