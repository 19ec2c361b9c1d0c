// Package event holds the record of what happened: every change that a person
// or another program may want to follow is one Event, written in the same
// transaction as the change.
package event

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Event is one thing that happened. IDs grow in commit order, so a reader that
// remembers the last ID it saw misses nothing.
type Event struct {
	ID        int64
	At        time.Time
	Type      Type
	ClusterID uuid.UUID // uuid.Nil when it is about no cluster
	// Subject is the name of the thing within the cluster: a node, a release.
	Subject string
	// Actor is who did it: an API key's name, "agent", or "hub".
	Actor   string
	Message string
	// Data is a JSON object with the type's details.
	Data json.RawMessage
	// Transient marks what only a follower wants to see: progress, and what a
	// node's pods ask for. It is purged after an hour, so that a busy fleet
	// does not bury its own history.
	Transient bool
}

// Record makes an event; data is encoded as its Data and may be nil.
func Record(at time.Time, kind Type, actor string, data any) (Event, error) {
	e := Event{At: at.UTC(), Type: kind, Actor: actor}
	if data == nil {
		return e, nil
	}
	raw, err := json.Marshal(data)
	if err != nil {
		return Event{}, fmt.Errorf("encode data of event %s: %w", kind, err)
	}
	e.Data = raw
	return e, nil
}

// Type names what happened, as noun.verb.
type Type string

// The types of events.
const (
	ClusterCreated      Type = "cluster.created"
	ClusterJoined       Type = "cluster.joined"
	ClusterConnected    Type = "cluster.connected"
	ClusterDisconnected Type = "cluster.disconnected"
	ClusterDegraded     Type = "cluster.degraded"
	ClusterRecovered    Type = "cluster.recovered"
	ClusterChanged      Type = "cluster.changed"
	ClusterRevoked      Type = "cluster.revoked"
	ClusterDeleted      Type = "cluster.deleted"
	ClusterPresence     Type = "cluster.presence"
	ClusterRetiring     Type = "cluster.retiring"
	ClusterRetired      Type = "cluster.retired"
	ClusterCleared      Type = "cluster.cleared"
	AgentUpgrading      Type = "agent.upgrading"
	AgentUpgraded       Type = "agent.upgraded"
	AgentReturned       Type = "agent.returned"
	AgentFailed         Type = "agent.failed"
	TokenCreated        Type = "token.created"
	TokenRevoked        Type = "token.revoked"
	CertificateIssued   Type = "certificate.issued"
	NodeAdded           Type = "node.added"
	NodeChanged         Type = "node.changed"
	NodeRemoved         Type = "node.removed"
	ReleaseApplied      Type = "release.applied"
	ReleaseStatus       Type = "release.status"
	ReleaseDeleted      Type = "release.deleted"
	ReleaseRemoved      Type = "release.removed"
	KeyCreated          Type = "key.created"
	KeyRevoked          Type = "key.revoked"
	WebhookCreated      Type = "webhook.created"
	WebhookDeleted      Type = "webhook.deleted"
	MessageRetried      Type = "message.retried"
	MessageDiscarded    Type = "message.discarded"
	WorkflowStarted     Type = "workflow.started"
	WorkflowStep        Type = "workflow.step"
	WorkflowCancelled   Type = "workflow.cancelled"
	WorkflowFinished    Type = "workflow.finished"
)

// Types lists every type, in the order of their declaration.
func Types() []Type {
	return []Type{
		ClusterCreated, ClusterJoined, ClusterConnected, ClusterDisconnected, ClusterDegraded, ClusterRecovered,
		ClusterChanged, ClusterRevoked, ClusterDeleted, ClusterPresence, ClusterRetiring, ClusterRetired,
		ClusterCleared, AgentUpgrading, AgentUpgraded, AgentReturned, AgentFailed, TokenCreated, TokenRevoked, CertificateIssued,
		NodeAdded, NodeChanged, NodeRemoved, ReleaseApplied, ReleaseStatus, ReleaseDeleted, ReleaseRemoved,
		KeyCreated, KeyRevoked, WebhookCreated, WebhookDeleted, MessageRetried, MessageDiscarded,
		WorkflowStarted, WorkflowStep, WorkflowCancelled, WorkflowFinished,
	}
}
