package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"

	"github.com/budecosystem/budcluster/agent/api/v1alpha1"
	"github.com/budecosystem/budcluster/agent/internal/enroll"
	"github.com/budecosystem/budcluster/agent/internal/health"
	"github.com/budecosystem/budcluster/agent/internal/helm"
	"github.com/budecosystem/budcluster/agent/internal/inventory"
	"github.com/budecosystem/budcluster/agent/internal/kube"
	"github.com/budecosystem/budcluster/agent/internal/link"
	"github.com/budecosystem/budcluster/agent/internal/presence"
	"github.com/budecosystem/budcluster/agent/internal/release"
	"github.com/budecosystem/budcluster/agent/internal/retire"
	"github.com/budecosystem/budcluster/internal/backoff"
	"github.com/budecosystem/budcluster/internal/buildinfo"
	"github.com/budecosystem/budcluster/internal/logkey"
	"github.com/budecosystem/budcluster/internal/pki"
	"github.com/budecosystem/budcluster/internal/run"
	"github.com/budecosystem/budcluster/internal/tunnel"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// stopGrace is how long an orderly stop may take. The chart gives the pod 60 s;
// what is not ended by then the kernel ends, and the next agent recovers.
const stopGrace = 50 * time.Second

// lead is everything that runs while this process leads. It is made anew each
// time: facts from an earlier reign are not passed off as news.
type lead struct {
	a         *Agent
	registry  *prometheus.Registry
	link      *link.Link
	collector *inventory.Collector
	releases  *release.Manager
	presence  *presence.Watcher
	retirer   *retire.Retirer
	phases    *phases
	defined   chan struct{} // closed when the Release resource is served
}

// lead does the work until ctx ends, or until the agent has left the cluster.
func (a *Agent) lead(ctx context.Context) error {
	if leaving, err := a.awaitSight(ctx); leaving || err != nil {
		if err != nil {
			return nil
		}
		return a.installation.Leave(ctx)
	}
	l, err := a.newLead()
	if err != nil {
		return err
	}
	a.leading.Store(l)
	a.upgrades.Look()
	defer a.leading.Store(nil)
	defer a.board.Reset()
	g := &run.Group{Grace: stopGrace}
	g.Add("link", l.link.Run)
	g.Add("inventory", l.collector.Run)
	g.Add("definition", l.define)
	g.Add("releases", l.manage)
	g.Add("phases", l.countPhases)
	g.Add("presence", l.presence.Run)
	g.Add("retirement", func(ctx context.Context) error { return l.whenDefined(ctx, l.retirer.Run) })
	err = g.Run(ctx)
	if errors.Is(err, retire.ErrRecorded) {
		return a.installation.Leave(ctx)
	}
	return err
}

// awaitSight finds out whether this agent has begun to leave: it must not make
// again what was just removed. Without an answer it waits, for nothing can be
// done without the API server.
func (a *Agent) awaitSight(ctx context.Context) (leaving bool, err error) {
	retry := backoff.New(time.Second, 30*time.Second)
	for {
		leaving, err := a.installation.Leaving(ctx)
		if err == nil || ctx.Err() != nil {
			return leaving, ctx.Err()
		}
		wait := retry.Next()
		a.log.WarnContext(ctx, "it is not known yet whether this agent is leaving", slog.Any(logkey.Error, err), slog.Duration(logkey.RetryAfter, wait))
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return false, ctx.Err()
		case <-timer.C:
		}
	}
}

func (a *Agent) newLead() (*lead, error) {
	l := &lead{a: a, registry: prometheus.NewRegistry(), defined: make(chan struct{})}
	var err error
	if l.phases, err = newPhases(l.registry); err != nil {
		return nil, err
	}
	l.collector, err = inventory.New(inventory.Config{
		Client: a.clients.Typed, Server: a.clients, Board: a.board, Logger: a.component("inventory"),
		Now: a.opts.Now, Grace: a.cfg.Inventory.SuspectGrace, Probe: a.opts.Probe,
	})
	if err != nil {
		return nil, err
	}
	l.releases, err = release.New(release.Config{
		REST: a.clients.Config, Namespace: a.cfg.Namespace, Pod: a.instance(), Charts: l, Logger: a.component("release"),
		Mirrors: a.cfg.ImageMirrors, Workers: a.cfg.Releases.Workers, Interval: a.cfg.Drift.Interval, Now: a.opts.Now,
		Registerer: l.registry,
	})
	if err != nil {
		return nil, err
	}
	l.presence, err = presence.New(presence.Config{
		Typed: a.clients.Typed, Metadata: a.metadata, Kinds: helm.NewKinds(a.clients.Discovery), Logger: a.component("presence"),
	})
	if err != nil {
		return nil, err
	}
	l.retirer = retire.New(l.releases, a.installation, a.component("retire"))
	confirmed := func(context.Context) error { return nil }
	if a.elector != nil {
		confirmed = a.elector.Confirmed
	}
	l.link, err = link.New(link.Config{
		Hub: a.dialer, Identities: identities{a.enroller}, Releases: l.synced(), Inventory: l.collector,
		Presence: l.presence, Retirement: l.retirer, Upgrades: a.upgrades, Board: a.board, Notifier: a.events,
		ClusterUID: a.clients.ClusterUID, Confirmed: confirmed, Logger: a.component("link"), Registerer: l.registry,
		AgentVersion: buildinfo.Version(), Instance: a.instance(), Namespace: a.cfg.Namespace, StartedAt: a.started,
		Tunnel: tunnel.Options{Logger: a.component("tunnel")}, Now: a.opts.Now,
		Summary: a.cfg.Inventory.SummaryInterval, Debounce: a.cfg.Inventory.Debounce,
	})
	return l, err
}

