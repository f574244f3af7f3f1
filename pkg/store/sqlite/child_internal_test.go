//go:build linux

package sqlite

import (
	"bufio"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// childRoles are what a child can be. Each says "ready" when its test may go on,
// and ends with its standard input.
var childRoles = map[string]func(args []string) error{
	"seat":          takeSeat,
	"seat and heir": takeSeatAndBequeath,
	"writer":        holdWriteLock,
	"clock":         tellTime,
}

// TestMainOfChild is where the test binary arrives when it is run again as a
// second process. Run as a test it has nothing to do.
func TestMainOfChild(t *testing.T) {
	role, ok := childRoles[os.Getenv("SHOAL_TEST_ROLE")]
	if !ok {
		return
	}
	if err := role(flag.Args()); err != nil {
		t.Fatal(err)
	}
}

// childProcess is another process and the pipes to it.
type childProcess struct {
	t      *testing.T
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
}

// startChild runs this test binary again in one of the childRoles.
func startChild(t *testing.T, role string, args ...string) *childProcess {
	t.Helper()
	t.Setenv("SHOAL_TEST_ROLE", role)
	return startProgram(t, exec.Command(os.Args[0], append([]string{"-test.run=^TestMainOfChild$", "--"}, args...)...))
}

// startProgram starts cmd and kills it at the end of the test.
func startProgram(t *testing.T, cmd *exec.Cmd) *childProcess {
	t.Helper()
	cmd.Stderr = os.Stderr
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	c := &childProcess{t: t, cmd: cmd, stdin: stdin, stdout: bufio.NewReader(stdout)}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	return c
}

// expect waits for the child to say a line, and wants it to be this one.
func (c *childProcess) expect(want string) {
	c.t.Helper()
	if got := c.line(); got != want {
		c.t.Fatalf("%s said %q, want %q", c.cmd, got, want)
	}
}

func (c *childProcess) line() string {
	c.t.Helper()
	line, err := c.stdout.ReadString('\n')
	if err != nil {
		c.t.Fatalf("%s said %q: %v", c.cmd, line, err)
	}
	return strings.TrimSuffix(line, "\n")
}

// stop sends SIGSTOP and returns when the child stands still.
func (c *childProcess) stop() {
	c.t.Helper()
	if err := c.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		c.t.Fatal(err)
	}
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(c.cmd.Process.Pid, &status, unix.WUNTRACED, nil)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil || !status.Stopped() {
			c.t.Fatalf("wait for the stop: %v, status %#x", err, status)
		}
		return
	}
}

// kill sends SIGKILL and returns when the child is gone. Its pipes stay open:
// an heir may hold them too.
func (c *childProcess) kill() {
	c.t.Helper()
	if err := c.cmd.Process.Kill(); err != nil {
		c.t.Fatal(err)
	}
	if _, err := c.cmd.Process.Wait(); err != nil {
		c.t.Fatal(err)
	}
}
