package jobs_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shoal-project/shoal/pkg/jobs"
)

// TestSpecNext proves which ticks come, one after the other: by the grid of an
// interval, by the calendar, and by a clock that is set forward and back.
func TestSpecNext(t *testing.T) {
	const berlin = "Europe/Berlin"
	for name, c := range map[string]struct {
		spec, zone, from string
		want             []string
	}{
		"an interval":      {"@every 90s", "", "2026-01-01T00:00:00Z", []string{"2026-01-01T00:01:30Z", "2026-01-01T00:03:00Z"}},
		"milliseconds":     {"@every 1ms", "", "2026-01-01T00:00:00Z", []string{"2026-01-01T00:00:00.001Z", "2026-01-01T00:00:00.002Z"}},
		"UTC by default":   {"0 3 * * *", "", "2026-11-26T03:00:00Z", []string{"2026-11-27T03:00:00Z", "2026-11-28T03:00:00Z"}},
		"weekdays":         {"30 8 * * mon-fri", berlin, "2026-11-27T09:00:00+01:00", []string{"2026-11-30T08:30:00+01:00", "2026-12-01T08:30:00+01:00"}},
		"@monthly":         {"@monthly", "Asia/Kolkata", "2026-11-26T00:00:00Z", []string{"2026-12-01T00:00:00+05:30", "2027-01-01T00:00:00+05:30"}},
		"the leap day":     {"0 0 29 2 *", "", "2026-11-26T00:00:00Z", []string{"2028-02-29T00:00:00Z", "2032-02-29T00:00:00Z"}},
		"and none in 2100": {"0 0 29 2 *", "", "2096-02-29T00:00:00Z", []string{"2104-02-29T00:00:00Z"}},
		// 29 March 2026: 02:00 to 03:00 does not come.
		"forward: daily in the hour that is left out": {"30 2 * * *", berlin, "2026-03-28T02:30:00+01:00",
			[]string{"2026-03-29T03:30:00+02:00", "2026-03-30T02:30:00+02:00"}},
		"forward: two ticks that fall together come once": {"15 2,3 * * *", berlin, "2026-03-29T00:00:00+01:00",
			[]string{"2026-03-29T03:15:00+02:00", "2026-03-30T02:15:00+02:00"}},
		"forward: every hour": {"30 * * * *", berlin, "2026-03-29T00:30:00+01:00",
			[]string{"2026-03-29T01:30:00+01:00", "2026-03-29T03:30:00+02:00"}},
		"forward: midnight": {"0 0 * * *", "America/Sao_Paulo", "2018-11-03T00:00:00-03:00",
			[]string{"2018-11-04T01:00:00-02:00", "2018-11-05T00:00:00-02:00"}},
		// 25 October 2026: 02:00 to 03:00 comes twice.
		"back: daily in the hour that comes twice": {"30 2 * * *", berlin, "2026-10-24T02:30:00+02:00",
			[]string{"2026-10-25T02:30:00+02:00", "2026-10-26T02:30:00+01:00"}},
		"back: seen from within the second hour": {"30 2 * * *", berlin, "2026-10-25T02:10:00+01:00",
			[]string{"2026-10-26T02:30:00+01:00"}},
		"back: every hour": {"30 * * * *", berlin, "2026-10-25T01:30:00+02:00",
			[]string{"2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00", "2026-10-25T03:30:00+01:00"}},
		"back: after it": {"0 3 * * *", berlin, "2026-10-24T03:00:00+02:00",
			[]string{"2026-10-25T03:00:00+01:00", "2026-10-26T03:00:00+01:00"}},
	} {
		t.Run(name, func(t *testing.T) {
			spec, err := jobs.ParseSpec(c.spec, c.zone)
			if err != nil {
				t.Fatal(err)
			}
			at, err := time.Parse(time.RFC3339, c.from)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for range c.want {
				next := spec.Next(at, at)
				got = append(got, next.Format(time.RFC3339Nano))
				at = next
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("after %s (-want +got):\n%s", c.from, diff)
			}
		})
	}
}

// TestSpecGrid proves that an interval begins at once, and that a late tick
// delays none that follow.
func TestSpecGrid(t *testing.T) {
	spec, err := jobs.ParseSpec("@every 10s", "")
	if err != nil {
		t.Fatal(err)
	}
	at := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	if got := spec.First(at); !got.Equal(at) {
		t.Errorf("first at %v", got)
	}
	if got, want := spec.Next(at, at.Add(34*time.Second)), at.Add(40*time.Second); !got.Equal(want) {
		t.Errorf("after a late one %v, want %v", got, want)
	}
	if got := spec.Next(at, at.Add(-time.Second)); !got.Equal(at) {
		t.Errorf("before it is due %v, want %v", got, at)
	}
	daily, err := jobs.ParseSpec("@daily", "")
	if err != nil {
		t.Fatal(err)
	}
	if got, want := daily.First(at.Add(time.Hour)), at.AddDate(0, 0, 1); !got.Equal(want) {
		t.Errorf("a cron's first %v, want %v", got, want)
	}
}

