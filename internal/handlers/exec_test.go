//go:build linux

package handlers_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shoal-project/shoal/internal/handlers"
	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/lease"
)

// TestExecOutcome: what becomes of a job by how its command ends.
func TestExecOutcome(t *testing.T) {
	for name, tt := range map[string]struct {
		command string
		status  jobs.Status
		result  string
		error   string
	}{
		"nothing printed":      {"true", jobs.Completed, "", ""},
		"text":                 {"echo 'two words'; echo", jobs.Completed, `"two words"`, ""},
		"JSON":                 {`printf '{"n": 12345678901234567890}\n'`, jobs.Completed, `{"n":12345678901234567890}`, ""},
		"not UTF-8":            {`printf 'a\377b'`, jobs.Completed, `"a` + "\uFFFD" + `b"`, ""},
		"status 1":             {"echo why >&2; exit 1", jobs.Pending, "", "exit status 1: why"},
		"status 1, result":     {"echo 1; exit 1", jobs.Pending, "", "exit status 1"},
		"status 65":            {"echo why >&2; exit 65", jobs.Failed, "", "exit status 65: why"},
		"no such program":      {"exec 2>&-; /no/such/program", jobs.Pending, "", "exit status 127"},
		"signal":               {"kill -SEGV $$", jobs.Pending, "", "killed by SIGSEGV"},
		"signal below a shell": {"exec 2>&-; sh -c 'kill -KILL $$'; exit $?", jobs.Pending, "", "exit status 137 (128 + SIGKILL)"},
		"both output":          {"echo out; echo err >&2", jobs.Completed, `"out"`, ""},
		"its own shell":        {`echo "$0 $# ${shoal_go-}"; [ -e /proc/$$/fd/3 ] || echo no 3`, jobs.Completed, `"/bin/sh 0 \nno 3"`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			o := runJob(t, tt.command, jobs.Claimed{})
			if o.Status != tt.status || string(o.Result) != tt.result || o.Error != tt.error {
				t.Errorf("got %s, result %s, error %q", o.Status, o.Result, o.Error)
			}
		})
	}
}

func TestExecStdin(t *testing.T) {
	payload := []byte(`"` + strings.Repeat("x", jobs.MaxPayload-2) + `"`)
	for command, want := range map[string]string{
		"wc -c": strconv.Itoa(jobs.MaxPayload),
		// One that doesn't read it, or not all of it, is no error.
		"echo 1":           "1",
		"head -c 10; true": `"\"xxxxxxxxx"`,
		"exec <&-; echo 1": "1",
	} {
		if o := runJob(t, command, jobs.Claimed{Payload: payload}); o.Status != jobs.Completed || string(o.Result) != want {
			t.Errorf("%s: got %s %s (%s), want %s", command, o.Status, o.Result, o.Error, want)
		}
	}
	if o := runJob(t, "cat", jobs.Claimed{Payload: []byte("{")}); o.Status != jobs.Failed {
		t.Errorf("a payload that is not JSON: %s (%s)", o.Status, o.Error)
	}
}

func TestExecEnvironment(t *testing.T) {
	t.Setenv("SHOAL_DB", "the worker's own")
	t.Setenv("OF_THE_WORKER", "too")
	o := runJob(t, `echo "$SHOAL_JOB_ID $SHOAL_JOB_TYPE $SHOAL_ATTEMPT $SHOAL_LEASE_TOKEN $SHOAL_HOME $SHOAL_DB $OF_THE_WORKER"`,
		jobs.Claimed{Ref: jobs.Ref{ID: 12, Token: 34}, Attempt: 2})
	if want := `"12 Command 2 34 /a/home /a/db too"`; string(o.Result) != want {
		t.Errorf("got %s, want %s", o.Result, want)
	}
}

// TestExecLongOutput: the job completes, and nobody takes a part for the whole.
func TestExecLongOutput(t *testing.T) {
	for name, command := range map[string]string{
		"text":            "head -c 70000 /dev/zero | tr '\\0' x",
		"in its encoding": "head -c 60000 /dev/zero | tr '\\0' '\"'",
		"control bytes":   "head -c 60000 /dev/zero | tr '\\0' '\\1'",
		"JSON":            `printf '["%s"]' $(head -c 70000 /dev/zero | tr '\0' x)`,
		"characters":      `yes é | head -n 40000 | tr -d '\n'`,
	} {
		o := runJob(t, command, jobs.Claimed{})
		var text string
		if err := json.Unmarshal(o.Result, &text); err != nil || o.Status != jobs.Completed {
			t.Fatalf("%s: %s (%s), %v", name, o.Status, o.Error, err)
		}
		if len(o.Result) > jobs.MaxResult || len(o.Result) < jobs.MaxResult-16 {
			t.Errorf("%s: %d bytes", name, len(o.Result))
		}
		if !strings.Contains(text, "… (cut: the command printed") || strings.Contains(text, "\uFFFD") {
			t.Errorf("%s: result ends %q", name, text[len(text)-200:])
		}
	}
	if o := runJob(t, "head -c 65534 /dev/zero | tr '\\0' x", jobs.Claimed{}); len(o.Result) != jobs.MaxResult {
		t.Errorf("the longest text that fits was cut: %d bytes", len(o.Result))
	}
}

