package release

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/budecosystem/budcluster/agent/api/v1alpha1"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// maxMessage bounds a status message.
const maxMessage = 1024

// memoryOf reads the machine's memory out of a status.
func memoryOf(s v1alpha1.ReleaseStatus) Memory {
	m := Memory{Attempts: s.Attempts}
	if s.RetryAt != nil {
		m.RetryAt = s.RetryAt.UTC()
	}
	if f := s.Failure; f != nil {
		m.Generation, m.FailedOperation, m.Permanent = f.Generation, f.Operation, f.Permanent
		m.Failure = Reason{Phase: agentv1.PhaseFailed, Code: f.Reason, Message: f.Message}
	}
	return m
}

// remember writes the machine's memory into a status.
func remember(s *v1alpha1.ReleaseStatus, m Memory, generation int64) {
	if m.Generation != generation {
		m = Memory{Generation: generation, FailedOperation: m.FailedOperation}
	}
	s.Attempts, s.RetryAt, s.Failure = m.Attempts, nil, nil
	if !m.RetryAt.IsZero() {
		s.RetryAt = timeOf(m.RetryAt)
	}
	s.Failure = &v1alpha1.Failure{
		Generation: m.Generation, Operation: m.FailedOperation, Reason: m.Failure.Code, Message: m.Failure.Message, Permanent: m.Permanent,
	}
}

func timeOf(t time.Time) *metav1.Time {
	at := metav1.NewTime(t.UTC().Truncate(time.Second))
	return &at
}

// compose makes the next status of what was observed and decided.
func compose(old v1alpha1.ReleaseStatus, generation int64, o *observation, r Reason) v1alpha1.ReleaseStatus {
	next := old
	next.ObservedGeneration = generation
	next.Phase, next.Reason, next.Message = r.Phase, r.Code, clipMessage(r.Message)
	remember(&next, o.Memory, generation)
	if latest, found := o.History.Latest(); found {
		next.Revision = latest.Revision
		next.Owned = latest.ReleaseID == o.id && !latest.Adopted
	} else {
		next.Revision, next.Owned = 0, false
		next.ChartVersion, next.AppVersion = "", ""
	}
	if o.details != nil {
		next.ChartVersion, next.AppVersion = o.details.ChartVersion, o.details.AppVersion
	}
	next.Ready, next.Progress = "", nil
	if o.judged {
		next.Ready = fmt.Sprintf("%d/%d", o.Readiness.Ready, o.Readiness.Total)
		next.Progress = &v1alpha1.Progress{Ready: o.Readiness.Ready, Total: o.Readiness.Total, WaitingFor: clipMessage(cmp.Or(o.Readiness.Failed, o.Readiness.WaitingFor))}
	}
	if o.before != nil {
		next.Before = o.before
	}
	next.Drift = o.Drift
	next.Outputs = o.outputs
	return next
}

func clipMessage(s string) string {
	if len(s) > maxMessage {
		s = strings.ToValidUTF8(s[:maxMessage], "") + "…"
	}
	return s
}

// changed reports whether people would see a difference, or the machine
// would remember another thing.
func changed(a, b v1alpha1.ReleaseStatus) bool {
	a.ChangedAt, b.ChangedAt = nil, nil
	return !equality.Semantic.DeepEqual(a, b)
}

// setCondition adds, changes or, with an empty message, removes a condition.
func setCondition(s *v1alpha1.ReleaseStatus, kind, reason, message string, now time.Time) {
	i := slices.IndexFunc(s.Conditions, func(c v1alpha1.Condition) bool { return c.Type == kind })
	switch {
	case message == "" && i >= 0:
		s.Conditions = slices.Delete(slices.Clone(s.Conditions), i, i+1)
	case message == "":
	case i >= 0 && s.Conditions[i].Message == message:
	default:
		next := v1alpha1.Condition{
			Type: kind, Status: string(metav1.ConditionTrue), Reason: reason, Message: clipMessage(message), LastTransitionTime: *timeOf(now),
		}
		s.Conditions = slices.Clone(s.Conditions)
		if i >= 0 {
			s.Conditions[i] = next
		} else {
			s.Conditions = append(s.Conditions, next)
		}
	}
}

