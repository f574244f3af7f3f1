// Package imports_test holds the house together: which package may import
// which, and what no shipped program may contain.
//
// It looks at packages as go list sees them for Linux and for darwin. It does
// not look at what a test imports, but for the tests here in test/, which know
// Shoal as its users do.
package imports_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const module = "github.com/shoal-project/shoal/"

// place is where packages stand in the house.
type place struct {
	from string
	to   []string // those of ours that they may import
}

// mayImport has a place for each of our packages. A name that ends in / is all
// packages below it; the first that fits counts.
var mayImport = []place{
	{"cmd/", []string{"internal/", "pkg/"}},
	{"internal/command", []string{"pkg/store", "pkg/jobs"}},
	{"internal/handlers", []string{"internal/bucket", "internal/blob", "internal/peer", "pkg/jobs"}},
	{"internal/peer", []string{"internal/bucket", "internal/blob", "pkg/jobs"}},
	{"internal/bucket", []string{"internal/blob", "pkg/jobs"}},
	{"internal/blob", nil},
	{"pkg/store", []string{"pkg/store/sqlite", "pkg/jobs"}},
	{"pkg/store/sqlite", []string{"pkg/store/internal/insert", "pkg/jobs", "pkg/lease"}},
	{"pkg/store/sqlitetx", []string{"pkg/store/internal/insert", "pkg/jobs"}},
	{"pkg/store/internal/insert", []string{"pkg/jobs"}},
	{"pkg/store/storetest", []string{"pkg/store/sqlitetx", "pkg/jobs", "pkg/lease"}},
	{"pkg/jobs", []string{"pkg/lease"}},
	{"pkg/jobs/jobstest", []string{"pkg/store", "pkg/jobs", "pkg/lease"}},
	{"pkg/lease", nil},
	// A hostile peer has to forge what the programs never write.
	{"test/e2e", []string{"pkg/", "internal/bucket", "internal/blob", "internal/peer"}},
	// Its workers have commands, and a guard for them; its points are its own.
	{"test/torture/point", nil},
	{"test/torture", []string{"pkg/", "internal/handlers", "test/torture/point"}},
	{"test/", []string{"pkg/"}},
}

// mayNotReach has what a package contains in no way, not even through others.
var mayNotReach = []struct {
	from, to, why string
}{
	{"cmd/", "testing", "a shipped program holds no tests"},
	{"cmd/", "testing/", "a shipped program holds no tests"},
	{"cmd/", module + "test/", "a shipped program holds no tests"},
	{"cmd/", module + "pkg/store/storetest", "a shipped program holds no tests"},
	{"cmd/", module + "pkg/jobs/jobstest", "a shipped program holds no tests"},
	{"pkg/jobs", "github.com/ncruces/", "jobs know no engine"},
	{"pkg/jobs", module + "pkg/store", "jobs know no engine"},
	{"pkg/jobs", module + "pkg/store/", "jobs know no engine"},
	{"pkg/lease", "database/sql", "leases know no SQL"},
	{"pkg/store/sqlitetx", "github.com/ncruces/", "two SQLite drivers in a process clash"},
	{"pkg/store/storetest", "github.com/ncruces/", "two SQLite drivers in a process clash"},
}

const onlyTests = "pkg/store/storetest"

// noNames are names that say nothing of what a package is for.
var noNames = []string{"util", "common", "models", "config", "errors"}

// listed is a package as go list -json tells of it.
type listed struct {
	ImportPath, Name                   string
	Imports, TestImports, XTestImports []string
}

// graph has packages by their import path.
type graph map[string]listed

func TestImports(t *testing.T) {
	for _, system := range []string{"linux", "darwin"} {
		t.Run(system, func(t *testing.T) {
			g := load(t, system)
			for _, pkg := range []string{"cmd/worker", "pkg/lease", "test/imports"} {
				if _, ok := g[module+pkg]; !ok {
					t.Fatalf("go list doesn't know %s", pkg)
				}
			}
			if _, ok := g["database/sql"]; !ok {
				t.Fatal("go list left out what is not ours")
			}
			for _, p := range g.problems() {
				t.Error(p)
			}
		})
	}
}

func load(t *testing.T, system string) graph {
	t.Helper()
	list := exec.CommandContext(t.Context(), "go", "list", "-deps", "-json=ImportPath,Name,Imports,TestImports,XTestImports", "./...")
	list.Dir = "../.."
	list.Env = append(os.Environ(), "GOOS="+system)
	var stderr bytes.Buffer
	list.Stderr = &stderr
	out, err := list.Output()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, stderr.String())
	}
	g := make(graph)
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return g
		} else if err != nil {
			t.Fatal(err)
		}
		g[p.ImportPath] = p
	}
}

