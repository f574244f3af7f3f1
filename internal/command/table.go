package command

import (
	"fmt"
	"slices"
	"strings"

	"github.com/rivo/uniseg"
)

// Table is rows for people. Its columns are as wide as they must be; where a
// line would not fit, the widest columns are cut to what fits. Numbers stand to
// the right.
type Table struct {
	Columns []string
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
		names[i] = OneLine(name)
		right[i] = len(t.rows) > 0 && !slices.ContainsFunc(t.rows, func(row []string) bool { return !isNumber(row[i]) })
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

// isNumber is true of what may stand in a column of numbers: 4,102 and 1/3, too.
func isNumber(cell string) bool {
	return cell == "NULL" || strings.Trim(cell, "-0123456789.,/") == ""
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
