package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/shoal-project/shoal/internal/command"
	"github.com/shoal-project/shoal/pkg/jobs"
)

func (s *shell) waitCommand() *cli.Command {
	return &cli.Command{
		Name:      "wait",
		Usage:     "wait until jobs have ended, and print their results",
		ArgsUsage: "ID [ID…]",
		Flags:     []cli.Flag{command.DurationFlag("timeout", 0, "for `D` at most")},
		Action:    s.action((*call).jobWait),
	}
}

// waitLook is how often a job is looked at.
const waitLook = 100 * time.Millisecond

// jobWait waits for one job after the other, and fails if any did not complete.
func (c *call) jobWait() error {
	ids, err := c.ids()
	if err != nil {
		return err
	}
	timeout := command.DurationOf(c.Context, "timeout")
	if c.IsSet("timeout") && timeout == 0 {
		return command.Usage("--timeout is 0: leave it out to wait for as long as it takes")
	}
	if err := c.open(existing); err != nil {
		return err
	}
	for _, id := range ids { // who mistyped one is not to wait for the others
		if _, _, err := c.home.Store.Job(c.ctx, id); err != nil {
			return c.jobError(id, err)
		}
	}
	over := c.ctx
	if timeout > 0 {
		var cancel context.CancelFunc
		over, cancel = context.WithTimeout(c.ctx, timeout)
		defer cancel()
	}
	var failed []error
	for _, id := range ids {
		row, err := c.waitFor(id, over.Done())
		c.live("")
		if err == nil {
			err = c.printEnd(row)
		}
		if c.ctx.Err() != nil {
			return context.Cause(c.ctx)
		}
		if err != nil {
			failed = append(failed, err)
		}
	}
	return c.each(failed)
}

// waitFor returns a job that has ended; an error where it does not before over.
func (c *call) waitFor(id int64, over <-chan struct{}) (row jobs.Row, err error) {
	look := time.NewTicker(waitLook)
	defer look.Stop()
	for said := jobs.Status(""); ; {
		row, _, err = c.home.Store.Job(c.ctx, id)
		switch {
		case errors.Is(err, jobs.ErrNotFound):
			return row, fmt.Errorf("job %d was deleted meanwhile", id)
		case err != nil || row.Status != jobs.Pending && row.Status != jobs.Running:
			return row, err
		case command.IsTerminal(c.App.ErrWriter):
			c.live(c.waits(row))
		case row.Status != said:
			said = row.Status
			fmt.Fprintln(c.App.ErrWriter, c.waits(row))
		}
		select {
		case <-look.C:
		case <-over: // or we are told to stop
			return row, fmt.Errorf("job %d is still %s after %v", id, row.Status, command.DurationOf(c.Context, "timeout"))
		}
	}
}

// waits is one line about a job that has not ended.
func (c *call) waits(r jobs.Row) string {
	line := fmt.Sprintf("job %d %s %s, attempts %s", r.ID, r.Status, c.when(r), tries(r))
	if r.Progress != nil {
		line += ", " + progressText(*r.Progress)
	}
	return command.OneLine(line)
}

// printEnd prints the result of a job that completed; others' errors are ours.
func (c *call) printEnd(r jobs.Row) error {
	if c.out.JSON {
		if err := c.out.Object(r); err != nil {
			return err
		}
	}
	switch {
	case r.Status == jobs.Failed:
		return fmt.Errorf("job %d failed: %s", r.ID, command.Shorten(command.OneLine(r.Error), maxReason))
	case r.Status == jobs.Cancelled:
		return fmt.Errorf("job %d was cancelled", r.ID)
	case !c.out.JSON && r.Result != nil:
		c.out.Printf("%s\n", r.Result)
	}
	return nil
}

// maxReason is how much of a job's error stands on one line: it may hold a stack.
const maxReason = 500

// live replaces the line that a terminal shows on stderr; with nothing it is
// taken away. Anywhere else it shows nothing.
func (c *call) live(line string) {
	if command.IsTerminal(c.App.ErrWriter) {
		fmt.Fprintf(c.App.ErrWriter, "\r\x1b[K%s", command.Shorten(line, c.out.Width-1))
	}
}
