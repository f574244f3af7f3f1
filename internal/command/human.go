package command

import (
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/rivo/uniseg"
)

// Printable is s without what controls a terminal (line ends, escape
// sequences): each such character is a space.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || r == '\u2028' || r == '\u2029' {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
}

// OneLine is what is printable of s, with single spaces.
func OneLine(s string) string { return strings.Join(strings.Fields(Printable(s)), " ") }

// Shorten is s in at most width columns of a terminal, with a … where something
// was left out.
func Shorten(s string, width int) string {
	// What is longer than that has more columns, too; to measure it is slow.
	if len(s) <= 64*width && uniseg.StringWidth(s) <= width {
		return s
	}
	var short strings.Builder
	left := width - 1
	for state := -1; s != ""; {
		var cluster string
		var columns int
		cluster, s, columns, state = uniseg.FirstGraphemeClusterInString(s, state)
		if left -= columns; left < 0 {
			break
		}
		short.WriteString(cluster)
	}
	return strings.TrimRight(short.String(), " ") + "…"
}

// Ago is t as seen from now: "12s ago", "in 5m", "now" within a second, and the
// date of what is more than a week away; "-" for no time.
func Ago(now, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	switch d := now.Sub(t); {
	case d.Abs() > 7*day:
		return t.Local().Format("2006-01-02 15:04")
	case d <= -time.Second:
		return "in " + Span(-d)
	case d < time.Second:
		return "now"
	default:
		return Span(d) + " ago"
	}
}

// When is t in full, and as seen from now.
func When(now, t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	local := t.Local().Format("2006-01-02 15:04:05")
	if now.Sub(t).Abs() > 7*day {
		return local
	}
	return local + " (" + Ago(now, t) + ")"
}

// Span is about how long d is, in one unit.
func Span(d time.Duration) string {
	switch {
	case d < time.Second:
		if ms := d.Milliseconds(); ms > 0 {
			return fmt.Sprintf("%dms", ms)
		}
		return "0s"
	case d < 10*time.Second:
		return strconv.FormatFloat(d.Truncate(100*time.Millisecond).Seconds(), 'f', -1, 64) + "s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", d.Round(time.Minute)/time.Minute)
	case d < 2*day:
		return fmt.Sprintf("%dh", d.Round(time.Hour)/time.Hour)
	}
	return fmt.Sprintf("%dd", d.Round(day)/day)
}

// Count is n with its thousands apart: 4,102.
func Count[T int | int64](n T) string {
	digits := strconv.FormatInt(int64(n), 10)
	for at := len(digits) - 3; at > 0 && digits[at-1] != '-'; at -= 3 {
		digits = digits[:at] + "," + digits[at:]
	}
	return digits
}

// Plural is a count of things, with the thing's plain English plural: "1 blob",
// "4,102 blobs".
func Plural[T int | int64](n T, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return Count(n) + " " + thing
}

// Bytes is a size in its largest decimal unit: "3.4 MB".
func Bytes(n int64) string {
	if n < 1000 {
		return strconv.FormatInt(n, 10) + " B"
	}
	size, unit := float64(n), ""
	for _, unit = range []string{"kB", "MB", "GB", "TB", "PB"} {
		if size /= 1000; size < 999.95 {
			break
		}
	}
	return fmt.Sprintf("%.1f %s", size, unit)
}
