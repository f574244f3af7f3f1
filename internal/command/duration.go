package command

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
)

const day = 24 * time.Hour

// ParseDuration is time.ParseDuration for what people wait: it takes days, too,
// in front of the rest (7d, 1d12h, 0.5d), and nothing negative.
func ParseDuration(s string) (time.Duration, error) {
	bad := fmt.Errorf("%q is no duration: write it like 30s, 5m, 1h30m or 7d", s)
	days, rest := 0.0, s
	if number, after, ok := strings.Cut(s, "d"); ok {
		var err error
		if days, err = strconv.ParseFloat(number, 64); err != nil || math.IsNaN(days) {
			return 0, bad
		}
		rest = cmp.Or(after, "0s")
	}
	d, err := time.ParseDuration(rest)
	switch {
	case err != nil:
		return 0, bad
	case days < 0 || d < 0:
		return 0, fmt.Errorf("%q is negative", s)
	case days*float64(day)+float64(d) >= math.MaxInt64:
		return 0, fmt.Errorf("%q is too long", s)
	}
	return time.Duration(days*float64(day)) + d, nil
}

// DurationFlag is a flag whose value ParseDuration reads; see DurationOf.
func DurationFlag(name string, value time.Duration, usage string, env ...string) cli.Flag {
	return &cli.GenericFlag{Name: name, Value: (*duration)(&value), Usage: usage, EnvVars: env}
}

// DurationOf is the value of a DurationFlag.
func DurationOf(c *cli.Context, name string) time.Duration {
	if d, ok := c.Generic(name).(*duration); ok {
		return time.Duration(*d)
	}
	return 0
}

// duration is a time.Duration as a flag's value.
type duration time.Duration

func (d *duration) Set(s string) error {
	parsed, err := ParseDuration(s)
	*d = duration(parsed)
	return err
}

// String is what help shows as the default; nothing for 0.
func (d *duration) String() string {
	if d == nil || *d == 0 {
		return ""
	}
	return time.Duration(*d).String()
}
