package main

import (
	"bytes"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/shoal-project/shoal/internal/command"
)

// grid is the rows that a query returned, or is about to.
type grid struct {
	columns []string
	cells   [][]any
	more    *sql.Rows // not yet in cells; nil: none
}

func startGrid(rows *sql.Rows) (*grid, error) {
	columns, err := rows.Columns()
	return &grid{columns: columns, more: rows}, err
}

// next returns a row, or nil after the last.
func (g *grid) next() ([]any, error) {
	if len(g.cells) > 0 {
		row := g.cells[0]
		g.cells = g.cells[1:]
		return row, nil
	}
	if g.more == nil || !g.more.Next() {
		if g.more == nil {
			return nil, nil
		}
		return nil, g.more.Err()
	}
	row := make([]any, len(g.columns))
	into := make([]any, len(row))
	for i := range row {
		into[i] = &row[i]
	}
	return row, g.more.Scan(into...)
}

// readAll takes the rows out of their transaction. They must fit into memory.
func (g *grid) readAll() error {
	var all [][]any
	for {
		row, err := g.next()
		if err != nil {
			return err
		}
		if row == nil {
			g.cells, g.more = all, nil
			return nil
		}
		all = append(all, row)
	}
}

// pageRows is how many rows of a table are measured, and so kept, at a time.
const pageRows = 10_000

func (c *call) printGrid(g *grid) error {
	keys := distinct(g.columns)
	t := &command.Table{Columns: g.columns}
	for {
		row, err := g.next()
		if err != nil {
			return err
		}
		switch {
		case c.out.JSON && row != nil:
			if err := c.printObject(keys, row); err != nil {
				return err
			}
			continue
		case row != nil:
			cells := make([]string, len(row))
			for i, v := range row {
				cells[i] = cellText(v)
			}
			t.Row(cells...)
			if t.Len() < pageRows {
				continue
			}
		}
		if !c.out.JSON && (t.Len() > 0 || row == nil) && len(g.columns) > 0 {
			c.out.Print(t)
		}
		if row == nil {
			return nil
		}
		t = &command.Table{Columns: g.columns}
	}
}

// distinct names each column once, as the keys of an object must: the second
// "id" is "id_2".
func distinct(columns []string) []string {
	used := make(map[string]bool)
	names := make([]string, len(columns))
	for i, name := range columns {
		names[i] = name
		for n := 2; used[names[i]]; n++ {
			names[i] = fmt.Sprintf("%s_%d", name, n)
		}
		used[names[i]] = true
	}
	return names
}

// printObject is a row as JSON, its keys in the order of the columns.
func (c *call) printObject(keys []string, row []any) error {
	line := []byte("{")
	for i, v := range row {
		if i > 0 {
			line = append(line, ',')
		}
		key, err := json.Marshal(keys[i])
		if err != nil {
			return err
		}
		var value bytes.Buffer
		e := json.NewEncoder(&value)
		e.SetEscapeHTML(false)
		if err := e.Encode(jsonValue(v)); err != nil {
			return err
		}
		line = append(append(append(line, key...), ':'), bytes.TrimSpace(value.Bytes())...)
	}
	_, err := fmt.Fprintf(c.out, "%s}\n", line)
	return err
}

// jsonValue is a value as JSON can say it: a blob as hex digits, an infinite
// number as null.
func jsonValue(v any) any {
	switch v := v.(type) {
	case []byte:
		return hex.EncodeToString(v)
	case float64:
		if math.IsInf(v, 0) || math.IsNaN(v) {
			return nil
		}
	}
	return v
}

// cellText is a value as the cell of a table: a blob as the literal that SQL has.
func cellText(v any) string {
	switch v := v.(type) {
	case nil:
		return "NULL"
	case []byte:
		return fmt.Sprintf("x'%x'", v)
	case float64:
		return strconv.FormatFloat(v, 'f', -1, 64)
	case time.Time:
		return v.Format(time.RFC3339Nano)
	}
	return fmt.Sprint(v)
}