func TestExecStderrEnd(t *testing.T) {
	o := runJob(t, "yes é | head -n 100000 >&2; echo the end >&2; exit 3", jobs.Claimed{})
	if !strings.HasPrefix(o.Error, "exit status 3: …") || !strings.HasSuffix(o.Error, "é\nthe end") ||
		strings.Contains(o.Error, "\uFFFD") || len(o.Error) < 4000 || len(o.Error) > 4200 {
		t.Errorf("%d bytes: %.40q … %q", len(o.Error), o.Error, o.Error[len(o.Error)-40:])
	}
}

// TestExecKillsGroup: however an attempt ends, the whole group has ended before
// the job has its outcome, and its output is awaited from nobody else.
func TestExecKillsGroup(t *testing.T) {
	const lasting = "sleep 1000 & sh -c 'sleep 1000 & sleep 1000' & echo up >&9; "
	for name, tt := range map[string]struct {
		command string
		timeout time.Duration
		lose    bool
		stop    bool
		want    jobs.Outcome
	}{
		"its own end": {command: lasting + "echo done; exit", want: jobs.Outcome{Status: jobs.Completed, Result: []byte(`"done"`)}},
		"timeout": {command: lasting + "wait", timeout: 100 * time.Millisecond,
			want: jobs.Outcome{Status: jobs.Pending, Error: "timed out after 100ms: command was killed: timed out"}},
		"stubborn": {command: "trap '' TERM INT HUP; " + lasting + "wait", timeout: 100 * time.Millisecond,
			want: jobs.Outcome{Status: jobs.Pending, Error: "timed out after 100ms: command was killed: timed out"}},
		"lease lost": {command: lasting + "echo progress >&2; echo up >&9; wait", lose: true,
			want: jobs.Outcome{Status: jobs.Pending}},
		// It has much memory to give back before it is gone.
		"slow to end": {command: "{ head -c 200000000 /dev/zero; echo up >&9; sleep 1000; } | tail >&- 2>&- & wait", lose: true,
			want: jobs.Outcome{Status: jobs.Pending}},
		"end of the drain": {command: lasting + "wait", stop: true, want: jobs.Outcome{Status: jobs.Pending}},
	} {
		t.Run(name, func(t *testing.T) {
			// Whoever is of the group has the pipe open; its end is theirs.
			fifo := filepath.Join(t.TempDir(), "fifo")
			if err := unix.Mkfifo(fifo, 0o600); err != nil {
				t.Fatal(err)
			}
			held, err := unix.Open(fifo, unix.O_RDONLY|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
			if err != nil {
				t.Fatal(err)
			}
			defer unix.Close(held)

			s := newOneJob("exec 9>"+fifo+"; "+tt.command, jobs.Claimed{Timeout: tt.timeout})
			outcome := s.start(t)
			up := 1 + strings.Count(tt.command, "progress")
			for b := make([]byte, 64); up > 0; {
				n, _ := unix.Read(held, b)
				if n > 0 {
					up -= strings.Count(string(b[:n]), "up\n")
					continue
				}
				select {
				case o := <-outcome:
					t.Fatalf("ended before it was up: %+v", o)
				case <-time.After(time.Millisecond):
				}
			}
			if tt.lose {
				s.lose()
			}
			if tt.stop {
				s.stop()
			}
			o := <-outcome
			if n, err := unix.Read(held, make([]byte, 64)); n != 0 || err != nil {
				t.Errorf("something of the group runs: read %d, %v", n, err)
			}
			if o.Status != tt.want.Status || o.Error != tt.want.Error || string(o.Result) != string(tt.want.Result) {
				t.Errorf("got %s %s %q", o.Status, o.Result, o.Error)
			}
		})
	}
}

// TestExecEscaped: a process that left the group with the output in its hands
// does not hold up the job.
func TestExecEscaped(t *testing.T) {
	file := filepath.Join(t.TempDir(), "pid")
	// The shell must not end before its child has left the group.
	command := fmt.Sprintf("echo done; setsid sh -c 'echo $$ >%s.new; mv %[1]s.new %[1]s; exec sleep 1000' & "+
		"until [ -e %[1]s ]; do :; done", file)
	o := runJob(t, command, jobs.Claimed{})
	if o.Status != jobs.Completed || string(o.Result) != `"done"` {
		t.Errorf("got %s %s %q", o.Status, o.Result, o.Error)
	}
	pid, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if id, err := strconv.Atoi(strings.TrimSpace(string(pid))); err != nil || unix.Kill(id, unix.SIGKILL) != nil {
		t.Errorf("the escaped process %q: %v", pid, err)
	}
}

func TestExecNeedsItsGuard(t *testing.T) {
	o := handlers.ExecOptions{Commands: map[string]string{"A": "true"}}
	if err := handlers.RegisterExec(jobs.NewWorker(nil, jobs.WorkerOptions{}), o); err == nil {
		t.Error("no guard: no error")
	}
	// A command does not run before its guard.
	s := newOneJob("true", jobs.Claimed{})
	s.unguarded = true
	if o := <-s.start(t); o.Status != jobs.Pending || !strings.Contains(o.Error, "guard process is not running") {
		t.Errorf("without a guard's process: %s %q", o.Status, o.Error)
	}
}

// runJob has a worker run one job by the command and returns its outcome.
func runJob(t *testing.T, command string, c jobs.Claimed) jobs.Outcome {
	t.Helper()
	return <-newOneJob(command, c).start(t)
}

// oneJob is a store of one job, with no memory: what the engine does is not the
// matter here.
type oneJob struct {
	jobs.Store
	jobs.Seat
	command   string
	unguarded bool
	job       chan jobs.Claimed
	lost      chan jobs.Ref
	changes   chan struct{}
	outcome   chan jobs.Outcome
	stop      context.CancelFunc
}

func newOneJob(command string, c jobs.Claimed) *oneJob {
	c.Type, c.Queue, c.MaxAttempts = "Command", jobs.DefaultQueue, 3
	c.ID, c.Token, c.Attempt = max(c.ID, 1), max(c.Token, 1), max(c.Attempt, 1)
	if c.Payload == nil {
		c.Payload = []byte("{}")
	}
	s := &oneJob{
		command: command, job: make(chan jobs.Claimed, 1), lost: make(chan jobs.Ref, 1),
		changes: make(chan struct{}, 1), outcome: make(chan jobs.Outcome, 1),
	}
	s.job <- c
	return s
}

// start runs a worker until the job has its outcome or stop is called.
func (s *oneJob) start(t *testing.T) <-chan jobs.Outcome {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s.stop = cancel
	guard := handlers.NewGuard()
	opts := jobs.WorkerOptions{Drain: -1}
	if !s.unguarded {
		opts.Guard = guard
	}
	w := jobs.NewWorker(s, opts)
	err := handlers.RegisterExec(w, handlers.ExecOptions{
		Commands: map[string]string{"Command": s.command}, Home: "/a/home", DB: "/a/db", Guard: guard,
	})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- w.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("worker: %v", err)
		}
		guard.Stop()
	})
	return s.outcome
}