// FetchChart gets a chart through the link.
func (l *lead) FetchChart(ctx context.Context, digest string) ([]byte, error) {
	chart, err := l.link.FetchChart(ctx, digest)
	if errors.Is(err, link.ErrAway) {
		return nil, release.ErrHubAway
	}
	return chart, err
}

// define applies the custom resource definition until that worked.
func (l *lead) define(ctx context.Context) error {
	retry := backoff.New(time.Second, 30*time.Second)
	for {
		result, err := kube.ApplyCRD(ctx, l.a.clients.Dynamic, v1alpha1.CRD())
		if err == nil {
			l.a.board.Clear(health.ResourceDefinitionMissing)
			l.a.log.DebugContext(ctx, "release resource is served", slog.String(logkey.Action, string(result)))
			close(l.defined)
			return nil
		}
		if ctx.Err() != nil {
			return nil //nolint:nilerr // that is why it ended
		}
		wait := retry.Next()
		l.a.board.Set(health.ResourceDefinitionMissing, "the Release resource cannot be set up, so no release can be taken in: "+err.Error())
		l.a.log.WarnContext(ctx, "custom resource definition not applied", slog.Any(logkey.Error, err), slog.Duration(logkey.RetryAfter, wait))
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
	}
}

// whenDefined runs fn once the Release resource is served.
func (l *lead) whenDefined(ctx context.Context, fn func(context.Context) error) error {
	select {
	case <-ctx.Done():
		return nil
	case <-l.defined:
		return fn(ctx)
	}
}

func (l *lead) manage(ctx context.Context) error { return l.whenDefined(ctx, l.releases.Run) }

// countPhases counts anew whenever a subscription ends, as it does when
// somebody deletes a release's record by hand: each begins with all of them.
func (l *lead) countPhases(ctx context.Context) error {
	return l.whenDefined(ctx, func(ctx context.Context) error {
		for ctx.Err() == nil {
			l.phases.reset()
			for s := range l.releases.Statuses(ctx) {
				l.phases.observe(s)
			}
		}
		return nil
	})
}

// synced holds the link back until releases can be stored.
func (l *lead) synced() link.Releases { return &gated{Manager: l.releases, defined: l.defined} }

type gated struct {
	*release.Manager
	defined <-chan struct{}
}

// Have waits for the Release resource.
func (g *gated) Have(ctx context.Context) ([]*agentv1.ReleaseRef, error) {
	select {
	case <-ctx.Done():
		return nil, fmt.Errorf("the Release resource is not served yet: %w", ctx.Err())
	case <-g.defined:
		return g.Manager.Have(ctx)
	}
}

// identities gives the link what it needs of enrollment.
type identities struct{ *enroll.Enroller }

// Current gets an identity that is good for dialing.
func (i identities) Current(ctx context.Context) (link.Identity, error) {
	current, err := i.Enroller.Current(ctx)
	if err != nil {
		return nil, err
	}
	return &identity{Identity: current, enroller: i.Enroller}, nil
}

// identity is one certificate as the link sees it.
type identity struct {
	*enroll.Identity
	enroller *enroll.Enroller
}

// TLS is the configuration of the control lane.
func (i *identity) TLS(serverName string) (*tls.Config, error) {
	return pki.AgentConfig(i.Certificate, i.BundlePEM, serverName)
}

// Keep renews the certificate in time, or when asked.
func (i *identity) Keep(ctx context.Context, cc grpc.ClientConnInterface, asked <-chan struct{}) error {
	return i.enroller.Keep(ctx, i.Identity, cc, asked)
}

// Distrust says that hub and identity do not fit together.
func (i *identity) Distrust() { i.enroller.Distrust(i.Identity) }

// Successor reports whether a join token lies ready that was not tried yet.
func (i *identity) Successor() bool { return i.enroller.Successor(i.Identity) }

// Outdated says that the hub found the certificate expired.
func (i *identity) Outdated() { i.enroller.Outdated(i.Identity) }
