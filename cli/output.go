package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"sigs.k8s.io/yaml"
)

// printer writes results in the form that was asked for.
type printer struct {
	out    io.Writer
	format string
	colour bool
	now    time.Time
}

func (a *app) checkOutput() error {
	switch a.output {
	case "table", "wide", "json", "yaml", "name":
		return nil
	default:
		return usagef("--output %q is not known; use table, wide, json, yaml or name", a.output)
	}
}

func (a *app) printer() *printer {
	return &printer{
		out: a.w.Out, format: a.output, now: a.w.Now(),
		colour: a.w.OutTerminal && a.w.Env("NO_COLOR") == "" && a.w.Env("TERM") != "dumb",
	}
}

func (p *printer) wide() bool { return p.format == "wide" }

// items is how a list looks as JSON and YAML.
type items[T any] struct {
	Items []T `json:"items"`
}

// list prints things as rows, or as the hub has them.
func list[T any](p *printer, things []T, name func(T) string, head []string, row func(T) []cell) error {
	switch p.format {
	case "json", "yaml":
		if things == nil {
			things = []T{}
		}
		return p.encode(items[T]{Items: things})
	case "name":
		for _, t := range things {
			if _, err := fmt.Fprintln(p.out, name(t)); err != nil {
				return fmt.Errorf("print: %w", err)
			}
		}
		return nil
	}
	rows := make([][]cell, 0, len(things))
	for _, t := range things {
		rows = append(rows, row(t))
	}
	return p.table(head, rows)
}

// one prints a single thing: as the hub has it, by name, or as text.
func one[T any](p *printer, thing T, name string, text func()) error {
	switch p.format {
	case "json", "yaml":
		return p.encode(thing)
	case "name":
		_, err := fmt.Fprintln(p.out, name)
		return err //nolint:wrapcheck // the pipe's own
	}
	text()
	return nil
}

func (p *printer) encode(v any) error {
	if p.format == "yaml" {
		text, err := yaml.Marshal(v)
		if err != nil {
			return fmt.Errorf("encode yaml: %w", err)
		}
		_, err = p.out.Write(text)
		return err //nolint:wrapcheck // the pipe's own
	}
	enc := json.NewEncoder(p.out)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", "  ")
	if err := enc.Encode(v); err != nil {
		return fmt.Errorf("encode json: %w", err)
	}
	return nil
}

// cell is one field of a table.
type cell struct {
	text string
	tone tone
}

// tone says what a cell means; a terminal shows it as a colour.
type tone int

const (
	plain tone = iota
	good
	warning
	bad
	dim
)

func (t tone) code() string {
	switch t {
	case good:
		return "\x1b[32m"
	case warning:
		return "\x1b[33m"
	case bad:
		return "\x1b[31m"
	case dim:
		return "\x1b[2m"
	default:
		return ""
	}
}

func text(s string) cell { return cell{text: s} }

func (p *printer) paint(c cell) string {
	s := safe(c.text)
	if !p.colour || c.tone == plain || s == "" {
		return s
	}
	return c.tone.code() + s + "\x1b[0m"
}

// safe is s without what would move the cursor: names and messages come from
// clusters, and a terminal obeys what it is sent.
func safe(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r >= 0x80 && r < 0xa0 || r == utf8.RuneError {
			return ' '
		}
		return r
	}, s)
}

// table aligns columns; the last one is not padded.
func (p *printer) table(head []string, rows [][]cell) error {
	width := make([]int, len(head))
	for i, h := range head {
		width[i] = utf8.RuneCountInString(h)
	}
	for _, row := range rows {
		for i, c := range row {
			width[i] = max(width[i], utf8.RuneCountInString(c.text))
		}
	}
	var out strings.Builder
	line := func(row []cell) {
		for i, c := range row {
			if c.text == "" {
				c = cell{text: "-", tone: dim}
			}
			out.WriteString(p.paint(c))
			if i < len(row)-1 {
				out.WriteString(strings.Repeat(" ", width[i]-utf8.RuneCountInString(c.text)+3))
			}
		}
		out.WriteByte('\n')
	}
	titles := make([]cell, len(head))
	for i, h := range head {
		titles[i] = cell{text: h, tone: dim}
	}
	line(titles)
	for _, row := range rows {
		line(row)
	}
	_, err := io.WriteString(p.out, out.String())
	return err //nolint:wrapcheck // the pipe's own
}