// lose has the worker find the job lost.
func (s *oneJob) lose() {
	s.lost <- jobs.Ref{ID: 1, Token: 1}
	s.changes <- struct{}{}
}

func (s *oneJob) Join(_ context.Context, who jobs.Info) (jobs.Seat, error) {
	if who.Guard == nil {
		return s, nil
	}
	lock, err := os.CreateTemp("", "seat")
	if err != nil {
		return nil, err
	}
	defer lock.Close()
	defer os.Remove(lock.Name())
	return s, who.Guard(lock)
}

func (s *oneJob) Close() error                { return nil }
func (s *oneJob) ID() int64                   { return 1 }
func (s *oneJob) Changes() <-chan struct{}    { return s.changes }
func (s *oneJob) Leave(context.Context) error { return nil }

func (s *oneJob) Acquire(context.Context, string, time.Duration) (lease.Held, error) {
	return lease.Held{}, lease.ErrHeld
}

func (s *oneJob) Turn(_ context.Context, ask jobs.Ask) (turn jobs.Turn, err error) {
	outcomes, _ := ask()
	for _, o := range outcomes {
		s.outcome <- o
	}
	select {
	case c := <-s.job:
		turn.Claimed = append(turn.Claimed, c)
	default:
	}
	return turn, nil
}

func (s *oneJob) Lost(context.Context, []jobs.Holding) (lost []jobs.Ref, err error) {
	select {
	case ref := <-s.lost:
		lost = append(lost, ref)
	default:
	}
	return lost, nil
}

func (s *oneJob) Renew(context.Context, time.Duration, []jobs.Holding) ([]jobs.Ref, error) {
	return nil, nil
}
func (s *oneJob) Reap(context.Context) ([]jobs.Reaped, bool, error) { return nil, false, nil }
