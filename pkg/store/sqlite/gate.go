package sqlite

import (
	"math"
	"slices"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// A gate is what a policy lets through of its type or queue: so many, now. It is
// exact, as it is counted in the write transaction of the claim, which notes what
// passes.
type gate struct {
	jobs.PolicyRow
	room    int
	claimed int // in this transaction
}

type gates []*gate

// readGates reads the policies, and which of them bound the claims now.
func readGates(c *conn, claims []claim, now float64) (all policies, list gates, err error) {
	if all, err = readPolicies(c); err != nil || len(all) == 0 {
		return nil, nil, err
	}
	wanted := make(map[policyOf]bool)
	for _, claim := range claims {
		for _, a := range claim.arms {
			wanted[policyOf{kind: jobs.OfType, name: a.jobType}], wanted[policyOf{kind: jobs.OfQueue, name: a.queue}] = true, true
		}
	}
	rows := slices.DeleteFunc(all.rows(), func(p jobs.PolicyRow) bool { return !wanted[policyOf{kind: p.Kind, name: p.Name}] })
	if err := countTaken(c, rows, now); err != nil {
		return nil, nil, err
	}
	for _, p := range rows {
		g := &gate{PolicyRow: p, room: math.MaxInt}
		if p.MaxRunning > 0 {
			g.room = min(g.room, p.MaxRunning-p.Running)
		}
		if p.MaxStarts.N > 0 {
			g.room = min(g.room, p.MaxStarts.N-p.Started)
		}
		if p.Paused {
			g.room = 0
		}
		if g.room < math.MaxInt {
			list = append(list, g)
		}
	}
	return all, list, nil
}

// of are the gates that jobs of the type in the queue have to pass.
func (list gates) of(jobType, queue string) (some gates) {
	for _, g := range list {
		if g.Holds(jobType, queue) {
			some = append(some, g)
		}
	}
	return some
}

// room is how many jobs can pass all of them.
func (list gates) room() int {
	room := math.MaxInt
	for _, g := range list {
		room = min(room, g.room)
	}
	return max(0, room)
}

// pass has one job pass all of them.
func (list gates) pass() {
	for _, g := range list {
		g.room--
		g.claimed++
	}
}

// wait is how long until a gate opens by the passing of time; 0: none does.
func (list gates) wait(now float64) (wait time.Duration) {
	for _, g := range list {
		if !g.Opens.IsZero() && !g.Paused {
			wait = sooner(wait, max(seconds(float64(jobs.SecondsOf(g.Opens))-now), time.Millisecond))
		}
	}
	return wait
}

// countTaken fills in what is taken of the limits.
func countTaken(c *conn, rows []jobs.PolicyRow, now float64) error {
	if slices.ContainsFunc(rows, func(p jobs.PolicyRow) bool { return p.MaxRunning > 0 }) {
		if err := countRunning(c, rows); err != nil {
			return err
		}
	}
	for i := range rows {
		if rows[i].MaxStarts.N > 0 {
			if err := countStarts(c, &rows[i], now); err != nil {
				return err
			}
		}
	}
	return nil
}

func countRunning(c *conn, rows []jobs.PolicyRow) error {
	return c.query(`SELECT job_type, queue FROM sync_jobs WHERE status = 'running'`, func(s *sqlite3.Stmt) error {
		jobType, queue := s.ColumnText(0), s.ColumnText(1)
		for i := range rows {
			if rows[i].Holds(jobType, queue) {
				rows[i].Running++
			}
		}
		return nil
	})
}

// countStarts counts those of the last span, newest first: once there are as
// many as may be, the oldest of these says when the next may begin.
func countStarts(c *conn, p *jobs.PolicyRow, now float64) error {
	per := p.MaxStarts.Per.Seconds() + grain(p.MaxStarts)
	p.Started, p.Opens = 0, time.Time{}
	return c.query(`SELECT at, n FROM sync_starts WHERE kind = ? AND name = ? AND at > ? ORDER BY at DESC`, func(s *sqlite3.Stmt) error {
		p.Started += s.ColumnInt(1)
		if p.Started >= p.MaxStarts.N && p.Opens.IsZero() {
			p.Opens = jobs.Seconds(s.ColumnFloat(0) + per).Time()
		}
		return nil
	}, string(p.Kind), p.Name, now-per)
}

// startGrains bounds the rows that one policy's starts take: where a span may hold
// more, those of a small part of it, a grain, are one row, with the time at which
// the grain began. They count until the last of them must be old enough: so a limit
// holds exactly, and what it allows is used almost to the full.
const startGrains = 100

// grain is that part, in seconds; 0 where each start has its own time.
func grain(r jobs.Rate) float64 {
	if r.N <= startGrains {
		return 0
	}
	return r.Per.Seconds() / startGrains
}

// noteStarts keeps what was claimed under policies with MaxStarts, and forgets
// what is too old to count.
func (t *tx) noteStarts(list gates) error {
	for _, g := range list {
		if g.MaxStarts.N == 0 || g.claimed == 0 {
			continue
		}
		at, grain := t.now, grain(g.MaxStarts)
		if grain > 0 {
			at = math.Floor(at/grain) * grain
		}
		if _, err := t.exec(`DELETE FROM sync_starts WHERE kind = ? AND name = ? AND at <= ?`, string(g.Kind), g.Name, t.now-g.MaxStarts.Per.Seconds()-grain); err != nil {
			return err
		}
		if _, err := t.exec(`INSERT INTO sync_starts (kind, name, at, n) VALUES (?, ?, ?, ?)
			ON CONFLICT (kind, name, at) DO UPDATE SET n = n + excluded.n`, string(g.Kind), g.Name, at, g.claimed); err != nil {
			return err
		}
		if err := countStarts(t.conn, &g.PolicyRow, t.now); err != nil {
			return err
		}
	}
	return nil
}
