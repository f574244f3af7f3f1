package sqlite

import (
	"cmp"
	"context"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/ncruces/go-sqlite3"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// policyOf names a policy, and who said it.
type policyOf struct {
	kind   jobs.PolicyKind
	name   string
	source string
}

// Who says a policy. The operator's word goes before a handler's.
const (
	byOperator = "operator"
	byHandler  = "handler"
)

// policies are all that are said. They are few, and read anew by each claim, in
// its transaction: what was said before its commit holds for it.
type policies map[policyOf]jobs.Policy

func readPolicies(c *conn) (all policies, err error) {
	err = c.query(`SELECT kind, name, source, paused, coalesce(max_attempts, 0), coalesce(timeout, 0),
			coalesce(retry_delay, 0), coalesce(retry_cap, 0), iif(retry_jitter = 0, -1, coalesce(retry_jitter, 0)),
			coalesce(max_running, 0), coalesce(max_starts, 0), coalesce(starts_per, 0) FROM sync_policies`,
		func(s *sqlite3.Stmt) error {
			if all == nil {
				all = make(policies)
			}
			all[policyOf{jobs.PolicyKind(s.ColumnText(0)), s.ColumnText(1), s.ColumnText(2)}] = jobs.Policy{
				Paused: s.ColumnBool(3), MaxAttempts: s.ColumnInt(4), Timeout: seconds(s.ColumnFloat(5)),
				Retry:      jobs.RetryPolicy{Delay: seconds(s.ColumnFloat(6)), Cap: seconds(s.ColumnFloat(7)), Jitter: s.ColumnFloat(8)},
				MaxRunning: s.ColumnInt(9), MaxStarts: jobs.Rate{N: s.ColumnInt(10), Per: seconds(s.ColumnFloat(11))},
			}
			return nil
		})
	return all, err
}

// retry is what the policies say of the retries of a job.
func (all policies) retry(jobType, queue string) (r jobs.RetryPolicy) {
	for _, of := range []policyOf{{jobs.OfType, jobType, byOperator}, {jobs.OfQueue, queue, byOperator}, {jobs.OfType, jobType, byHandler}} {
		said := all[of].Retry
		r = jobs.RetryPolicy{Delay: cmp.Or(r.Delay, said.Delay), Cap: cmp.Or(r.Cap, said.Cap), Jitter: cmp.Or(r.Jitter, said.Jitter)}
	}
	return r
}

// inClaim is SQL for what a job names itself, or else the policies, in a column
// of both: all that coalesce is to choose from.
func inClaim(column string) string {
	const said = `(SELECT %s FROM sync_policies WHERE kind = '%s' AND name = %s AND source = '%s')`
	return strings.Join([]string{column,
		fmt.Sprintf(said, column, jobs.OfType, "job_type", byOperator),
		fmt.Sprintf(said, column, jobs.OfQueue, "queue", byOperator),
		fmt.Sprintf(said, column, jobs.OfType, "job_type", byHandler)}, ", ")
}

// merged is what holds for a type or queue, by whomever it was said.
func (all policies) merged(kind jobs.PolicyKind, name string) jobs.Policy {
	p, h := all[policyOf{kind, name, byOperator}], all[policyOf{kind, name, byHandler}]
	p.MaxAttempts, p.Timeout, p.MaxRunning = cmp.Or(p.MaxAttempts, h.MaxAttempts), cmp.Or(p.Timeout, h.Timeout), cmp.Or(p.MaxRunning, h.MaxRunning)
	p.Retry = jobs.RetryPolicy{Delay: cmp.Or(p.Retry.Delay, h.Retry.Delay), Cap: cmp.Or(p.Retry.Cap, h.Retry.Cap), Jitter: cmp.Or(p.Retry.Jitter, h.Retry.Jitter)}
	p.MaxStarts = cmp.Or(p.MaxStarts, h.MaxStarts)
	return p
}

// rows is what holds for each type and queue that anything is said of.
func (all policies) rows() (rows []jobs.PolicyRow) {
	seen := make(map[policyOf]bool)
	for of := range all {
		of.source = ""
		if !seen[of] {
			seen[of] = true
			rows = append(rows, jobs.PolicyRow{Kind: of.kind, Name: of.name, Policy: all.merged(of.kind, of.name)})
		}
	}
	slices.SortFunc(rows, func(a, b jobs.PolicyRow) int { return cmp.Or(cmp.Compare(b.Kind, a.Kind), cmp.Compare(a.Name, b.Name)) })
	return rows
}

// Policies implements jobs.Inspector.
func (db *DB) Policies(context.Context) (rows []jobs.PolicyRow, err error) {
	err = db.read(func(c *conn) error {
		all, err := readPolicies(c)
		if err == nil {
			rows = all.rows()
			err = countTaken(c, rows, db.now())
		}
		return err
	})
	return rows, wrapError("list policies", err)
}

// ChangePolicy implements jobs.Operator.
func (db *DB) ChangePolicy(ctx context.Context, kind jobs.PolicyKind, name string, change func(*jobs.Policy)) error {
	of := policyOf{kind, name, byOperator}
	var refused error // no error of the operation: that would cost the whole group
	err := db.writer.do(ctx, func(t *tx) error {
		all, err := readPolicies(t.conn)
		if err != nil {
			return err
		}
		p := all[of]
		change(&p)
		if refused = jobs.CheckPolicy(kind, name, p); refused != nil {
			return nil
		}
		return t.putPolicy(of, p)
	})
	return cmp.Or(refused, wrapError("policy", err))
}

// putPolicy writes all that is said of a type or queue; of what says nothing
// there is no row.
func (t *tx) putPolicy(of policyOf, p jobs.Policy) error {
	if p.Backoff = nil; reflect.ValueOf(p).IsZero() {
		_, err := t.exec(`DELETE FROM sync_policies WHERE kind = ? AND name = ? AND source = ?`, string(of.kind), of.name, of.source)
		return err
	}
	var jitter any
	if p.Retry.Jitter != 0 {
		jitter = max(0, p.Retry.Jitter)
	}
	_, err := t.exec(`INSERT OR REPLACE INTO sync_policies (kind, name, source, paused, max_attempts, timeout,
			retry_delay, retry_cap, retry_jitter, max_running, max_starts, starts_per)
		VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`, string(of.kind), of.name, of.source, p.Paused,
		null(p.MaxAttempts), null(p.Timeout.Seconds()), null(p.Retry.Delay.Seconds()), null(p.Retry.Cap.Seconds()), jitter,
		null(p.MaxRunning), null(p.MaxStarts.N), null(p.MaxStarts.Per.Seconds()))
	return err
}
