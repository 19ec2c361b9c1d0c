package hami

import (
	"fmt"
	"strconv"
	"strings"
)

// Bounds of what Problems says.
const (
	maxProblems = 32
	maxQuoted   = 64
)

// ledger gathers what is wrong, in one sentence for each kind of thing however
// often it happens.
type ledger struct {
	kinds map[string]*entry
	order []string
	more  int // kinds beyond maxProblems
}

type entry struct {
	example string
	times   int
}

// note tells of one more of a kind. The example is that of the first.
func (l *ledger) note(kind, example string) {
	if e := l.kinds[kind]; e != nil {
		e.times++
		return
	}
	if len(l.order) == maxProblems-1 {
		l.more++
		return
	}
	if l.kinds == nil {
		l.kinds = map[string]*entry{}
	}
	l.kinds[kind] = &entry{example: example, times: 1}
	l.order = append(l.order, kind)
}

// sentences are at most maxProblems, in the order in which they were met.
func (l *ledger) sentences() []string {
	var all []string
	for _, kind := range l.order {
		text := kind
		if e := l.kinds[kind]; e.example != "" {
			text += ": " + e.example
			if e.times > 1 {
				text += fmt.Sprintf(", and %d more", e.times-1)
			}
		}
		all = append(all, text)
	}
	if l.more > 0 {
		all = append(all, fmt.Sprintf("%d more such things are not listed", l.more))
	}
	return all
}

// percent drops a share that is none. A hair above the whole is the rounding of
// who divided.
func (l *ledger) percent(f *Fact[float64], uuid string) {
	const hair = 1e-6
	if f.Known() && !within(f.Value, wholePercent+hair) {
		l.note("more cores than a device has are said to be allocated, so how many is unknown",
			fmt.Sprintf("%s percent of GPU %s", strconv.FormatFloat(f.Value, 'g', 6, 64), quoted(uuid)))
		*f = Fact[float64]{}
	}
}

// quoted is a foreign text in a sentence, short and on one line.
func quoted(text string) string {
	if len(text) > maxQuoted {
		text = strings.ToValidUTF8(text[:maxQuoted], "") + "…"
	}
	return strconv.Quote(text)
}
