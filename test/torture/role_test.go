//go:build linux

package torture_test

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"

	"github.com/shoal-project/shoal/internal/handlers"
	"github.com/shoal-project/shoal/pkg/jobs"
	"github.com/shoal-project/shoal/pkg/store"
	"github.com/shoal-project/shoal/test/torture/point"
)

// roleEnv makes this binary one of the processes under test.
const roleEnv = "SHOAL_TORTURE_ROLE"

// role is what a process is to do.
type role struct {
	Role string // worker, producer or racer
	Name string

	DB    string // these are the fleet's
	Dir   string // of the histories, and of the wall clock
	Queue string

	Lease time.Duration   // of a worker
	Ticks []time.Duration // intervals of its schedules

	Seed uint64 // of a producer
	Rate int    // jobs a second
}

// drain is what a worker's running jobs may take when it is told to end.
const drain = time.Second

// effects is the application's own table, into which handlers write.
const effects = `CREATE TABLE IF NOT EXISTS torture_effects (key TEXT NOT NULL, token INTEGER NOT NULL, process TEXT NOT NULL)`

// play is the main of a process under test; its exit code is returned.
func play(text string) int {
	var r role
	err := json.Unmarshal([]byte(text), &r)
	if err == nil {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT)
		defer stop()
		err = r.play(ctx)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

func (r role) play(ctx context.Context) error {
	h := openHistory(filepath.Join(r.Dir, r.Name+".history"))
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(zap.NewProductionEncoderConfig()), os.Stderr, zap.InfoLevel))
	now := openClock(r.Dir).now
	q, err := store.Open(ctx, r.DB, store.Options{Now: now, Logger: log})
	if err != nil && ctx.Err() != nil {
		return nil // told to end before it began
	}
	if err != nil {
		return err
	}
	rec := &recorder{Store: q, process: r.Name, history: h}
	defer func() { _ = q.Close() }()
	switch r.Role {
	case "producer":
		return r.produce(ctx, rec)
	case "racer":
		return r.race(ctx, rec)
	}
	return r.work(ctx, rec, now, log)
}

// wallClock is the wall clock of the processes under test: the machine's and an
// offset in a file that all of them map.
type wallClock struct{ offset *atomic.Int64 }

func openClock(dir string) wallClock {
	f, err := os.OpenFile(filepath.Join(dir, "clock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err == nil {
		err = f.Truncate(8)
	}
	if err != nil {
		panic(err)
	}
	defer f.Close()
	mapped, err := unix.Mmap(int(f.Fd()), 0, 8, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	return wallClock{(*atomic.Int64)(unsafe.Pointer(&mapped[0]))}
}

func (c wallClock) now() time.Time { return time.Now().Add(time.Duration(c.offset.Load())) }

func (r role) work(ctx context.Context, rec *recorder, now func() time.Time, log *zap.Logger) error {
	guard := handlers.NewGuard()
	defer guard.Stop()
	ctx, fail := context.WithCancelCause(ctx)
	go func() {
		<-guard.Done()
		fail(errors.New("the guard has ended"))
	}()
	o := jobs.WorkerOptions{
		Concurrency: 16, Queues: []jobs.Queue{{Name: r.Queue}},
		Lease: r.Lease, Poll: time.Second, Drain: drain, RetryDelay: 10 * time.Millisecond,
		MaxAttempts: 12, Guard: guard, Now: now, Logger: log,
	}
	for i, every := range r.Ticks {
		o.Schedules = append(o.Schedules, jobs.Schedule{Name: fmt.Sprintf("torture-%d", i), Spec: "@every " + every.String(),
			Jobs: func(context.Context) ([]jobs.New, error) {
				n, err := jobs.NewJob("Tick", payload{}, jobs.OnQueue(r.Queue)) // recordedSeat.Tick says which
				return []jobs.New{n}, err
			}})
	}
	w := jobs.NewWorker(rec, o)
	noted := func(fn func(context.Context, *jobs.Job[payload]) error) func(context.Context, *jobs.Job[payload]) error {
		return func(ctx context.Context, j *jobs.Job[payload]) error {
			e := event{Op: "handle", ID: j.ID, Token: j.Token, Note: j.Type}
			end := rec.begin(e)
			stop := context.AfterFunc(ctx, func() {
				rec.add(event{Op: "interrupted", ID: j.ID, Token: j.Token, Note: context.Cause(ctx).Error()})
			})
			defer func() { stop(); end(event{ID: j.ID, Token: j.Token}) }()
			point.At("handler")
			if !pause(ctx, time.Duration(j.Payload.Ms)*time.Millisecond) {
				return context.Cause(ctx)
			}
			if j.Attempt <= j.Payload.Fail {
				return errors.New("this attempt fails")
			}
			return fn(ctx, j)
		}
	}
	nothing := func(context.Context, *jobs.Job[payload]) error { return nil }
	for _, jobType := range []string{"Work", "Follow", "Tick"} {
		jobs.Handle(w, jobType, noted(nothing))
	}
	jobs.Handle(w, "Commit", noted(func(ctx context.Context, j *jobs.Job[payload]) error {
		follow, err := jobs.NewJob("Follow", payload{Key: j.Payload.Key + " follow"}, jobs.OnQueue(r.Queue))
		if err != nil {
			return err
		}
		return j.Commit(ctx, func(tx *sql.Tx) error {
			_, err := tx.ExecContext(ctx, `INSERT INTO torture_effects VALUES ($1, $2, $3)`, j.Payload.Key, j.Token, r.Name)
			return err
		}, follow)
	}))
	err := handlers.RegisterExec(w, handlers.ExecOptions{
		Commands: map[string]string{"Exec": "exec sh " + filepath.Join(r.Dir, execScript)},
		Guard:    guard, Logger: log,
	})
	if err != nil {
		return err
	}
	if err := w.Run(ctx); err != nil {
		return err
	}
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// execScript is the command of the jobs of type Exec. While anything of its
// group runs it has a lock of its job's; who finds it taken notes the crime.
const (
	execScript = "exec.sh"
	execText   = `cd "$(dirname "$0")" || exit 1
exec 9>>"locks/$SHOAL_JOB_ID"
flock -n 9 || echo "twice $SHOAL_JOB_ID $SHOAL_LEASE_TOKEN" >>exec.log
echo "start $SHOAL_JOB_ID $SHOAL_LEASE_TOKEN" >>exec.log
case $SHOAL_JOB_ID in *3) sleep 6 & ;; *) sleep 0.3 & ;; esac # some go on past a lease
sleep 0.2
wait
echo "end $SHOAL_JOB_ID $SHOAL_LEASE_TOKEN" >>exec.log
`
)
