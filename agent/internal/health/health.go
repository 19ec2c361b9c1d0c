// Package health is one board on which every part of the agent writes what
// keeps it from its work. The same lines go to the hub in each heartbeat, to
// /readyz, and into the answer of Inspect, so that no two places disagree.
package health

import (
	"cmp"
	"slices"
	"sync"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// Reason names one thing that can be wrong.
type Reason string

// The reasons.
const (
	// APIServerUnreachable: what we report is what was last seen.
	APIServerUnreachable Reason = "APIServerUnreachable"
	// InventoryIncomplete: some kind of object cannot be watched.
	InventoryIncomplete Reason = "InventoryIncomplete"
	// ResourceDefinitionMissing: the Release resource is not served yet.
	ResourceDefinitionMissing Reason = "ResourceDefinitionMissing"
	// EnrollmentPending: there is no usable certificate yet; it is retried.
	EnrollmentPending Reason = "EnrollmentPending"
	// EnrollmentRefused: the hub said no; a human must act.
	EnrollmentRefused Reason = "EnrollmentRefused"
	// RenewalFailing: the certificate could not be renewed in its time.
	RenewalFailing Reason = "RenewalFailing"
	// HubUnreachable: no connection to any hub address.
	HubUnreachable Reason = "HubUnreachable"
	// Revoked: the hub revoked this cluster.
	Revoked Reason = "Revoked"
	// Fenced: another agent holds this cluster's session.
	Fenced Reason = "Fenced"
	// LeaseUnconfirmed: the leader's lease could not be renewed.
	LeaseUnconfirmed Reason = "LeaseUnconfirmed"
)

// Reasons lists every reason.
func Reasons() []Reason {
	return []Reason{
		APIServerUnreachable, InventoryIncomplete, ResourceDefinitionMissing, EnrollmentPending, EnrollmentRefused,
		RenewalFailing, HubUnreachable, Revoked, Fenced, LeaseUnconfirmed,
	}
}

// Degradation is one line of the board.
type Degradation struct {
	Reason Reason
	// Message is one sentence with the remedy.
	Message string
	Since   time.Time
}

// Board holds the lines. It is safe for concurrent use.
type Board struct {
	now func() time.Time

	mu      sync.Mutex // guards lines and changed
	lines   map[Reason]Degradation
	changed chan struct{} // closed and replaced at each change
}

// New makes an empty board.
func New(now func() time.Time) *Board {
	return &Board{now: now, lines: map[Reason]Degradation{}, changed: make(chan struct{})}
}

// Set writes a line, or changes its message; Since is kept.
func (b *Board) Set(reason Reason, message string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	line, ok := b.lines[reason]
	if ok && line.Message == message {
		return
	}
	if !ok {
		line = Degradation{Reason: reason, Since: b.now()}
	}
	line.Message = message
	b.lines[reason] = line
	b.wakeLocked()
}

// Clear wipes lines.
func (b *Board) Clear(reasons ...Reason) {
	b.mu.Lock()
	defer b.mu.Unlock()
	before := len(b.lines)
	for _, r := range reasons {
		delete(b.lines, r)
	}
	if len(b.lines) != before {
		b.wakeLocked()
	}
}

// Reset wipes all lines: whoever wrote them has stopped.
func (b *Board) Reset() { b.Clear(Reasons()...) }

func (b *Board) wakeLocked() {
	close(b.changed)
	b.changed = make(chan struct{})
}

// List returns the lines by reason.
func (b *Board) List() []Degradation {
	b.mu.Lock()
	defer b.mu.Unlock()
	out := make([]Degradation, 0, len(b.lines))
	for _, line := range b.lines {
		out = append(out, line)
	}
	slices.SortFunc(out, func(x, y Degradation) int { return cmp.Compare(x.Reason, y.Reason) })
	return out
}

// Changed returns a channel that is closed at the next change.
func (b *Board) Changed() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.changed
}

// ToProto returns the lines as they travel.
func (b *Board) ToProto() []*agentv1.Degradation {
	lines := b.List()
	out := make([]*agentv1.Degradation, 0, len(lines))
	for _, line := range lines {
		out = append(out, &agentv1.Degradation{
			Reason: string(line.Reason), Message: line.Message, Since: timestamppb.New(line.Since),
		})
	}
	return out
}
