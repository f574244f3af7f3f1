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
	row, _, err := c.home.Store.Job(c.ctx, id)
	if err != nil {
		return c.jobError(id, err)
	}
	x, err := jobs.Explain(c.ctx, c.home.Store, row, c.now())
	if err != nil {
		return err
	}
	if c.out.JSON {
		return c.out.Object(struct {
			ID     int64       `json:"id"`
			Status jobs.Status `json:"status"`
			jobs.Explanation
		}{id, row.Status, x})
	}
	c.out.Printf("job %d is %s: %s\n", id, row.Status, command.OneLine(x.Why))
	if x.Todo != "" {
		c.out.Printf("%s\n", command.OneLine(x.Todo))
	}
	return nil
}
