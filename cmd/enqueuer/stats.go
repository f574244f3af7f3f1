package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"github.com/shoal-project/shoal/internal/command"
	"github.com/shoal-project/shoal/pkg/jobs"
)

func (s *shell) statsCommand() *cli.Command {
	return &cli.Command{
		Name:   "stats",
		Usage:  "count jobs and workers",
		Action: s.inHome((*call).stats),
	}
}

func (c *call) stats() error {
	s, err := c.home.Store.Stats(c.ctx)
	if err != nil {
		return err
	}
	if c.out.JSON {
		return c.out.Object(s)
	}
	states := &command.Table{Columns: []string{"PENDING", "RUNNING", "COMPLETED", "FAILED", "CANCELLED"}}
	states.Row(command.Count(s.Pending), command.Count(s.Running), command.Count(s.Completed), command.Count(s.Failed), command.Count(s.Cancelled))
	c.out.Print(states)

	leader := "nobody leads"
	if s.Leader != 0 {
		leader = fmt.Sprintf("worker %d leads", s.Leader)
	}
	c.out.Printf("\n%s, %s\n", command.Plural(s.Workers, "worker"), leader)
	if s.Rejected > 0 {
		c.out.Printf("%s came too late and refused\n", command.Plural(s.Rejected, "outcome"))
	}
	if s.Stuck > 0 {
		c.out.Printf("%s stuck: they go on though their time is over\n", command.Plural(s.Stuck, "handler"))
	}
	if s.WALBytes > 0 {
		c.out.Printf("%s in the -wal file\n", command.Bytes(s.WALBytes))
	}
	if len(s.Types) == 0 {
		return nil
	}
	c.out.Printf("\n")
	types := &command.Table{Columns: []string{"TYPE", "QUEUE", "PENDING", "RUNNING", ""}}
	for _, t := range s.Types {
		note := ""
		if !t.Handled {
			note = "no worker handles it"
		}
		types.Row(t.Type, t.Queue, command.Count(t.Pending), command.Count(t.Running), note)
	}
	c.out.Print(types)
	return nil
}

func (s *shell) workersCommand() *cli.Command {
	return &cli.Command{
		Name:   "workers",
		Usage:  "list the workers that are alive",
		Action: s.inHome((*call).workers),
	}
}

func (c *call) workers() error {
	workers, err := c.home.Store.Workers(c.ctx)
	if err != nil {
		return err
	}
	columns := []string{"ID", "HOST", "PID", "BUSY", "STUCK", "STARTED", "LEADS", "LISTENS", "QUEUES", "TYPES"}
	return list(c, "workers", workers, columns, func(w jobs.WorkerRow) (any, []string) {
		stuck := ""
		if w.Stuck > 0 {
			stuck = fmt.Sprint(w.Stuck)
		}
		return w, []string{fmt.Sprint(w.ID), w.Host, fmt.Sprint(w.PID), fmt.Sprintf("%d/%d", w.Running, w.Concurrency),
			stuck, command.Ago(c.now(), w.StartedAt.Time()), yes(w.Leader), w.Listen, strings.Join(w.Queues, " "), strings.Join(w.Types, " ")}
	})
}