// toProto is what the hub hears. Conditions have no field of their own there:
// they are said in the message.
func toProto(cr *v1alpha1.Release) *agentv1.ReleaseStatus {
	s := cr.Status
	p := &agentv1.ReleaseStatus{
		Id: cr.Spec.ID, ObservedGeneration: s.ObservedGeneration, Phase: string(cmp.Or(s.Phase, agentv1.PhasePending)), Reason: s.Reason,
		ChartVersion: s.ChartVersion, AppVersion: s.AppVersion, Revision: small(s.Revision), Owned: s.Owned,
		Outputs: maps.Clone(s.Outputs), Attempts: small(s.Attempts), Corrections: s.Corrections,
	}
	message := s.Message
	for _, c := range s.Conditions {
		message = strings.TrimPrefix(message+"; "+c.Message, "; ")
	}
	p.Message = message
	if s.Progress != nil {
		p.Progress = &agentv1.Progress{Ready: small(s.Progress.Ready), Total: small(s.Progress.Total), WaitingFor: s.Progress.WaitingFor}
	}
	for _, d := range s.Drift {
		p.Drift = append(p.Drift, &agentv1.Drift{Object: d.Object, Field: d.Field, Manager: d.Manager})
	}
	if s.ChangedAt != nil {
		p.ChangedAt = timestamppb.New(s.ChangedAt.Time)
	}
	if s.RetryAt != nil {
		p.RetryAt = timestamppb.New(s.RetryAt.Time)
	}
	return p
}

// small fits a count into the protocol.
func small(n int) int32 { return int32(min(max(n, 0), math.MaxInt32)) }

// board shows the newest status of every release to whoever subscribes. A
// slow reader misses intermediate statuses, never the last.
type board struct {
	mu      sync.Mutex // guards latest, readers
	latest  map[string]*agentv1.ReleaseStatus
	readers map[*reader]bool
}

type reader struct {
	pending map[string]*agentv1.ReleaseStatus // guarded by board.mu
	order   []string                          // guarded by board.mu
	wake    chan struct{}
	ended   bool // guarded by board.mu
}

func newBoard() *board {
	return &board{latest: map[string]*agentv1.ReleaseStatus{}, readers: map[*reader]bool{}}
}

func (b *board) set(s *agentv1.ReleaseStatus) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if proto.Equal(b.latest[s.GetId()], s) {
		return
	}
	b.latest[s.GetId()] = s
	for r := range b.readers {
		r.addLocked(s)
	}
}

func (b *board) drop(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.latest, id)
}

func (r *reader) addLocked(s *agentv1.ReleaseStatus) {
	if _, waits := r.pending[s.GetId()]; !waits {
		r.order = append(r.order, s.GetId())
	}
	r.pending[s.GetId()] = s
	select {
	case r.wake <- struct{}{}:
	default:
	}
}

// subscribe sends every status, then each change, until ctx ends; then the
// channel is closed.
func (b *board) subscribe(ctx context.Context) <-chan *agentv1.ReleaseStatus {
	r := &reader{pending: map[string]*agentv1.ReleaseStatus{}, wake: make(chan struct{}, 1)}
	out := make(chan *agentv1.ReleaseStatus)
	b.mu.Lock()
	for _, id := range slices.Sorted(maps.Keys(b.latest)) {
		r.addLocked(b.latest[id])
	}
	b.readers[r] = true
	b.mu.Unlock()
	go func() {
		defer close(out)
		defer b.leave(r)
		for {
			s, ended := b.next(r)
			if ended {
				return
			}
			if s == nil {
				select {
				case <-r.wake:
					continue
				case <-ctx.Done():
					return
				}
			}
			select {
			case out <- s:
			case <-ctx.Done():
				return
			}
		}
	}()
	return out
}

// end closes every subscription.
func (b *board) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for r := range b.readers {
		r.ended = true
		select {
		case r.wake <- struct{}{}:
		default:
		}
	}
}

func (b *board) next(r *reader) (s *agentv1.ReleaseStatus, ended bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(r.order) == 0 {
		return nil, r.ended
	}
	id := r.order[0]
	r.order = r.order[1:]
	s = r.pending[id]
	delete(r.pending, id)
	return s, false
}

func (b *board) leave(r *reader) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.readers, r)
}
