// Command clash links the engine beside github.com/mattn/go-sqlite3. Both give
// database/sql a driver of the same name, so it ends before it has begun.
package main

import (
	_ "github.com/mattn/go-sqlite3"

	_ "github.com/shoal-project/shoal/pkg/store"
)

func main() {}
