package main

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"github.com/shoal-project/shoal/internal/command"
	"github.com/shoal-project/shoal/pkg/jobs"
)

// policyCommand is the group type, or the group queue.
func (s *shell) policyCommand(kind jobs.PolicyKind) *cli.Command {
	name := string(kind)
	change := func(verb, usage string, change func(*call) (func(*jobs.Policy), error), flags ...cli.Flag) *cli.Command {
		return &cli.Command{Name: verb, Usage: usage, ArgsUsage: "NAME", Flags: flags, Action: s.action(func(c *call) error {
			return c.changePolicy(kind, change)
		})}
	}
	pause := func(paused bool) func(*call) (func(*jobs.Policy), error) {
		return func(*call) (func(*jobs.Policy), error) { return func(p *jobs.Policy) { p.Paused = paused }, nil }
	}
	set := change("set", "say what holds for a "+name+" in the whole fleet", (*call).policyOfFlags,
		&cli.StringFlag{Name: "max-attempts", Usage: "try a job that names none `N` times at most"},
		&cli.StringFlag{Name: "timeout", Usage: "stop an attempt of a job that names none after `D`"},
		&cli.StringFlag{Name: "retry-delay", Usage: "wait `D` after the first failed attempt, doubled each time"},
		&cli.StringFlag{Name: "retry-cap", Usage: "wait `D` at most"},
		&cli.StringFlag{Name: "retry-jitter", Usage: "make each wait up to this `PART` of it shorter or longer: 0.1"},
		&cli.StringFlag{Name: "max-running", Usage: "run `N` at once at most, in the whole fleet"},
		&cli.StringFlag{Name: "max-starts", Usage: "start at most `N/D` attempts in any span: 100/1m"},
	)
	set.Description = "Each flag takes \"none\", too, which takes back what was said. What a job names\n" +
		"itself goes first, what a handler brings comes last. A limit acts on the next\nclaim of any worker."
	return &cli.Command{
		Name:  name,
		Usage: "list " + name + "s and what holds for them, pause one, or set limits",
		Subcommands: []*cli.Command{
			{Name: "list", Usage: "list all that have jobs, workers or limits", Action: s.action(func(c *call) error { return c.listPolicies(kind) })},
			change("pause", "let no job begin; what runs goes on", pause(true)),
			change("resume", "let jobs begin again", pause(false)),
			set,
		},
	}
}

func (c *call) changePolicy(kind jobs.PolicyKind, change func(*call) (func(*jobs.Policy), error)) error {
	name := c.Args().First()
	if c.NArg() != 1 {
		return command.Usage("want one NAME: %s %s NAME; %s list shows them", kind, c.Command.Name, kind)
	}
	do, err := change(c)
	if err != nil {
		return err
	}
	var p jobs.Policy
	do(&p)
	if err := p.Check(kind, name); err != nil {
		return command.Usage("%v", err)
	}
	if err := c.open(existing); err != nil {
		return err
	}
	if err := c.home.Store.ChangePolicy(c.ctx, kind, name, do); err != nil {
		return err
	}
	known, err := c.policyLines(kind)
	if err == nil && !slices.ContainsFunc(known, func(l policyLine) bool { return l.Name == name && (l.handled || l.pending+l.running > 0) }) {
		c.log.Warn(fmt.Sprintf("done, but no waiting job and no worker names %s %q: mind how it is spelt", kind, name))
	}
	return err
}

// none takes back what was said.
const none = "none"

func (c *call) policyOfFlags() (func(*jobs.Policy), error) {
	var changes []func(*jobs.Policy)
	var wrong error
	each := func(name string, parse func(value string) (func(*jobs.Policy), error)) {
		if !c.IsSet(name) || wrong != nil {
			return
		}
		change, err := parse(c.String(name))
		if err != nil {
			wrong = command.Usage("--%s: %v; or none", name, err)
		}
		changes = append(changes, change)
	}
	number := func(field func(*jobs.Policy) *int) func(string) (func(*jobs.Policy), error) {
		return func(value string) (func(*jobs.Policy), error) {
			n, err := strconv.Atoi(value)
			if value == none {
				n, err = 0, nil
			} else if err != nil || n < 1 {
				err = fmt.Errorf("%q: want a number of 1 or more, such as 5", value)
			}
			return func(p *jobs.Policy) { *field(p) = n }, err
		}
	}
	duration := func(field func(*jobs.Policy) *time.Duration) func(string) (func(*jobs.Policy), error) {
		return func(value string) (func(*jobs.Policy), error) {
			d, err := someDuration(value)
			return func(p *jobs.Policy) { *field(p) = d }, err
		}
	}
	each("max-attempts", number(func(p *jobs.Policy) *int { return &p.MaxAttempts }))
	each("timeout", duration(func(p *jobs.Policy) *time.Duration { return &p.Timeout }))
	each("retry-delay", duration(func(p *jobs.Policy) *time.Duration { return &p.Retry.Delay }))
	each("retry-cap", duration(func(p *jobs.Policy) *time.Duration { return &p.Retry.Cap }))
	each("retry-jitter", func(value string) (func(*jobs.Policy), error) {
		part, err := strconv.ParseFloat(value, 64)
		switch {
		case value == none:
			part, err = 0, nil
		case err != nil || !(part >= 0 && part <= 1):
			err = fmt.Errorf("%q: want a part of the delay from 0 to 1, such as 0.1", value)
		case part == 0:
			part = -1 // in a Policy 0 says nothing
		}
		return func(p *jobs.Policy) { p.Retry.Jitter = part }, err
	})
	each("max-running", number(func(p *jobs.Policy) *int { return &p.MaxRunning }))
	each("max-starts", func(value string) (func(*jobs.Policy), error) {
		rate, err := parseRate(value)
		return func(p *jobs.Policy) { p.MaxStarts = rate }, err
	})
	if len(changes) == 0 {
		return nil, command.Usage("nothing to set: give --max-running N or another flag (--help lists them)")
	}
	return func(p *jobs.Policy) {
		for _, change := range changes {
			change(p)
		}
	}, wrong
}

func someDuration(value string) (time.Duration, error) {
	if value == none {
		return 0, nil
	}
	d, err := command.ParseDuration(value)
	if err == nil && d == 0 {
		err = fmt.Errorf("%q: it must be more than 0, such as 30s", value)
	}
	return d, err
}

func parseRate(value string) (rate jobs.Rate, err error) {
	if value == none {
		return rate, nil
	}
	bad := fmt.Errorf("%q: want a number in a span, such as 100/1m", value)
	n, per, ok := strings.Cut(value, "/")
	if rate.N, err = strconv.Atoi(n); !ok || err != nil || rate.N < 1 {
		return rate, bad
	}
	if rate.Per, err = someDuration(per); err != nil || rate.Per == 0 {
		return rate, bad
	}
	return rate, nil
}
