package sqlite

import (
	"math"
	"slices"
	"time"

	"github.com/ncruces/go-sqlite3"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// A gate is what a policy lets through of its type or queue: so many, now. It is
// exact, as it is counted in the write transaction of the claim.
type gate struct {
	jobs.PolicyRow
	room    int
	claimed int // by this claim
}

type gates []*gate

// gatesOf are those of the policies that bound claims.
func gatesOf(c *conn, all policies, now float64) (list gates, err error) {
	rows := all.rows()
	if err := countTaken(c, rows, now); err != nil {
		return nil, err
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
	return list, nil
}

func (g *gate) holds(jobType, queue string) bool {
	return g.Kind == jobs.OfType && g.Name == jobType || g.Kind == jobs.OfQueue && g.Name == queue
}

// open says whether a job of the type in the queue may be claimed.
func (list gates) open(jobType, queue string) bool {
	return !slices.ContainsFunc(list, func(g *gate) bool { return g.room <= 0 && g.holds(jobType, queue) })
}

func (list gates) copy() (copies gates) {
	for _, g := range list {
		c := *g
		copies = append(copies, &c)
	}
	return copies
}

// pass notes a claim.
func (list gates) pass(jobType, queue string) {
	for _, g := range list {
		if g.holds(jobType, queue) {
			g.room--
			g.claimed++
		}
	}
}

// opens is how long until a gate opens by the passing of time; 0: none does.
func (list gates) opens(now float64) (wait time.Duration) {
	for _, g := range list {
		if g.Opens.IsZero() || g.Paused {
			continue
		}
		if until := max(seconds(float64(jobs.SecondsOf(g.Opens))-now), time.Millisecond); wait == 0 || until < wait {
			wait = until
		}
	}
	return wait
}

// countTaken fills in what is taken of the limits.
func countTaken(c *conn, rows []jobs.PolicyRow, now float64) error {
	counted := false
	for i := range rows {
		p := &rows[i]
		if p.MaxRunning > 0 && !counted {
			counted = true
			if err := countRunning(c, rows); err != nil {
				return err
			}
		}
		if p.MaxStarts.N > 0 {
			if err := countStarts(c, p, now); err != nil {
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
			if (&gate{PolicyRow: rows[i]}).holds(jobType, queue) {
				rows[i].Running++
			}
		}
		return nil
	})
}

// countStarts counts those of the last span, newest first: once there are as
// many as may be, the oldest of these says when the next may begin.
func countStarts(c *conn, p *jobs.PolicyRow, now float64) error {
	per := p.MaxStarts.Per.Seconds()
	p.Started, p.Opens = 0, time.Time{}
	return c.query(`SELECT at, n FROM sync_starts WHERE kind = ? AND name = ? AND at > ? ORDER BY at DESC`, func(s *sqlite3.Stmt) error {
		p.Started += s.ColumnInt(1)
		if p.Started >= p.MaxStarts.N && p.Opens.IsZero() {
			p.Opens = jobs.Seconds(s.ColumnFloat(0) + per).Time()
		}
		return nil
	}, string(p.Kind), p.Name, now-per)
}

// startGrains bounds the rows that one policy's starts take: where a span may
// hold many, those of a small part of it are taken for one moment, its end, so
// that a limit holds exactly and what it allows is used almost to the full.
const startGrains = 1000

// noteStarts keeps what was claimed under policies with MaxStarts, and forgets
// what is too old to count.
func (t *tx) noteStarts(list gates) error {
	for _, g := range list {
		if g.MaxStarts.N == 0 || g.claimed == 0 {
			continue
		}
		at, per := t.now, g.MaxStarts.Per.Seconds()
		if g.MaxStarts.N > startGrains {
			grain := per / startGrains
			at = math.Ceil(at/grain) * grain
		}
		if _, err := t.exec(`DELETE FROM sync_starts WHERE kind = ? AND name = ? AND at <= ?`, string(g.Kind), g.Name, t.now-per); err != nil {
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
