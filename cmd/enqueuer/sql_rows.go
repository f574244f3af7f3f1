package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"math"
	"strconv"
	"time"

	"github.com/shoal-project/shoal/internal/command"
)

// pageRows is how many rows of a table are measured, and so kept, at a time.
const pageRows = 10_000

// queryer is a database, or a transaction.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// printQuery runs a query and prints its rows. columns is how many each has:
// none where the statement is no query.
func printQuery(ctx context.Context, on queryer, query string, out *command.Output) (columns int, err error) {
	rows, err := on.QueryContext(ctx, query)
	if err != nil {
		return 0, err
	}
	defer rows.Close()
	names, err := rows.Columns()
	if err != nil {
		return 0, err
	}
	keys := distinct(names)
	row, into := make([]any, len(names)), make([]any, len(names))
	for i := range row {
		into[i] = &row[i]
	}
	page := &command.Table{Columns: names}
	for rows.Next() {
		if err := rows.Scan(into...); err != nil {
			return 0, err
		}
		if out.JSON {
			if err := printObject(out, keys, row); err != nil {
				return 0, err
			}
			continue
		}
		if page.Len() == pageRows {
			out.Print(page)
			page = &command.Table{Columns: names}
		}
		cells := make([]string, len(row))
		for i, v := range row {
			cells[i] = cellText(v)
		}
		page.Row(cells...)
	}
	if err := rows.Err(); err != nil {
		return 0, err
	}
	if !out.JSON && len(names) > 0 {
		out.Print(page)
	}
	return len(names), nil
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
func printObject(out *command.Output, keys []string, row []any) error {
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
	_, err := fmt.Fprintf(out, "%s}\n", line)
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
