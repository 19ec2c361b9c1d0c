package cli

import (
	"cmp"
	"fmt"
	"strings"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

// progress shows a release on its way: on a terminal one line that changes in
// place under those that are done, elsewhere a line for each change.
type progress struct {
	a     *app
	p     *printer
	start time.Time
	quit  chan struct{}
	done  chan struct{}

	mu    sync.Mutex // guards everything below
	last  hubapi.Release
	shown string // the line in place, or the last line that was printed
	frame int
}

func (a *app) progress() *progress {
	g := &progress{a: a, p: a.printer(), start: a.w.Now(), quit: make(chan struct{}), done: make(chan struct{})}
	g.p.colour = a.w.ErrTerminal && a.w.Env("NO_COLOR") == ""
	go a.animate(g.quit, g.done, g.tick)
	return g
}

// animate redraws a display five times a second until quit is closed, so that
// the times in it move; where nobody sits at a terminal it does nothing.
func (a *app) animate(quit <-chan struct{}, done chan<- struct{}, redraw func()) {
	defer close(done)
	if !a.w.ErrTerminal {
		return
	}
	t := time.NewTicker(200 * time.Millisecond)
	defer t.Stop()
	for {
		select {
		case <-t.C:
			redraw()
		case <-quit:
			return
		}
	}
}

// spin is the sign of something that goes on.
func spin(frame int) string {
	signs := []string{"⠋", "⠙", "⠸", "⠴", "⠦", "⠇"}
	return signs[frame%len(signs)]
}

func (g *progress) tick() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.frame++
	g.redrawLocked()
}

// see takes the newest state.
func (g *progress) see(r hubapi.Release) {
	g.mu.Lock()
	defer g.mu.Unlock()
	before := g.last
	g.last = r
	if !g.a.w.ErrTerminal {
		if line := describe(r); line != g.shown {
			g.shown = line
			_, _ = fmt.Fprintf(g.a.w.Err, "%s  %s\n", g.elapsed(), line)
		}
		return
	}
	if before.ID != "" && before.Status.Phase != r.Status.Phase {
		g.eraseLocked()
		_, _ = fmt.Fprintf(g.a.w.Err, "  %s  %s\n", g.elapsed(), g.p.paint(cell{text: describe(before), tone: dim}))
	}
	g.redrawLocked()
}

// stop ends the display; what it showed last is the caller's to say.
func (g *progress) stop() {
	close(g.quit)
	<-g.done
	g.mu.Lock()
	defer g.mu.Unlock()
	g.eraseLocked()
}

func (g *progress) eraseLocked() {
	if g.a.w.ErrTerminal && g.shown != "" {
		_, _ = fmt.Fprint(g.a.w.Err, "\r\x1b[K")
		g.shown = ""
	}
}

func (g *progress) redrawLocked() {
	if g.last.ID == "" {
		return
	}
	line := fmt.Sprintf("%s %s  %s", spin(g.frame), g.elapsed(), describe(g.last))
	if width := cmp.Or(g.a.w.Width, 80) - 1; utf8.RuneCountInString(line) > width {
		line = string([]rune(line)[:width-1]) + "…"
	}
	g.shown = line
	_, _ = fmt.Fprint(g.a.w.Err, "\r\x1b[K"+g.p.paint(cell{text: line, tone: phaseCell(g.last.Status.Phase).tone}))
}

func (g *progress) elapsed() string {
	return fmt.Sprintf("%4s", ago(g.a.w.Now().Sub(g.start)))
}

// describe is a release's state in one line.
func describe(r hubapi.Release) string {
	parts := []string{string(r.Status.Phase)}
	switch {
	case r.DeletedAt != nil && r.Status.Phase != hubapi.PhaseRemoving:
		parts[0] = "to be removed"
	case r.Status.ObservedGeneration < r.Generation:
		parts[0] = "waiting for the agent"
	default:
		if r.Status.Total > 0 {
			parts = append(parts, fmt.Sprintf("%d/%d ready", r.Status.Ready, r.Status.Total))
		}
		if r.Status.WaitingFor != "" && !r.Status.Phase.Settled() {
			parts = append(parts, "waiting for "+r.Status.WaitingFor)
		}
		if r.Status.Phase == hubapi.PhaseFailed || r.Status.Phase == hubapi.PhaseLocked {
			parts = append(parts, clipped(r.Status.Message, 300))
		}
	}
	switch r.Cluster.State {
	case hubapi.ClusterConnected, "":
	case hubapi.ClusterPending:
		parts = append(parts, "(the cluster has not joined yet)")
	default:
		away := "(the cluster is away)"
		if r.Cluster.AgeSeconds != nil {
			away = fmt.Sprintf("(the cluster is away; last seen %s ago)", agoSeconds(*r.Cluster.AgeSeconds))
		}
		parts = append(parts, away)
	}
	return safe(strings.Join(parts, "  "))
}
