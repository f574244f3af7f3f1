package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/shoal-project/shoal/pkg/lease"
)

// leadership is the lease that the one who runs the schedules holds.
const leadership = "leader"

const (
	// scheduleLook is how often the leader looks at the schedules: what is done to
	// one is to act within a second. It is a read of a small table.
	scheduleLook = calmEvery / 6
	// tickBite and tickBytes are how many missed ticks, of how many bytes of payload,
	// are enqueued in one transaction: others wait for it.
	tickBite  = 100
	tickBytes = 1 << 20
)

// leads runs the schedules whenever this worker is the leader: all that are
// stored in one loop, as their jobs are made in no time, and each of the
// program's own in another, as its Jobs may take long.
func (r *run) leads(ctx context.Context) {
	lease.Lead(ctx, r.seat, leadership, r.opts.Lease, r.freed, func(ctx context.Context, held lease.Held) error {
		r.log.Info("leading", zap.Int64("token", held.Token))
		defer r.log.Info("no longer leading", zap.Int64("token", held.Token))
		loops, ctx := errgroup.WithContext(ctx)
		loops.Go(func() error { return (&ticker{run: r, held: held, told: make(map[string]bool)}).loop(ctx) })
		for _, s := range r.opts.Schedules {
			loops.Go(func() error { return (&ticker{run: r, held: held, program: &s}).loop(ctx) })
		}
		return loops.Wait()
	}, func(err error) { r.failing.Warn("leader", zap.Error(err)) })
}

// ticker runs schedules while this worker leads. It is used by one goroutine.
type ticker struct {
	*run
	held    lease.Held
	program *Schedule // the one that it runs; nil: all that are stored
	plans   map[string]*plan
	told    map[string]bool // schedules of which was said that they are not ticked
}

// plan is how far a schedule has come.
type plan struct {
	row  ScheduleRow // as it was seen last
	spec Spec
	next time.Time // the tick to come; later than the row's when those between had no jobs
}

// now is the wall clock's time, even where that was set in between.
func (t *ticker) now() time.Time { return t.opts.Now().Round(0) }

// loop ends when ctx does or the leadership is lost.
func (t *ticker) loop(ctx context.Context) error {
	for {
		wait, err := t.round(ctx)
		if errors.Is(err, lease.ErrLost) {
			return fmt.Errorf("schedules: %w", err)
		}
		if err != nil {
			if ctx.Err() == nil {
				t.failing.Warn("schedules, trying again", zap.Error(err))
			}
			wait = scheduleLook
		}
		if !after(wait, ctx.Done()) {
			return nil
		}
	}
}

// round looks at the schedules, ticks those that are due, and returns how long
// until the next round.
func (t *ticker) round(ctx context.Context) (wait time.Duration, err error) {
	rows, err := t.seat.Schedules(ctx)
	if err == nil && t.program != nil {
		rows, err = t.bring(ctx, rows)
	}
	if err != nil {
		return 0, err
	}
	wait = t.rest(scheduleLook)
	plans := make(map[string]*plan)
	var trouble error // one schedule's is not the others'
	for _, row := range rows {
		if row.Type == "" && t.program == nil {
			t.foreign(row)
			continue
		}
		if row.Paused {
			continue
		}
		p := t.plans[row.Name]
		if p == nil || p.row != row {
			spec, e := ParseSpec(row.Spec, row.Zone)
			if e != nil { // another program wrote it
				trouble = errors.Join(trouble, fmt.Errorf("schedule %s: %w", row.Name, e))
				continue
			}
			p = &plan{row: row, spec: spec, next: row.NextAt.Time()}
		}
		plans[row.Name] = p
		now := t.now()
		if p.next.IsZero() { // another program wrote it so
			p.next = p.spec.First(now)
		}
		if p.next = p.spec.following(p.next, now); !p.next.After(now) {
			if e := t.tick(ctx, p, now); e != nil {
				trouble = errors.Join(trouble, fmt.Errorf("schedule %s: %w", row.Name, e))
			}
		}
		wait = min(wait, p.next.Sub(now))
	}
	t.plans = plans
	return wait, trouble
}

