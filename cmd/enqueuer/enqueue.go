package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/shoal-project/shoal/internal/command"
	"github.com/shoal-project/shoal/internal/handlers"
	"github.com/shoal-project/shoal/pkg/jobs"
)

func (s *shell) enqueueCommand() *cli.Command {
	return &cli.Command{
		Name:      "enqueue",
		Usage:     "add a job, or a file of jobs, and print the ids",
		ArgsUsage: "[TYPE [JSON|-]]",
		Description: `Adds a job of TYPE whose payload is JSON, {} if it is left out; - reads
it from standard input. With --unique, a job that has the key already is
what it prints; on conflict that one is kept, gets the new payload
(replace) or the new time (move), as long as it is pending.

With --file, each line is a job: {"job_type": …, "payload": …} and, where
wanted, priority, queue, run_at (Unix seconds, RFC 3339, or
2006-01-02 15:04 here), delay, max_attempts, timeout, unique_key,
unique_for, on_conflict and meta (an object of strings). The whole file
is checked before the first job is added. The ids are printed unless that
is to a terminal.`,
		Flags: []cli.Flag{
			&cli.IntFlag{Name: "priority", Usage: "among due jobs the higher `N` is claimed first"},
			command.DurationFlag("delay", 0, "run it `D` from now at the earliest: 30s, 5m, 7d"),
			&cli.StringFlag{Name: "at", Usage: "run it at `T` at the earliest (formats as for run_at)"},
			&cli.IntFlag{Name: "max-attempts", Usage: "try it `N` times at most", DefaultText: "its type's"},
			command.DurationFlag("timeout", 0, "stop an attempt after `D` (default: its type's)"),
			&cli.StringFlag{Name: "queue", Usage: "wait in this `QUEUE`", Value: jobs.DefaultQueue},
			&cli.StringFlag{Name: "unique", Usage: "be the only job of its type with this `KEY`"},
			&cli.StringFlag{Name: "unique-for", Usage: "keep the key for `SPAN`: active, pending or forever", Value: string(jobs.UniqueActive)},
			&cli.StringFlag{Name: "on-conflict", Usage: "keep, replace or move (`VERB`) the one with the key", Value: string(jobs.Keep)},
			&cli.StringSliceFlag{Name: "meta", Usage: "have `KEY=VALUE` travel with it (several)"},
			&cli.StringFlag{Name: "file", Usage: "add the jobs of `F`, one a line; - is standard input"},
			&cli.Int64Flag{Name: "from-line", Usage: "begin at line `N` of the file", Value: 1},
		},
		Action: s.action(func(c *call) error {
			if c.IsSet("file") {
				return c.enqueueFile()
			}
			return c.enqueue()
		}),
	}
}

func (c *call) enqueue() error {
	n, err := c.newJob()
	if err != nil {
		return err
	}
	if err := c.open(makeHome); err != nil {
		return err
	}
	ids, err := c.home.Store.Enqueue(c.ctx, n)
	if err != nil {
		return err
	}
	return c.printAdded(ids)
}

func (c *call) printAdded(list []jobs.Added) error {
	for _, a := range list {
		err := c.out.Result(struct {
			ID       int64 `json:"id"`
			Existing bool  `json:"existing"`
		}(a), "%d", a.ID)
		if err != nil {
			return err
		}
	}
	return nil
}

// newJob is the job that the arguments describe, checked.
func (c *call) newJob() (n jobs.New, err error) {
	if c.NArg() == 0 {
		return n, command.Usage("TYPE is missing: enqueue TYPE [JSON|-], or enqueue --file F")
	}
	if c.IsSet("from-line") {
		return n, command.Usage("--from-line goes with --file")
	}
	n = jobs.New{
		Type: c.Args().Get(0), Queue: c.String("queue"), Priority: c.Int("priority"),
		Delay: command.DurationOf(c.Context, "delay"), Timeout: command.DurationOf(c.Context, "timeout"),
		MaxAttempts: c.Int("max-attempts"), Payload: json.RawMessage(emptyPayload),
	}
	switch {
	case c.IsSet("max-attempts") && n.MaxAttempts < 1:
		return n, command.Usage("--max-attempts is %d: want at least 1", n.MaxAttempts)
	case c.IsSet("timeout") && n.Timeout == 0:
		return n, command.Usage("--timeout is 0: want a duration, such as 30s")
	case n.Queue == "":
		return n, command.Usage("--queue is empty: want a name")
	}
	if c.IsSet("at") {
		if c.IsSet("delay") {
			return n, command.Usage("--delay and --at both say when: give one")
		}
		if n.RunAt, err = parseTime(c.String("at")); err != nil {
			return n, command.Usage("--at: %v", err)
		}
	}
	if n.Unique, err = c.unique(); err != nil {
		return n, err
	}
	for _, pair := range c.StringSlice("meta") {
		key, value, ok := strings.Cut(pair, "=")
		if !ok || key == "" {
			return n, command.Usage("--meta %q: want KEY=VALUE", pair)
		}
		jobs.Meta(key, value)(&n)
	}
	if err := n.Check(); err != nil { // of all but the payload, which is no flag
		return n, command.Usage("%v", err)
	}
	if c.NArg() > 1 {
		if n.Payload, err = c.payload(c.Args().Get(1)); err != nil {
			return n, err
		}
	}
	return n, checkJob(n)
}

func (c *call) unique() (u jobs.Unique, err error) {
	if !c.IsSet("unique") {
		for _, name := range []string{"unique-for", "on-conflict"} {
			if c.IsSet(name) {
				return u, command.Usage("--%s goes with --unique KEY", name)
			}
		}
		return u, nil
	}
	u = jobs.Unique{
		Key:        c.String("unique"),
		For:        jobs.UniqueFor(c.String("unique-for")),
		OnConflict: jobs.OnConflict(c.String("on-conflict")),
	}
	if u.Key == "" {
		return u, command.Usage("--unique is empty: want a key")
	}
	return u, nil
}

// emptyPayload is that of a job that names none.
const emptyPayload = "{}"

// payload is an argument, or what comes on standard input.
func (c *call) payload(arg string) (json.RawMessage, error) {
	if arg != "-" {
		return json.RawMessage(arg), nil
	}
	// One byte more than allowed is enough for the check to say so.
	text, err := io.ReadAll(io.LimitReader(c.stdin(), jobs.MaxPayload+1))
	if err != nil {
		return nil, fmt.Errorf("read payload: %w", err)
	}
	return bytes.TrimSpace(text), nil
}

// checkJob says what is wrong with a job before anything is made or written.
// What its type's payload must be is known of the built-in types only.
func checkJob(n jobs.New) error {
	if err := n.Check(); err != nil {
		return err
	}
	if err := handlers.CheckPayload(n.Type, n.Payload); err != nil {
		return fmt.Errorf("%s: payload: %w", n.Type, err)
	}
	return nil
}

// parseTime reads a point in time as people and programs write it.
func parseTime(s string) (time.Time, error) {
	if seconds, err := strconv.ParseFloat(s, 64); err == nil && seconds > 0 && seconds < 1e11 {
		return jobs.Seconds(seconds).Time(), nil
	}
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02 15:04:05", "2006-01-02 15:04"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is no time: want RFC 3339 (2006-01-02T15:04:05Z), 2006-01-02 15:04, or Unix seconds", s)
}
