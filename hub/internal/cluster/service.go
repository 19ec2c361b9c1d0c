package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/internal/id"
)

// DefaultSessionLease is how long a session outlives the last sign of life of
// the replica that holds it.
const DefaultSessionLease = 30 * time.Second

// Config makes a Service.
type Config struct {
	Store  Store
	Logger *slog.Logger
	// Now is time.Now when nil.
	Now func() time.Time
	// SessionLease is DefaultSessionLease when zero.
	SessionLease time.Duration
}

// Service is the register's rules.
type Service struct {
	store Store
	log   *slog.Logger
	now   func() time.Time
	lease time.Duration
}

// New checks cfg and makes the Service.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Logger == nil {
		return nil, errors.New("cluster: a store and a logger are needed")
	}
	if cfg.SessionLease < 0 {
		return nil, fmt.Errorf("session.lease: %s is negative; use 30s or another positive duration", cfg.SessionLease)
	}
	s := &Service{store: cfg.Store, log: cfg.Logger, now: cfg.Now, lease: cmp.Or(cfg.SessionLease, DefaultSessionLease)}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

// Create enters a cluster that has not joined yet.
func (s *Service) Create(ctx context.Context, actor, name string, labels map[string]string) (*Cluster, error) {
	if err := checkNew(name, labels); err != nil {
		return nil, err
	}
	c := &Cluster{ID: id.New(), Name: name, Labels: labels, CreatedAt: s.now().UTC()}
	err := s.store.InTx(ctx, func(ctx context.Context) error {
		if err := s.store.ClusterInsert(ctx, c); err != nil {
			return err
		}
		return s.store.AppendEvents(ctx, s.event(c, event.ClusterCreated, actor, "cluster "+name+" was created"))
	})
	if err != nil {
		return nil, fmt.Errorf("create cluster %s: %w", name, err)
	}
	return c, nil
}

// Get finds a cluster by its id or its name.
func (s *Service) Get(ctx context.Context, ref string) (*Cluster, error) {
	c, err := s.find(ctx, ref)
	if errors.Is(err, ErrNotFound) {
		return nil, &NotFoundError{Ref: invalid.Clip(ref)}
	}
	if err != nil {
		return nil, fmt.Errorf("get cluster %s: %w", ref, err)
	}
	return c, nil
}

func (s *Service) find(ctx context.Context, ref string) (*Cluster, error) {
	if id, err := uuid.Parse(ref); err == nil {
		return s.store.ClusterByID(ctx, id)
	}
	if !validName(ref) {
		return nil, ErrNotFound
	}
	return s.store.ClusterByName(ctx, ref)
}

// List returns one page of the fleet in order of name.
func (s *Service) List(ctx context.Context, p page.Page) (clusters []*Cluster, next string, err error) {
	return s.list(ctx, false, p)
}

// ListRetired returns one page of those that left it, in order of name.
func (s *Service) ListRetired(ctx context.Context, p page.Page) (clusters []*Cluster, next string, err error) {
	return s.list(ctx, true, p)
}

func (s *Service) list(ctx context.Context, retired bool, p page.Page) (clusters []*Cluster, next string, err error) {
	key, err := p.Key(2)
	if err != nil {
		return nil, "", err
	}
	after := Place{Name: key[0]}
	if key[1] != "" {
		if after.ID, err = uuid.Parse(key[1]); err != nil {
			return nil, "", invalid.New("cursor", "%q is not one that a list gave; start at the first page", invalid.Clip(p.Cursor))
		}
	}
	clusters, err = s.store.ClusterList(ctx, retired, after, p.Size()+1)
	if err != nil {
		return nil, "", fmt.Errorf("list clusters: %w", err)
	}
	clusters, next = page.Cut(clusters, p, func(c *Cluster) []string { return []string{c.Name, c.ID.String()} })
	return clusters, next, nil
}

// Delete takes a cluster out of the register with all that is known of it. Its
// certificates are refused from then on. With releases it is refused unless
// force is set; what they installed then stays where it is.
func (s *Service) Delete(ctx context.Context, actor, ref string, force bool) error {
	c, err := s.Get(ctx, ref)
	if err != nil {
		return err
	}
	err = s.store.InTx(ctx, func(ctx context.Context) error {
		locked, err := s.store.ClusterLock(ctx, c.ID)
		if err != nil {
			return err
		}
		releases, err := s.store.ClusterReleaseCount(ctx, c.ID)
		if err != nil {
			return err
		}
		if releases > 0 && !force {
			return &HasReleasesError{Name: locked.Name, Releases: releases}
		}
		if err := s.store.ClusterDelete(ctx, c.ID); err != nil {
			return err
		}
		message := "cluster " + locked.Name + " was deleted"
		if releases > 0 {
			message += fmt.Sprintf("; what %d release(s) installed stays there unmanaged", releases)
		}
		return s.store.AppendEvents(ctx, s.event(locked, event.ClusterDeleted, actor, message))
	})
	if err != nil {
		return fmt.Errorf("delete cluster %s: %w", c.Name, err)
	}
	return nil
}

