package command

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/rivo/uniseg"
	"github.com/urfave/cli/v2"
	"golang.org/x/term"
)

// JSONFlag is --json; see OutputOf.
func JSONFlag() cli.Flag {
	return &cli.BoolFlag{Name: "json", EnvVars: []string{"SHOAL_JSON"}, Usage: "print one JSON object a line"}
}

// defaultWidth is that of a terminal that can't be asked.
const defaultWidth = 80

// Output is where results go: as JSON, one object a line, or for people.
type Output struct {
	io.Writer
	JSON  bool
	Width int // columns of the terminal
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

// Object prints v as a line of JSON.
func (o *Output) Object(v any) error {
	e := json.NewEncoder(o)
	e.SetEscapeHTML(false)
	return e.Encode(v)
}

// Printf prints for people.
func (o *Output) Printf(format string, args ...any) {
	fmt.Fprintf(o, format, args...)
}

// Table is rows for people. Its columns are as wide as they must be; where a
// line would not fit, the widest columns are cut to what fits.
type Table struct {
	Columns []string // a name that begins with '>' is that of a column of numbers
	rows    [][]string
}

// Row adds a row.
func (t *Table) Row(cells ...string) {
	for i, cell := range cells {
		cells[i] = OneLine(cell[:min(len(cell), maxCell)])
	}
	t.rows = append(t.rows, cells)
}

// Len is the number of rows.
func (t *Table) Len() int { return len(t.rows) }

// maxCell is how many bytes of a cell are looked at: more than any line shows.
const maxCell = 4096

// minColumn is how far a column is cut at most.
const minColumn = 8

// gap stands between columns.
const gap = "  "

// Print writes the table with its column's names.
func (o *Output) Print(t *Table) {
	names := make([]string, len(t.Columns))
	right := make([]bool, len(t.Columns))
	for i, name := range t.Columns {
		names[i], right[i] = strings.CutPrefix(name, ">")
	}
	rows := append([][]string{names}, t.rows...)
	widths := make([]int, len(names))
	for _, row := range rows {
		for i, cell := range row {
			widths[i] = max(widths[i], uniseg.StringWidth(cell))
		}
	}
	fit(widths, o.Width)
	for _, row := range rows {
		var line strings.Builder
		for i, cell := range row {
			cell = Shorten(cell, widths[i])
			space := strings.Repeat(" ", widths[i]-uniseg.StringWidth(cell))
			if i > 0 {
				line.WriteString(gap)
			}
			if right[i] {
				line.WriteString(space + cell)
			} else {
				line.WriteString(cell + space)
			}
		}
		fmt.Fprintln(o, strings.TrimRight(line.String(), " "))
	}
}

// fit narrows the widest columns, one column of the terminal at a time, until a
// line has at most width.
func fit(widths []int, width int) {
	total := len(gap) * (len(widths) - 1)
	for _, w := range widths {
		total += w
	}
	for ; total > width; total-- {
		widest := 0
		for i, w := range widths {
			if w >= widths[widest] { // the last of equals: what comes first matters more
				widest = i
			}
		}
		if widths[widest] <= minColumn {
			return
		}
		widths[widest]--
	}
}
