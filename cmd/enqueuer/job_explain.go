package main

import (
	"github.com/shoal-project/shoal/internal/command"
	"github.com/shoal-project/shoal/pkg/jobs"
)

func (c *call) jobExplain() error {
	row, _, err := c.job()
	if err != nil {
		return err
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
		}{row.ID, row.Status, x})
	}
	c.out.Printf("job %d is %s: %s\n", row.ID, row.Status, command.OneLine(x.Why))
	if x.Todo != "" {
		c.out.Printf("%s\n", command.OneLine(x.Todo))
	}
	return nil
}
