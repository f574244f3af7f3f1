// Package command is what Shoal's programs have in common: how arguments are
// read, where a home is, what goes to which stream, and with which code a
// program ends. Other people's scripts rely on all of that.
//
// It guarantees that whatever goes wrong is one line on stderr that begins with
// the program's name, and that stdout holds results alone; that flags may stand
// where people write them (see [Reorder]); and that a home is made only by a
// program that said so, and never in silence (see [OpenHome]).
//
// It handles no signals: a worker drains on them, other programs just stop.
package command

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime/debug"
	"strings"
	_ "time/tzdata" // zones of schedules are known on a machine without them, too

	"github.com/urfave/cli/v2"
)

// Main runs a program, whose name is args[0], on what the process was given and
// ends the process: with 0, with 2 after an error of [Usage], with 1 after any
// other. The error is said in one line on stderr.
func Main(run func(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) error) {
	err := run(context.Background(), os.Args, os.Stdin, os.Stdout, os.Stderr)
	if err != nil {
		fmt.Fprintf(os.Stderr, "%s: %s\n", filepath.Base(os.Args[0]), errorLine(err))
	}
	os.Exit(exitCode(err))
}

// errorLine is an error, or several that were joined, on one line.
func errorLine(err error) string {
	return OneLine(strings.ReplaceAll(strings.TrimSpace(err.Error()), "\n", "; "))
}

func exitCode(err error) int {
	if err == nil {
		return 0
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return 2
	}
	return 1
}

// usageError says that a program was called in a way it does not know.
type usageError string

func (e usageError) Error() string { return string(e) }

// Usage is the error of a program that was called wrongly. What it says names
// the argument and the way out.
func Usage(format string, args ...any) error { return usageError(fmt.Sprintf(format, args...)) }

// Run runs app on args as people write them. It sets what is the same in all
// programs: streams, name, version, and errors in place of pages of help.
func Run(ctx context.Context, app *cli.App, args []string, stdin io.Reader, stdout, stderr io.Writer) error {
	app.Name = filepath.Base(args[0])
	app.Version = version()
	app.Reader, app.Writer, app.ErrWriter = stdin, stdout, stderr
	app.DisableSliceFlagSeparator = true
	app.HideHelpCommand = true
	app.OnUsageError = onUsageError
	app.ExitErrHandler = func(*cli.Context, error) {} // Main is the one who ends the process
	quiet(app.Commands)
	args, err := Reorder(app, args)
	if err != nil {
		return err
	}
	return app.RunContext(ctx, args)
}

// quiet keeps the library from adding "help" commands and from printing help
// where an error is due.
func quiet(commands []*cli.Command) {
	for _, c := range commands {
		c.HideHelpCommand = true
		c.OnUsageError = onUsageError
		quiet(c.Subcommands)
	}
}

// onUsageError is for values that a flag, or its environment variable, refused:
// it writes flags as people do.
func onUsageError(_ *cli.Context, err error, _ bool) error {
	return Usage("%s", strings.NewReplacer(" for flag -", " for --", " for flag ", " for --", " for -", " for --", ": parse error", "").Replace(err.Error()))
}

// version is the module's, as the build stamped it.
func version() string {
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}