// bring returns the row of the program's schedule, after it has seen to it that
// it says what the program does.
func (t *ticker) bring(ctx context.Context, rows []ScheduleRow) ([]ScheduleRow, error) {
	ours := ScheduleRow{StoredSchedule: StoredSchedule{
		Name: t.program.Name, Spec: t.program.Spec,
		Zone: cmp.Or(t.program.Zone, "UTC"), Missed: cmp.Or(t.program.Missed, MissedSkip),
	}}
	var row ScheduleRow // as it is kept, if it is
	if i := slices.IndexFunc(rows, func(s ScheduleRow) bool { return s.Name == ours.Name }); i >= 0 {
		row = rows[i]
	}
	if row.Type != "" {
		return nil, fmt.Errorf("schedule %s: a stored one has that name: remove it, or give the program's another", row.Name)
	}
	same := row.Spec == ours.Spec && row.Zone == ours.Zone
	if same && row.Missed == ours.Missed {
		return []ScheduleRow{row}, nil
	}
	spec, err := ParseSpec(ours.Spec, ours.Zone)
	if err != nil {
		return nil, err
	}
	ours.Paused, ours.NextAt, ours.LastAt = row.Paused, row.NextAt, row.LastAt
	// Programs of two versions may lead in turns: neither is to begin its interval
	// anew each time.
	if row.Name == "" || spec.every == 0 && !same {
		ours.NextAt = SecondsOf(spec.First(t.now()))
	}
	if err := t.seat.Bring(ctx, t.held, ours); err != nil {
		return nil, fmt.Errorf("schedule %s: %w", ours.Name, err)
	}
	return []ScheduleRow{ours}, nil
}

// foreign says, once, that a schedule is not ticked while this worker leads.
func (t *ticker) foreign(row ScheduleRow) {
	ours := slices.ContainsFunc(t.opts.Schedules, func(s Schedule) bool { return s.Name == row.Name })
	if ours || row.Paused || t.told[row.Name] {
		return
	}
	t.told[row.Name] = true
	t.log.Warn("a schedule of another program, which this worker does not bring, is not ticked while it leads: "+
		"bring it in all workers, or remove it", zap.String("schedule", row.Name))
}

// tick enqueues the ticks that are due, or the first of them, and moves the plan
// behind them, unless the store could not do it.
func (t *ticker) tick(ctx context.Context, p *plan, now time.Time) error {
	from := p.next
	if p.spec.every > 0 && p.row.NextAt.Time().After(now) {
		from = now // the clock was set back: begin anew
	}
	most := min(tickBite, tickBytes/max(1, len(p.row.Payload)))
	ticks, next := p.spec.due(p.row.Missed, from, now, max(1, most))
	var batch []New
	for _, at := range ticks {
		jobs, err := t.jobs(ctx, p.row, at)
		if err != nil && ctx.Err() == nil {
			t.log.Warn("tick failed", zap.String("schedule", p.row.Name), zap.Error(err))
		}
		batch = append(batch, jobs...)
	}
	// A program that has nothing to do writes nothing, but where its ticks are
	// counted the next leader must know of this one.
	if len(batch) == 0 && t.program != nil && p.row.Missed != MissedAll {
		p.next = next
		return nil
	}
	due := Due{Name: p.row.Name, At: p.row.NextAt.Time(), Next: next}
	if len(batch) > 0 {
		due.Last = ticks[len(ticks)-1]
	}
	err := t.seat.Tick(ctx, t.held, due, batch...)
	if err == nil || errors.Is(err, ErrChanged) { // the next round sees what the row is now
		p.next = next
		return nil
	}
	return err
}

// jobs is what the tick of that time enqueues.
func (t *ticker) jobs(ctx context.Context, row ScheduleRow, at time.Time) (list []New, err error) {
	if t.program != nil {
		list, err = t.program.Jobs(ctx)
	} else {
		n := row.Job()
		n.RunAt = at
		list = []New{n}
	}
	for _, n := range list {
		if e := n.Check(); e != nil {
			return nil, errors.Join(err, e)
		}
	}
	return list, err
}
