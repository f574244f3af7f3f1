package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/shoal-project/shoal/internal/command"
	"github.com/shoal-project/shoal/pkg/jobs"
)

// shown is what --json prints of a job.
type shown struct {
	jobs.Row
	*jobs.Explanation                // of a pending job
	History           []jobs.Attempt `json:"history"`
}

func (c *call) jobShow() error {
	row, history, err := c.job()
	if err != nil {
		return err
	}
	job := shown{Row: row, History: append([]jobs.Attempt{}, history...)}
	if row.Status == jobs.Pending {
		x, err := jobs.Explain(c.ctx, c.home.Store, row, c.now())
		if err != nil {
			return err
		}
		job.Explanation = &x
	}
	if c.out.JSON {
		return c.out.Object(job)
	}
	c.printJob(job)
	return nil
}

// job opens the home and returns the job that is named, with its history.
func (c *call) job() (row jobs.Row, history []jobs.Attempt, err error) {
	id, err := jobID(c.Args().First())
	if err != nil {
		return row, nil, err
	}
	if err := c.open(existing); err != nil {
		return row, nil, err
	}
	row, history, err = c.home.Store.Job(c.ctx, id)
	return row, history, c.jobError(id, err)
}

func (c *call) jobError(id int64, err error) error {
	if errors.Is(err, jobs.ErrNotFound) {
		return fmt.Errorf("there is no job %d in %s", id, c.home.DB)
	}
	return err
}

func (c *call) printJob(job shown) {
	now := c.now()
	c.out.Printf("job %d  %s  %s\n", job.ID, command.OneLine(job.Type), job.Status)
	field := func(name, value string) {
		if value != "" {
			c.out.Printf("  %-10s  %s\n", name, value)
		}
	}
	if x := job.Explanation; x != nil {
		c.out.Printf("  %s\n", command.OneLine(x.Why))
		if x.Todo != "" {
			c.out.Printf("  %s\n", command.OneLine(x.Todo))
		}
	}
	field("queue", command.OneLine(job.Queue))
	field("priority", strconv.Itoa(job.Priority))
	attempts := strconv.Itoa(job.Attempts)
	if job.MaxAttempts > 0 {
		attempts += fmt.Sprintf(" of %d", job.MaxAttempts)
	}
	field("attempts", attempts)
	if job.Timeout > 0 {
		field("timeout", strconv.FormatFloat(job.Timeout, 'f', -1, 64)+"s")
	}
	field("unique key", command.OneLine(job.UniqueKey))
	field("created", command.When(now, job.CreatedAt.Time()))
	if job.Status == jobs.Pending {
		field("due", command.When(now, job.RunAt.Time()))
	}
	if job.StartedAt != 0 {
		field("started", command.When(now, job.StartedAt.Time()))
	}
	if job.CompletedAt != 0 {
		field("ended", command.When(now, job.CompletedAt.Time()))
	}
	if job.Progress != nil {
		field("progress", progressText(*job.Progress))
	}
	field("payload", document([]byte(job.Payload)))
	field("meta", document(job.Meta))
	field("result", document(job.Result))
	// The last attempt's error is in its history, too, where it has one.
	if job.Error != "" && len(job.History) == 0 {
		field("error", indented(job.Error, margin))
	}
	c.printStory(job)
}

// printStory tells of each attempt that left a trace, and of the last one.
func (c *call) printStory(job shown) {
	for _, a := range job.History {
		start, end := a.StartedAt.Time(), a.EndedAt.Time()
		c.out.Printf("\nattempt %d %s after %s\n", a.Attempt, ending(a), command.Span(end.Sub(start)))
		c.out.Printf("  on worker %d%s, from %s\n", a.Worker, place(a), command.When(c.now(), start))
		c.out.Printf("  %s\n", indented(a.Error, 2))
		if a.Rejected != "" {
			c.out.Printf("  its worker said %q later: too late, refused\n", a.Rejected)
		}
	}
	switch job.Status {
	case jobs.Running:
		c.out.Printf("\nattempt %d running for %s\n  on worker %d\n", job.Attempts,
			command.Span(c.now().Sub(job.StartedAt.Time())), job.LeaseOwner)
	case jobs.Completed:
		c.out.Printf("\nattempt %d completed after %s\n  on worker %d\n", job.Attempts,
			command.Span(job.CompletedAt.Time().Sub(job.StartedAt.Time())), job.LeaseOwner)
	}
}

func progressText(p jobs.Progress) string {
	progress := command.Count(p.Done)
	if p.Total > 0 {
		progress += " of " + command.Count(p.Total)
	}
	return strings.TrimSpace(progress + " " + command.OneLine(p.Note))
}

func place(a jobs.Attempt) string {
	if a.Host == "" {
		return ""
	}
	return fmt.Sprintf(" (%s, pid %d)", command.OneLine(a.Host), a.PID)
}

// ending tells a handler's failure from its worker's.
func ending(a jobs.Attempt) string {
	switch a.Ending {
	case jobs.EndedDied:
		return "died with its worker"
	case jobs.EndedStuck:
		return "was taken from its worker"
	}
	return "failed"
}

// margin is where the values of printJob's fields begin.
const margin = 14

// document is JSON for people: on one line if that is short, else indented.
func document(text []byte) string {
	var b bytes.Buffer
	if len(text) <= 60 || len(text) > 4096 || json.Indent(&b, text, "", "  ") != nil {
		return command.Shorten(command.OneLine(string(text)), 4096)
	}
	return indented(b.String(), margin)
}

// indented is text of several lines, a stack for one, fit for a terminal: all
// lines but the first begin at the column.
func indented(text string, column int) string {
	var lines []string
	for line := range strings.Lines(text) {
		lines = append(lines, command.Printable(strings.ReplaceAll(strings.TrimRight(line, "\r\n"), "\t", "    ")))
	}
	return strings.Join(lines, "\n"+strings.Repeat(" ", column))
}
