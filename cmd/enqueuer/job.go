package main

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"

	"github.com/urfave/cli/v2"

	"github.com/shoal-project/shoal/internal/command"
	"github.com/shoal-project/shoal/pkg/jobs"
)

func (s *shell) jobCommand() *cli.Command {
	return &cli.Command{
		Name:  "job",
		Usage: "look at jobs, wait for them, and change what is to become of them",
		Subcommands: append([]*cli.Command{{
			Name:   "list",
			Usage:  "list jobs, newest first",
			Flags:  append(filterFlags(), &cli.IntFlag{Name: "limit", Usage: "at most `N`", Value: 100}),
			Action: s.action((*call).jobList),
		}, {
			Name:      "show",
			Usage:     "show a job and the story of its attempts",
			ArgsUsage: "ID",
			Action:    s.action((*call).jobShow),
		}, {
			Name:      "explain",
			Usage:     "say why a job is not running, and what to do",
			ArgsUsage: "ID",
			Action:    s.action((*call).jobExplain),
		}, s.waitCommand()}, s.changeCommands()...),
	}
}

func filterFlags() []cli.Flag {
	return []cli.Flag{
		&cli.StringFlag{Name: "type", Usage: "only those of `TYPE`"},
		&cli.StringFlag{Name: "queue", Usage: "only those of `QUEUE`"},
		&cli.StringFlag{Name: "status", Usage: "only those that are `S`: pending, running, …"},
	}
}

// filter is what the flags of filterFlags say.
func (c *call) filter() (jobs.Filter, error) {
	f := jobs.Filter{Type: c.String("type"), Queue: c.String("queue"), Status: jobs.Status(c.String("status"))}
	if f.Status != "" && !slices.Contains(jobs.Statuses, f.Status) {
		return f, command.Usage("--status is %q: want pending, running, completed, failed or cancelled", f.Status)
	}
	return f, nil
}

// ids are the jobs that the arguments name, each once; nil: none.
func (c *call) ids() (ids []int64, err error) {
	for _, arg := range c.Args().Slice() {
		id, err := jobID(arg)
		if err != nil {
			return nil, err
		}
		if !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func jobID(arg string) (int64, error) {
	id, err := strconv.ParseInt(arg, 10, 64)
	if err != nil || id < 1 {
		return 0, command.Usage("%q is no job id: want a number; job list shows them", arg)
	}
	return id, nil
}

func (c *call) jobList() error {
	filter, err := c.filter()
	if err != nil {
		return err
	}
	if filter.Limit = c.Int("limit"); filter.Limit < 1 {
		return command.Usage("--limit is %d: want at least 1", filter.Limit)
	}
	if err := c.open(existing); err != nil {
		return err
	}
	filter.Limit++ // to see whether there are more
	rows, err := c.home.Store.Jobs(c.ctx, filter)
	if err != nil {
		return err
	}
	more := len(rows) == filter.Limit
	if more {
		rows = rows[:len(rows)-1]
	}
	if err := c.listJobs(rows); err != nil || !more {
		return err
	}
	w := c.App.Writer
	if c.out.JSON {
		w = c.App.ErrWriter
	}
	_, err = fmt.Fprintln(w, "… more (--limit)")
	return err
}

// listJobs leaves out what is the same for all jobs that need nothing special.
func (c *call) listJobs(rows []jobs.Row) error {
	queues := slices.ContainsFunc(rows, func(r jobs.Row) bool { return r.Queue != jobs.DefaultQueue })
	priorities := slices.ContainsFunc(rows, func(r jobs.Row) bool { return r.Priority != 0 })
	columns := []string{"ID", "TYPE"}
	if queues {
		columns = append(columns, "QUEUE")
	}
	if priorities {
		columns = append(columns, "PRIO")
	}
	columns = append(columns, "STATUS", "TRIES", "WHEN", "ERROR OR PAYLOAD")
	return list(c, "jobs", rows, columns, func(r jobs.Row) (any, []string) {
		cells := []string{strconv.FormatInt(r.ID, 10), r.Type}
		if queues {
			cells = append(cells, r.Queue)
		}
		if priorities {
			cells = append(cells, strconv.Itoa(r.Priority))
		}
		return r, append(cells, string(r.Status), tries(r), c.when(r), cmp.Or(r.Error, r.Payload))
	})
}

// tries is how many attempts were made, of how many.
func tries(r jobs.Row) string {
	if r.MaxAttempts == 0 {
		return strconv.Itoa(r.Attempts)
	}
	return fmt.Sprintf("%d/%d", r.Attempts, r.MaxAttempts)
}

// when is the time that matters most in a job's state.
func (c *call) when(r jobs.Row) string {
	now := c.now()
	switch due := r.RunAt.Time(); {
	case r.Status == jobs.Running:
		return "for " + command.Span(now.Sub(r.StartedAt.Time()))
	case r.Status != jobs.Pending:
		return command.Ago(now, r.CompletedAt.Time())
	case due.After(now):
		return command.Ago(now, due)
	default:
		return "waits " + command.Span(now.Sub(due))
	}
}
