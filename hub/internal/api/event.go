package api

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"
	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/internal/id"
	"github.com/budecosystem/budcluster/internal/logkey"
)

// writeTimeout is how long one event may take to a client that reads slowly.
const writeTimeout = 15 * time.Second

// maxTypes bounds the types that one query asks for.
const maxTypes = 64

// EventFilterInput chooses events.
type EventFilterInput struct {
	Cluster string   `query:"cluster" doc:"Only events about this cluster: its name, or its id, which also finds those of a cluster that is gone."`
	Type    []string `query:"type,explode" doc:"Only events of these types, e.g. release.status; may be given several times."`
}

func (s *Server) eventFilter(ctx context.Context, in EventFilterInput) (event.Filter, error) {
	f := event.Filter{Types: in.Type}
	if len(in.Type) > maxTypes {
		return f, invalid.New("type", "it is given %d times; at most %d are taken, or leave it out for all", len(in.Type), maxTypes)
	}
	if in.Cluster == "" {
		return f, nil
	}
	if u, err := id.Parse(in.Cluster); err == nil {
		f.ClusterID = &u
		return f, nil
	}
	c, err := s.cfg.Clusters.Get(ctx, in.Cluster)
	if err != nil {
		return f, err
	}
	f.ClusterID = &c.ID
	return f, nil
}

type listEventsInput struct {
	EventFilterInput
	After int64 `query:"after" minimum:"0" doc:"Leave out events up to this id."`
	Limit int   `query:"limit" minimum:"1" maximum:"1000" default:"100" doc:"Items of one page."`
}

func (s *Server) listEvents(ctx context.Context, in *listEventsInput) (*body[hubapi.EventList], error) {
	f, err := s.eventFilter(ctx, in.EventFilterInput)
	if err != nil {
		return nil, err
	}
	f.After, f.Limit = in.After, in.Limit
	events, err := s.cfg.Events.List(ctx, f)
	if err != nil {
		return nil, err
	}
	latest, err := s.cfg.Events.Latest(ctx)
	if err != nil {
		return nil, err
	}
	out := hubapi.EventList{Items: make([]hubapi.Event, 0, len(events)), After: in.After, Latest: latest}
	for _, e := range events {
		out.Items = append(out.Items, eventOut(e))
		out.After = e.ID
	}
	return &body[hubapi.EventList]{Body: out}, nil
}

func eventOut(e event.Event) hubapi.Event {
	out := hubapi.Event{ID: e.ID, At: e.At, Type: string(e.Type), Subject: e.Subject, Actor: e.Actor, Message: e.Message, Data: e.Data}
	if e.ClusterID != uuid.Nil {
		out.ClusterID = e.ClusterID.String()
	}
	return out
}

type streamEventsInput struct {
	EventFilterInput
	After       string `query:"after" doc:"Begin after the event of this id; now leaves out all that have happened. All when absent."`
	LastEventID string `header:"Last-Event-ID" doc:"Go on after the event of this id; stands before after."`
}

func (s *Server) streamEvents(ctx context.Context, in *streamEventsInput) (*huma.StreamResponse, error) {
	f, err := s.eventFilter(ctx, in.EventFilterInput)
	if err != nil {
		return nil, err
	}
	after, err := s.position(ctx, in)
	if err != nil {
		return nil, err
	}
	// A page of nothing: a wrong filter is refused here, while there can still
	// be a problem; once the stream has begun there cannot.
	probe := f
	probe.After, probe.Limit = after, 1
	if _, err := s.cfg.Events.List(ctx, probe); err != nil {
		return nil, err
	}
	return &huma.StreamResponse{Body: func(hc huma.Context) { s.stream(hc, f, after) }}, nil //nolint:contextcheck // it is in hc
}

// position is the id after which a stream begins.
func (s *Server) position(ctx context.Context, in *streamEventsInput) (int64, error) {
	name, at := "Last-Event-ID", in.LastEventID
	if at == "" {
		name, at = "after", in.After
	}
	switch at {
	case "":
		return 0, nil
	case "now":
		return s.cfg.Events.Latest(ctx)
	}
	n, err := strconv.ParseInt(at, 10, 64)
	if err != nil || n < 0 {
		return 0, invalid.New(name, "%q is not the id of an event; give a number, or now", invalid.Clip(at))
	}
	return n, nil
}

// stream writes events until the client leaves, reads too slowly, or the hub
// stops. Comments in between keep proxies from closing a quiet stream and tell
// the client that it lives.
func (s *Server) stream(hc huma.Context, f event.Filter, after int64) {
	r, rw := humago.Unwrap(hc)
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	s.metrics.streams.Inc()
	defer s.metrics.streams.Dec()

	cluster := ""
	if f.ClusterID != nil {
		cluster = f.ClusterID.String()
	}
	wake, unwatch := s.cfg.Watch(cluster)
	defer unwatch()

	events, ended := make(chan event.Event), make(chan error, 1)
	go func() {
		ended <- s.cfg.Events.Follow(ctx, f, after, wake, func(e event.Event) error {
			select {
			case events <- e:
				return nil
			case <-ctx.Done():
				return ctx.Err() //nolint:wrapcheck // ends Follow, seen by nobody
			}
		})
	}()
	defer func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			s.log.WarnContext(ctx, "events could not be followed; the client will come back", slog.Any(logkey.Error, err))
		}
	}()

	w := &sse{w: rw, rc: http.NewResponseController(rw)}
	w.open(after)
	s.pump(ctx, w, events, ended)
}

// pump ends with the first write that fails.
func (s *Server) pump(ctx context.Context, w *sse, events <-chan event.Event, ended chan error) {
	stop, _ := ctx.Value(stopKey{}).(<-chan struct{})
	beat := time.NewTicker(s.cfg.Heartbeat)
	defer beat.Stop()
	for w.err == nil {
		select {
		case e := <-events:
			w.event(eventOut(e))
		case <-beat.C:
			w.comment("alive")
		case err := <-ended:
			ended <- err // stream waits for it, too
			return
		case <-stop:
			w.comment("the hub stops; come back")
			return
		case <-ctx.Done():
			return
		}
	}
}

// sse writes the protocol of server-sent events and remembers its first error.
type sse struct {
	w   http.ResponseWriter
	rc  *http.ResponseController
	err error
}

func (w *sse) open(after int64) {
	h := w.w.Header()
	h.Set("Content-Type", "text/event-stream")
	h.Set("X-Accel-Buffering", "no") // nginx would hold events back
	w.w.WriteHeader(http.StatusOK)
	w.write(fmt.Sprintf(": after %d\nid: %d\nretry: 1000\n\n", after, after))
}

func (w *sse) event(e hubapi.Event) {
	data, err := json.Marshal(e)
	if err != nil {
		w.err = fmt.Errorf("encode event %d: %w", e.ID, err)
		return
	}
	w.write(fmt.Sprintf("id: %d\ndata: %s\n\n", e.ID, data))
}

func (w *sse) comment(text string) { w.write(": " + text + "\n\n") }

func (w *sse) write(text string) {
	if err := w.rc.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil && !errors.Is(err, http.ErrNotSupported) {
		w.err = fmt.Errorf("set deadline: %w", err)
		return
	}
	if _, err := w.w.Write([]byte(text)); err != nil {
		w.err = fmt.Errorf("write event: %w", err)
		return
	}
	if err := w.rc.Flush(); err != nil {
		w.err = fmt.Errorf("flush event: %w", err)
	}
}
