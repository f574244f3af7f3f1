package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/urfave/cli/v2"
	"go.uber.org/zap"

	"github.com/shoal-project/shoal/internal/command"
	"github.com/shoal-project/shoal/pkg/store/sqlite"
)

// shell is what all commands share.
type shell struct {
	log *zap.Logger
	now func() time.Time
}

// call is one run of a command. Its Context is the library's, for flags and
// arguments; ctx is what ends the work.
type call struct {
	*cli.Context
	*shell
	ctx  context.Context
	out  *command.Output
	home *command.Home // after open
}

// action makes a command's function of one that works on a call, and closes
// the home that it opened.
func (s *shell) action(do func(*call) error) cli.ActionFunc {
	return func(c *cli.Context) (err error) {
		x := &call{Context: c, shell: s, ctx: c.Context, out: command.OutputOf(c)}
		defer func() {
			if x.home != nil {
				err = errors.Join(err, x.home.Store.Close())
			}
			err = x.stopped(err)
		}()
		if err := do(x); err != nil {
			return err
		}
		return x.out.Err()
	}
}

// stopped is err, or what told us to stop where err came of that and does not say so.
func (c *call) stopped(err error) error {
	if stop := context.Cause(c.ctx); stop != nil && errors.Is(err, context.Canceled) && !errors.Is(err, stop) {
		return stop
	}
	return err
}

// inHome is action for what begins with opening the home.
func (s *shell) inHome(do func(*call) error) cli.ActionFunc {
	return s.action(func(c *call) error {
		if err := c.open(existing); err != nil {
			return err
		}
		return do(c)
	})
}

// Who may make a home, and who needs its folder.
var (
	existing      = command.HomeOptions{}
	existingFiles = command.HomeOptions{Files: true}
	makeHome      = command.HomeOptions{Make: true}
	makeFiles     = command.HomeOptions{Make: true, Files: true}
)

// open opens the home that the flags name.
func (c *call) open(need command.HomeOptions) (err error) {
	o := command.HomeOf(c.Context)
	if o.DB == sqlite.Memory {
		return command.Usage("--db %s is private to one worker: there is nothing in it for anybody else", o.DB)
	}
	o.Make, o.Files = need.Make, need.Files
	o.Store.Logger = c.log
	c.home, err = command.OpenHome(c.ctx, o)
	return err
}

// stdin is what comes on standard input. It ends, with an error, when we are
// told to stop: whoever types there may never end it.
func (c *call) stdin() io.Reader {
	r, w := io.Pipe()
	go func() {
		_, err := io.Copy(w, c.App.Reader)
		w.CloseWithError(err)
	}()
	context.AfterFunc(c.ctx, func() { w.CloseWithError(context.Cause(c.ctx)) })
	return r
}

// yes is a cell of the table that is empty unless it is so.
func yes(so bool) string {
	if so {
		return "yes"
	}
	return ""
}

// list prints rows: each as an object, or all as a table, where each has its
// cells. That there is none of what is listed is said on stderr.
func list[T any](c *call, what string, rows []T, columns []string, row func(T) (object any, cells []string)) error {
	t := &command.Table{Columns: columns}
	for _, r := range rows {
		object, cells := row(r)
		if !c.out.JSON {
			t.Row(cells...)
		} else if err := c.out.Object(object); err != nil {
			return err
		}
	}
	switch {
	case c.out.JSON:
	case len(rows) == 0:
		fmt.Fprintf(c.App.ErrWriter, "no %s\n", what)
	default:
		c.out.Print(t)
	}
	return nil
}
