// Command modernc takes orders with modernc.org/sqlite: SQLite translated to Go.
package main

import (
	"database/sql"
	"fmt"
	"net/url"
	"os"

	_ "modernc.org/sqlite"

	"github.com/shoal-project/shoal/test/foreign"
)

func main() {
	if err := foreign.Main(open, os.Args[1:], os.Stdin, os.Stdout); err != nil {
		fmt.Fprintln(os.Stderr, "modernc:", err)
		os.Exit(1)
	}
}

// open says all that has to be said to this driver, which by itself waits for
// no lock.
func open(path string) (*sql.DB, error) {
	name := url.URL{Scheme: "file", OmitHost: true, Path: path, RawQuery: "_txlock=immediate&_pragma=busy_timeout(30000)&_pragma=synchronous(full)"}
	return sql.Open("sqlite", name.String())
}
