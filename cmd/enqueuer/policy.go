package main

import (
	"cmp"
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
	change := func(verb, usage string, say func(*call, *jobs.Policy) error, flags ...cli.Flag) *cli.Command {
		return &cli.Command{Name: verb, Usage: usage, ArgsUsage: "NAME", Flags: flags, Action: s.action(func(c *call) error {
			return c.changePolicy(kind, say)
		})}
	}
	pause := func(paused bool) func(*call, *jobs.Policy) error {
		return func(_ *call, p *jobs.Policy) error {
			p.Paused = paused
			return nil
		}
	}
	set := change("set", "say what holds for a "+name+" in the whole fleet", (*call).sayFlags,
		&cli.StringFlag{Name: "max-attempts", Usage: "try a job that names none `N` times at most"},
		&cli.StringFlag{Name: "timeout", Usage: "stop an attempt of a job that names none after `D`"},
		&cli.StringFlag{Name: "retry-delay", Usage: "wait `D` after the first failed attempt, doubled each time"},
		&cli.StringFlag{Name: "retry-cap", Usage: "double the wait up to `D`"},
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
			{Name: "list", Usage: "list all that have jobs, workers or limits", Action: s.inHome(func(c *call) error { return c.listPolicies(kind) })},
			change("pause", "let no job begin; what runs goes on", pause(true)),
			change("resume", "let jobs begin again", pause(false)),
			set,
		},
	}
}

// changePolicy has say set what is new of a policy.
func (c *call) changePolicy(kind jobs.PolicyKind, say func(*call, *jobs.Policy) error) error {
	name := c.Args().First()
	var p jobs.Policy
	if err := say(c, &p); err != nil {
		return err
	}
	if err := p.Check(kind, name); err != nil {
		return command.Usage("%v", err)
	}
	if err := c.open(existing); err != nil {
		return err
	}
	err := c.home.Store.ChangePolicy(c.ctx, kind, name, func(p *jobs.Policy) {
		_ = say(c, p) // it went well above, and says the same again
	})
	if err != nil {
		return err
	}
	known, err := c.policyLines(kind)
	if err == nil && !slices.ContainsFunc(known, func(l policyLine) bool { return l.Name == name && (l.handled || l.pending+l.running > 0) }) {
		c.log.Warn(fmt.Sprintf("done, but no waiting job and no worker names %s %q: mind how it is spelt", kind, name))
	}
	return err
}

// sayFlags sets what the flags of "set" say.
func (c *call) sayFlags(p *jobs.Policy) error {
	if c.NumFlags() == 0 {
		return command.Usage("nothing to set: give --max-running N or another flag (--help lists them)")
	}
	return cmp.Or(
		sayFlag(c, "max-attempts", &p.MaxAttempts, parseNumber),
		sayFlag(c, "timeout", &p.Timeout, parseSpan),
		sayFlag(c, "retry-delay", &p.Retry.Delay, parseSpan),
		sayFlag(c, "retry-cap", &p.Retry.Cap, parseSpan),
		sayFlag(c, "retry-jitter", &p.Retry.Jitter, parseJitter),
		sayFlag(c, "max-running", &p.MaxRunning, parseNumber),
		sayFlag(c, "max-starts", &p.MaxStarts, parseRate),
	)
}

// sayFlag sets a field to what its flag says, if it is given. A field that is
// zero says nothing: that is what "none" makes of it.
func sayFlag[T any](c *call, flag string, field *T, parse func(string) (T, error)) error {
	if !c.IsSet(flag) {
		return nil
	}
	var value T
	if given := c.String(flag); given != "none" {
		var err error
		if value, err = parse(given); err != nil {
			return command.Usage("--%s: %v; or none", flag, err)
		}
	}
	*field = value
	return nil
}

func parseNumber(value string) (int, error) {
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 {
		return 0, fmt.Errorf("%q: want a number of 1 or more, such as 5", value)
	}
	return n, nil
}

func parseSpan(value string) (time.Duration, error) {
	d, err := command.ParseDuration(value)
	if err == nil && d == 0 {
		err = fmt.Errorf("%q: it must be more than 0, such as 30s", value)
	}
	return d, err
}

func parseJitter(value string) (float64, error) {
	part, err := strconv.ParseFloat(value, 64)
	switch {
	case err != nil || !(part >= 0 && part <= 1):
		return 0, fmt.Errorf("%q: want a part of the delay from 0 to 1, such as 0.1", value)
	case part == 0:
		return -1, nil // in a Policy 0 says nothing
	}
	return part, nil
}

func parseRate(value string) (rate jobs.Rate, err error) {
	bad := fmt.Errorf("%q: want a number in a span, such as 100/1m", value)
	n, per, ok := strings.Cut(value, "/")
	if rate.N, err = strconv.Atoi(n); !ok || err != nil || rate.N < 1 {
		return rate, bad
	}
	if rate.Per, err = parseSpan(per); err != nil {
		return rate, bad
	}
	return rate, nil
}
