// Package cluster holds the fleet's register: which clusters there are, and
// what is known of the contact with each.
//
// The row in the store is authoritative. Contact is a session with a lease: the
// replica that holds the tunnel extends it, and a replica that dies lets it
// end. Every new session gets a higher epoch, so that of two that both believe
// they are current, the older one is told otherwise. Silence changes nothing
// but the age of what is known; a cluster leaves the fleet by Retire, and the
// register by Delete alone.
package cluster

import (
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/internal/facts"
)

// Cluster is one entry of the register.
type Cluster struct {
	ID     uuid.UUID
	Name   string
	Labels map[string]string
	// IngressURL is where the cluster's models are reached; empty when nobody said.
	IngressURL string
	// UID is that of the kube-system namespace; empty until the cluster joined.
	UID          string
	AgentVersion string
	Facts        *facts.Cluster // nil until first reported
	FactsDigest  string
	Degraded     []Degradation
	CreatedAt    time.Time
	JoinedAt     *time.Time
	RevokedAt    *time.Time
	LastSeen     *time.Time
	Session      *Session // nil when no session is open
	// InstallingAt is when the hub that installs the agent said last that it is at
	// it; nil where none does.
	InstallingAt *time.Time
	// RetireGeneration counts the decisions to take the cluster out of the fleet.
	RetireGeneration int64
	RetiringAt       *time.Time // the agent is to remove what is ours
	RetiredAt        *time.Time // a tombstone: name and UID are free
	GoneAt           *time.Time // the agent said that it has
	// Left is what the agent could not remove, a sentence each.
	Left []string
	// Nodes and ReadyNodes count what the inventory holds.
	Nodes, ReadyNodes int
}

// Session is one open tunnel. It is alive while its lease lasts.
type Session struct {
	Replica     string
	Epoch       int64
	Instance    string
	RemoteAddr  string
	ConnectedAt time.Time
	LeaseUntil  time.Time
}

// Degradation is one reason why a cluster is not fully served.
type Degradation struct {
	Reason  string    `json:"reason"`
	Message string    `json:"message"`
	Since   time.Time `json:"since"`
}

// State sums up the contact with a cluster.
type State string

// The states. Unknown is not gone: nothing is concluded from silence.
const (
	// StatePending: created, never joined.
	StatePending State = "Pending"
	// StateConnected: a session is open.
	StateConnected State = "Connected"
	// StateUnknown: it joined, and no session is open now.
	StateUnknown State = "Unknown"
	// StateRevoked: its certificates are refused.
	StateRevoked State = "Revoked"
	// StateRetired: it left the fleet.
	StateRetired State = "Retired"
)

// State says how things stand at now.
func (c *Cluster) State(now time.Time) State {
	switch {
	case c.RetiredAt != nil:
		return StateRetired
	case c.RevokedAt != nil:
		return StateRevoked
	case c.JoinedAt == nil:
		return StatePending
	case c.Session != nil && now.Before(c.Session.LeaseUntil):
		return StateConnected
	default:
		return StateUnknown
	}
}
