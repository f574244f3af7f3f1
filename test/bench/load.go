package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
)

const loadHelp = `usage: scripts/loadtest [FLAGS]

Puts a fleet under load on this machine: worker processes, producer processes
that enqueue, one database. At the end it looks into the file, from outside,
whether anything was lost. Ctrl-C ends it early, with the result so far.

`

// loadOptions are the load.
type loadOptions struct {
	Jobs, Rate, Producers, Processes, Slots, Payload int
	Duration, Work                                   time.Duration
	DB                                               string
	JSON                                             bool
}

// loadMinPayload is what the time takes that a payload begins with.
const loadMinPayload = 40

func (o *loadOptions) flags() *flag.FlagSet {
	f := flag.NewFlagSet("loadtest", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	// The first word is what the value is called; none: there is no value.
	f.IntVar(&o.Jobs, "jobs", 100_000, "N jobs in all")
	f.DurationVar(&o.Duration, "duration", 0, "D (30s, 10m) of enqueuing, in place of --jobs; what has\nended stays in the file, which grows")
	f.IntVar(&o.Rate, "rate", 0, "N jobs a second, of all producers; 0: as fast as they can,\nand latency is the wait behind all that came before")
	f.IntVar(&o.Producers, "producers", 1, fmt.Sprintf("N processes that enqueue, each with %d callers of one job\nat a time", loadCallers))
	f.IntVar(&o.Processes, "processes", 4, "N worker processes")
	f.IntVar(&o.Slots, "slots", 16, "N handlers at once in each of them")
	f.DurationVar(&o.Work, "work", 5*time.Millisecond, "D (5ms, 1s) for which a handler waits")
	f.IntVar(&o.Payload, "payload", 100, fmt.Sprintf("N bytes of JSON a job, %d to %d", loadMinPayload, jobs.MaxPayload))
	f.StringVar(&o.DB, "db", "", "PATH of the database, which is kept; not given: a temporary\none in this folder")
	f.BoolVar(&o.JSON, "json", false, " print one JSON object; times in it are microseconds")
	return f
}

// parse reads the flags and says what is wrong with them.
func (o *loadOptions) parse(f *flag.FlagSet, args []string) error {
	err := f.Parse(args)
	if errors.Is(err, flag.ErrHelp) {
		return err
	}
	if err != nil {
		return fmt.Errorf("%s: see --help", strings.Replace(err.Error(), " -", " --", 1))
	}
	set := make(map[string]bool)
	f.Visit(func(f *flag.Flag) { set[f.Name] = true })
	switch {
	case f.NArg() > 0:
		return fmt.Errorf("%q is no flag: see --help", f.Arg(0))
	case set["jobs"] && set["duration"]:
		return errors.New("--jobs and --duration can't go together: which one ends it?")
	case min(o.Jobs, o.Producers, o.Processes, o.Slots) < 1:
		return errors.New("--jobs, --producers, --processes and --slots are at least 1")
	case o.Rate < 0 || o.Work < 0 || o.Duration < 0:
		return errors.New("--rate, --work and --duration can't be negative")
	case o.Payload < loadMinPayload || o.Payload > jobs.MaxPayload:
		return fmt.Errorf("--payload is %d: %d to %d bytes", o.Payload, loadMinPayload, jobs.MaxPayload)
	}
	return nil
}

// load is the whole of it, or what one of its processes does.
func load(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	if len(args) == 2 && args[0] == "role" {
		var r loadRole
		if err := json.Unmarshal([]byte(args[1]), &r); err != nil {
			return err
		}
		return r.play(ctx, stdin, stdout, stderr)
	}
	var o loadOptions
	f := o.flags()
	switch err := o.parse(f, args); {
	case errors.Is(err, flag.ErrHelp):
		return help(f, stdout)
	case err != nil:
		return err
	}
	temp := ""
	if o.DB == "" {
		var err error
		if temp, err = os.MkdirTemp(".", "loadtest-"); err != nil {
			return err
		}
		o.DB = filepath.Join(temp, "jobs.db")
	}
	err := o.run(ctx, stdout, stderr)
	if temp != "" && !errors.Is(err, errLoadCheck) {
		return errors.Join(err, os.RemoveAll(temp))
	}
	if temp != "" {
		err = fmt.Errorf("%w; the database is left in %s", err, temp)
	}
	return err
}

// help prints the flags as people write them.
func help(f *flag.FlagSet, w io.Writer) error {
	fmt.Fprint(w, loadHelp)
	f.VisitAll(func(f *flag.Flag) {
		value, _, _ := strings.Cut(f.Usage, " ")
		usage := strings.TrimSpace(f.Usage)
		switch f.DefValue {
		case "", "0", "0s", "false":
		default:
			usage += " (default " + f.DefValue + ")"
		}
		fmt.Fprintf(w, "  %-14s %s\n", "--"+f.Name+" "+value, strings.ReplaceAll(usage, "\n", "\n"+strings.Repeat(" ", 17)))
	})
	return nil
}

// run makes the database, has the fleet work on it and prints what came of it.
func (o loadOptions) run(ctx context.Context, stdout, stderr io.Writer) error {
	q, err := store.Open(ctx, o.DB, store.Options{Logger: loadLog(stderr)})
	if err != nil {
		return err
	}
	if err := q.Close(); err != nil {
		return err
	}
	conn, err := openRaw(o.DB)
	if err != nil {
		return err
	}
	defer conn.Close()
	file := &loadFile{path: o.DB, conn: conn}
	there, err := file.census()
	if err != nil {
		return err
	}
	if there.All > 0 {
		return fmt.Errorf("%s holds %d jobs, which are not the load's: name a new file with --db, or leave it out", o.DB, there.All)
	}
	l := &loadRun{loadOptions: o, file: file, stderr: stderr, events: make(chan loadEvent)}
	defer l.kill()
	if err := l.run(ctx); err != nil {
		return err
	}
	r, err := l.result()
	if err != nil {
		return err
	}
	if o.JSON {
		err = json.NewEncoder(stdout).Encode(r)
	} else {
		r.print(stdout)
	}
	if err == nil && r.Difference != "" {
		err = fmt.Errorf("%w: %s", errLoadCheck, r.Difference)
	}
	return err
}

// errLoadCheck means that the file is not as it should be.
var errLoadCheck = errors.New("the file is not as it should be")

// loadLog gets the warnings of stores and workers: somebody sits on the lock, a
// disk is full, an outcome came too late.
func loadLog(w io.Writer) *zap.Logger {
	text := zapcore.NewConsoleEncoder(zap.NewDevelopmentEncoderConfig())
	return zap.New(zapcore.NewCore(text, zapcore.AddSync(w), zap.WarnLevel))
}
