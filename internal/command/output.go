package command

import (
	"encoding/json"
	"fmt"
	"io"
	"os"

	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

// JSONFlag is --json; see OutputOf.
func JSONFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", EnvVars: []string{"SHOAL_JSON"}, Usage: "print one JSON object a line", DisableDefaultText: true}
}

// defaultWidth is that of a terminal that can't be asked.
const defaultWidth = 80

// Output is where results go: as JSON, one object a line, or for people. It
// keeps the first error of its Writer, so that who prints need not look; see Err.
type Output struct {
	io.Writer
	JSON  bool
	Width int // columns of the terminal
	err   error
}

// OutputOf is the app's stdout in the form that --json says.
func OutputOf(c *cli.Context) *Output {
	o := &Output{Writer: c.App.Writer, JSON: c.Bool("json"), Width: defaultWidth}
	if f, ok := o.Writer.(*os.File); ok {
		if width, _, err := term.GetSize(int(f.Fd())); err == nil && width > defaultWidth {
			o.Width = width
		}
	}
	return o
}

// Write implements io.Writer.
func (o *Output) Write(p []byte) (int, error) {
	n, err := o.Writer.Write(p)
	if o.err == nil {
		o.err = err
	}
	return n, err
}

// Err is the first error of what was printed so far: a result is lost.
func (o *Output) Err() error { return o.err }

// Object prints v as a line of JSON.
func (o *Output) Object(v any) error {
	e := json.NewEncoder(o)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// Result prints what came of a command: object as JSON, or a line for people.
func (o *Output) Result(object any, format string, args ...any) error {
	if o.JSON {
		return o.Object(object)
	}
	_, err := fmt.Fprintf(o, format+"\n", args...)
	return err
}

// Printf prints for people.
func (o *Output) Printf(format string, args ...any) {
	fmt.Fprintf(o, format, args...)
}
