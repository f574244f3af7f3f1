// Command enqueuer puts jobs into a queue and looks at what became of them. It
// keeps the peers and the buckets of a home, too: see enqueuer --help.
package main

import (
	"context"
	"io"
	"os/signal"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
	"go.uber.org/zap/zapcore"

	"github.com/shoal-project/shoal/internal/command"
	"github.com/shoal-project/shoal/pkg/jobs"
)

func main() { command.Main(run) }

func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGINT, syscall.SIGTERM)
	context.AfterFunc(ctx, stop) // a second signal ends us at once
	defer stop()
	s := &shell{log: command.Logger(stderr, zapcore.WarnLevel), now: time.Now}
	return command.Run(ctx, s.app(), args, stdin, stdout, stderr)
}

func (s *shell) app() *cli.App {
	return &cli.App{
		Usage: "put jobs into a Shoal queue, and look at it",
		Flags: append(command.HomeFlags(), command.JSONFlag()),
		Commands: []*cli.Command{
			s.enqueueCommand(),
			s.jobCommand(),
			s.pruneCommand(),
			s.policyCommand(jobs.OfType),
			s.policyCommand(jobs.OfQueue),
			s.statsCommand(),
			s.workersCommand(),
			s.scheduleCommand(),
			s.sqlCommand(),
			s.peerCommand(),
			s.bucketCommand(),
		},
	}
}
