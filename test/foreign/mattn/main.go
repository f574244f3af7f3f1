// Command mattn takes orders with github.com/mattn/go-sqlite3: SQLite in C.
package main

import (
	"database/sql"
	"fmt"
	"net/url"
	"os"

	_ "github.com/mattn/go-sqlite3"

	"github.com/shoal-project/shoal/test/foreign"
)

func main() {
	if err := foreign.Main(open, os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "mattn:", err)
		os.Exit(1)
	}
}

// open says all that has to be said to this driver, whose own synchronous
// setting is NORMAL.
func open(path string) (*sql.DB, error) {
	name := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: "_txlock=immediate&_busy_timeout=30000&_synchronous=FULL"}
	return sql.Open("sqlite3", name.String())
}
