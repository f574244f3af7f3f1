package main

import (
	"fmt"
	"slices"

	"github.com/urfave/cli/v2"

	"github.com/shoal-project/shoal/internal/command"
	"github.com/shoal-project/shoal/pkg/jobs"
)

func (s *shell) changeCommands() []*cli.Command {
	of := func(verb jobs.Verb, usage string, flags ...cli.Flag) *cli.Command {
		return &cli.Command{
			Name:      string(verb),
			Usage:     usage,
			ArgsUsage: "[ID…]",
			Flags:     append(filterFlags(), flags...),
			Action:    s.action(func(c *call) error { return c.jobChange(verb) }),
		}
	}
	return []*cli.Command{
		of(jobs.Retry, "make jobs that are not running due now, with one attempt more if they had used up theirs"),
		of(jobs.Cancel, "cancel pending and running jobs; a running one is interrupted"),
		of(jobs.Delete, "delete jobs that are not running, and their stories"),
		of(jobs.Prioritize, "give pending and running jobs another priority", &cli.IntFlag{Name: "priority", Usage: "`N`; higher is claimed first"}),
	}
}

func (s *shell) pruneCommand() *cli.Command {
	return &cli.Command{
		Name:  "prune",
		Usage: "delete jobs that ended long ago",
		Flags: []cli.Flag{
			command.DurationFlag("older-than", 0, "those that ended longer ago than `D`, like 7d"),
			&cli.StringFlag{Name: "status", Usage: "only those that are `S`: completed, failed or cancelled"},
		},
		Action: s.action((*call).prune),
	}
}

func (c *call) jobChange(verb jobs.Verb) error {
	filter, err := c.filter()
	if err != nil {
		return err
	}
	if filter.IDs, err = c.ids(); err != nil {
		return err
	}
	change := jobs.Change{Verb: verb, Priority: c.Int("priority")}
	switch {
	case verb == jobs.Prioritize && !c.IsSet("priority"):
		return command.Usage("--priority is missing: which one are they to have?")
	case change.Check(filter) != nil:
		return command.Usage("job %s needs to know which: give IDs, --type, --queue or --status", verb)
	case verb == jobs.Retry && filter.IDs == nil && filter.Status == "":
		return command.Usage("--status is missing: job retry without IDs would run completed jobs again, too; want --status failed, say")
	}
	return c.change(filter, change)
}

func (c *call) prune() error {
	filter := jobs.Filter{Status: jobs.Status(c.String("status"))}
	switch filter.Status {
	case "", jobs.Completed, jobs.Failed, jobs.Cancelled:
	default:
		return command.Usage("--status is %q: want completed, failed or cancelled", filter.Status)
	}
	if !c.IsSet("older-than") {
		return command.Usage("--older-than is missing: how long ago must a job have ended? Like prune --older-than 7d")
	}
	filter.EndedBefore = c.now().Add(-command.DurationOf(c.Context, "older-than"))
	return c.change(filter, jobs.Change{Verb: jobs.Delete})
}

// changed is what --json prints: of each job that was named, or of all together.
type changed struct {
	ID      int64  `json:"id,omitempty"`
	Changed int64  `json:"changed"`
	Error   string `json:"error,omitempty"`
}

// change changes jobs and says how many; of those that were named and could not
// be changed it says why.
func (c *call) change(filter jobs.Filter, change jobs.Change) error {
	if err := c.open(existing); err != nil {
		return err
	}
	done := map[jobs.Verb]string{jobs.Retry: "retried", jobs.Cancel: "cancelled", jobs.Delete: "deleted", jobs.Prioritize: "prioritized"}[change.Verb]
	what := func(n int64) string { return done + " " + command.Plural(n, "job") }
	change.Report = func(n int64) { c.live(what(n)) }
	came, err := c.home.Store.Change(c.ctx, filter, change)
	c.live("")
	if err != nil {
		return fmt.Errorf("%w; %s before that", c.stopped(err), what(came.Count))
	}
	if filter.IDs == nil && c.out.JSON {
		return c.out.Object(changed{Changed: came.Count})
	}
	var refusals []error
	for _, id := range filter.IDs {
		row := changed{ID: id, Changed: 1}
		if !slices.Contains(came.IDs, id) {
			why := c.whyNot(id, filter, change.Verb)
			refusals = append(refusals, why)
			row.Changed, row.Error = 0, why.Error()
		}
		if c.out.JSON {
			if err := c.out.Object(row); err != nil {
				return err
			}
		}
	}
	if !c.out.JSON && (came.Count > 0 || len(refusals) == 0) {
		c.out.Printf("%s\n", what(came.Count))
	}
	return c.each(refusals)
}

// whyNot says why the job was not changed, and what can be done about it.
func (c *call) whyNot(id int64, f jobs.Filter, verb jobs.Verb) error {
	row, _, err := c.home.Store.Job(c.ctx, id)
	switch {
	case err != nil:
		return c.jobError(id, err)
	case f.Type != "" && row.Type != f.Type, f.Queue != "" && row.Queue != f.Queue, f.Status != "" && row.Status != f.Status:
		return fmt.Errorf("job %d is a %s %s job of queue %s: the flags ask for another", id, row.Status, row.Type, row.Queue)
	case verb.Allows(row.Status):
		return fmt.Errorf("job %d was changed by another at the same time: try again", id)
	case row.Status == jobs.Running:
		return fmt.Errorf("job %d is running: cancel it first", id)
	case verb == jobs.Cancel:
		return fmt.Errorf("job %d is %s already", id, row.Status)
	}
	return fmt.Errorf("job %d is %s already: retry it first", id, row.Status)
}

// each is several errors as one line each: all but the last are printed as main
// would print them, and that one is main's.
func (c *call) each(errs []error) error {
	if len(errs) == 0 {
		return nil
	}
	last := len(errs) - 1
	for _, err := range errs[:last] {
		fmt.Fprintf(c.App.ErrWriter, "%s: %s\n", c.App.Name, command.OneLine(err.Error()))
	}
	return errs[last]
}
