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
func (all policies) retry(jobType, queue string) jobs.RetryPolicy {
	said := all[policyOf{jobs.OfType, jobType, byOperator}].Retry
	return said.Or(all[policyOf{jobs.OfQueue, queue, byOperator}].Retry).Or(all[policyOf{jobs.OfType, jobType, byHandler}].Retry)
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

// or fills what p does not say with what q does; but for a pause.
func or(p, q jobs.Policy) jobs.Policy {
	return jobs.Policy{
		Paused: p.Paused, MaxAttempts: cmp.Or(p.MaxAttempts, q.MaxAttempts), Timeout: cmp.Or(p.Timeout, q.Timeout),
		MaxRunning: cmp.Or(p.MaxRunning, q.MaxRunning), MaxStarts: cmp.Or(p.MaxStarts, q.MaxStarts),
		Retry: p.Retry.Or(q.Retry),
	}
}

// rows is what holds for each type and queue that anything is said of.
func (all policies) rows() (rows []jobs.PolicyRow) {
	seen := make(map[policyOf]bool)
	for of := range all {
		of.source = ""
		if !seen[of] {
			seen[of] = true
			said := or(all[policyOf{of.kind, of.name, byOperator}], all[policyOf{of.kind, of.name, byHandler}])
			rows = append(rows, jobs.PolicyRow{Kind: of.kind, Name: of.name, Policy: said})
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
	var refused error // as Check words it: a refusal would be wrapped
	err := db.writer.do(ctx, func(t *tx) error {
		all, err := readPolicies(t.conn)
		if err != nil {
			return err
		}
		p := all[of]
		change(&p)
		if refused = p.Check(kind, name); refused != nil {
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
