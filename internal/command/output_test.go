package command_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/shoal-project/shoal/internal/command"
)

func TestTable(t *testing.T) {
	var out bytes.Buffer
	o := &command.Output{Writer: &out, Width: 30}
	table := &command.Table{Columns: []string{"N", "NAME", "NOTE"}}
	table.Row("4,102", "日本", strings.Repeat("long ", 1000))
	table.Row("7", "a\x1b[2Jb\nc", "")
	o.Print(table)
	want := strings.Join([]string{
		"    N  NAME      NOTE",
		"4,102  日本      long long lo…",
		"    7  a [2Jb c", ""}, "\n")
	got := out.String()
	if got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestShorten(t *testing.T) {
	for _, c := range []struct {
		in   string
		most int
		want string
	}{{"short", 5, "short"}, {"longer", 5, "long…"}, {"日本語", 5, "日本…"}, {"日本語", 6, "日本語"}, {"", 3, ""}, {"a b", 2, "a…"}} {
		if got := command.Shorten(c.in, c.most); got != c.want {
			t.Errorf("%q in %d: %q, want %q", c.in, c.most, got, c.want)
		}
	}
}

func TestHuman(t *testing.T) {
	now := time.Date(2026, 3, 1, 12, 0, 0, 0, time.Local)
	for want, got := range map[string]string{
		"now":              command.Ago(now, now.Add(-time.Millisecond)),
		"12s ago":          command.Ago(now, now.Add(-12*time.Second)),
		"in 5m":            command.Ago(now, now.Add(5*time.Minute)),
		"3h ago":           command.Ago(now, now.Add(-3*time.Hour)),
		"in 2d":            command.Ago(now, now.Add(48*time.Hour)),
		"2026-01-01 12:00": command.Ago(now, time.Date(2026, 1, 1, 12, 0, 0, 0, time.Local)),
		"-":                command.Ago(now, time.Time{}),
		"584ms":            command.Span(584 * time.Millisecond),
		"1.5s":             command.Span(1540 * time.Millisecond),
		"0s":               command.Span(0),
		"4,102":            command.Count(4102),
		"-1,234,567":       command.Count(-1234567),
		"-123":             command.Count(-123),
		"1 blob":           command.Plural(1, "blob"),
		"0 blobs":          command.Plural(0, "blob"),
		"999 B":            command.Bytes(999),
		"3.4 MB":           command.Bytes(3_400_000),
		"1.0 MB":           command.Bytes(999_960),
		"1.0 GB":           command.Bytes(1_000_000_000),
	} {
		if got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestObject(t *testing.T) {
	var out bytes.Buffer
	o := &command.Output{Writer: &out, JSON: true}
	if err := o.Object(map[string]string{"a": "<&>"}); err != nil || out.String() != "{\"a\":\"<&>\"}\n" {
		t.Errorf("%q, %v", &out, err)
	}
}