// problems says what in the graph breaks a rule.
func (g graph) problems() (list []string) {
	for _, name := range slices.Sorted(maps.Keys(g)) {
		from, ours := strings.CutPrefix(name, module)
		if !ours {
			continue
		}
		p := g[name]
		if slices.Contains(noNames, p.Name) || slices.Contains(noNames, path.Base(from)) {
			list = append(list, fmt.Sprintf("%s: a name that says nothing", from))
		}
		imports := p.Imports
		if strings.HasPrefix(from, "test/") {
			imports = slices.Concat(p.Imports, p.TestImports, p.XTestImports)
		}
		list = append(list, breaches(from, imports)...)
		for _, rule := range mayNotReach {
			if !fits(rule.from, from) {
				continue
			}
			if way := g.way(name, rule.to); way != nil {
				list = append(list, fmt.Sprintf("%s: %s", rule.why, strings.Join(way, " -> ")))
			}
		}
	}
	return list
}

// breaches are the direct imports that the package may not have.
func breaches(from string, imports []string) (list []string) {
	i := slices.IndexFunc(mayImport, func(p place) bool { return fits(p.from, from) })
	if i < 0 {
		return []string{from + ": give it a place in mayImport"}
	}
	for _, name := range imports {
		to, ours := strings.CutPrefix(name, module)
		if !ours {
			continue
		}
		allowed := slices.ContainsFunc(mayImport[i].to, func(pattern string) bool { return fits(pattern, to) })
		if to == onlyTests {
			allowed = strings.HasPrefix(from, "test/")
		}
		if !allowed {
			list = append(list, fmt.Sprintf("%s may not import %s", from, to))
		}
	}
	return list
}

func fits(pattern, name string) bool {
	return pattern == name || strings.HasSuffix(pattern, "/") && strings.HasPrefix(name, pattern)
}

// way is a shortest way from a package to one that fits to, nil if there is none.
func (g graph) way(from, to string) []string {
	cameFrom := map[string]string{from: ""}
	for queue := []string{from}; len(queue) > 0; queue = queue[1:] {
		for _, next := range g[queue[0]].Imports {
			if _, seen := cameFrom[next]; seen {
				continue
			}
			cameFrom[next] = queue[0]
			if !fits(to, next) {
				queue = append(queue, next)
				continue
			}
			var way []string
			for at := next; at != ""; at = cameFrom[at] {
				way = append(way, strings.TrimPrefix(at, module))
			}
			slices.Reverse(way)
			return way
		}
	}
	return nil
}

