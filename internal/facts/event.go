package facts

import (
	"time"

	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// NodeEvent is an event of Kubernetes about a node. Count grows, and LastAt
// with it, when the same happens again.
type NodeEvent struct {
	// UID is that of the event's object.
	UID     string
	Node    string
	Type    string
	Reason  string
	Message string
	Count   int64
	FirstAt time.Time
	LastAt  time.Time
	// Component says so, and runs on Host.
	Component string
	Host      string
}

// The bounds of an event are Kubernetes's own, but for its uid.
const (
	maxEventUID     = 128
	maxEventWord    = 128
	maxEventName    = 253
	maxEventMessage = 1024
	maxEventCount   = 1 << 31
)

// NodeEventFromProto reads what a peer sent. It accepts anything: texts are cut,
// and a count is at least one. Times that are none are unknown.
func NodeEventFromProto(p *agentv1.NodeEvent) NodeEvent {
	return NodeEvent{
		UID: clipTo(clean(p.GetUid()), maxEventUID), Node: clipTo(clean(p.GetNode()), maxEventName),
		Type: clipTo(clean(p.GetType()), maxEventWord), Reason: clipTo(clean(p.GetReason()), maxEventWord),
		Message: clipTo(clean(p.GetMessage()), maxEventMessage), Count: min(max(p.GetCount(), 1), maxEventCount),
		FirstAt: timeFromProto(p.GetFirstAt()), LastAt: timeFromProto(p.GetLastAt()),
		Component: clipTo(clean(p.GetComponent()), maxEventName), Host: clipTo(clean(p.GetHost()), maxEventName),
	}
}

// ToProto is the wire form.
func (e NodeEvent) ToProto() *agentv1.NodeEvent {
	return &agentv1.NodeEvent{
		Uid: e.UID, Node: e.Node, Type: e.Type, Reason: e.Reason, Message: e.Message, Count: e.Count,
		FirstAt: timeToProto(e.FirstAt), LastAt: timeToProto(e.LastAt), Component: e.Component, Host: e.Host,
	}
}
