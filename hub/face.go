package hub

import (
	"context"
	"fmt"
	"log/slog"
	"strconv"
	"strings"

	"github.com/budecosystem/budcluster/hub/internal/dapr"
	"github.com/budecosystem/budcluster/hub/internal/mirror"
	"github.com/budecosystem/budcluster/hub/internal/operation"
	"github.com/budecosystem/budcluster/hub/internal/platform"
	"github.com/budecosystem/budcluster/hub/internal/store"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/logkey"
)

// face adds what the platform's services see of the hub: the routes that they
// call, and what they share with it. Its end is called when the group has ended.
func (h *Hub) face(ctx context.Context, p *parts) (end func(), err error) {
	if !h.cfg.Dapr.Enabled {
		return func() {}, nil
	}
	token, err := readToken("dapr.apiTokenFile", h.cfg.Dapr.APITokenFile)
	if err != nil {
		return nil, err
	}
	appToken, err := readToken("dapr.appTokenFile", h.cfg.Dapr.AppTokenFile)
	if err != nil {
		return nil, err
	}
	client, err := dapr.New(dapr.Config{Address: h.cfg.Dapr.HTTPAddress, Token: token, Log: h.component("dapr")})
	if err != nil {
		return nil, err //nolint:wrapcheck // a sentence already
	}
	sidecar := &dapr.App{Client: client, State: h.cfg.Dapr.StateStore, Configuration: h.cfg.Dapr.ConfigStore, Secrets: h.cfg.Dapr.SecretStore}
	server, err := platform.New(platform.Config{
		Logger: h.component("platform"), Metrics: p.registry, Clusters: p.clusters, Inventory: p.inventory, Workflows: p.workflows,
		Operations: p.operation, Register: func(ctx context.Context, actor string, r platform.Registration) (*workflow.Workflow, error) {
			return p.installs.register(ctx, actor, operation.Register{Name: r.Name, Existing: r.Existing, IngressURL: r.IngressURL, Reply: r.Reply}, r.Kubeconfig)
		},
		Watch:   func(id string) (<-chan struct{}, func()) { return p.wakes.Subscribe(store.ChannelEvents, id) },
		Sidecar: sidecar, Token: appToken, AppID: h.cfg.Dapr.AppID, PubSub: h.cfg.Dapr.PubSub,
		Settings: h.settings(), Changed: h.changed, Secrets: h.secrets(), SecretName: h.cfg.Dapr.SecretName, Rotated: p.login.take, Undescribed: h.cfg.Dapr.Environment == EnvironmentProduction,
	})
	if err != nil {
		return nil, err //nolint:wrapcheck // names what is missing
	}
	wake, stop := p.wakes.Subscribe(store.ChannelEvents, "")
	follower, err := mirror.NewFollower(mirror.FollowerConfig{Service: p.mirror, Feed: p.events, Logger: h.component("mirror"), State: sidecar, Wake: wake})
	if err != nil {
		stop()
		return nil, err //nolint:wrapcheck // names what is missing
	}
	ln, err := listen(ctx, h.opts.AppListener, h.cfg.Dapr.AppListen)
	if err != nil {
		stop()
		return nil, fmt.Errorf("dapr.appListen: %w", err)
	}
	p.group.Add("mirror", follower.Run)
	p.group.Add("platform", server.Run)
	p.group.Add("platform routes", func(ctx context.Context) error { return server.Serve(ctx, ln) })
	h.log.InfoContext(ctx, "hub listens for the platform", slog.String(logkey.Addr, ln.Addr().String()))
	return func() {
		stop()
		client.Close()
	}, nil
}

// settings are those that the hub takes from the configuration store.
func (h *Hub) settings() []string {
	if h.cfg.Dapr.ConfigStore == "" {
		return nil
	}
	return []string{h.debugSetting()}
}

// secrets are those that the hub takes from the secret store.
func (h *Hub) secrets() []string {
	if h.cfg.Dapr.SecretStore == "" {
		return nil
	}
	return []string{secretUser, secretPassword}
}

// debugSetting is that by which the platform turns a service's log up.
func (h *Hub) debugSetting() string { return h.cfg.Dapr.AppID + "_DEBUG" }

// changed applies settings: while debug is on everything is logged, else what
// the configuration says.
func (h *Hub) changed(ctx context.Context, settings map[string]string) {
	if h.opts.Level == nil {
		return
	}
	var level slog.Level
	_ = level.UnmarshalText([]byte(h.cfg.Log.Level)) // Validate has seen it
	text := settings[h.debugSetting()]
	if on, err := strconv.ParseBool(strings.TrimSpace(text)); on {
		level = slog.LevelDebug
	} else if text != "" && err != nil {
		h.log.WarnContext(ctx, "setting is neither true nor false; it is taken for false", slog.String(logkey.Name, h.debugSetting()))
	}
	if h.opts.Level.Level() == level {
		return
	}
	h.opts.Level.Set(level)
	h.log.InfoContext(ctx, "log level changed by the configuration store", slog.String(logkey.State, level.String()))
}
