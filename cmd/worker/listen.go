package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"syscall"

	"github.com/shoal-project/shoal/internal/handlers"
	"github.com/shoal-project/shoal/internal/peer"
	"github.com/shoal-project/shoal/pkg/jobs"
)

// listen makes the home's server and the listener that it serves at.
func listen(ctx context.Context, home *handlers.Home, tables jobs.Tables, cfg config) (*peer.Server, net.Listener, error) {
	host, port, err := net.SplitHostPort(cfg.listen)
	if err != nil {
		return nil, nil, fmt.Errorf("--listen %s: %w", cfg.listen, err)
	}
	identity, err := home.Identity()
	if err != nil {
		return nil, nil, err
	}
	server, err := peer.NewServer(peer.Options{
		Identity: identity, Book: home.Book, Blobs: home.Blobs, Log: home.Log, Ping: home.Answer, Logger: cfg.log,
	})
	if err != nil {
		return nil, nil, err
	}
	var ln net.Listener
	if port == "0" {
		ln, err = listenAny(ctx, tables, host)
	} else {
		ln, err = peer.Listen(ctx, cfg.listen)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("--listen %s: %w", cfg.listen, err)
	}
	return server, ln, nil
}

// listenAny listens on a port that the system chooses for the first worker of
// the home; it is kept in the file, and the others share it, so that peers find
// the home where it was.
func listenAny(ctx context.Context, tables jobs.Tables, host string) (net.Listener, error) {
	key := "listen " + net.JoinHostPort(host, "0")
	for {
		kept := ""
		err := tables.Read().QueryRowContext(ctx, `SELECT value FROM sync_meta WHERE key = $1`, key).Scan(&kept)
		if err != nil && !errors.Is(err, sql.ErrNoRows) {
			return nil, err
		}
		if kept != "" {
			ln, err := peer.Listen(ctx, net.JoinHostPort(host, kept))
			if !errors.Is(err, syscall.EADDRINUSE) {
				return ln, err
			}
			// Another program has it by now: the home moves.
		}
		ln, err := peer.Listen(ctx, net.JoinHostPort(host, "0"))
		if err != nil {
			return nil, err
		}
		_, port, err := net.SplitHostPort(ln.Addr().String())
		if err != nil {
			return nil, errors.Join(err, ln.Close())
		}
		mine := false
		err = tables.Write(ctx, func(tx *sql.Tx) error {
			res, err := tx.ExecContext(ctx, `INSERT INTO sync_meta (key, value) VALUES ($1, $2)
				ON CONFLICT (key) DO UPDATE SET value = excluded.value WHERE sync_meta.value = $3`, key, port, kept)
			if err != nil {
				return err
			}
			n, err := res.RowsAffected()
			mine = n == 1
			return err
		})
		if err == nil && mine {
			return ln, nil
		}
		// Another worker of the home was faster: share its port.
		if err = errors.Join(err, ln.Close()); err != nil {
			return nil, err
		}
	}
}