// facts prints names with values, one on each line; empty values are left out.
func (p *printer) facts(pairs ...any) {
	width := 0
	for pair := range slices.Chunk(pairs, 2) {
		width = max(width, len(fmt.Sprint(pair[0])))
	}
	for pair := range slices.Chunk(pairs, 2) {
		var c cell
		switch v := pair[1].(type) {
		case cell:
			c = v
		case string:
			c = text(v)
		}
		if c.text != "" {
			_, _ = fmt.Fprintf(p.out, "%-*s  %s\n", width, pair[0], p.paint(c))
		}
	}
}

func (p *printer) section(title string) {
	_, _ = fmt.Fprintf(p.out, "\n%s\n", p.paint(cell{text: title, tone: dim}))
}

// contexts prints contexts without their keys.
func (p *printer) contexts(c config) error {
	type row struct {
		Name    string `json:"name"`
		URL     string `json:"url"`
		Current bool   `json:"current"`
	}
	var rows []row
	for _, name := range slices.Sorted(maps.Keys(c.Contexts)) {
		rows = append(rows, row{Name: name, URL: c.Contexts[name].URL, Current: name == c.Current})
	}
	return list(p, rows, func(r row) string { return r.Name }, []string{"CURRENT", "NAME", "URL"}, func(r row) []cell {
		mark := cell{text: " "}
		if r.Current {
			mark = cell{text: "*", tone: good}
		}
		return []cell{mark, text(r.Name), text(r.URL)}
	})
}

// ago is a span as people say it: the two largest units at most.
func ago(d time.Duration) string {
	switch {
	case d < 0:
		return "0s"
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d/time.Second))
	case d < 10*time.Minute && d%time.Minute >= time.Second:
		return fmt.Sprintf("%dm%ds", int(d/time.Minute), int(d%time.Minute/time.Second))
	case d < 3*time.Hour:
		return fmt.Sprintf("%dm", int(d/time.Minute))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d/time.Hour))
	default:
		return fmt.Sprintf("%dd", int(d/(24*time.Hour)))
	}
}

func agoSeconds(n int64) string { return ago(time.Duration(n) * time.Second) }

func (p *printer) age(t time.Time) cell {
	if t.IsZero() {
		return cell{}
	}
	return text(ago(p.now.Sub(t)))
}

// at is a moment and how long ago it was.
func (p *printer) at(t *time.Time) string {
	if t == nil || t.IsZero() {
		return ""
	}
	return t.UTC().Format(time.RFC3339) + " (" + ago(p.now.Sub(*t)) + " ago)"
}

func (p *printer) since(t *time.Time) cell {
	if t == nil {
		return cell{}
	}
	return p.age(*t)
}

// size is an amount of bytes in the units that memory is sold in.
func size(n int64) string {
	switch {
	case n <= 0:
		return "0"
	case n < 1<<10:
		return fmt.Sprintf("%dB", n)
	case n < 1<<20:
		return fmt.Sprintf("%.0fKiB", float64(n)/(1<<10))
	case n < 1<<30:
		return fmt.Sprintf("%.0fMiB", float64(n)/(1<<20))
	default:
		return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(n)/(1<<30)), ".0") + "GiB"
	}
}

func cores(millis int64) string {
	return strings.TrimSuffix(fmt.Sprintf("%.1f", float64(millis)/1000), ".0")
}

func labels(m map[string]string) string {
	out := make([]string, 0, len(m))
	for _, k := range slices.Sorted(maps.Keys(m)) {
		out = append(out, k+"="+m[k])
	}
	return strings.Join(out, ",")
}

// clipped is s of at most n characters, on one line.
func clipped(s string, n int) string {
	s = strings.Join(strings.Fields(s), " ")
	if r := []rune(s); len(r) > n {
		return string(r[:n-1]) + "…"
	}
	return s
}
