package main

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/shoal-project/shoal/internal/command"
	"github.com/shoal-project/shoal/pkg/jobs"
)

func (s *shell) scheduleCommand() *cli.Command {
	named := func(name, usage string, do func(*call) error) *cli.Command {
		return &cli.Command{Name: name, Usage: usage, ArgsUsage: "NAME", Action: s.inHome(do)}
	}
	return &cli.Command{
		Name:  "schedule",
		Usage: "have jobs enqueued by the clock",
		Subcommands: []*cli.Command{{
			Name:      "add",
			Usage:     "add a schedule, or replace the one of that name",
			ArgsUsage: "NAME SPEC TYPE [JSON|-]",
			Description: `The leader among the workers enqueues a job of TYPE at each tick. SPEC is
"@every 90s" (at once when it is new, and then each time that passes) or a cron
expression: minute, hour, day of the month, month, weekday, such as
"0 3 * * mon-fri", or @hourly, @daily, @weekly, @monthly, @yearly. It goes
by the clock of --zone.

A tick is missed when it is more than a minute late, as no worker ran, or a
later one is due too: skip leaves it out, once makes one job for all that
were missed, all makes each.

What is added again with the same SPEC and --zone keeps its next tick.`,
			Flags: []cli.Flag{
				&cli.StringFlag{Name: "zone", Usage: "go by the clock of `Z`, such as Europe/Berlin", Value: "UTC"},
				&cli.StringFlag{Name: "missed", Usage: "what to do about missed ticks (`VERB`): skip, once or all", Value: string(jobs.MissedSkip)},
				&cli.StringFlag{Name: "queue", Usage: "put the jobs into `QUEUE`", Value: jobs.DefaultQueue},
				&cli.IntFlag{Name: "priority", Usage: "among due jobs the higher `N` is claimed first"},
			},
			Action: s.action((*call).scheduleAdd),
		}, {
			Name:   "list",
			Usage:  "list the schedules, those of programs too",
			Action: s.inHome((*call).scheduleList),
		},
			named("remove", "remove a schedule; a program that brings it does so again", (*call).scheduleRemove),
			named("pause", "leave out a schedule's ticks from now on", func(c *call) error { return c.schedulePause(true) }),
			named("resume", "end a pause; what it left out stays left out", func(c *call) error { return c.schedulePause(false) }),
			named("run-now", "enqueue a schedule's job now, beside its ticks, and print the id", (*call).scheduleRun),
		},
	}
}

func (c *call) scheduleAdd() error {
	s, err := c.newSchedule()
	if err != nil {
		return err
	}
	if err := c.open(existing); err != nil {
		return err
	}
	replaced, err := c.home.Store.PutSchedule(c.ctx, s)
	if err != nil {
		return err
	}
	if replaced {
		fmt.Fprintf(c.App.ErrWriter, "replaced schedule %s\n", command.OneLine(s.Name))
	}
	return c.printSchedule("added", s.Name)
}

// newSchedule is the schedule that the arguments describe, checked.
func (c *call) newSchedule() (jobs.StoredSchedule, error) {
	s := jobs.StoredSchedule{
		Name: c.Args().Get(0), Spec: c.Args().Get(1), Type: c.Args().Get(2), Zone: c.String("zone"),
		Missed: jobs.Missed(c.String("missed")), Queue: c.String("queue"), Priority: c.Int("priority"),
	}
	if s.Queue == "" {
		return s, command.Usage("--queue is empty: want a name")
	}
	if err := s.Check(); err != nil { // of all but the payload, which is no flag
		return s, command.Usage("%v", err)
	}
	s.Payload = emptyPayload
	if c.NArg() > 3 {
		payload, err := c.payload(c.Args().Get(3))
		if err != nil {
			return s, err
		}
		s.Payload = string(payload)
	}
	// An empty payload would be taken for none.
	n := s.Job()
	n.Payload = []byte(s.Payload)
	return s, checkJob(n)
}

func (c *call) scheduleList() error {
	rows, err := c.home.Store.Schedules(c.ctx)
	if err != nil {
		return err
	}
	columns := []string{"NAME", "SPEC", "ZONE", "TYPE", "NEXT", "LAST", "PAUSED"}
	return list(c, "schedules", rows, columns, func(r jobs.ScheduleRow) (any, []string) {
		jobType, zone := cmp.Or(r.Type, "(program)"), r.Zone
		if strings.HasPrefix(r.Spec, "@every") {
			zone = ""
		}
		return r, []string{r.Name, r.Spec, zone, jobType, c.nextTick(r), command.Ago(c.now(), r.LastAt.Time()), yes(r.Paused)}
	})
}

// nextTick is when a schedule is due next. The ticks of a program that had no jobs
// are not written down.
func (c *call) nextTick(r jobs.ScheduleRow) string {
	if r.Paused {
		return "-"
	}
	next := r.NextAt.Time()
	if spec, err := jobs.ParseSpec(r.Spec, r.Zone); err == nil && r.Type == "" {
		next = spec.Next(next, c.now())
	}
	return command.Ago(c.now(), next)
}

func (c *call) scheduleRemove() error {
	row, err := c.schedule(c.Args().First())
	if err != nil {
		return err
	}
	if err := c.home.Store.RemoveSchedule(c.ctx, row.Name); err != nil {
		return err
	}
	return c.out.Result(row, "removed schedule %s", command.OneLine(row.Name))
}

func (c *call) schedulePause(paused bool) error {
	name := c.Args().First()
	if err := c.home.Store.PauseSchedule(c.ctx, name, paused); err != nil {
		return unknownSchedule(err, name)
	}
	if paused {
		return c.printSchedule("paused", name)
	}
	return c.printSchedule("resumed", name)
}

func (c *call) scheduleRun() error {
	name := c.Args().First()
	id, err := c.home.Store.RunSchedule(c.ctx, name)
	if err != nil {
		return unknownSchedule(err, name)
	}
	if id != 0 {
		return c.printAdded([]jobs.Added{{ID: id}})
	}
	// There is no job yet, and so no result.
	_, err = fmt.Fprintf(c.App.ErrWriter, "schedule %s is a program's: the leader enqueues its jobs now, or the next one within a minute\n",
		command.OneLine(name))
	return err
}

// printSchedule prints what was done to a schedule, and how it is now.
func (c *call) printSchedule(done, name string) error {
	row, err := c.schedule(name)
	if err != nil {
		return err
	}
	when := ""
	if !row.Paused {
		when = ": next " + c.nextTick(row)
	}
	return c.out.Result(row, "%s schedule %s%s", done, command.OneLine(name), when)
}

// schedule is the schedule of that name.
func (c *call) schedule(name string) (row jobs.ScheduleRow, err error) {
	rows, err := c.home.Store.Schedules(c.ctx)
	if err != nil {
		return row, err
	}
	at := slices.IndexFunc(rows, func(r jobs.ScheduleRow) bool { return r.Name == name })
	if at < 0 {
		return row, unknownSchedule(jobs.ErrNoSchedule, name)
	}
	return rows[at], nil
}

// unknownSchedule says what a person can do about jobs.ErrNoSchedule.
func unknownSchedule(err error, name string) error {
	if errors.Is(err, jobs.ErrNoSchedule) {
		return fmt.Errorf("no schedule %q: \"schedule list\" shows those that are there", command.Shorten(name, 64))
	}
	return err
}
