package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"
)

// redisServer is a process of this program's own, that nobody else can reach.
type redisServer struct {
	version string
	socket  string
	end     context.CancelFunc
	ended   chan error // what Wait returned, once
}

// startRedis returns once the server takes connections. Its append-only file is
// in dir, synced every second: the policy that Redis suggests and has as its
// default (https://redis.io/docs/latest/operate/oss_and_stack/management/persistence/).
func startRedis(ctx context.Context, dir string) (_ *redisServer, err error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, errors.New("redis-server is not in $PATH; install it (Debian's package is redis-server)")
	}
	version, err := redisVersion(ctx, path)
	if err != nil {
		return nil, err
	}
	// Not in dir, which may be deeper than the 100 bytes that a socket's path may have.
	sockets, err := os.MkdirTemp("", "peers-")
	if err != nil {
		return nil, fmt.Errorf("a folder for Redis's socket: %w", err)
	}
	// It outlives ctx, as the last words of asynq need it.
	life, end := context.WithCancel(context.WithoutCancel(ctx))
	r := &redisServer{version: version, socket: filepath.Join(sockets, "redis.sock"), end: end, ended: make(chan error, 1)}
	cmd := exec.CommandContext(life, path, "--port", "0", "--unixsocket", r.socket, "--dir", dir,
		"--appendonly", "yes", "--appendfsync", "everysec", "--save", "", "--loglevel", "warning")
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 5 * time.Second
	var output bytes.Buffer // read once it has ended
	cmd.Stdout, cmd.Stderr = &output, &output
	endWithParent(cmd)
	go func() {
		// The thread that starts it has to stay: to the kernel that one is the parent.
		runtime.LockOSThread()
		if err := cmd.Run(); err != nil && life.Err() == nil {
			r.ended <- fmt.Errorf("redis-server: %w: %s", err, strings.TrimSpace(output.String()))
		}
		close(r.ended)
	}()
	if err := r.await(ctx); err != nil {
		return nil, errors.Join(err, r.stop())
	}
	return r, nil
}

func redisVersion(ctx context.Context, path string) (string, error) {
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return "", fmt.Errorf("%s --version: %w", path, err)
	}
	_, rest, _ := strings.Cut(string(out), "v=")
	version, _, _ := strings.Cut(rest, " ")
	return version, nil
}

func (r *redisServer) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	var dialer net.Dialer
	for {
		conn, err := dialer.DialContext(ctx, "unix", r.socket)
		if err == nil {
			return conn.Close()
		}
		select {
		case <-tick.C:
		case err := <-r.ended:
			return err
		case <-ctx.Done():
			return fmt.Errorf("redis-server takes no connections: %w", err)
		}
	}
}

// stop ends the server, which writes what it has not yet written.
func (r *redisServer) stop() error {
	r.end()
	return errors.Join(<-r.ended, os.RemoveAll(filepath.Dir(r.socket)))
}
