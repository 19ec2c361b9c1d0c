package platform

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/notify"
	"github.com/budecosystem/budcluster/internal/logkey"
)

// unfold makes an event of the platform a plain request: where topic, pubsub
// and data are all there, the members of data stand beside them.
func (f *fields) unfold() {
	var inner map[string]json.RawMessage
	for _, name := range []string{"topic", "pubsubname", "data"} {
		if raw := f.members[name]; len(raw) == 0 || string(raw) == "null" {
			return
		}
	}
	if json.Unmarshal(f.members["data"], &inner) == nil {
		maps.Copy(f.members, inner)
	}
}

// envelope reads what every request of the platform may have beside its own
// fields, and gives whom to answer.
func (s *Server) envelope(ctx context.Context, f *fields) notify.Reply {
	for _, name := range []string{"specversion", "topic", "pubsubname", "traceid", "tracestate", "traceparent", "type"} {
		f.maybe(name)
	}
	source := f.maybe("source")
	if at := f.maybe("time"); at != "" && !validTime(at) {
		f.refuse("datetime_parsing", "time", "%q is not a time; write it as 2026-01-31T12:00:00Z", clip(at))
	}
	f.ignore("data", "source_topic", "notification_metadata", "debug")
	raw, err := json.Marshal(map[string]json.RawMessage{
		"source_topic": f.members["source_topic"], "notification_metadata": f.members["notification_metadata"], "debug": f.members["debug"],
	})
	if err != nil {
		f.refuse("value_error", "notification_metadata", "it cannot be read; send an object")
		return notify.Reply{}
	}
	reply, err := notify.ParseReply(raw)
	for _, e := range invalid.Of(err) {
		f.faults = append(f.faults, fault{Type: "value_error", Loc: slices.Concat(f.at, strings.Split(e.Field, ".")), Msg: e.Error()})
	}
	if len(reply.Topics) == 0 && source != "" && len(f.faults) == 0 {
		reply.Topics = s.topicOf(ctx, source)
	}
	return reply
}

func validTime(text string) bool {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999", "2006-01-02 15:04:05.999999999Z07:00", "2006-01-02 15:04:05.999999999", time.DateOnly} {
		if _, err := time.Parse(layout, text); err == nil {
			return true
		}
	}
	return false
}

// topicTimeout bounds the search for a topic: the caller waits, and its work
// matters more.
const topicTimeout = 3 * time.Second

// topicOf is the topic at which an app wants to be answered: it says so in the
// state store.
func (s *Server) topicOf(ctx context.Context, app string) []string {
	if s.cfg.Sidecar == nil || strings.Contains(app, "||") {
		return nil
	}
	short, cancel := context.WithTimeoutCause(ctx, topicTimeout, fmt.Errorf("the state store did not answer in %s", topicTimeout))
	defer cancel()
	raw, err := s.cfg.Sidecar.Read(short, metadataKey(app))
	var said struct {
		Topic string `json:"topic"`
	}
	if err == nil && len(raw) > 0 {
		err = json.Unmarshal(raw, &said)
	}
	if err != nil {
		s.log.WarnContext(ctx, "the topic of the asking service is not known; it hears nothing", slog.String(logkey.Peer, clip(app)), slog.Any(logkey.Error, err))
	}
	if err != nil || said.Topic == "" {
		return nil
	}
	return []string{said.Topic}
}

// replyOf encodes whom to answer, and by which name the caller knows the
// cluster: answers name it so, and the register's own name is made from it.
func replyOf(r notify.Reply, name string) (json.RawMessage, error) {
	if r.IsZero() && name == "" {
		return nil, nil
	}
	raw, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode reply: %w", err)
	}
	if name == "" {
		return raw, nil
	}
	var members map[string]json.RawMessage
	if err := json.Unmarshal(raw, &members); err != nil {
		return nil, fmt.Errorf("encode reply: %w", err)
	}
	if members["name"], err = json.Marshal(name); err != nil {
		return nil, fmt.Errorf("encode reply: %w", err)
	}
	return json.Marshal(members)
}
