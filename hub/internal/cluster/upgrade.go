package cluster

import (
	"cmp"
	"context"
	"fmt"
	"regexp"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
)

// DefaultConnectWithin is how long a new agent may take to reach the hub.
const DefaultConnectWithin = time.Minute

// AgentTarget is the agent that is wanted in a cluster: its chart, which the
// agent that is there upgrades its own release to, with the values that it has.
type AgentTarget struct {
	// Generation counts the targets of a cluster.
	Generation int64 `json:"generation"`
	// Digest is that of a chart in the hub's store; Name and Version are its own.
	Digest  string `json:"digest"`
	Name    string `json:"name"`
	Version string `json:"version"`
	// AppVersion is that of the agent which the chart installs.
	AppVersion string `json:"appVersion"`
	// ConnectWithin is how long the new agent may take; DefaultConnectWithin
	// when zero.
	ConnectWithin time.Duration `json:"connectWithin"`
}

// AgentPhase is how far an upgrade of an agent is.
type AgentPhase string

// The phases. The last three are ends.
const (
	AgentPending   AgentPhase = "Pending"
	AgentUpgrading AgentPhase = "Upgrading"
	// AgentCurrent: the new agent reached the hub.
	AgentCurrent AgentPhase = "Current"
	// AgentReturned: it did not, and what was there before is there again.
	AgentReturned AgentPhase = "RolledBack"
	// AgentFailed: nothing was changed.
	AgentFailed AgentPhase = "Failed"
)

// AgentStatus is what became of a target.
type AgentStatus struct {
	ObservedGeneration int64      `json:"observedGeneration"`
	Phase              AgentPhase `json:"phase"`
	Reason             string     `json:"reason,omitempty"`
	Message            string     `json:"message,omitempty"`
	ChartVersion       string     `json:"chartVersion,omitempty"`
	AgentVersion       string     `json:"agentVersion,omitempty"`
}

// AgentUpgrade is what is wanted of a cluster's agent, and what became of it.
type AgentUpgrade struct {
	Target *AgentTarget // nil: the agent that is there
	Status AgentStatus
}

// Pending reports whether the agent has still to be told, or to be heard: a
// target that had an end is not sent again, so that an agent which somebody
// installs anew later is left as it is.
func (u AgentUpgrade) Pending() bool { return u.Target != nil && !u.ended() }

func (u AgentUpgrade) ended() bool {
	switch u.Status.Phase {
	case AgentCurrent, AgentReturned, AgentFailed:
		return u.Status.ObservedGeneration >= u.Target.Generation
	case AgentPending, AgentUpgrading:
		return false
	default:
		return false
	}
}

