package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"golang.org/x/text/language"
	"golang.org/x/text/message"
)

// figure is one measured number beside its goal.
type figure struct {
	Name    string    `json:"name"` // the same in each run
	Value   float64   `json:"value"`
	Unit    string    `json:"unit"`
	Runs    []float64 `json:"runs,omitempty"` // those that Value is the median of
	AtLeast *float64  `json:"at_least,omitempty"`
	AtMost  *float64  `json:"at_most,omitempty"`
	Reached *bool     `json:"reached,omitempty"`
	Not     string    `json:"not_measured,omitempty"` // why it was not
}

// number is one without a goal.
func number(name string, value float64, unit string) figure {
	return figure{Name: name, Value: value, Unit: unit}
}

// median is of several runs.
func median(name string, runs []float64, unit string) figure {
	f := number(name, middle(runs), unit)
	f.Runs = runs
	return f
}

// ratio is the median of each run's own ratio: a noisy machine is noisy for both.
func ratio(name string, ours, theirs []float64) figure {
	var runs []float64
	for i := range min(len(ours), len(theirs)) {
		runs = append(runs, ours[i]/theirs[i])
	}
	return median(name, runs, "x")
}

func notMeasured(name, why string) figure { return figure{Name: name, Not: why} }

func (f figure) atLeast(goal float64) figure {
	reached := f.Value >= goal
	f.AtLeast, f.Reached = &goal, &reached
	return f
}

// atMost is no goal of what was not measured.
func (f figure) atMost(goal float64) figure {
	if f.Not != "" {
		return f
	}
	reached := f.Value <= goal
	f.AtMost, f.Reached = &goal, &reached
	return f
}

// memory is in MB; what can't be told is not measured.
func memory(name string, bytes int64) figure {
	if bytes == 0 {
		return notMeasured(name, "only Linux tells")
	}
	return number(name, float64(bytes)/1e6, "MB")
}

func middle(runs []float64) float64 {
	if len(runs) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(runs))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// percentile is by nearest rank; p is from 0 to 1.
func percentile(sorted []float64, p float64) float64 {
	return sorted[max(0, int(math.Ceil(p*float64(len(sorted))))-1)]
}

// text is a value with about three digits.
func text(v float64, unit string) string {
	digits := max(0, 2-int(math.Floor(math.Log10(max(math.Abs(v), 0.1)))))
	if unit == "" {
		digits = 0 // it counts
	}
	return message.NewPrinter(language.English).Sprintf("%.*f", digits, v)
}

// row is a line of the table: 80 columns.
func (f figure) row(w io.Writer) {
	if f.Not != "" {
		fmt.Fprintf(w, "  %s not measured\n      %s\n", pad(f.Name, 42), f.Not)
		return
	}
	goal, reached := "", ""
	switch {
	case f.AtLeast != nil:
		goal = "≥ " + text(*f.AtLeast, f.Unit)
	case f.AtMost != nil:
		goal = "≤ " + text(*f.AtMost, f.Unit)
	}
	if f.Reached != nil {
		reached = "ok"
		if !*f.Reached {
			reached = "MISSED"
		}
	}
	line := fmt.Sprintf("  %s%9s %s  %s %s", pad(f.Name, 43), text(f.Value, f.Unit), pad(f.Unit, 6), pad(goal, 8), reached)
	fmt.Fprintln(w, strings.TrimRight(line, " "))
}

func pad(s string, width int) string {
	return s + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(s)))
}
