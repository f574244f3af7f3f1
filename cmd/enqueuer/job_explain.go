package main

import (
	"github.com/shoal-project/shoal/internal/command"
	"github.com/shoal-project/shoal/pkg/jobs"
)

func (c *call) jobExplain() error {
	id, err := jobID(c.Args().First())
	if err != nil {
		return err
	}
	if err := c.open(existing); err != nil {
		return err
	}
	x, err := jobs.Explain(c.ctx, c.home.Store, id, c.now())
	if err != nil {
		return c.jobError(id, err)
	}
	if c.out.JSON {
		return c.out.Object(struct {
			ID     int64       `json:"id"`
			Status jobs.Status `json:"status"`
			jobs.Explanation
		}{id, x.Job.Status, x})
	}
	c.out.Printf("job %d is %s: %s\n", id, x.Job.Status, command.OneLine(x.Why))
	if x.Todo != "" {
		c.out.Printf("%s\n", command.OneLine(x.Todo))
	}
	return nil
}