// TestScheduleRefuses proves that nonsense is refused with a reason, a spec with
// the example of a good one.
func TestScheduleRefuses(t *testing.T) {
	good := jobs.StoredSchedule{Name: "n", Spec: "@every 5s", Type: "T"}
	if err := good.Check(); err != nil {
		t.Error(err)
	}
	const example = `write it like "0 3 * * *"`
	for _, c := range []struct {
		s    jobs.StoredSchedule
		says []string
	}{
		{jobs.StoredSchedule{Spec: "@daily", Type: "T"}, []string{`schedule name ""`}},
		{jobs.StoredSchedule{Name: "\xff", Spec: "@daily", Type: "T"}, []string{"of UTF-8"}},
		{jobs.StoredSchedule{Name: "n", Spec: "@daily"}, []string{"schedule n: job type is empty"}},
		{jobs.StoredSchedule{Name: "n", Spec: "@daily", Type: "T", Payload: "{"}, []string{"payload is not JSON"}},
		{jobs.StoredSchedule{Name: "n", Spec: "@daily", Type: "T", Missed: "some"}, []string{`missed "some": use skip, once or all`}},
		{jobs.StoredSchedule{Name: "n", Spec: "@daily", Type: "T", Zone: "Mars/Olympus"}, []string{"zone", "is unknown", "Europe/Berlin"}},
		{jobs.StoredSchedule{Name: "n", Spec: "@daily", Type: "T", Zone: "Local"}, []string{"is unknown"}},
		{jobs.StoredSchedule{Name: "n", Spec: "@daily", Type: "T", Zone: "../../etc/passwd"}, []string{"is unknown"}},
		{jobs.StoredSchedule{Name: "n", Spec: "TZ=UTC 0 3 * * *", Type: "T"}, []string{"--zone"}},
		{jobs.StoredSchedule{Name: "n", Spec: "CRON_TZ=UTC 0 3 * * *", Type: "T"}, []string{"--zone"}},
		{jobs.StoredSchedule{Name: "n", Spec: "TZ=", Type: "T"}, []string{"--zone"}},
		{jobs.StoredSchedule{Name: "n", Type: "T"}, []string{`spec ""`, example}},
		{jobs.StoredSchedule{Name: "n", Spec: "@every", Type: "T"}, []string{example}},
		{jobs.StoredSchedule{Name: "n", Spec: "@every soon", Type: "T"}, []string{`"soon" is no duration`, example}},
		{jobs.StoredSchedule{Name: "n", Spec: "@every 0s", Type: "T"}, []string{"0s is too short", example}},
		{jobs.StoredSchedule{Name: "n", Spec: "@every 999us", Type: "T"}, []string{"too short", example}},
		{jobs.StoredSchedule{Name: "n", Spec: "@sometimes", Type: "T"}, []string{"@sometimes", example}},
		{jobs.StoredSchedule{Name: "n", Spec: "* * * *", Type: "T"}, []string{"expected exactly 5 fields", example}},
		{jobs.StoredSchedule{Name: "n", Spec: "0 * * * * *", Type: "T"}, []string{"expected exactly 5 fields", example}},
		{jobs.StoredSchedule{Name: "n", Spec: "60 * * * *", Type: "T"}, []string{"above maximum (59)", example}},
		{jobs.StoredSchedule{Name: "n", Spec: "0 0 30 2 *", Type: "T"}, []string{"no such day ever comes", example}},
	} {
		err := c.s.Check()
		if err == nil {
			t.Errorf("not refused: %+v", c.s)
			continue
		}
		contains(t, err, c.says...)
	}
}

// TestSpecEveryHour compares an expression that every hour meets, minute by
// minute, with the zone's clock, around the nights on which that jumps: also where
// midnight itself is left out or comes twice.
func TestSpecEveryHour(t *testing.T) {
	for _, c := range []struct {
		zone, spec string
		from       time.Time
		meets      func(clock time.Time) bool
	}{
		{"Asia/Beirut", "0 * * * 0", time.Date(2024, 3, 29, 0, 0, 0, 0, time.UTC), func(c time.Time) bool { return c.Minute() == 0 && c.Weekday() == time.Sunday }},
		{"Asia/Beirut", "*/20 * * * *", time.Date(2024, 10, 25, 0, 0, 0, 0, time.UTC), func(c time.Time) bool { return c.Minute()%20 == 0 }},
		{"Africa/Cairo", "0 * 26 4 *", time.Date(2024, 4, 24, 0, 0, 0, 0, time.UTC), func(c time.Time) bool { return c.Minute() == 0 && c.Day() == 26 && c.Month() == 4 }},
		{"Europe/Berlin", "30 * * * *", time.Date(2024, 3, 30, 0, 0, 0, 0, time.UTC), func(c time.Time) bool { return c.Minute() == 30 }},
		{"Europe/Berlin", "5 * * * 0", time.Date(2024, 10, 26, 0, 0, 0, 0, time.UTC), func(c time.Time) bool { return c.Minute() == 5 && c.Weekday() == time.Sunday }},
		{"Australia/Lord_Howe", "15 * * * *", time.Date(2024, 4, 5, 0, 0, 0, 0, time.UTC), func(c time.Time) bool { return c.Minute() == 15 }},
	} {
		zone, err := time.LoadLocation(c.zone)
		if err != nil {
			t.Fatal(err)
		}
		spec, err := jobs.ParseSpec(c.spec, c.zone)
		if err != nil {
			t.Fatal(err)
		}
		var got, want []time.Time
		end := c.from.Add(4 * 24 * time.Hour)
		for at := c.from; at.Before(end); at = at.Add(time.Minute) {
			if at.After(c.from) && c.meets(at.In(zone)) {
				want = append(want, at)
			}
		}
		for at := spec.Next(c.from, c.from); at.Before(end); at = spec.Next(at, at) {
			got = append(got, at.UTC())
		}
		if !slices.Equal(got, want) {
			t.Errorf("%s in %s: %d ticks %v,\nwant %d %v", c.spec, c.zone, len(got), got, len(want), want)
		}
	}
}
