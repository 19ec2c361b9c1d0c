package notify

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

// The names of the platform's contract.
const (
	DefaultAppID    = "budcluster"
	DefaultOwnTopic = "budClusterMessages"
	// MainTopic is that of the platform's main service.
	MainTopic = "budAppMessages"
)

// Store writes messages.
type Store interface {
	// OutboxAppend writes messages in the transaction that ctx carries, or in
	// one of their own. Those whose key the stream has already are left out.
	OutboxAppend(ctx context.Context, at time.Time, stream uuid.UUID, entries []Entry) error
}

// Entry is a message under its key.
type Entry struct {
	// Key is what it says, unique in its stream and topic.
	Key string
	Message
}

// Config makes a Service.
type Config struct {
	Store Store
	// PeopleTopic is the topic of budnotify, which tells people; empty tells none.
	PeopleTopic string
	// SuccessOnly are topics whose receivers take any "results" for a success:
	// those of failures are not sent there.
	SuccessOnly []string
	// AppID and OwnTopic are how the receivers know us; DefaultAppID and
	// DefaultOwnTopic when empty.
	AppID, OwnTopic string
	// Now is time.Now when nil.
	Now func() time.Time
}

// Service writes messages about workflows.
type Service struct {
	cfg   Config
	store Store
	now   func() time.Time
}

// New checks cfg and makes the Service.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil {
		return nil, errors.New("notify: a store is needed")
	}
	cfg.AppID, cfg.OwnTopic = cmp.Or(cfg.AppID, DefaultAppID), cmp.Or(cfg.OwnTopic, DefaultOwnTopic)
	s := &Service{cfg: cfg, store: cfg.Store, now: cfg.Now}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

// Started tells that a workflow began, and how long it takes as a rule. Call
// it in the transaction that starts the workflow.
func (s *Service) Started(ctx context.Context, w *workflow.Workflow) error {
	r, k, err := s.about(w)
	if err != nil || r.IsZero() || k.started == "" {
		return err
	}
	began := s.payload(w, k, k.started, Content{Title: k.startedTitle, Status: StatusStarted})
	if err := s.Tell(ctx, w.ID, key(k.started, StatusStarted), r, began); err != nil {
		return err
	}
	return s.eta(ctx, w, k, r)
}

// Notify tells those whom the workflow's Reply names. It fits
// workflow.Config.Notify.
func (s *Service) Notify(ctx context.Context, w *workflow.Workflow, n workflow.Notice) error {
	r, k, err := s.about(w)
	if err != nil || r.IsZero() {
		return err
	}
	switch n.Event {
	case eventETA:
		return s.eta(ctx, w, k, r)
	case eventResults:
		return s.results(ctx, w, k, r, n)
	default:
		return s.milestone(ctx, w, k, r, n)
	}
}

// about is what is needed to tell of w.
func (s *Service) about(w *workflow.Workflow) (Reply, kind, error) {
	r, err := ParseReply(w.Reply)
	if err != nil {
		return r, kind{}, fmt.Errorf("read reply of workflow %s: %w", w.ID, err)
	}
	return r, kindOf(w.Kind), nil
}

func (s *Service) payload(w *workflow.Workflow, k kind, event string, c Content) Payload {
	return Payload{Type: k.payloadType, Event: event, WorkflowID: w.ID.String(), Content: c}
}

// milestone tells that a step of the contract is over. Its failure is the last
// word on it.
func (s *Service) milestone(ctx context.Context, w *workflow.Workflow, k kind, r Reply, n workflow.Notice) error {
	status := statusOf(n.Status)
	c := Content{Title: k.title(w, n.Event, status == StatusFailed), Message: n.Message, Status: status, Result: n.Result}
	return s.Tell(ctx, w.ID, key(n.Event, status), r, s.payload(w, k, n.Event, c))
}

// eta tells in how many minutes the rest is done, if the receivers take that.
// There is one estimate for each number of steps that are over.
func (s *Service) eta(ctx context.Context, w *workflow.Workflow, k kind, r Reply) error {
	if !k.eta || w.ETA <= 0 {
		return nil
	}
	over := 0
	for _, step := range w.Steps {
		if step.Status.Settled() {
			over++
		}
	}
	minutes := strconv.Itoa(int(math.Ceil(w.ETA.Minutes())))
	c := Content{Title: titleETA, Message: minutes, Status: StatusRunning}
	return s.Tell(ctx, w.ID, eventETA+"/"+strconv.Itoa(over), r, s.payload(w, k, eventETA, c))
}

// results is the last word. Where nobody has heard yet of the step at which it
// failed, because the contract does not know that step, the next one that it
// knows is said to have failed: some receivers know a failure by nothing else.
func (s *Service) results(ctx context.Context, w *workflow.Workflow, k kind, r Reply, n workflow.Notice) error {
	status := statusOf(n.Status)
	c := Content{Title: k.done, Message: n.Message, Status: status, Result: n.Result}
	if status == StatusFailed {
		c.Title, c.Result = k.failed, nil
		if step := unheard(w); step != "" {
			failed := workflow.Notice{Event: step, Status: workflow.StepFailed, Message: n.Message}
			if err := s.milestone(ctx, w, k, r, failed); err != nil {
				return err
			}
		}
		r.Topics = slices.DeleteFunc(slices.Clone(r.Topics), func(t string) bool { return slices.Contains(s.cfg.SuccessOnly, t) })
	}
	return s.Tell(ctx, w.ID, eventResults, r, s.payload(w, k, eventResults, c))
}

// unheard is the step of the contract whose failure stands for that of a step
// outside of it; empty when the failure was told, or the contract knows none.
func unheard(w *workflow.Workflow) (step string) {
	past := false
	for _, s := range w.Steps {
		failed := s.Status == workflow.StepFailed || s.Status == workflow.StepCancelled
		if failed && s.Milestone != "" {
			return ""
		}
		past = past || failed
		if s.Milestone == "" {
			continue
		}
		if step = s.Milestone; past {
			return step
		}
	}
	return step
}

// statusOf is the platform's word for how a step or a workflow ended: it knows
// no other end than these two.
func statusOf(status workflow.StepStatus) Status {
	switch status {
	case workflow.StepFailed, workflow.StepCancelled:
		return StatusFailed
	case workflow.StepCompleted, workflow.StepSkipped:
		return StatusCompleted
	default:
		return StatusRunning
	}
}

func key(event string, status Status) string { return event + "/" + string(status) }

// Tell writes one message for the reply's topics, and for people if it names
// some. The stream is the workflow or the cluster that it is about, and key
// what it says: the same key again in a stream writes nothing.
func (s *Service) Tell(ctx context.Context, stream uuid.UUID, key string, r Reply, p Payload) error {
	body, err := s.encode(r, p)
	if err != nil {
		return err
	}
	m := Message{ID: uuid.NewSHA1(stream, []byte(key)), Source: s.cfg.AppID, Body: body}
	var entries []Entry
	if s.cfg.PeopleTopic != "" && r.namesPeople() {
		m.Topic, m.Type = s.cfg.PeopleTopic, eventType
		entries = append(entries, Entry{Key: key, Message: m})
	}
	for _, topic := range r.Topics {
		if topic != s.cfg.PeopleTopic {
			m.Topic, m.Type = topic, p.Type
			entries = append(entries, Entry{Key: key, Message: m})
		}
	}
	if len(entries) == 0 {
		return nil
	}
	if err := s.store.OutboxAppend(ctx, s.now().UTC(), stream, entries); err != nil {
		return fmt.Errorf("write %s of %s to the outbox: %w", p.Event, p.Type, err)
	}
	return nil
}
