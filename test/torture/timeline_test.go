//go:build linux

package torture_test

import (
	"fmt"
	"html"
	"os"
	"slices"
	"strings"
)

// timelineStyle reads well on a light and on a dark page.
const timelineStyle = `text{font:11px sans-serif;fill:#333}.grid{stroke:#8884}.up{fill:#9ab8d8}.stop{fill:#e8a33d}.stall{fill:#c0392b}
.lead{fill:#4a9d5b}.claims{fill:#7d8fa3}.wait{fill:#8e5bb5}.kill{stroke:#c0392b;stroke-width:2;fill:none}.term{stroke:#555;stroke-width:2;fill:none}
@media (prefers-color-scheme:dark){svg{background:#1b1e23}text{fill:#ccc}.up{fill:#3d566e}.term{stroke:#bbb}}`

// timeline is a picture of a run: a lane for each place of the fleet, then the
// leaderships, the claims and the recoveries.
type timeline struct {
	strings.Builder
	from, to int64
	y        int
}

const (
	laneLeft, laneWidth = 90, 1100
	laneHeight          = 16
)

func (tl *timeline) x(at int64) float64 {
	at = min(max(at, tl.from), tl.to)
	return laneLeft + float64(laneWidth)*float64(at-tl.from)/float64(tl.to-tl.from)
}

func (tl *timeline) lane(name string) {
	tl.y += laneHeight + 4
	fmt.Fprintf(tl, `<text x="4" y="%d">%s</text>`+"\n", tl.y+12, html.EscapeString(name))
}

func (tl *timeline) bar(class string, s span, title string) {
	x := tl.x(s.from)
	fmt.Fprintf(tl, `<rect class="%s" x="%.1f" y="%d" width="%.1f" height="%d"><title>%s</title></rect>`+"\n",
		class, x, tl.y, max(tl.x(s.to)-x, 1), laneHeight, html.EscapeString(title))
}

// column is a bar that stands on the lane's foot, of a height from 0 to 1.
func (tl *timeline) column(class string, at int64, width, height float64, title string) {
	h := float64(2*laneHeight) * min(height, 1)
	fmt.Fprintf(tl, `<rect class="%s" x="%.1f" y="%.1f" width="%.1f" height="%.1f"><title>%s</title></rect>`+"\n",
		class, tl.x(at), float64(tl.y+2*laneHeight)-h, width, h, html.EscapeString(title))
}

func (tl *timeline) mark(class string, at int64, title string) {
	x, y := tl.x(at), tl.y
	fmt.Fprintf(tl, `<path class="%s" d="M%.1f %d l8 12 m0 -12 l-8 12"><title>%s</title></path>`+"\n", class, x-4, y+2, html.EscapeString(title))
}

// draw writes the picture of the run to an SVG file.
func (s *story) draw(path string) error {
	end := s.calm
	for _, l := range s.lives {
		if l.dead != never {
			end = max(end, l.dead)
		}
	}
	tl := &timeline{from: s.begun, to: end}
	tl.y = 14
	lives := make(map[string][]*life)
	for _, l := range s.lives {
		if i := strings.LastIndexByte(l.name, '-'); i > 0 && l.started != 0 {
			lives[l.name[:i]] = append(lives[l.name[:i]], l)
		}
	}
	var places []string
	for place := range lives {
		places = append(places, place)
	}
	slices.Sort(places)
	for _, place := range places {
		tl.lane(place)
		for _, l := range lives[place] {
			tl.bar("up", span{l.started, l.dead}, l.String()+": "+l.end)
			for _, st := range l.stops {
				class := "stop"
				if slices.Contains(l.stalls, st) {
					class = "stall"
				}
				tl.bar(class, st, l.name+" stopped")
			}
			if l.killed != 0 {
				tl.mark("kill", l.killed, l.name+" killed")
			}
		}
		for _, e := range s.faults {
			if (e.Op == "term" || e.Op == "kill guard") && strings.HasPrefix(e.Note, place+"-") {
				tl.mark("term", e.At, e.Op+" "+e.Note)
			}
		}
	}
	tl.lane("leader")
	leads := slices.Clone(s.events["lead"])
	slices.SortFunc(leads, func(a, b call) int { return int(a.At - b.At) })
	for i, e := range leads {
		until := e.by.dead
		if i+1 < len(leads) {
			until = min(until, leads[i+1].At)
		}
		tl.bar("lead", span{e.At, until}, fmt.Sprintf("%s, token %d", e.by.name, e.Token))
	}
	s.drawClaims(tl)
	s.drawRecoveries(tl)
	tl.y += 3 * laneHeight
	text := fmt.Sprintf(`<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d"><style>%s</style>`+"\n", laneLeft+laneWidth+10, tl.y+24, timelineStyle)
	text += fmt.Sprintf(`<text x="4" y="14">seed %d: bars are processes; orange: stopped; red: stopped in a commit; red crosses: killed; others: told to end, or its guard killed</text>`+"\n", s.seed)
	for second, step := int64(0), (tl.to-tl.from)/1e9/20+1; tl.from+second*1e9 < tl.to; second += step {
		x := tl.x(tl.from + second*1e9)
		text += fmt.Sprintf(`<path class="grid" d="M%.1f 20 V%d"/><text x="%.1f" y="%d">%d s</text>`+"\n", x, tl.y+6, x+2, tl.y+16, second)
	}
	return os.WriteFile(path, []byte(text+tl.String()+"</svg>\n"), 0o600)
}

func (s *story) drawClaims(tl *timeline) {
	tl.lane("claims")
	const columns = 200
	step := (tl.to-tl.from)/columns + 1
	counts := make([]int, columns+1)
	for _, c := range s.turns() {
		if i := (c.to - tl.from) / step; c.to < tl.to && i >= 0 {
			counts[i] += len(c.answer.Claimed)
		}
	}
	most := max(1, slices.Max(counts))
	for i, n := range counts {
		if n > 0 {
			perSecond := float64(n) / float64(step) * 1e9
			tl.column("claims", tl.from+int64(i)*step, float64(laneWidth)/columns, float64(n)/float64(most), fmt.Sprintf("%.0f claims/s", perSecond))
		}
	}
	tl.y += laneHeight
}

func (s *story) drawRecoveries(tl *timeline) {
	tl.lane("recovery")
	list, _ := s.recoveries()
	most := s.lease + s.lease/2
	for _, r := range list {
		tl.column("wait", r.hit, 2, float64(r.wait)/float64(most), fmt.Sprintf("job %d of %s: %v", r.job, r.by.name, r.wait))
	}
}
