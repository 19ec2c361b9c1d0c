package agent

import (
	"context"
	"errors"
	"fmt"

	"github.com/budecosystem/budcluster/agent/internal/helm"
	"github.com/budecosystem/budcluster/agent/internal/retire"
	"github.com/budecosystem/budcluster/agent/internal/upgrade"
)

// errLeaving keeps an agent that is being removed from making anything.
var errLeaving = errors.New("this agent is being removed from the cluster")

// install finds out how this agent lies in its cluster.
func (a *Agent) install() error {
	client, err := helm.New(helm.Config{REST: a.clients.Config, Logger: a.component("self")})
	if err != nil {
		return err
	}
	own := a.cfg.Installation
	manifest := &ownManifest{client: client, kinds: helm.NewKinds(a.clients.Discovery), ref: helm.Ref{Namespace: a.cfg.Namespace, Name: own.Release}}
	a.installation, err = retire.NewInstallation(retire.InstallationConfig{
		Typed: a.clients.Typed, Metadata: a.metadata, Discovery: a.clients.Discovery, Manifest: manifest.objects,
		Namespace: a.cfg.Namespace, Release: own.Release, Deployment: own.Deployment, Anchor: own.Anchor,
		Lease: a.cfg.LeaderElection.LeaseName, Logger: a.component("retire"),
	})
	return err
}

// mayCreate refuses while the agent is leaving.
func (a *Agent) mayCreate(ctx context.Context) error {
	leaving, err := a.installation.Leaving(ctx)
	if err == nil && leaving {
		err = errLeaving
	}
	return err
}

// ownManifest reads what the agent's own Helm release made.
type ownManifest struct {
	client *helm.Client
	kinds  *helm.Kinds
	ref    helm.Ref
}

// objects lists what the newest revision made, and the one that was deployed
// last: an upgrade that failed has left parts of both.
func (m *ownManifest) objects(ctx context.Context) ([]retire.Object, error) {
	if m.ref.Name == "" {
		return nil, nil
	}
	history, err := m.client.History(ctx, m.ref)
	if err != nil {
		return nil, fmt.Errorf("read the agent's own helm release: %w", err)
	}
	var out []retire.Object
	seen := map[retire.Object]bool{}
	for n, record := range history {
		if n > 0 && record.Status != helm.StatusDeployed {
			continue
		}
		details, err := m.client.Details(ctx, m.kinds, m.ref, record.Revision)
		if err != nil {
			return nil, fmt.Errorf("read the agent's own helm release: %w", err)
		}
		for _, o := range details.Objects {
			own := retire.Object{Resource: o.Resource, Kind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName()}
			if o.Known && !seen[own] {
				seen[own] = true
				out = append(out, own)
			}
		}
	}
	return out, nil
}

// newUpgrades makes what replaces this agent by another.
func (a *Agent) newUpgrades() (*upgrade.Keeper, error) {
	client, err := helm.New(helm.Config{REST: a.clients.Config, Logger: a.component("self"), Workers: 1})
	if err != nil {
		return nil, err
	}
	own := a.cfg.Installation
	pod := a.cfg.PodName
	if own.Deployment == "" {
		pod = "" // a process in development cannot be replaced
	}
	return upgrade.New(upgrade.Config{
		Store:      &upgrade.ConfigMap{Client: a.clients.Typed, Namespace: a.cfg.Namespace, Name: a.cfg.LeaderElection.LeaseName + "-upgrade"},
		Helm:       client,
		Cluster:    &upgrade.Installation{Typed: a.clients.Typed, Namespace: a.cfg.Namespace, Pod: pod, Deployment: own.Deployment, Release: own.Release},
		Standing:   standing{a},
		FetchChart: a.fetchChart,
		Ref:        helm.Ref{Namespace: a.cfg.Namespace, Name: own.Release},
		Pod:        pod,
		Logger:     a.component("upgrade"),
		Now:        a.opts.Now,
	})
}

// fetchChart gets a chart of the hub, while this agent leads.
func (a *Agent) fetchChart(ctx context.Context, digest string) ([]byte, error) {
	l := a.leading.Load()
	if l == nil {
		return nil, errors.New("another agent leads")
	}
	return l.FetchChart(ctx, digest)
}

// standing is this agent's place among the others.
type standing struct{ a *Agent }

// Leads is upgrade.Standing's.
func (s standing) Leads() bool { return s.a.leading.Load() != nil }

// Linked is upgrade.Standing's.
func (s standing) Linked() bool {
	l := s.a.leading.Load()
	return l != nil && l.link.Linked()
}

// StandAside is upgrade.Standing's. Without an election there is nobody else.
func (s standing) StandAside(aside bool) {
	if s.a.elector != nil {
		s.a.elector.StandAside(aside)
	}
}
