//go:build linux

package torture_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// patch replaces a piece of a source file, which must be there just once.
type patch struct{ file, old, new string }

const root = "../.."

const (
	pointImport = `"github.com/shoal-project/shoal/test/torture/point"`
	turnFile    = "pkg/store/sqlite/turn.go"
	claimFile   = "pkg/store/sqlite/claim.go"
	leadFile    = "pkg/store/sqlite/lead.go"
	tickFile    = "pkg/store/sqlite/tick.go"
	renewFile   = "pkg/store/sqlite/renew.go"
	reapFile    = "pkg/store/sqlite/reap.go"
	commitFile  = "pkg/store/sqlite/commit.go"
	aloneFile   = "pkg/store/sqlite/alone.go"
)

// points are the named places at which a process can be hit, by the patch that
// puts point.At there. Those between BEGIN and the end of COMMIT hold the write
// lock. The one in a handler is in the handlers of role_test.go.
var points = map[string]patch{
	"before the claim":               {turnFile, "if turn.Next, err = t.promote(claims); err != nil {", "point.At(%q)\n		if turn.Next, err = t.promote(claims); err != nil {"},
	"in the claim":                   {turnFile, "		turn.Next = sooner(turn.Next", "		point.At(%q)\n		turn.Next = sooner(turn.Next"},
	"after the claim":                {turnFile, "	slices.SortFunc(turn.Claimed, byOrder)", "	if len(turn.Claimed) > 0 {\n		point.At(%q)\n	}\n	slices.SortFunc(turn.Claimed, byOrder)"},
	"in the finish":                  {turnFile, "		if t.again {\n			if turn.Claimed, err = s.stillHeld(", "		if len(outcomes) > 0 {\n			point.At(%q)\n		}\n		if t.again {\n			if turn.Claimed, err = s.stillHeld("},
	"after the finish":               {turnFile, "	if err != nil {\n		return jobs.Turn{}, wrapError(\"turn\", err)", "	if len(outcomes) > 0 {\n		point.At(%q)\n	}\n	if err != nil {\n		return jobs.Turn{}, wrapError(\"turn\", err)"},
	"before a commit":                {commitFile, "	err := w.conn.commit()", "	point.At(%q)\n	err := w.conn.commit()"},
	"after a commit":                 {commitFile, "	switch {\n	case err == nil:\n		return w.db.stillThere()", "	point.At(%q)\n	switch {\n	case err == nil:\n		return w.db.stillThere()"},
	"before the commit of a handler": {aloneFile, "	err = user.Commit()", "	point.At(%q)\n	err = user.Commit()"},
	"after the commit of a handler":  {aloneFile, "	switch {\n	case err == nil:\n		return db.stillThere()", "	point.At(%q)\n	switch {\n	case err == nil:\n		return db.stillThere()"},
	"in the renewal":                 {renewFile, "		lost = missing(ours, holding)", "		point.At(%q)\n		lost = missing(ours, holding)"},
	"in the reap":                    {reapFile, "		for _, ref := range stuck {", "		point.At(%q)\n		for _, ref := range stuck {"},
	// One who is stopped here goes on as if it had not noticed the end of its lease.
	"before a tick": {tickFile, "	err := s.db.writer.do(ctx, func(t *tx) error {\n		if t.again", "	point.At(%q)\n	ctx = context.WithoutCancel(ctx)\n	err := s.db.writer.do(ctx, func(t *tx) error {\n		if t.again"},
	"in a tick":     {tickFile, "		_, err = t.enqueue(batch)", "		point.At(%q)\n		_, err = t.enqueue(batch)"},
	"after a tick":  {tickFile, "	return wrapError(\"tick\", err)", "	point.At(%q)\n	return wrapError(\"tick\", err)"},
	"elected":       {leadFile, "	if err == nil && held.Token == 0 {", "	point.At(%q)\n	if err == nil && held.Token == 0 {"},
}

// randomPoint is where a process is to be hit, for point.Env; often nowhere.
func randomPoint(rng *rand.Rand) string {
	names := []string{"handler"}
	for name := range points {
		names = append(names, name)
	}
	slices.Sort(names)
	name, often, hit := names[rng.IntN(len(names))], rng.IntN(60), "SIGKILL"
	if strings.Contains(name, "tick") || strings.Contains(name, "elected") || strings.Contains(name, "reap") {
		often = rng.IntN(2) // what happens seldom
	}
	switch n := rng.IntN(10); {
	case n < 3:
		return ""
	case n < 6:
		hit = "SIGSTOP"
	}
	return fmt.Sprintf("%s:%d:%s", name, 1+often, hit)
}

// overlay writes into dir what go build's -overlay takes: the sources with the
// points, at which nothing happens unless point.Env says so, and with the patches
// of a mutant.
func overlay(dir string, mutant []patch) (path string, err error) {
	patches := slices.Clone(mutant)
	imports := make(map[string]bool)
	for name, p := range points {
		p.new = fmt.Sprintf(p.new, name)
		patches = append(patches, p)
		if !imports[p.file] {
			imports[p.file] = true
			patches = append(patches, patch{p.file, "import (\n", "import (\n	" + pointImport + "\n"})
		}
	}
	sources := make(map[string]string)
	for _, p := range patches {
		text, ok := sources[p.file]
		if !ok {
			raw, err := os.ReadFile(filepath.Join(root, p.file))
			if err != nil {
				return "", err
			}
			text = string(raw)
		}
		if n := strings.Count(text, p.old); n != 1 {
			return "", fmt.Errorf("%s: a patch's place is there %d times, want once: the source has changed, the patch must follow:\n%s", p.file, n, p.old)
		}
		sources[p.file] = strings.Replace(text, p.old, p.new, 1)
	}
	top, err := filepath.Abs(root)
	if err != nil {
		return "", err
	}
	replace := make(map[string]string)
	for file, text := range sources {
		patched := filepath.Join(dir, strings.ReplaceAll(file, "/", "_"))
		replace[filepath.Join(top, file)] = patched
		if err := os.WriteFile(patched, []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	text, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	path = filepath.Join(dir, "overlay.json")
	return path, os.WriteFile(path, text, 0o600)
}

// build builds this very test, with the flag's mutant, as the processes under test.
func build(t testing.TB) string {
	t.Helper()
	dir := t.TempDir()
	path, err := overlay(dir, mutantPatches())
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(dir, "torture.test")
	args := []string{"test", "-c", "-overlay", path, "-o", binary}
	if raceDetector {
		args = append(args, "-race")
	}
	cmd := exec.Command("go", append(args, ".")...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return binary
}
