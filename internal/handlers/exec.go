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
	// of its group can't be another's before the guard has forgotten it.
	_ = unix.Kill(-pgid, unix.SIGKILL)
	<-exited
	awaitGroup(pgid)
	o.Guard.remove(pgid)
	err = cmd.Wait()

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
	case state.Sys().(syscall.WaitStatus).Signal() == syscall.SIGKILL && o.Guard.lapsedSince(began):
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
