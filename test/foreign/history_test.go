package foreign_test

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/shoal-project/shoal/test/foreign"
)

// end is what the histories know of an order.
type end int

const (
	unknown end = iota // the producer died, and has told nobody
	committed
	rolledBack
)

// readHistories reads what all producers have noted, by the orders' keys.
func readHistories(t *testing.T, dir string) map[string]end {
	t.Helper()
	ends := make(map[string]end)
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(text)) {
			what, key, _ := strings.Cut(strings.TrimSuffix(line, "\n"), " ")
			e, known := map[string]end{foreign.Begun: unknown, foreign.Committed: committed, foreign.RolledBack: rolledBack}[what+" "]
			if _, begun := ends[key]; !known || begun == (e == unknown) {
				t.Fatalf("%s: %q makes no sense", file, line)
			}
			ends[key] = e
		}
	}
	return ends
}

// compare holds the histories against the tables: orders and jobs are one, what
// was acknowledged is there, and what was rolled back is not. It returns what
// is there that nobody knew of, and what is not.
func compare(ends map[string]end, orders, jobs []string) (recovered, vanished int, problems []string) {
	there := make(map[string]bool)
	for _, key := range orders {
		there[key] = true
		if _, ok := ends[key]; !ok {
			problems = append(problems, key+": an order that nobody took")
		}
	}
	seen := make(map[string]bool)
	for _, key := range jobs {
		if seen[key] {
			problems = append(problems, key+": two jobs")
		}
		seen[key] = true
		if !there[key] {
			problems = append(problems, key+": a job without its order")
		}
	}
	for key, e := range ends {
		switch {
		case there[key] && !seen[key]:
			problems = append(problems, key+": an order without its job")
		case e == committed && !there[key]:
			problems = append(problems, key+": was acknowledged and is lost")
		case e == rolledBack && there[key]:
			problems = append(problems, key+": was rolled back and is there")
		case e == unknown && there[key]:
			recovered++
		case e == unknown:
			vanished++
		}
	}
	slices.Sort(problems)
	return recovered, vanished, problems
}

// TestCompare shows that each rule can be broken.
func TestCompare(t *testing.T) {
	ends := map[string]end{"a": committed, "b": rolledBack, "c": unknown, "d": unknown}
	for want, tables := range map[string][2]string{
		"1 1 []":                                {"a c", "c a"},
		"0 2 [a: was acknowledged and is lost]": {"", ""},
		"0 2 [a: an order without its job]":     {"a", ""},
		"0 1 [c: an order without its job]":     {"a c", "a"},
		"0 2 [a: two jobs]":                     {"a", "a a"},
		"0 2 [b: was rolled back and is there]": {"a b", "a b"},
		"0 2 [b: a job without its order]":      {"a", "a b"},
		"0 2 [x: a job without its order]":      {"a", "a x"},
		"0 2 [x: an order that nobody took]":    {"a x", "a x"},
	} {
		recovered, vanished, problems := compare(ends, strings.Fields(tables[0]), strings.Fields(tables[1]))
		if got := fmt.Sprint(recovered, vanished, problems); got != want {
			t.Errorf("orders %q: %s, want %s", tables, got, want)
		}
	}
}
