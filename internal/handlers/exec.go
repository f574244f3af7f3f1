package handlers

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"syscall"
	"time"
	"unicode/utf8"

	"go.uber.org/zap"
	"golang.org/x/sys/unix"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// ExecOptions says which job types are handled by shell commands.
type ExecOptions struct {
	// Commands has a command for /bin/sh -c by job type; neither is empty.
	Commands map[string]string
	// Home and DB are told to the commands as SHOAL_HOME and SHOAL_DB.
	Home, DB string
	// Guard ends the commands if the worker dies or stands still. It is required,
	// and none runs before it was started.
	Guard *Guard
	// Logger gets what operators should know: nowhere.
	Logger *zap.Logger
}

// RegisterExec registers the handlers of o.Commands. A command gets the payload
// on its standard input and the job in its environment: SHOAL_JOB_ID,
// SHOAL_JOB_TYPE, SHOAL_ATTEMPT and SHOAL_LEASE_TOKEN. Exit status 0 completes
// the job with what was printed as its result, 65 (EX_DATAERR of sysexits.h)
// fails it for good, and any other end is an error, to be tried again, with the
// end of standard error as its text.
//
// A command leads a process group of its own. All of the group is killed when
// the command has exited, when the handler's context ends, when the worker dies,
// and when it is stopped for so long that the job could soon be another's; the
// job has no outcome before nothing of it runs, and no next attempt. A process
// that leaves the group (setsid, or a shell's job control) is not followed.
func RegisterExec(w *jobs.Worker, o ExecOptions) error {
	if o.Guard == nil {
		return errors.New("exec: no guard: nothing would end the commands of a killed worker")
	}
	if o.Logger == nil {
		o.Logger = zap.NewNop()
	}
	for jobType, command := range o.Commands {
		jobs.Handle(w, jobType, func(ctx context.Context, j *jobs.Job[json.RawMessage]) error {
			result, err := o.run(ctx, command, j.Payload, o.environ(j))
			if err != nil || result == nil {
				return err
			}
			return j.SetResult(result)
		})
	}
	return nil
}

func (o ExecOptions) environ(j *jobs.Job[json.RawMessage]) []string {
	return append(os.Environ(),
		"SHOAL_JOB_ID="+strconv.FormatInt(j.ID, 10),
		"SHOAL_JOB_TYPE="+j.Type,
		"SHOAL_ATTEMPT="+strconv.Itoa(j.Attempt),
		"SHOAL_LEASE_TOKEN="+strconv.FormatInt(j.Token, 10),
		"SHOAL_HOME="+o.Home,
		"SHOAL_DB="+o.DB,
	)
}

const (
	// outputGrace is how long output may be kept open by a process that left
	// the group. A draining worker has a second for all of its last words.
	outputGrace = 500 * time.Millisecond

	exitForGood = 65
)

// run runs a command to its end and returns its result; nil if it printed none.
func (o ExecOptions) run(ctx context.Context, command string, stdin []byte, env []string) (json.RawMessage, error) {
	if ctx.Err() != nil {
		return nil, fmt.Errorf("command was not started: %w", context.Cause(ctx))
	}
	var stdout head
	var stderr tail
	cmd := exec.Command("/bin/sh", "-c", awaitGo, "sh", command)
	cmd.Env = env
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), &stdout, &stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = outputGrace
	began := kernelMillis()
	release, err := startHeld(cmd)
	if err != nil {
		return nil, fmt.Errorf("start command: %w", err)
	}

	pgid := cmd.Process.Pid
	unguarded := o.Guard.add(pgid)
	if unguarded == nil {
		// Once more: before add, the guard could not have ended what a worker that
		// was stopped in between begins on waking.
		unguarded = context.Cause(ctx)
	}
	release(unguarded == nil)
	exited := make(chan struct{})
	go func() {
		defer close(exited)
		awaitExit(pgid)
	}()
	select {
	case <-exited:
	case <-ctx.Done():
	case <-o.Guard.Done():
		unguarded = errGuardGone
	}
	// The shell's process is there, if only as a zombie, until Wait: the number
	// of its group can't be another's yet.
	_ = unix.Kill(-pgid, unix.SIGKILL)
	<-exited
	err = cmd.Wait()
	awaitGroup(pgid)
	o.Guard.remove(pgid)

	if errors.Is(err, exec.ErrWaitDelay) {
		o.Logger.Warn("a process left the command's group and runs on with its output: it will not be ended",
			zap.String("command", command))
		err = nil
	}
	switch state := cmd.ProcessState; {
	case err == nil:
		return stdout.result(), nil
	case unguarded != nil:
		return nil, fmt.Errorf("command was killed: %w", unguarded)
	case state == nil:
		return nil, fmt.Errorf("wait for command: %w", err)
	case !state.Exited() && ctx.Err() != nil:
		return nil, fmt.Errorf("command was killed: %w%s", context.Cause(ctx), stderr.text())
	case ending(state) == "killed by SIGKILL" && o.Guard.lapsedSince(began):
		o.Logger.Warn("the guard has ended a command, its job is given back: this process stood still", zap.String("command", command))
		return nil, fmt.Errorf("command was killed: %w", errLapsed)
	case state.ExitCode() == exitForGood:
		return nil, jobs.Permanent(fmt.Errorf("exit status %d%s", exitForGood, stderr.text()))
	case state.Success():
		return nil, fmt.Errorf("read the command's output: %w", err)
	default:
		return nil, fmt.Errorf("%s%s", ending(state), stderr.text())
	}
}

