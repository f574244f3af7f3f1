package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"github.com/shoal-project/shoal/internal/bucket"
	"github.com/shoal-project/shoal/internal/command"
	"github.com/shoal-project/shoal/internal/peer"
	"github.com/shoal-project/shoal/pkg/jobs"
)

func (s *shell) peerCommand() *cli.Command {
	return &cli.Command{
		Name:  "peer",
		Usage: "keep the address book: who may talk to this home, and where they are",
		Subcommands: []*cli.Command{{
			Name:   "id",
			Usage:  "print this home's peer ID, and make its identity if it has none",
			Action: s.action((*call).peerID),
		}, {
			Name:      "add",
			Usage:     "add a peer, or change its address",
			ArgsUsage: "PEER URL",
			Flags:     []cli.Flag{&cli.BoolFlag{Name: "offers", Usage: "let it bring buckets that are new here", DisableDefaultText: true}},
			Action:    s.action((*call).peerAdd),
		}, {
			Name:   "list",
			Usage:  "list the peers",
			Action: s.inHome((*call).peerList),
		}, {
			Name:      "remove",
			Usage:     "remove a peer: it is a stranger from then on",
			ArgsUsage: "PEER",
			Action:    s.inHome((*call).peerRemove),
		}},
	}
}

// peerRow is a peer as --json prints it.
type peerRow struct {
	PeerID    bucket.PeerID `json:"peer_id"`
	URL       string        `json:"url,omitempty"`
	Offers    bool          `json:"offers"`
	AddedAt   jobs.Seconds  `json:"added_at"`
	LastSeen  jobs.Seconds  `json:"last_seen,omitempty"`
	LastError string        `json:"last_error,omitempty"`
}

func rowOfPeer(e peer.Entry) peerRow {
	return peerRow{e.ID, e.URL, e.Offers, jobs.SecondsOf(e.AddedAt), jobs.SecondsOf(e.LastSeen), e.LastError}
}

func (c *call) peerID() error {
	if err := c.open(makeFiles); err != nil {
		return err
	}
	self, err := c.identity()
	if err != nil {
		return err
	}
	return c.out.Result(map[string]any{"peer_id": self.ID()}, "%s", self.ID())
}

// identity is the home's; it is made, and that is said, if there is none.
func (c *call) identity() (peer.Identity, error) {
	self, created, err := peer.EnsureIdentity(c.home.Dir)
	if created {
		fmt.Fprintf(c.App.ErrWriter, "made a new identity in %s\n", c.home.Dir)
	}
	return self, err
}

func (c *call) peerAdd() error {
	id, err := bucket.ParsePeerID(c.Args().Get(0))
	if err != nil {
		return fmt.Errorf("%w; the peer's own is what \"peer id\" prints there", err)
	}
	if err := c.open(makeFiles); err != nil {
		return err
	}
	self, err := c.identity()
	if err != nil {
		return err
	}
	book := c.book()
	if err := book.Add(c.ctx, self.ID(), id, c.Args().Get(1), c.Bool("offers")); err != nil {
		return err
	}
	entry, err := book.Get(c.ctx, id)
	if err != nil {
		return err
	}
	may := ""
	if entry.Offers {
		may = ", who may bring new buckets"
	}
	return c.out.Result(rowOfPeer(entry), "added peer %s at %s%s", short(id), entry.URL, may)
}

func (c *call) peerList() error {
	entries, err := c.book().List(c.ctx)
	if err != nil {
		return err
	}
	return list(c, "peers", entries, []string{"PEER", "URL", "OFFERS", "SEEN", "LAST ERROR"}, func(e peer.Entry) (any, []string) {
		seen := "never"
		if !e.LastSeen.IsZero() {
			seen = command.Ago(c.now(), e.LastSeen)
		}
		return rowOfPeer(e), []string{short(e.ID), e.URL, yes(e.Offers), seen, e.LastError}
	})
}

func (c *call) peerRemove() error {
	book := c.book()
	entry, err := c.findPeer(book, c.Args().First())
	if err != nil {
		return err
	}
	if err := book.Remove(c.ctx, entry.ID); err != nil {
		return err
	}
	return c.out.Result(rowOfPeer(entry), "removed peer %s at %s", short(entry.ID), entry.URL)
}

// book is the home's address book.
func (c *call) book() *peer.Book { return peer.NewBook(c.home.Store, c.now) }

// findPeer is the peer that a person names by its ID or the beginning of it.
func (c *call) findPeer(book *peer.Book, name string) (peer.Entry, error) {
	entry, err := book.Find(c.ctx, name)
	if errors.Is(err, peer.ErrUnknownPeer) {
		err = fmt.Errorf("unknown peer %q: \"peer list\" shows those that are known, \"peer add\" adds one", command.Shorten(name, 64))
	}
	return entry, err
}

// short is enough of a peer ID to tell it from the others, and to name it by.
func short(id bucket.PeerID) string { return string(id[:min(16, len(id))]) }
