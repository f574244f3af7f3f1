package main

import (
	"fmt"
	"html"
	"math"
	"strings"
)

// picture is a few lines in a frame.
type picture struct {
	Title       string `json:"title"`
	X           string `json:"x"`
	Y           string `json:"y"`
	LogX        bool   `json:"log_x,omitempty"`
	LogY        bool   `json:"log_y,omitempty"`
	Percentiles bool   `json:"percentiles,omitempty"` // X is from 0 to 1, and each 9 has the same room
	Lines       []line `json:"lines"`
}

type line struct {
	Name   string       `json:"name"`
	Points [][2]float64 `json:"points"`
	Labels []string     `json:"labels,omitempty"` // of the points, in place of their X
}

// The frame, in a picture of 720 by 400.
const (
	left, right, top, bottom = 76, 600, 56, 322
	width, height            = 720, 400
)

// style is for a light and a dark page: both show through.
const style = `text { font: 13px system-ui, sans-serif; fill: #24292f }
.title { font-size: 15px; font-weight: 600 }
.quiet { fill: #6e7781; font-size: 12px }
.grid { stroke: #6e7781; stroke-opacity: .25 }
.line { fill: none; stroke-width: 2.5; stroke-linejoin: round }
.line0 { stroke: #0969da } .fill0 { fill: #0969da }
.line1 { stroke: #bc4c00 } .fill1 { fill: #bc4c00 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .quiet { fill: #9198a1 }
.line0 { stroke: #58a6ff } .fill0 { fill: #58a6ff }
.line1 { stroke: #f0883e } .fill1 { fill: #f0883e }
}`

// svg draws it. Under it stands what was measured on.
func (p *picture) svg(under string) string {
	var s strings.Builder
	fmt.Fprintf(&s, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %d %d" role="img" aria-label="%s">`+"\n<style>\n%s\n</style>\n",
		width, height, html.EscapeString(p.Title), style)
	write := func(class, anchor string, x, y float64, words string) {
		fmt.Fprintf(&s, `<text class="%s" text-anchor="%s" x="%.1f" y="%.1f">%s</text>`+"\n", class, anchor, x, y, html.EscapeString(words))
	}
	write("title", "start", 16, 26, p.Title)
	write("quiet", "start", 16, 46, p.Y)
	write("quiet", "middle", (left+right)/2, bottom+40, p.X)
	write("quiet", "start", 16, height-12, under)

	ticks := p.ticksY()
	y := axis{ticks[0], ticks[len(ticks)-1], bottom, top, p.LogY}
	for _, v := range ticks {
		fmt.Fprintf(&s, `<path class="grid" d="M%d %.1fH%d"/>`+"\n", left, y.at(v), right)
		write("quiet", "end", left-8, y.at(v)+4, tickText(v))
	}
	low, high := p.extent(func(point [2]float64) float64 { return p.scaleX(point[0]) })
	x := axis{low, high, left + 12, right - 12, p.LogX}
	points := p.Lines[0].Points
	for i, point := range points {
		at := x.at(p.scaleX(point[0]))
		label := tickText(point[0])
		switch {
		case p.Lines[0].Labels != nil:
			label = p.Lines[0].Labels[i]
		case p.Percentiles:
			label = percentileText(point[0])
		}
		fmt.Fprintf(&s, `<path class="grid" d="M%.1f %dv6"/>`+"\n", at, bottom)
		write("quiet", "middle", at, bottom+20, label)
	}
	ends := make([]float64, 0, len(p.Lines))
	for i, l := range p.Lines {
		var d strings.Builder
		for j, point := range l.Points {
			fmt.Fprintf(&d, "%s%.1f %.1f", map[bool]string{true: "M", false: "L"}[j == 0], x.at(p.scaleX(point[0])), y.at(point[1]))
		}
		fmt.Fprintf(&s, `<path class="line line%d" d="%s"/>`+"\n", i, d.String())
		for _, point := range l.Points {
			fmt.Fprintf(&s, `<circle class="fill%d" r="3.5" cx="%.1f" cy="%.1f"/>`+"\n", i, x.at(p.scaleX(point[0])), y.at(point[1]))
		}
		ends = append(ends, y.at(l.Points[len(l.Points)-1][1]))
	}
	for i, at := range apart(ends) {
		write(fmt.Sprintf("fill%d", i), "start", right+12, at+4, p.Lines[i].Name)
	}
	s.WriteString("</svg>\n")
	return s.String()
}

// axis maps values to places.
type axis struct {
	low, high, from, to float64
	log                 bool
}

func (a axis) at(v float64) float64 {
	low, high := a.low, a.high
	if a.log {
		v, low, high = math.Log(v), math.Log(low), math.Log(high)
	}
	if high == low {
		return a.from
	}
	return a.from + (v-low)/(high-low)*(a.to-a.from)
}

// scaleX gives each further 9 of a percentile the same room.
func (p *picture) scaleX(v float64) float64 {
	if p.Percentiles {
		return -math.Log10(max(1-v, 0.0003))
	}
	return v
}

// extent is from the lowest to the highest value of all points.
func (p *picture) extent(value func(point [2]float64) float64) (low, high float64) {
	low, high = math.Inf(1), math.Inf(-1)
	for _, l := range p.Lines {
		for _, point := range l.Points {
			low, high = min(low, value(point)), max(high, value(point))
		}
	}
	return low, high
}

// ticksY are from 0, or powers of ten, to what is above all points.
func (p *picture) ticksY() (ticks []float64) {
	low, high := p.extent(func(point [2]float64) float64 { return point[1] })
	if p.LogY {
		for e := math.Floor(math.Log10(low)); ; e++ {
			ticks = append(ticks, math.Pow(10, e))
			if ticks[len(ticks)-1] >= high && len(ticks) > 1 {
				return ticks
			}
		}
	}
	unit := math.Pow(10, math.Floor(math.Log10(high)))
	for _, part := range []float64{0.2, 0.5, 1, 2} {
		if high/(unit*part) <= 6 {
			unit *= part
			break
		}
	}
	for v := 0.0; ; v += unit {
		ticks = append(ticks, v)
		if v >= high {
			return ticks
		}
	}
}

func tickText(v float64) string {
	if v >= 1000 {
		return fmt.Sprintf("%gk", v/1000)
	}
	return fmt.Sprintf("%.4g", v)
}

func percentileText(p float64) string {
	if p == 1 {
		return "longest"
	}
	return fmt.Sprintf("p%.4g", 100*p)
}

// apart moves the names of two lines that end at the same height.
func apart(at []float64) []float64 {
	if len(at) == 2 && math.Abs(at[0]-at[1]) < 18 {
		middle, up := (at[0]+at[1])/2, 9.0
		if at[0] > at[1] {
			up = -9
		}
		return []float64{middle - up, middle + up}
	}
	return at
}