// TestProblems shows that each rule can be broken, on graphs that are made up.
func TestProblems(t *testing.T) {
	for name, tc := range map[string]struct {
		imports map[string]string // by package; ours without the module's name
		want    []string
	}{
		"all is well": {imports: map[string]string{
			"cmd/worker":          "internal/command internal/handlers net/http",
			"internal/command":    "pkg/store",
			"internal/handlers":   "internal/bucket internal/peer pkg/jobs",
			"internal/peer":       "internal/blob net/http",
			"internal/bucket":     "internal/blob database/sql",
			"internal/blob":       "os",
			"pkg/store":           "pkg/store/sqlite pkg/jobs",
			"pkg/store/sqlite":    "pkg/jobs pkg/lease github.com/ncruces/go-sqlite3",
			"pkg/store/sqlitetx":  "pkg/store/internal/insert database/sql",
			"pkg/store/storetest": "pkg/jobs pkg/store/sqlitetx testing",
			"pkg/jobs":            "pkg/lease database/sql",
			"pkg/jobs/jobstest":   "pkg/jobs pkg/lease pkg/store testing",
			"pkg/lease":           "time",
			"test/torture":        "pkg/store pkg/store/storetest testing",
		}},
		"up from pkg":                   {map[string]string{"pkg/jobs": "internal/blob"}, []string{"pkg/jobs may not import internal/blob"}},
		"up to cmd":                     {map[string]string{"pkg/lease": "cmd/worker"}, []string{"pkg/lease may not import cmd/worker"}},
		"lease to jobs":                 {map[string]string{"pkg/lease": "pkg/jobs"}, []string{"pkg/lease may not import pkg/jobs"}},
		"blob to bucket":                {map[string]string{"internal/blob": "internal/bucket"}, []string{"internal/blob may not import internal/bucket"}},
		"bucket to peer":                {map[string]string{"internal/bucket": "internal/peer"}, []string{"internal/bucket may not import internal/peer"}},
		"peer to handlers":              {map[string]string{"internal/peer": "internal/handlers"}, []string{"internal/peer may not import internal/handlers"}},
		"handlers to the store":         {map[string]string{"internal/handlers": "pkg/store"}, []string{"internal/handlers may not import pkg/store"}},
		"a command to a command":        {map[string]string{"cmd/worker": "cmd/enqueuer"}, []string{"cmd/worker may not import cmd/enqueuer"}},
		"a test looks inside":           {map[string]string{"test/e2e": "internal/handlers"}, []string{"test/e2e may not import internal/handlers"}},
		"a package that nobody knows":   {map[string]string{"internal/new": ""}, []string{"internal/new: give it a place in mayImport"}},
		"a neighbour of one that fits":  {map[string]string{"pkg/jobs": "pkg/leases"}, []string{"pkg/jobs may not import pkg/leases"}},
		"a name for nothing":            {map[string]string{"cmd/util": ""}, []string{"cmd/util: a name that says nothing"}},
		"the suite in an engine":        {map[string]string{"pkg/store/sqlite": "pkg/store/storetest"}, []string{"pkg/store/sqlite may not import pkg/store/storetest"}},
		"leases reach SQL, far away":    {map[string]string{"pkg/lease": "a.example/x", "a.example/x": "database/sql"}, []string{"leases know no SQL: pkg/lease -> a.example/x -> database/sql"}},
		"jobs reach the driver":         {map[string]string{"pkg/jobs": "github.com/ncruces/julianday"}, []string{"jobs know no engine: pkg/jobs -> github.com/ncruces/julianday"}},
		"a program reaches testing":     {map[string]string{"cmd/worker": "internal/handlers", "internal/handlers": "b.example/y", "b.example/y": "testing"}, []string{"a shipped program holds no tests: cmd/worker -> internal/handlers -> b.example/y -> testing"}},
		"a program reaches testing/...": {map[string]string{"cmd/worker": "testing/fstest"}, []string{"a shipped program holds no tests: cmd/worker -> testing/fstest"}},
		"a program reaches the suite": {map[string]string{"cmd/worker": "pkg/store/storetest"}, []string{
			"cmd/worker may not import pkg/store/storetest",
			"a shipped program holds no tests: cmd/worker -> pkg/store/storetest",
		}},
		"jobs reach their tests' help": {map[string]string{"pkg/jobs": "pkg/jobs/jobstest"}, []string{"pkg/jobs may not import pkg/jobs/jobstest"}},
		"a program reaches tests' help": {map[string]string{"cmd/worker": "pkg/jobs/jobstest"}, []string{
			"a shipped program holds no tests: cmd/worker -> pkg/jobs/jobstest",
		}},
		"a program reaches test/": {map[string]string{"cmd/worker": "test/e2e"}, []string{
			"cmd/worker may not import test/e2e",
			"a shipped program holds no tests: cmd/worker -> test/e2e",
		}},
		"a transaction reaches the driver": {map[string]string{"pkg/store/sqlitetx": "pkg/store/internal/insert", "pkg/store/internal/insert": "pkg/store/sqlite", "pkg/store/sqlite": "github.com/ncruces/go-sqlite3"}, []string{
			"pkg/store/internal/insert may not import pkg/store/sqlite",
			"two SQLite drivers in a process clash: pkg/store/sqlitetx -> pkg/store/internal/insert -> pkg/store/sqlite -> github.com/ncruces/go-sqlite3",
		}},
		"jobs reach the engine": {map[string]string{"pkg/jobs": "pkg/store/sqlite"}, []string{
			"pkg/jobs may not import pkg/store/sqlite",
			"jobs know no engine: pkg/jobs -> pkg/store/sqlite",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			g := make(graph)
			for from, imports := range tc.imports {
				p := listed{ImportPath: full(from), Name: path.Base(from)}
				for to := range strings.FieldsSeq(imports) {
					p.Imports = append(p.Imports, full(to))
				}
				g[p.ImportPath] = p
			}
			if diff := cmp.Diff(tc.want, g.problems()); diff != "" {
				t.Error(diff)
			}
		})
	}
	// What its tests alone import counts in test/, and nowhere else.
	g := graph{
		module + "test/e2e":      {XTestImports: []string{module + "internal/command"}},
		module + "test/bench":    {TestImports: []string{module + "internal/blob"}},
		module + "pkg/jobs":      {Name: "jobs", XTestImports: []string{module + "pkg/store"}},
		module + "pkg/lease":     {Name: "errors"},
		module + "internal/blob": {TestImports: []string{"testing"}},
	}
	want := []string{
		"pkg/lease: a name that says nothing",
		"test/bench may not import internal/blob",
		"test/e2e may not import internal/command",
	}
	if diff := cmp.Diff(want, g.problems()); diff != "" {
		t.Error(diff)
	}
}

// full is a package's import path: ours stand in four folders.
func full(name string) string {
	for _, ours := range []string{"cmd/", "internal/", "pkg/", "test/"} {
		if strings.HasPrefix(name, ours) {
			return module + name
		}
	}
	return name
}
