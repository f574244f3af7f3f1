package peer

import (
	"context"
	"errors"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// Listen opens a TCP listener on addr ("host:port", port 0 for any) with
// SO_REUSEPORT, so that all workers of a home may serve at one port; when one
// dies, new connections go to the others. The kernel lets only one user's
// processes share a port. It does not know homes: two homes that are given the
// same port share it too, and a client then meets the wrong key.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var set error
		err := c.Control(func(fd uintptr) {
			set = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
		})
		return errors.Join(err, set)
	}}
	return lc.Listen(ctx, "tcp", addr)
}
