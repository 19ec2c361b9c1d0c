package cli

import (
	"cmp"
	"context"
	"fmt"
	"strings"
	"sync"
	"unicode/utf8"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

// steps shows a workflow on its way: on a terminal its steps with what they
// wait for, changing in place; elsewhere a line for each change.
type steps struct {
	a    *app
	p    *printer
	quit chan struct{}
	done chan struct{}

	mu    sync.Mutex // guards everything below
	last  hubapi.Workflow
	shown map[string]string // by step, elsewhere than on a terminal
	lines int               // drawn in place
	frame int
}

func (a *app) steps() *steps {
	g := &steps{a: a, p: a.printer(), quit: make(chan struct{}), done: make(chan struct{}), shown: map[string]string{}}
	g.p.colour = a.w.ErrTerminal && a.w.Env("NO_COLOR") == ""
	go a.animate(g.quit, g.done, g.tick)
	return g
}

func (g *steps) tick() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.frame++
	g.redrawLocked()
}

// see takes the newest state.
func (g *steps) see(w hubapi.Workflow) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.last = w
	if g.a.w.ErrTerminal {
		g.redrawLocked()
		return
	}
	for _, s := range w.Steps {
		if s.Status == hubapi.StepPending || s.Status == hubapi.StepRunning {
			continue
		}
		line := safe(stepLine(s, ""))
		if g.shown[s.Name] == line {
			continue
		}
		g.shown[s.Name] = line
		_, _ = fmt.Fprintf(g.a.w.Err, "%4s  %s\n", ago(g.a.w.Now().Sub(w.CreatedAt)), line)
	}
}

// stop ends the display and leaves the last state standing.
func (g *steps) stop() {
	close(g.quit)
	<-g.done
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.a.w.ErrTerminal {
		g.redrawLocked()
	}
}

func (g *steps) redrawLocked() {
	if g.last.ID == "" {
		return
	}
	var b strings.Builder
	if g.lines > 0 {
		fmt.Fprintf(&b, "\r\x1b[%dA", g.lines)
	}
	width := cmp.Or(g.a.w.Width, 80) - 1
	g.lines = 0
	for _, s := range g.last.Steps {
		line := safe(stepLine(s, g.took(s)))
		if utf8.RuneCountInString(line) > width-2 {
			line = string([]rune(line)[:width-3]) + "…"
		}
		mark := g.mark(s)
		fmt.Fprintf(&b, "%s %s\x1b[K\n", g.p.paint(mark), g.p.paint(cell{text: line, tone: lineTone(s)}))
		g.lines++
	}
	_, _ = fmt.Fprint(g.a.w.Err, b.String())
}

// took is how long a step takes or took.
func (g *steps) took(s hubapi.WorkflowStep) string {
	switch {
	case s.StartedAt == nil:
		return ""
	case s.FinishedAt != nil:
		return ago(s.FinishedAt.Sub(*s.StartedAt))
	default:
		return ago(g.a.w.Now().Sub(*s.StartedAt))
	}
}

func (g *steps) mark(s hubapi.WorkflowStep) cell {
	switch s.Status {
	case hubapi.StepCompleted:
		return cell{text: "✓", tone: good}
	case hubapi.StepSkipped:
		return cell{text: "–", tone: dim}
	case hubapi.StepFailed, hubapi.StepCancelled:
		return cell{text: "✗", tone: bad}
	case hubapi.StepRunning, hubapi.StepWaiting:
		return cell{text: spin(g.frame), tone: warning}
	default:
		return cell{text: "·", tone: dim}
	}
}

func lineTone(s hubapi.WorkflowStep) tone {
	switch s.Status {
	case hubapi.StepFailed, hubapi.StepCancelled:
		return bad
	case hubapi.StepRunning, hubapi.StepWaiting:
		return plain
	default:
		return dim
	}
}

// stepLine is a step in one line.
func stepLine(s hubapi.WorkflowStep, took string) string {
	parts := []string{s.Title}
	if took != "" {
		parts = append(parts, took)
	}
	if s.Status != hubapi.StepCompleted && s.Status != hubapi.StepPending && s.Status != hubapi.StepRunning {
		parts = append(parts, strings.ToLower(string(s.Status)))
	}
	if s.Message != "" {
		parts = append(parts, clipped(s.Message, 300))
	}
	return strings.Join(parts, "  ")
}

// follow shows a workflow until it is over.
func (a *app) follow(ctx context.Context, c *hubapi.Client, id string) (hubapi.Workflow, error) {
	show := a.steps()
	w, err := c.WaitWorkflow(ctx, id, show.see)
	show.stop()
	return w, err
}
