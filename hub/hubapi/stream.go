package hubapi

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"iter"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// maxFrame bounds one event on the wire.
const maxFrame = 4 << 20

// silence is how long a stream may say nothing: the hub sends a comment every
// fifteen seconds.
const silence = 45 * time.Second

// Follow gives the events that the query chooses, as they happen, until ctx
// ends or the caller stops. A broken stream is opened again where it broke, so
// that no event is missed and none comes twice. It ends with an error only
// when trying again cannot help: the key is refused, or the query is wrong.
func (c *Client) Follow(ctx context.Context, q EventQuery) iter.Seq2[Event, error] {
	return c.follow(ctx, q, nil)
}

func (c *Client) follow(ctx context.Context, q EventQuery, opened func()) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		f := follower{c: c, q: q, pause: c.retry, opened: opened}
		for ctx.Err() == nil {
			stopped, err := f.once(ctx, yield)
			if stopped || ctx.Err() != nil {
				return
			}
			if err != nil && !retryable(err) {
				yield(Event{}, err)
				return
			}
			if !sleep(ctx, f.nextPause(err)) {
				return
			}
		}
	}
}

// follower is one Follow: what it remembers from stream to stream.
type follower struct {
	c     *Client
	q     EventQuery
	pause time.Duration
	// opened, if set, hears of each stream that was opened.
	opened func()
	// resumed: After is an id that we saw, so FromNow is over.
	resumed bool
}

// once reads one stream to its end. stopped: the caller wants no more.
func (f *follower) once(ctx context.Context, yield func(Event, error) bool) (stopped bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	resp, err := f.open(ctx)
	if err != nil {
		return false, err
	}
	defer func() { _ = resp.Body.Close() }()
	if f.opened != nil {
		f.opened()
	}

	watchdog := time.AfterFunc(silence, func() { cancel(errors.New("the event stream fell silent")) })
	defer watchdog.Stop()
	r := bufio.NewReaderSize(resp.Body, 64<<10)
	for {
		fr, err := readFrame(r, func() { watchdog.Reset(silence) })
		if err != nil {
			return false, err
		}
		f.pause = f.c.retry
		if fr.hasID {
			f.q.After, f.resumed = fr.id, true
		}
		if fr.data == "" {
			continue
		}
		var e Event
		if err := json.Unmarshal([]byte(fr.data), &e); err != nil {
			return false, fmt.Errorf("decode event: %w", err)
		}
		if !yield(e, nil) {
			return true, nil
		}
	}
}

func (f *follower) open(ctx context.Context) (*http.Response, error) {
	q := f.q
	q.Limit = 0
	h := http.Header{"Accept": {"text/event-stream, application/problem+json"}}
	v := q.query()
	switch {
	case f.resumed:
		h.Set("Last-Event-ID", strconv.FormatInt(q.After, 10))
		v.Del("after")
	case q.FromNow:
		v.Set("after", "now")
	}
	return f.c.open(ctx, request{method: http.MethodGet, path: []string{"events", "stream"}, query: v, header: h})
}

// nextPause doubles up to thirty times the base, with full jitter, and honours
// Retry-After.
func (f *follower) nextPause(err error) time.Duration {
	d := time.Duration(rand.Int64N(int64(f.pause))) + f.c.retry/10 //nolint:gosec // spreads clients, hides nothing
	f.pause = min(f.pause*2, f.c.retry*30)
	if p, ok := errors.AsType[*Problem](err); ok {
		d = max(d, min(time.Duration(p.RetryAfterSeconds)*time.Second, time.Minute))
	}
	return d
}

// frame is one event of the SSE protocol.
type frame struct {
	id    int64
	hasID bool
	data  string
}

// readFrame reads up to the next empty line; alive is called for every line.
func readFrame(r *bufio.Reader, alive func()) (frame, error) {
	var f frame
	var data strings.Builder
	lines := 0
	for {
		line, err := readLine(r)
		if err != nil {
			return frame{}, err
		}
		alive()
		if line == "" {
			f.data = data.String()
			return f, nil
		}
		field, value, _ := strings.Cut(line, ":")
		value = strings.TrimPrefix(value, " ")
		switch field {
		case "id":
			if n, err := strconv.ParseInt(value, 10, 64); err == nil {
				f.id, f.hasID = n, true
			}
		case "data":
			if lines++; lines > 1 {
				data.WriteByte('\n')
			}
			data.WriteString(value)
			if data.Len() > maxFrame {
				return frame{}, errors.New("an event is larger than 4 MiB")
			}
		}
	}
}

func readLine(r *bufio.Reader) (string, error) {
	var out []byte
	for {
		part, err := r.ReadSlice('\n')
		out = append(out, part...)
		switch {
		case err == nil:
			return strings.TrimRight(string(out), "\r\n"), nil
		case !errors.Is(err, bufio.ErrBufferFull):
			return "", fmt.Errorf("read events: %w", err)
		case len(out) > maxFrame:
			return "", errors.New("a line of the event stream is larger than 4 MiB")
		}
	}
}

// retryable reports whether opening the stream again can help.
func retryable(err error) bool {
	if p, ok := errors.AsType[*Problem](err); ok {
		return IsUnavailable(err) || p.Status >= http.StatusInternalServerError
	}
	return true
}

// sleep waits for d; false says that ctx ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