// ending says how a command ended by itself. A shell turns the death of the
// program that it waited for into 128 and the signal's number.
func ending(state *os.ProcessState) string {
	if status, ok := state.Sys().(syscall.WaitStatus); ok && status.Signaled() {
		return "killed by " + unix.SignalName(status.Signal())
	}
	code := state.ExitCode()
	if name := unix.SignalName(syscall.Signal(code - 128)); code > 128 && name != "" {
		return fmt.Sprintf("exit status %d (128 + %s)", code, name)
	}
	return fmt.Sprintf("exit status %d", code)
}

// replacement stands for what isn't UTF-8.
var replacement = []byte("\uFFFD")

// head keeps the beginning of what is written to it: as much as may become a
// result, and the length of all.
type head struct {
	kept  []byte
	total int
}

func (h *head) Write(p []byte) (int, error) {
	h.total += len(p)
	h.kept = append(h.kept, p[:min(len(p), jobs.MaxResult-len(h.kept))]...)
	return len(p), nil
}

// result is what was printed as JSON: JSON as it is, all else as a string
// without the newlines at its end, as in a shell's $(…). Nothing printed is nil.
//
// Too long an output is no failure: exit status 0 says that the work is done,
// and another attempt would only do it again. Its beginning is kept as a string
// that says how much was cut, which no reader of JSON takes for the whole.
func (h *head) result() json.RawMessage {
	text := bytes.ToValidUTF8(bytes.TrimRight(h.kept, "\r\n"), replacement)
	if len(text) == 0 && h.total == len(h.kept) {
		return nil
	}
	if h.total == len(h.kept) {
		if kept, err := json.Marshal(json.RawMessage(text)); err == nil && len(kept) <= jobs.MaxResult {
			return kept
		}
		if kept, err := json.Marshal(string(text)); err == nil && len(kept) <= jobs.MaxResult {
			return kept
		}
	}
	cut := fmt.Sprintf("… (cut: the command printed %d bytes, a result has at most %d with its quoting;"+
		" print the name of a file instead)", h.total, jobs.MaxResult)
	for {
		kept, err := json.Marshal(string(bytes.ToValidUTF8(text, nil)) + cut)
		if err == nil && len(kept) <= jobs.MaxResult {
			return kept
		}
		// Quoting makes at most six bytes of one.
		text = text[:len(text)-1-max(0, len(kept)-jobs.MaxResult)/6]
	}
}

// maxStderr is how much of a command's standard error is told, in bytes.
const maxStderr = 4 << 10

// tail keeps the end of what is written to it.
type tail struct {
	kept []byte
	cut  bool
}

func (t *tail) Write(p []byte) (int, error) {
	t.kept = append(t.kept, p...)
	if len(t.kept) > 2*maxStderr {
		t.trim()
	}
	return len(p), nil
}

func (t *tail) trim() {
	if over := len(t.kept) - maxStderr; over > 0 {
		t.cut = true
		t.kept = append(t.kept[:0], t.kept[over:]...)
	}
}

// text is the end of an error's text: empty, or a colon and what was written.
func (t *tail) text() string {
	t.trim()
	text := t.kept
	for t.cut && len(text) > 0 && !utf8.RuneStart(text[0]) {
		text = text[1:] // the rest of a character
	}
	text = bytes.ToValidUTF8(bytes.TrimSpace(text), replacement)
	text = bytes.ReplaceAll(text, []byte{0}, replacement) // where C programs end a text
	switch {
	case len(text) == 0:
		return ""
	case t.cut:
		return ": …" + string(text)
	default:
		return ": " + string(text)
	}
}
