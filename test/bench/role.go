package main

import (
	"encoding/json"
	"fmt"
	"io"
	"time"
)

// noop is the type of the jobs that do nothing.
const noop = "Noop"

// role is what a copy of this program is to do, and where.
type role struct {
	Kind   string
	DB     string
	Number int // among those that play it at once
	Slots  int
	Work   time.Duration // what a handler takes
}

// play plays a role: it says that it is ready, waits for the end of its input, and
// reports.
func play(r role, stdin io.Reader, stdout io.Writer) error {
	begin := func() error {
		_, err := io.Copy(io.Discard, stdin)
		return err
	}
	var out report
	var err error
	switch r.Kind {
	case "bare":
		out, err = bare(r, stdout, begin)
	case "worker":
		out, err = worker(r, stdout, begin)
	default:
		err = fmt.Errorf("no such role: %q", r.Kind)
	}
	if err != nil {
		return err
	}
	return json.NewEncoder(stdout).Encode(out)
}
