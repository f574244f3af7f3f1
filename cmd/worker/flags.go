package main

import (
	"maps"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"
	"go.uber.org/zap"

	"github.com/shoal-project/shoal/internal/command"
	"github.com/shoal-project/shoal/internal/handlers"
	"github.com/shoal-project/shoal/pkg/jobs"
)

// config is what the flags say.
type config struct {
	home         command.HomeOptions
	worker       jobs.WorkerOptions
	types        []string // built-in ones
	exec         map[string]string
	listen       string
	pingInterval time.Duration
	log          *zap.Logger
}

func flags() []cli.Flag {
	return append(command.HomeFlags(),
		&cli.IntFlag{Name: "concurrency", Value: 16, EnvVars: []string{"SHOAL_CONCURRENCY"}, Usage: "`N` jobs at once"},
		&cli.StringSliceFlag{Name: "type", Usage: "handle job type `T` (several; default: all that have a handler) [$SHOAL_TYPE]"},
		&cli.StringSliceFlag{Name: "queue", Usage: "work on queue `NAME[=SLOTS]` (several; default: default); without SLOTS it shares --concurrency [$SHOAL_QUEUE]"},
		&cli.StringSliceFlag{Name: "exec", Usage: "handle a job type with a command, `TYPE=COMMAND` (several) [$SHOAL_EXEC, one a line]"},
		command.DurationFlag("lease", 30*time.Second, "how long a job is held without a renewal (`D`)", "SHOAL_LEASE"),
		command.DurationFlag("drain", 30*time.Second, "how long running jobs may go on after SIGTERM (`D`)", "SHOAL_DRAIN"),
		command.DurationFlag("poll", time.Second, "how often to look for work that nothing told of; rests while nobody works and all commits are heard of (`D`)", "SHOAL_POLL"),
		&cli.IntFlag{Name: "max-attempts", Value: 3, EnvVars: []string{"SHOAL_MAX_ATTEMPTS"}, Usage: "`N` attempts for a job that names none"},
		command.DurationFlag("retry-delay", time.Minute, "wait after the first failed attempt, doubled each time (`D`)", "SHOAL_RETRY_DELAY"),
		&cli.StringFlag{Name: "listen", EnvVars: []string{"SHOAL_LISTEN"}, Usage: "serve this home to peers at `ADDR`; all its workers may share one"},
		command.DurationFlag("ping-interval", 5*time.Second, "how often the leader has peers pinged (`D`)", "SHOAL_PING_INTERVAL"),
		&cli.IntFlag{Name: "max-pending", EnvVars: []string{"SHOAL_MAX_PENDING"}, Usage: "refuse to enqueue past `N` pending jobs; kept in the file"},
		&cli.BoolFlag{Name: "until-empty", EnvVars: []string{"SHOAL_UNTIL_EMPTY"}, Usage: "stop when nothing is left that this worker could claim"},
	)
}

func configOf(c *cli.Context) (cfg config, err error) {
	cfg.home = command.HomeOf(c)
	cfg.home.Make = true
	cfg.listen = c.String("listen")
	cfg.pingInterval = command.DurationOf(c, "ping-interval")
	cfg.worker = jobs.WorkerOptions{
		Concurrency: c.Int("concurrency"),
		Lease:       command.DurationOf(c, "lease"),
		Drain:       command.DurationOf(c, "drain"),
		Poll:        command.DurationOf(c, "poll"),
		MaxAttempts: c.Int("max-attempts"),
		RetryDelay:  command.DurationOf(c, "retry-delay"),
		UntilEmpty:  c.Bool("until-empty"),
	}
	if cfg.worker.Drain == 0 {
		cfg.worker.Drain = -1 // said to be none; the option's zero is the default
	}
	// In the options 0 means the default; here somebody has asked for 0.
	for _, name := range []string{"concurrency", "max-attempts"} {
		if c.Int(name) == 0 {
			return cfg, command.Usage("--%s 0: at least 1", name)
		}
	}
	for _, name := range []string{"lease", "poll", "retry-delay", "ping-interval"} {
		if command.DurationOf(c, name) == 0 {
			return cfg, command.Usage("--%s 0: it must be more", name)
		}
	}
	if cfg.pingInterval < time.Millisecond {
		return cfg, command.Usage("--ping-interval %v: at least 1ms", cfg.pingInterval)
	}
	if cfg.home.Store.MaxPending = c.Int("max-pending"); c.IsSet("max-pending") && cfg.home.Store.MaxPending < 1 {
		return cfg, command.Usage("--max-pending %d: at least 1", cfg.home.Store.MaxPending)
	}
	if cfg.listen != "" {
		if _, err := net.ResolveTCPAddr("tcp", cfg.listen); err != nil {
			return cfg, command.Usage("--listen %s: write HOST:PORT, or :0 for any port", cfg.listen)
		}
	}
	if cfg.worker.Queues, err = queuesOf(listOf(c, "queue", "SHOAL_QUEUE")); err != nil {
		return cfg, err
	}
	if err := cfg.worker.Check(); err != nil {
		return cfg, command.Usage("%s", err)
	}
	if cfg.exec, err = commandsOf(listOf(c, "exec", "SHOAL_EXEC")); err != nil {
		return cfg, err
	}
	return cfg, cfg.narrow(listOf(c, "type", "SHOAL_TYPE"))
}

// narrow leaves only the types that are named, if any are.
func (cfg *config) narrow(types []string) error {
	named := func(t string) bool { return len(types) == 0 || slices.Contains(types, t) }
	maps.DeleteFunc(cfg.exec, func(t, _ string) bool { return !named(t) })
	for _, t := range handlers.Types() {
		if _, taken := cfg.exec[t]; !taken && named(t) {
			cfg.types = append(cfg.types, t)
		}
	}
	for _, t := range types {
		if _, ok := cfg.exec[t]; !ok && !slices.Contains(cfg.types, t) {
			return command.Usage("--type %s: it has no handler here: add --exec '%s=COMMAND'", t, t)
		}
	}
	return nil
}

func queuesOf(values []string) (queues []jobs.Queue, err error) {
	for _, value := range values {
		q := jobs.Queue{Name: value}
		if name, slots, ok := strings.Cut(value, "="); ok {
			n, err := strconv.Atoi(slots)
			if err != nil || n < 1 || name == "" {
				return nil, command.Usage("--queue %s: write NAME or NAME=SLOTS, with 1 slot or more", value)
			}
			q = jobs.Queue{Name: name, Slots: n}
		}
		queues = append(queues, q)
	}
	return queues, nil
}

func commandsOf(values []string) (map[string]string, error) {
	commands := make(map[string]string)
	for _, value := range values {
		jobType, line, _ := strings.Cut(value, "=")
		if jobType == "" || line == "" {
			return nil, command.Usage("--exec %q: write TYPE=COMMAND", value)
		}
		if _, twice := commands[jobType]; twice {
			return nil, command.Usage("--exec %s: given twice", jobType)
		}
		commands[jobType] = line
	}
	return commands, nil
}

// listOf is a flag's values, or those of its variable, which holds one a line. A
// value on the command line may have several lines.
func listOf(c *cli.Context, name, variable string) (list []string) {
	if c.IsSet(name) {
		return c.StringSlice(name)
	}
	for line := range strings.SplitSeq(os.Getenv(variable), "\n") {
		if line = strings.TrimSpace(line); line != "" {
			list = append(list, line)
		}
	}
	return list
}
