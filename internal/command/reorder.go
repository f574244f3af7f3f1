package command

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
	"github.com/xrash/smetrics"
)

// Reorder puts arguments into the one order that the cli library reads (it
// takes what follows the first positional argument for positional, too) and
// checks what can be checked without running anything.
//
// The app's flags may stand anywhere, a command's own anywhere after it, and
// "--" ends flags. A flag begins with one or two dashes and a letter: "-", a
// negative number and an SQL comment are arguments. How many arguments a
// command takes is read from its ArgsUsage: words in brackets may be left out, and
// the last one, where it ends in …, stands for any number.
//
// Whatever it refuses is an error of [Usage]: an unknown flag or command, a
// flag without its value, a group without a command, a missing or a surplus
// argument.
func Reorder(app *cli.App, args []string) ([]string, error) {
	o := &order{levels: []level{{
		name: app.Name, usage: app.ArgsUsage, flags: append(slices.Clone(app.Flags), cli.VersionFlag), commands: app.Commands,
	}}}
	flagsEnded := false
	for rest := args[1:]; len(rest) > 0; {
		arg := rest[0]
		rest = rest[1:]
		var err error
		switch {
		case flagsEnded:
			err = o.word(arg)
		case arg == "--":
			flagsEnded = true
		case looksLikeFlag(arg):
			rest, err = o.flag(arg, rest)
		default:
			err = o.word(arg)
		}
		if err != nil {
			return nil, err
		}
	}
	if err := o.complete(); err != nil {
		return nil, err
	}
	return o.result(args[0]), nil
}

// order is what was read so far.
type order struct {
	levels []level // the app, then the commands down to the one that runs
	words  []string
	info   bool // help or the version is asked for: nothing will run
}

// level is the app or a command, with the flags that are given to it.
type level struct {
	name     string
	usage    string
	flags    []cli.Flag
	commands []*cli.Command
	given    []string
}

func (o *order) last() *level { return &o.levels[len(o.levels)-1] }

// path is the command as it is typed, without the program: "job show".
func (o *order) path() string {
	var names []string
	for _, l := range o.levels[1:] {
		names = append(names, l.name)
	}
	return strings.Join(names, " ")
}

// word takes an argument that is no flag: a command's name, as long as one is
// expected.
func (o *order) word(word string) error {
	at := o.last()
	if len(at.commands) == 0 {
		o.words = append(o.words, word)
		return nil
	}
	var names []string
	for _, c := range at.commands {
		if c.HasName(word) {
			o.levels = append(o.levels, level{name: c.Name, usage: c.ArgsUsage, flags: c.Flags, commands: c.Subcommands})
			return nil
		}
		names = append(names, c.Name)
	}
	full := strings.TrimSpace(o.path() + " " + word)
	if near := nearest(word, names); near != "" {
		return Usage("unknown command %q; did you mean %q?", full, strings.TrimSpace(o.path()+" "+near))
	}
	return Usage("unknown command %q: want %s", full, oneOf(names))
}

// looksLikeFlag is true of --name, --name=value, and the same with one dash.
func looksLikeFlag(arg string) bool {
	name := strings.TrimPrefix(strings.TrimPrefix(arg, "-"), "-")
	if name == "" || name == arg {
		return false
	}
	first := name[0] | 0x20 // in lower case
	return 'a' <= first && first <= 'z'
}

// flag takes a flag, and its value from rest where it has one there, and gives
// them to the innermost command that knows the flag.
func (o *order) flag(arg string, rest []string) ([]string, error) {
	name, value, hasValue := strings.Cut(strings.TrimLeft(arg, "-"), "=")
	if slices.Contains(cli.HelpFlag.Names(), name) {
		o.info = true
		o.last().given = append(o.last().given, "--help")
		return rest, nil
	}
	var known []string
	for i := len(o.levels) - 1; i >= 0; i-- {
		l := &o.levels[i]
		for _, f := range l.flags {
			known = append(known, f.Names()...)
			if !slices.Contains(f.Names(), name) {
				continue
			}
			if doc, ok := f.(cli.DocGenerationFlag); ok && doc.TakesValue() && !hasValue {
				if len(rest) == 0 || rest[0] == "--" || looksLikeFlag(rest[0]) {
					return nil, Usage("--%s needs a value (one that begins with a dash is written --%s=-…)", name, name)
				}
				value, hasValue, rest = rest[0], true, rest[1:]
			}
			if f == cli.VersionFlag {
				o.info = true
			}
			given := "--" + f.Names()[0]
			if hasValue {
				given += "=" + value
			}
			l.given = append(l.given, given)
			return rest, nil
		}
	}
	hint := ""
	if near := nearest(name, known); near != "" {
		hint = "; did you mean --" + near + "?"
	} else if len(o.last().commands) > 0 {
		hint = "; a command's own flags come after it"
	}
	return nil, Usage("unknown flag --%s%s", name, hint)
}

// complete checks that there is a command with all its arguments.
func (o *order) complete() error {
	at := o.last()
	if o.info {
		return nil
	}
	if len(at.commands) > 0 {
		var names []string
		for _, c := range at.commands {
			names = append(names, c.Name)
		}
		if len(o.levels) == 1 {
			return Usage("no command given: want %s", oneOf(names))
		}
		return Usage("%q needs a command: %s", o.path(), oneOf(names))
	}
	form := strings.TrimSpace(o.path() + " " + at.usage)
	expected := strings.Fields(at.usage)
	for i, name := range expected {
		if i >= len(o.words) && !strings.HasPrefix(name, "[") {
			return Usage("%s is missing: %s", name, form)
		}
	}
	many := strings.HasSuffix(strings.TrimSuffix(at.usage, "]"), "…")
	if len(o.words) > len(expected) && !many {
		surplus := Shorten(o.words[len(expected)], 40)
		if form == "" {
			return Usage("unexpected argument %q: only flags are known", surplus)
		}
		return Usage("unexpected argument %q: %s", surplus, form)
	}
	return nil
}

// result is each command followed by its flags, and the arguments at the end.
func (o *order) result(program string) []string {
	args := append([]string{program}, o.levels[0].given...)
	for _, l := range o.levels[1:] {
		args = append(append(args, l.name), l.given...)
	}
	return append(append(args, "--"), o.words...)
}

// nearest is the name that was probably meant; empty: none is near.
func nearest(word string, names []string) (near string) {
	best := 0.8 // of 1; below that, guesses only confuse
	for _, name := range names {
		if likeness := smetrics.JaroWinkler(word, name, 0.7, 4); likeness > best {
			near, best = name, likeness
		}
	}
	return near
}

// oneOf is names as a person lists them.
func oneOf(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " or " + names[len(names)-1]
}
