package inventory

import (
	"cmp"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/budecosystem/budcluster/internal/facts"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// maxEvents is how many events about nodes are kept; the oldest give way.
// Kubernetes itself keeps them for an hour.
const maxEvents = 300

// slimEvent drops an event's metadata, of which the managed fields are the most.
func slimEvent(obj any) (any, error) {
	e, ok := obj.(*corev1.Event)
	if !ok {
		return obj, nil
	}
	slim := *e
	slim.ObjectMeta = metav1.ObjectMeta{Namespace: e.Namespace, Name: e.Name, UID: e.UID, ResourceVersion: e.ResourceVersion, CreationTimestamp: e.CreationTimestamp}
	return &slim, nil
}

func (c *Collector) eventStore() cache.ReflectorStore {
	return &store[*corev1.Event]{
		c: c, kind: kindEvents, transform: slimEvent,
		key:    func(e *corev1.Event) string { return string(e.UID) },
		keys:   func() []string { return keysOf(c.events) },
		set:    c.setEventLocked,
		remove: c.dropEventLocked,
	}
}

// setEventLocked takes an event in, or one that was counted once more.
func (c *Collector) setEventLocked(obj *corev1.Event) {
	e := readEvent(obj)
	if e.UID == "" || e.Node == "" || c.events[e.UID] == e {
		return
	}
	c.events[e.UID] = e
	if len(c.events) > maxEvents {
		oldest := e
		for _, other := range c.events {
			if older(other, oldest) < 0 {
				oldest = other
			}
		}
		c.dropEventLocked(oldest.UID)
		if oldest.UID == e.UID {
			return
		}
	}
	for f := range c.feeds {
		f.events[e.UID] = struct{}{}
		f.rouse()
	}
}

// dropEventLocked forgets an event that is old. The hub keeps it: it happened.
func (c *Collector) dropEventLocked(uid string) {
	delete(c.events, uid)
	for f := range c.feeds {
		delete(f.events, uid)
	}
}

func older(a, b facts.NodeEvent) int {
	return cmp.Or(a.LastAt.Compare(b.LastAt), cmp.Compare(a.UID, b.UID))
}

// readEvent reads both forms of events: those that count in themselves, and
// those that have a series.
func readEvent(e *corev1.Event) facts.NodeEvent {
	count, last := int64(e.Count), firstTime(e.LastTimestamp.Time, e.EventTime.Time, e.FirstTimestamp.Time, e.CreationTimestamp.Time)
	if e.Series != nil {
		count, last = int64(e.Series.Count), firstTime(e.Series.LastObservedTime.Time, last)
	}
	out := facts.NodeEvent{
		UID: string(e.UID), Node: e.InvolvedObject.Name, Type: e.Type, Reason: e.Reason, Message: e.Message, Count: count,
		FirstAt: firstTime(e.FirstTimestamp.Time, e.EventTime.Time, e.CreationTimestamp.Time), LastAt: last,
		Component: cmp.Or(e.Source.Component, e.ReportingController), Host: cmp.Or(e.Source.Host, e.ReportingInstance),
	}
	return facts.NodeEventFromProto(out.ToProto()) // bounded as the hub will
}

func firstTime(times ...time.Time) time.Time {
	for _, t := range times {
		if !t.IsZero() {
			return t.UTC()
		}
	}
	return time.Time{}
}

// takeEventsLocked returns what the feed was not given yet, the oldest first.
func (c *Collector) takeEventsLocked(f *feed) []*agentv1.NodeEvent {
	var fresh []facts.NodeEvent
	for uid := range f.events {
		if e, still := c.events[uid]; still {
			fresh = append(fresh, e)
		}
	}
	clear(f.events)
	slices.SortFunc(fresh, older)
	out := make([]*agentv1.NodeEvent, 0, len(fresh))
	for _, e := range fresh {
		out = append(out, e.ToProto())
	}
	return out
}
