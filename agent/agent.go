package agent

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"k8s.io/client-go/metadata"

	"github.com/budecosystem/budcluster/agent/internal/dial"
	"github.com/budecosystem/budcluster/agent/internal/enroll"
	"github.com/budecosystem/budcluster/agent/internal/footprint"
	"github.com/budecosystem/budcluster/agent/internal/health"
	"github.com/budecosystem/budcluster/agent/internal/kube"
	"github.com/budecosystem/budcluster/agent/internal/leader"
	"github.com/budecosystem/budcluster/agent/internal/retire"
	"github.com/budecosystem/budcluster/agent/internal/upgrade"
	"github.com/budecosystem/budcluster/internal/buildinfo"
	"github.com/budecosystem/budcluster/internal/logkey"
	"github.com/budecosystem/budcluster/internal/run"
	"github.com/budecosystem/budcluster/internal/tunnel"
)

// Options are what a Config cannot say.
type Options struct {
	Logger *slog.Logger
	// Listener serves HTTP instead of Config.Listen.
	Listener net.Listener
	// NetDial makes the connections to the hub instead of the network.
	NetDial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Now is the clock.
	Now func() time.Time
	// Probe is how often the API server is asked whether it is there.
	Probe time.Duration
	// Elections are the times of leader election; zero values mean
	// Kubernetes's own.
	Elections Elections
}

// Elections are the times of leader election.
type Elections struct{ Lease, Renew, Retry time.Duration }

// Agent is one process of the agent.
type Agent struct {
	cfg      Config
	opts     Options
	log      *slog.Logger
	clients  *kube.Clients
	board    *health.Board
	events   *kube.Events
	dialer   *dial.Hub
	enroller *enroll.Enroller
	elector  *leader.Elector // nil without leader election
	metadata metadata.Interface
	// installation is this agent as it lies in its cluster.
	installation *retire.Installation
	upgrades     *upgrade.Keeper
	registry     *prometheus.Registry
	started      time.Time
	// leading is what runs while this process leads; nil on a standby.
	leading atomic.Pointer[lead]
}

// New checks the configuration and makes an Agent. It contacts nobody and
// starts nothing.
func New(cfg Config, opts Options) (*Agent, error) {
	if err := cfg.Check(); err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	if opts.Logger == nil {
		return nil, errors.New("agent needs a logger")
	}
	if opts.Now == nil {
		opts.Now = time.Now
	}
	a := &Agent{cfg: cfg, opts: opts, log: opts.Logger, board: health.New(opts.Now), registry: prometheus.NewRegistry(), started: opts.Now()}
	if err := a.connect(); err != nil {
		return nil, err
	}
	return a, a.registerMetrics()
}

// connect makes the ways to the API server and to the hub.
func (a *Agent) connect() error {
	rc, err := kube.RESTConfig(kube.Config{Kubeconfig: a.cfg.Kubeconfig})
	if err != nil {
		return err
	}
	if a.clients, err = kube.NewClients(rc); err != nil {
		return err
	}
	if a.metadata, err = metadata.NewForConfig(a.clients.Config); err != nil {
		return fmt.Errorf("make client for metadata: %w", err)
	}
	if err := a.install(); err != nil {
		return err
	}
	a.events = kube.NewEvents(kube.EventsConfig{Client: a.clients.Typed, Namespace: a.cfg.Namespace, Pod: a.cfg.PodName, Now: a.opts.Now})
	td, err := tunnelDialer(a.cfg.Proxy, a.opts.NetDial)
	if err != nil {
		return err
	}
	a.dialer, err = dial.New(dial.Config{
		Addresses: a.cfg.Hub.Addresses, ServerName: a.cfg.Hub.ServerName, Dialer: td, Logger: a.component("dial"),
	})
	if err != nil {
		return err
	}
	a.enroller, err = enroll.New(enroll.Config{
		Store: &enroll.Store{Client: a.clients.Typed, Namespace: a.cfg.Namespace, Name: a.cfg.IdentitySecret},
		Hub:   a.dialer, ClusterUID: a.clients.ClusterUID, TokenFile: a.cfg.TokenFile, AgentVersion: buildinfo.Version(),
		Board: a.board, Notifier: a.events, Logger: a.component("enroll"), Now: a.opts.Now,
	})
	if err != nil {
		return err
	}
	if a.upgrades, err = a.newUpgrades(); err != nil || !a.cfg.LeaderElection.Enabled {
		return err
	}
	a.elector, err = leader.New(leader.Config{
		Client: a.clients.Typed, Namespace: a.cfg.Namespace, Name: a.cfg.LeaderElection.LeaseName, Identity: a.instance(),
		Board: a.board, Logger: a.component("leader"), MayCreate: a.mayCreate,
		Lease: a.opts.Elections.Lease, Renew: a.opts.Elections.Renew, Retry: a.opts.Elections.Retry,
	})
	return err
}

// instance names this process: the pod, or in development the process itself.
func (a *Agent) instance() string {
	if a.cfg.PodName != "" {
		return a.cfg.PodName
	}
	return fmt.Sprintf("agent-%d", a.started.UnixNano())
}

func (a *Agent) component(name string) *slog.Logger {
	return a.log.With(slog.String(logkey.Component, name))
}

func (a *Agent) registerMetrics() error {
	certificate := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "budcluster_agent_certificate_not_after_timestamp_seconds", Help: "When the agent's certificate ends; 0 before it has one.",
	}, func() float64 {
		if end := a.enroller.NotAfter(); !end.IsZero() {
			return float64(end.Unix())
		}
		return 0
	})
	leads := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "budcluster_agent_leader", Help: "1 while this agent does the work, 0 while it stands by.",
	}, func() float64 {
		if a.leading.Load() != nil {
			return 1
		}
		return 0
	})
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Name: "budcluster_agent_build_info", Help: "1, with the version of the agent.", ConstLabels: prometheus.Labels{"version": buildinfo.Version()},
	})
	build.Set(1)
	var errs []error
	for _, c := range []prometheus.Collector{
		certificate, leads, build, &degradations{board: a.board},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		errs = append(errs, a.registry.Register(c))
	}
	return errors.Join(errs...)
}

// Run works until ctx ends, and then in order: releases, link, lease, HTTP.
func (a *Agent) Run(ctx context.Context) error {
	a.log.InfoContext(ctx, "agent started", slog.String(logkey.Version, buildinfo.Version()),
		slog.String(logkey.Instance, a.instance()), slog.String(logkey.Namespace, a.cfg.Namespace))
	g := &run.Group{Grace: stopGrace}
	g.Add("http", a.serveHTTP)
	g.Add("footprint", func(ctx context.Context) error { return footprint.Run(ctx, footprint.First, footprint.Every) })
	g.Add("upgrades", a.upgrades.Run)
	if a.elector == nil {
		g.Add("work", a.lead)
	} else {
		g.Add("leader", func(ctx context.Context) error { return a.elector.Run(ctx, a.lead) })
	}
	err := g.Run(ctx)
	if err == nil {
		a.log.InfoContext(context.WithoutCancel(ctx), "agent stopped")
	}
	return err
}

// tunnelDialer is the way out of the site.
func tunnelDialer(cfg ProxyConfig, netDial func(context.Context, string, string) (net.Conn, error)) (*tunnel.Dialer, error) {
	proxy, roots, err := readProxy(cfg)
	if err != nil {
		return nil, err
	}
	return &tunnel.Dialer{ProxyURL: tunnel.ProxyFromConfig(proxy, cfg.No), ProxyCA: roots, NetDial: netDial}, nil
}