var (
	digestPattern  = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	versionPattern = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.+_-]{0,127}$`)
)

func (t *AgentTarget) check() error {
	switch {
	case !digestPattern.MatchString(t.Digest):
		return invalid.New("chart", "%q is not the digest of a chart; use sha256: and 64 hexadecimal digits", invalid.Clip(t.Digest))
	case !versionPattern.MatchString(t.Version) || !versionPattern.MatchString(t.AppVersion):
		return invalid.New("version", "%q with agent %q is not a version; use one such as 1.2.3", invalid.Clip(t.Version), invalid.Clip(t.AppVersion))
	case t.ConnectWithin < 10*time.Second || t.ConnectWithin > time.Hour:
		return invalid.New("connectWithin", "%s is out of range; use a duration from 10s to 1h", t.ConnectWithin)
	default:
		return nil
	}
}

// SetAgentTarget has a cluster's agent replace itself. The same chart again
// changes nothing while it is on the way or there; after a return or a failure
// it is tried once more.
func (s *Service) SetAgentTarget(ctx context.Context, actor, ref string, t AgentTarget) (AgentUpgrade, error) {
	t.ConnectWithin = cmp.Or(t.ConnectWithin, DefaultConnectWithin)
	if err := t.check(); err != nil {
		return AgentUpgrade{}, err
	}
	c, err := s.Get(ctx, ref)
	if err != nil {
		return AgentUpgrade{}, err
	}
	var u AgentUpgrade
	err = s.store.InTx(ctx, func(ctx context.Context) error {
		c, err := s.store.ClusterLock(ctx, c.ID)
		if err != nil {
			return err
		}
		if c.RevokedAt != nil || c.RetiringAt != nil || c.RetiredAt != nil {
			return &RevokedError{Name: c.Name}
		}
		if u, err = s.store.AgentRead(ctx, c.ID); err != nil {
			return err
		}
		if u.Target != nil && u.Target.Digest == t.Digest && (u.Pending() || u.Status.Phase == AgentCurrent) {
			return nil
		}
		if u.Target != nil {
			t.Generation = u.Target.Generation
		}
		t.Generation++
		u = AgentUpgrade{Target: &t, Status: AgentStatus{ObservedGeneration: t.Generation - 1, Phase: AgentPending}}
		if err := s.store.AgentWrite(ctx, c.ID, u); err != nil {
			return err
		}
		s.store.WakeReleases(ctx, c.ID)
		return s.agentEvent(ctx, c, event.AgentUpgrading, actor, u, fmt.Sprintf("the agent of cluster %s is to become %s", c.Name, t.AppVersion))
	})
	if err != nil {
		return AgentUpgrade{}, fmt.Errorf("upgrade the agent of cluster %s: %w", ref, err)
	}
	return u, nil
}

// AgentUpgrade says what is wanted of a cluster's agent, and what became of it.
func (s *Service) AgentUpgrade(ctx context.Context, clusterID uuid.UUID) (AgentUpgrade, error) {
	u, err := s.store.AgentRead(ctx, clusterID)
	if err != nil {
		return AgentUpgrade{}, fmt.Errorf("read the upgrade of the agent of cluster %s: %w", clusterID, err)
	}
	return u, nil
}

// ObserveAgent records what an agent says of its own upgrade. What it says of
// another target than the current one is ignored, and so is what it says after
// the end.
func (s *Service) ObserveAgent(ctx context.Context, clusterID uuid.UUID, o AgentStatus) error {
	kind, known := agentEvents[o.Phase]
	if !known {
		return invalid.New("phase", "%q is none of an agent's upgrade", invalid.Clip(string(o.Phase)))
	}
	o.Reason, o.Message = clip(o.Reason, maxReason), clip(o.Message, maxMessage)
	o.ChartVersion, o.AgentVersion = clip(o.ChartVersion, maxReason), clip(o.AgentVersion, maxReason)
	err := s.store.InTx(ctx, func(ctx context.Context) error {
		c, err := s.store.ClusterLock(ctx, clusterID)
		if err != nil {
			return err
		}
		u, err := s.store.AgentRead(ctx, clusterID)
		if err != nil {
			return err
		}
		if !u.Pending() || o.ObservedGeneration != u.Target.Generation || o == u.Status {
			return nil
		}
		changed := o.Phase != u.Status.Phase
		u.Status = o
		if err := s.store.AgentWrite(ctx, clusterID, u); err != nil || !changed || kind == "" {
			return err
		}
		return s.agentEvent(ctx, c, kind, "agent", u, agentMessage(c, u))
	})
	if err != nil {
		return fmt.Errorf("record the upgrade of the agent of cluster %s: %w", clusterID, err)
	}
	return nil
}

// agentEvents says which phase is told, and as what. That it is on the way was
// told when it was wanted.
var agentEvents = map[AgentPhase]event.Type{ //nolint:gochecknoglobals // a constant table
	AgentPending: "", AgentUpgrading: "",
	AgentCurrent: event.AgentUpgraded, AgentReturned: event.AgentReturned, AgentFailed: event.AgentFailed,
}

func agentMessage(c *Cluster, u AgentUpgrade) string {
	switch u.Status.Phase {
	case AgentCurrent:
		return fmt.Sprintf("the agent of cluster %s is %s now", c.Name, cmp.Or(u.Status.AgentVersion, u.Target.AppVersion))
	case AgentReturned:
		return fmt.Sprintf("the agent of cluster %s did not become %s: %s", c.Name, u.Target.AppVersion, u.Status.Message)
	case AgentPending, AgentUpgrading, AgentFailed:
		fallthrough
	default:
		return fmt.Sprintf("the agent of cluster %s stays as it is: %s", c.Name, u.Status.Message)
	}
}

func (s *Service) agentEvent(ctx context.Context, c *Cluster, kind event.Type, actor string, u AgentUpgrade, message string) error {
	e, err := event.Record(s.now(), kind, actor, map[string]any{
		"generation": u.Target.Generation, "version": u.Target.AppVersion, "chartVersion": u.Target.Version, "status": u.Status,
	})
	if err != nil {
		return err
	}
	e.ClusterID, e.Subject, e.Message = c.ID, c.Name, message
	return s.store.AppendEvents(ctx, e)
}
