// Package inventory keeps what the agents say their clusters have: nodes, the
// devices in them, and the cluster as a whole.
//
//	agent ── Summary(digests) ─► what differs? ─► Need ─┐
//	      ◄─────────────────────────────────────────────┘
//	      ── Delta(facts) ─► Apply ─► nodes, devices, events      (one transaction)
//
// The agent is authoritative; the tables hold what it said last. Facts that
// are the same again write nothing, so a delta about one node touches that
// node's rows and no others. A node leaves when its agent says so, by name or
// by a summary without it; silence changes nothing.
package inventory

import (
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/internal/facts"
)

// Delta is one change of a cluster. Cluster is nil when it did not change.
type Delta struct {
	Cluster *facts.Cluster
	Nodes   []facts.Node
	Removed []string
	// Events are what Kubernetes says happened to nodes.
	Events     []facts.NodeEvent
	ObservedAt time.Time
}

// Node is a node of the fleet.
type Node struct {
	ClusterID   uuid.UUID
	ClusterName string
	facts.Node
	// UpdatedAt is when the facts last changed; LastSeen when the cluster was
	// last in contact, so how old the facts may be.
	UpdatedAt time.Time
	LastSeen  *time.Time
}

// Device is a device of the fleet.
type Device struct {
	ClusterID   uuid.UUID
	ClusterName string
	Node        string
	facts.Device
	NodeReady       bool
	NodeSchedulable bool
	UpdatedAt       time.Time
	LastSeen        *time.Time
}

// Filter selects nodes. Its zero value selects all.
type Filter struct {
	ClusterID   *uuid.UUID
	Ready       *bool
	Schedulable *bool
	// Kind selects nodes that have a device of this kind.
	Kind facts.Kind
}

// DeviceFilter selects devices. Its zero value selects all.
type DeviceFilter struct {
	ClusterID *uuid.UUID
	Node      string
	Vendor    string
	Kind      facts.Kind
	Model     string
}
