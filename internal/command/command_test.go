package command_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"

	"github.com/shoal-project/shoal/internal/command"
)

func app() *cli.App {
	return &cli.App{
		Name:  "prog",
		Flags: []cli.Flag{&cli.StringFlag{Name: "home"}, &cli.BoolFlag{Name: "json", Aliases: []string{"j"}}},
		Commands: []*cli.Command{
			{Name: "add", ArgsUsage: "TYPE [JSON]", Flags: []cli.Flag{
				&cli.IntFlag{Name: "priority"}, &cli.BoolFlag{Name: "force"}, command.DurationFlag("delay", 0, "")}},
			{Name: "job", Subcommands: []*cli.Command{{Name: "list", Flags: []cli.Flag{&cli.IntFlag{Name: "limit"}}}, {Name: "show", ArgsUsage: "ID"},
				{Name: "drop", ArgsUsage: "ID [ID…]", Flags: []cli.Flag{&cli.BoolFlag{Name: "force"}}}}},
		},
	}
}

func TestReorder(t *testing.T) {
	for in, want := range map[string]string{
		"add T":                             "add -- T",
		"add T --priority 5 {} --home x -j": "--home=x --json add --priority=5 -- T {}",
		"--json --home=x add -priority=5 T": "--json --home=x add --priority=5 -- T",
		"add T -5":                          "add -- T -5",
		"add T -":                           "add -- T -",
		"add --priority -5 T":               "add --priority=-5 -- T",
		"add --priority=-5 T":               "add --priority=-5 -- T",
		"add --force T":                     "add --force -- T",
		"add --force=false T":               "add --force=false -- T",
		"add T -- --force":                  "add -- T --force",
		"-- add T":                          "add -- T",
		"job list --limit 3 --json":         "--json job list --limit=3 --",
		"job --json list --limit 3":         "--json job list --limit=3 --",
		"job --help":                        "job --help --",
		"add -h":                            "add --help --",
		"--version":                         "--version --",
		"add T --home --x":                  "usage: --home needs a value",
		"add T --home":                      "usage: --home needs a value",
		"add T --home -- x":                 "usage: --home needs a value",
		"add T --priorty 5":                 "usage: unknown flag --priorty; did you mean --priority?",
		"--priority 5 add T":                "usage: unknown flag --priority; a command's own flags come after it",
		"job list --priority 5":             "usage: unknown flag --priority",
		"add":                               "usage: TYPE is missing: add TYPE [JSON]",
		"add T {} more":                     `usage: unexpected argument "more": add TYPE [JSON]`,
		"job show":                          "usage: ID is missing: job show ID",
		"job drop 1 2 --force 3":            "job drop --force -- 1 2 3",
		"job drop":                          "usage: ID is missing: job drop ID [ID…]",
		"job":                               `usage: "job" needs a command: list, show or drop`,
		"":                                  "usage: no command given: want add or job",
		"nothing":                           `usage: unknown command "nothing": want add or job`,
	} {
		out, err := command.Reorder(app(), append([]string{"prog"}, strings.Fields(in)...))
		got := strings.TrimPrefix(strings.Join(out, " "), "prog ")
		if err != nil {
			got = "usage: " + err.Error()
		}
		if strings.HasPrefix(want, "usage:") {
			got = got[:min(len(got), len(want))]
		}
		if got != want {
			t.Errorf("%q\n got %q\nwant %q", in, got, want)
		}
	}
}

// A comment at the beginning of a query is no flag.
func TestReorderKeepsComments(t *testing.T) {
	got, err := command.Reorder(app(), []string{"prog", "add", "-- a comment\nSELECT 1", "--force"})
	want := []string{"prog", "add", "--force", "--", "-- a comment\nSELECT 1"}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Error(diff, err)
	}
}

// A program without commands takes flags alone, and slices keep their commas.
func TestRun(t *testing.T) {
	var types []string
	var lease time.Duration
	worker := func() *cli.App {
		return &cli.App{
			Flags: []cli.Flag{&cli.StringSliceFlag{Name: "type"}, command.DurationFlag("lease", time.Second, "", "TEST_LEASE")},
			Action: func(c *cli.Context) error {
				types, lease = c.StringSlice("type"), command.DurationOf(c, "lease")
				return nil
			},
		}
	}
	t.Setenv("TEST_LEASE", "1d")
	var out, errs bytes.Buffer
	run := func(args ...string) error {
		return command.Run(context.Background(), worker(), append([]string{"/bin/worker"}, args...), strings.NewReader(""), &out, &errs)
	}
	if err := run("--type", "a,b", "--type=c"); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"a,b", "c"}, types); diff != "" || lease != 24*time.Hour {
		t.Error(diff, lease)
	}
	for _, args := range [][]string{{"surplus"}, {"--lease", "x"}, {"--lease"}, {"--leese=1s"}} {
		if err := run(args...); err == nil || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", args, err)
		}
	}
	if out.Len()+errs.Len() > 0 {
		t.Errorf("printed %q, %q", &out, &errs)
	}
	t.Setenv("TEST_LEASE", "x")
	if err := run(); err == nil || !strings.Contains(err.Error(), "TEST_LEASE") {
		t.Error(err)
	}
}

func TestParseDuration(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"0": 0, "0s": 0, "30s": 30 * time.Second, "1h30m": 90 * time.Minute, "7d": 168 * time.Hour,
		"1d12h": 36 * time.Hour, "0.5d": 12 * time.Hour, "0d": 0,
	} {
		if got, err := command.ParseDuration(in); got != want || err != nil {
			t.Errorf("%q: %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "d", "5", "5x", "-1s", "-1d", "1d-1h", "12h1d", "NaNd", "1e99d", "Infd", "200000d", "1d 2h"} {
		if got, err := command.ParseDuration(in); err == nil {
			t.Errorf("%q: %v, want an error", in, got)
		}
	}
}

// What is made is made with its parents, once, in private, and is told of.
func TestOpenHome(t *testing.T) {
	ctx := context.Background()
	dir := filepath.Join(t.TempDir(), "a", "b")
	var notes bytes.Buffer
	if _, err := command.OpenHome(ctx, command.HomeOptions{Dir: dir, Notes: &notes}); err == nil {
		t.Fatal("opened a home that is not there")
	}
	for range 2 {
		h, err := command.OpenHome(ctx, command.HomeOptions{Dir: dir, Make: true, Notes: &notes})
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Store.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if want := "made a new home in " + dir + "\n"; notes.String() != want {
		t.Errorf("notes: %q, want %q", &notes, want)
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Error(info.Mode(), err)
	}
}

// With the database elsewhere, the folder comes when it is needed.
func TestEnsureDir(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "home")
	var notes bytes.Buffer
	h, err := command.OpenHome(context.Background(), command.HomeOptions{Dir: dir, DB: ":memory:", Make: true, Notes: &notes})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Store.Close()
	if _, err := os.Stat(dir); err == nil || notes.Len() > 0 {
		t.Fatalf("made too early: %q", &notes)
	}
	for range 2 {
		if err := h.EnsureDir(); err != nil {
			t.Fatal(err)
		}
	}
	if want := "made a new home in " + dir + "\n"; notes.String() != want {
		t.Errorf("notes: %q, want %q", &notes, want)
	}
}
