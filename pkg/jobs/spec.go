package jobs

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/robfig/cron/v3"
)

// Spec says when a schedule is due; see [ParseSpec].
type Spec struct {
	every time.Duration // 0: by cron
	cron  *cron.SpecSchedule
	zone  *time.Location
}

var fields = cron.NewParser(cron.Minute | cron.Hour | cron.Dom | cron.Month | cron.Dow | cron.Descriptor)

// goodSpecs ends an error about a spec.
const goodSpecs = `write it like "0 3 * * *" (minute, hour, day, month, weekday), "@daily" or "@every 90s"`

// ParseSpec reads a schedule's spec: "@every" and a duration as Go writes it, 1ms
// or more; or a cron expression of five fields, or one of its names (@hourly,
// @daily, @weekly, @monthly, @yearly), which goes by the clock of a zone. That is
// an IANA name; empty: UTC, whatever the machine's own zone is.
//
// Where that clock is set forward, a tick in the hour that is left out comes an
// hour later; where it is set back, one in the hour that comes twice comes the
// first time only. An expression for every hour just goes on.
func ParseSpec(spec, zone string) (Spec, error) {
	bad := func(why error) (Spec, error) { return Spec{}, fmt.Errorf("spec %.60q: %w: %s", spec, why, goodSpecs) }
	location, err := time.LoadLocation(zone)
	if err != nil || zone == "Local" {
		return Spec{}, fmt.Errorf("zone %.60q is unknown: write it like Europe/Berlin, or leave it empty for UTC", zone)
	}
	if text, ok := strings.CutPrefix(spec, "@every "); ok {
		every, err := time.ParseDuration(strings.TrimSpace(text))
		if err != nil {
			return bad(fmt.Errorf("%q is no duration", text))
		}
		if every < time.Millisecond {
			return bad(fmt.Errorf("%v is too short", every))
		}
		return Spec{every: every, zone: location}, nil
	}
	if strings.HasPrefix(spec, "TZ=") || strings.HasPrefix(spec, "CRON_TZ=") {
		return Spec{}, fmt.Errorf("spec %.60q: the zone has a place of its own (--zone)", spec)
	}
	parsed, err := fields.Parse(spec)
	if err != nil {
		return bad(err)
	}
	at, ok := parsed.(*cron.SpecSchedule)
	if !ok {
		return bad(errors.New("it is unknown"))
	}
	// 2000 was a leap year: what doesn't come in it and the next four never comes.
	if at.Next(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)).IsZero() {
		return bad(errors.New("no such day ever comes"))
	}
	return Spec{cron: at, zone: location}, nil
}

// First is the first tick of a schedule that is new at now: an interval begins
// with a tick at once.
func (s Spec) First(now time.Time) time.Time {
	if s.every > 0 {
		return now
	}
	return s.after(now)
}

// Next is the first tick after now of a schedule that is, or was, due at at. With
// an interval it is a whole number of intervals later, so that a late tick does
// not delay all that follow.
func (s Spec) Next(at, now time.Time) time.Time {
	switch {
	case s.every == 0:
		return s.after(now)
	case at.After(now):
		return at
	}
	return now.Add(s.every - now.Sub(at)%s.every)
}

// everyHour has a bit for each hour of the day.
const everyHour = 1<<24 - 1

// after is the expression's first time after t. The library goes through the
// zone's hours as they come: it leaves out a tick in the hour that the clock jumps
// over, and doubles one in the hour that comes twice. So an expression that names
// hours is looked up on a clock that never jumps.
func (s Spec) after(t time.Time) time.Time {
	t = t.In(s.zone)
	if s.cron.Hour&everyHour == everyHour {
		return s.anyHour(t)
	}
	for clock := reading(t); ; {
		clock = s.match(clock)
		if next := s.when(clock); next.After(t) {
			return next
		}
	}
}

// anyHour is after for an expression that every hour of a day meets: on a clock
// that does not jump until the zone's does, and then on one that shows the new time.
// The library itself would lose a day whose midnight is left out.
func (s Spec) anyHour(t time.Time) time.Time {
	for at := t; ; at = at.In(s.zone) {
		_, offset := at.Zone()
		next := s.match(t.In(time.FixedZone("", offset)))
		_, change := at.ZoneBounds()
		if change.IsZero() || next.Before(change) {
			return next.In(s.zone)
		}
		at, t = change, change.Add(-1)
	}
}

// match is what the library finds, which looks no further than five years: a leap
// day may be eight away.
func (s Spec) match(t time.Time) time.Time {
	if next := s.cron.Next(t); !next.IsZero() {
		return next
	}
	return s.cron.Next(t.AddDate(4, 0, 0))
}

// reading is what the zone's clock shows at t, as if there were no zones.
func reading(t time.Time) time.Time {
	_, offset := t.Zone()
	return t.UTC().Add(time.Duration(offset) * time.Second)
}

// when is the first time at which the zone's clock shows a reading or, if it jumps
// over that, when it would have. time.Date does not promise which one it takes.
func (s Spec) when(clock time.Time) time.Time {
	by := func(at time.Time) time.Time { // by the offset that holds at at
		_, offset := at.In(s.zone).Zone()
		return clock.Add(-time.Duration(offset) * time.Second).In(s.zone)
	}
	first := by(clock.Add(-24 * time.Hour)) // as before a change, if it comes that day
	if later := by(first); !reading(first).Equal(clock) && reading(later).Equal(clock) {
		return later
	}
	return first
}

// latest is the last tick that is due at now, of those since from, which is due.
func (s Spec) latest(from, now time.Time) time.Time {
	if s.every > 0 {
		return from.Add(now.Sub(from).Truncate(s.every))
	}
	// From further and further back: what was missed may be years of minutes.
	last := from
	for back := time.Minute; ; back *= 2 {
		at := now.Add(-back)
		if !at.After(from) {
			at = from
		} else if at = s.after(at); at.After(now) {
			continue
		}
		for ; !at.After(now); at = s.after(at) {
			last = at
		}
		return last
	}
}

// due is which ticks, of those from from to now, are to be enqueued, at most so
// many, and which comes then.
func (s Spec) due(missed Missed, from, now time.Time, most int) (ticks []time.Time, next time.Time) {
	if missed == MissedAll {
		for next = from; !next.After(now) && len(ticks) < most; next = s.Next(next, next) {
			ticks = append(ticks, next)
		}
		return ticks, next
	}
	last := s.latest(from, now)
	if missed == MissedOnce || now.Sub(last) <= missedAfter {
		ticks = []time.Time{last}
	}
	return ticks, s.Next(last, now)
}

// Clocks are set. Small steps are no reason to tick twice or not at all.
const (
	clockSlack = time.Second   // of a step that an interval follows
	cronSlack  = 3 * time.Hour // and of one that a cron does, as cron(8) has it
)

// following is at, or, where at lies so far ahead that the clock must have been
// set back since, when the schedule is due by the clock as it is. One leader after
// the other comes to the same time: each waiting anew would silence the schedule.
func (s Spec) following(at, now time.Time) time.Time {
	wait := at.Sub(now)
	if s.every > 0 && wait > s.every+clockSlack {
		return now.Add(wait % s.every)
	}
	if s.every == 0 && at.After(s.after(now.Add(cronSlack))) {
		return s.after(now)
	}
	return at
}
