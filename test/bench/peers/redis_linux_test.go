package main_test

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// TestKilled: a program that is killed leaves no redis-server running.
func TestKilled(t *testing.T) {
	temp := t.TempDir()
	cmd := exec.Command(program, "asynq", "--jobs", "1000000", "--slots", "1", "--dir", t.TempDir())
	cmd.Env = append(os.Environ(), "TMPDIR="+temp)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	answers := func() bool {
		sockets, err := filepath.Glob(filepath.Join(temp, "*", "redis.sock"))
		if err != nil || len(sockets) == 0 {
			return false
		}
		conn, err := net.Dial("unix", sockets[0])
		if err != nil {
			return false
		}
		return conn.Close() == nil
	}
	eventually(t, "a redis-server that takes connections", answers)
	cmd.Process.Kill()
	eventually(t, "its end", func() bool { return !answers() })
}

func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(10 * time.Second)
	for !holds() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}