// SetIngressURL records where the cluster's models are reached; empty forgets
// it.
func (s *Service) SetIngressURL(ctx context.Context, actor, ref, ingressURL string) (c *Cluster, err error) {
	if err := checkIngressURL(ingressURL); err != nil {
		return nil, err
	}
	found, err := s.Get(ctx, ref)
	if err != nil {
		return nil, err
	}
	err = s.store.InTx(ctx, func(ctx context.Context) error {
		if c, err = s.store.ClusterLock(ctx, found.ID); err != nil || c.IngressURL == ingressURL {
			return err
		}
		if err := s.store.ClusterSetIngressURL(ctx, c.ID, ingressURL); err != nil {
			return err
		}
		c.IngressURL = ingressURL
		return s.store.AppendEvents(ctx, s.event(c, event.ClusterChanged, actor, fmt.Sprintf("cluster %s is reached at %q", c.Name, ingressURL)))
	})
	if err != nil {
		return nil, fmt.Errorf("set ingress URL of cluster %s: %w", found.Name, err)
	}
	return c, nil
}

// Revoke refuses the cluster's certificates and join tokens from now on. Its
// releases stay as they are. Joining again with a token that is made afterwards
// ends the revocation.
func (s *Service) Revoke(ctx context.Context, actor, ref string) error {
	c, err := s.Get(ctx, ref)
	if err != nil {
		return err
	}
	err = s.store.InTx(ctx, func(ctx context.Context) error {
		locked, err := s.store.ClusterLock(ctx, c.ID)
		if err != nil {
			return err
		}
		if err := s.store.ClusterRevoke(ctx, c.ID, s.now().UTC()); err != nil {
			return err
		}
		if locked.RevokedAt != nil {
			return nil
		}
		return s.store.AppendEvents(ctx, s.event(locked, event.ClusterRevoked, actor,
			"cluster "+locked.Name+" was revoked; its certificates and join tokens are refused"))
	})
	if err != nil {
		return fmt.Errorf("revoke cluster %s: %w", c.Name, err)
	}
	return nil
}

// SetDegraded records what keeps the cluster from being fully served. The same
// list again changes nothing.
func (s *Service) SetDegraded(ctx context.Context, clusterID uuid.UUID, degraded []Degradation) error {
	degraded = cleanDegraded(degraded, s.now())
	err := s.store.InTx(ctx, func(ctx context.Context) error {
		c, err := s.store.ClusterLock(ctx, clusterID)
		if err != nil {
			return err
		}
		if sameDegraded(c.Degraded, degraded) {
			return nil
		}
		if err := s.store.ClusterSetDegraded(ctx, clusterID, degraded); err != nil {
			return err
		}
		if len(degraded) == 0 {
			return s.store.AppendEvents(ctx, s.event(c, event.ClusterRecovered, "agent", "cluster "+c.Name+" is fully served again"))
		}
		e, err := event.Record(s.now(), event.ClusterDegraded, "agent", map[string]any{"degraded": degraded})
		if err != nil {
			return err
		}
		e.ClusterID, e.Message = c.ID, degradedMessage(degraded)
		return s.store.AppendEvents(ctx, e)
	})
	if err != nil {
		return fmt.Errorf("record degradations of cluster %s: %w", clusterID, err)
	}
	return nil
}

// SetInstalling says that a hub is at installing the cluster's agent, or that it
// is no more. While it is it says so again and again: one that was killed says
// nothing.
func (s *Service) SetInstalling(ctx context.Context, clusterID uuid.UUID, atIt bool) error {
	var at *time.Time
	if atIt {
		now := s.now().UTC()
		at = &now
	}
	if err := s.store.ClusterSetInstalling(ctx, clusterID, at); err != nil {
		return fmt.Errorf("record that the agent of cluster %s is being installed: %w", clusterID, err)
	}
	return nil
}

func (s *Service) event(c *Cluster, kind event.Type, actor, message string) event.Event {
	return event.Event{At: s.now().UTC(), Type: kind, ClusterID: c.ID, Subject: c.Name, Actor: actor, Message: message}
}
