// Package footprint keeps small what the agent occupies while it idles.
//
// Starting touches most of the program: the types of every Kubernetes API
// register themselves, and the kernel maps 16 pages around each one touched.
// Measured, 48 MiB of the program file stayed mapped, of which an idle agent
// used 14 within a minute. Those pages are read-only and the kernel has them in
// its cache, so the rest is given back; what is needed again comes back by a
// minor fault of a microsecond.
package footprint

import (
	"bufio"
	"context"
	"io"
	"strconv"
	"strings"
	"time"
)

// Defaults of Run.
const (
	// First is when the start is over.
	First = 20 * time.Second
	// Every is often enough for the agent to be small again soon after a Helm
	// operation, and costs some 500 faults.
	Every = time.Minute
)

// Run gives pages back until ctx ends. Where that is not possible it does
// nothing.
func Run(ctx context.Context, first, every time.Duration) error {
	timer := time.NewTimer(first)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
			release()
			timer.Reset(every)
		}
	}
}

// span is one mapping.
type span struct{ start, size uintptr }

// programSpans finds, in the form of /proc/self/smaps, the mappings of the
// program file that are read-only and were never written: dropping a page of
// one that was (by relocation, say) would lose what was written.
func programSpans(smaps io.Reader, program string) []span {
	var (
		found []span
		at    span
		ours  bool
	)
	lines := bufio.NewScanner(smaps)
	for lines.Scan() {
		fields := strings.Fields(lines.Text())
		switch {
		case len(fields) >= 5 && strings.Contains(fields[0], "-"):
			at, ours = header(fields, program)
		case ours && len(fields) == 3 && fields[0] == "Anonymous:":
			if fields[1] == "0" {
				found = append(found, at)
			}
			ours = false
		}
	}
	return found
}

// header reads "00400000-02030000 r-xp 00000000 fe:00 1234 /bin/program".
func header(fields []string, program string) (at span, ours bool) {
	if len(fields) < 6 || fields[5] != program || (fields[1] != "r-xp" && fields[1] != "r--p") {
		return span{}, false
	}
	from, to, _ := strings.Cut(fields[0], "-")
	start, err := strconv.ParseUint(from, 16, 64)
	if err != nil {
		return span{}, false
	}
	end, err := strconv.ParseUint(to, 16, 64)
	if err != nil || end <= start {
		return span{}, false
	}
	return span{start: uintptr(start), size: uintptr(end - start)}, true
}
