package torture_test

import (
	"flag"
	"os"
	"testing"
)

var _ = os.Args
var mutantFlag = flag.String("mutant", "", "take out this mechanism of the processes under test")

// mutants are the mechanisms, by what is put in their place.
var mutants = map[string][]patch{
	"durability": {{"pkg/store/sqlite/conn.go", "PRAGMA synchronous = FULL", "PRAGMA synchronous = NORMAL"}},
}

func mutantPatches(t testing.TB) []patch {
	t.Helper()
	if *mutantFlag == "" {
		return nil
	}
	p, ok := mutants[*mutantFlag]
	if !ok {
		t.Fatalf("no mutant is called %q", *mutantFlag)
	}
	return p
}
