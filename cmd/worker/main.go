// Command worker is one process of the fleet: it claims jobs from a home's
// queue and runs their handlers until it is told to stop.
package main

import (
	"github.com/shoal-project/shoal/internal/command"
	"github.com/shoal-project/shoal/internal/handlers"
)

func main() {
	if handlers.RunGuardIfAsked() {
		return
	}
	command.Main(run)
}
