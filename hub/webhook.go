package hub

import (
	"fmt"

	"github.com/budecosystem/budcluster/hub/internal/courier"
	"github.com/budecosystem/budcluster/hub/internal/store"
	"github.com/budecosystem/budcluster/hub/internal/webhook"
	"github.com/budecosystem/budcluster/internal/buildinfo"
	"github.com/budecosystem/budcluster/internal/secret"
)

// webhooks makes the rules of webhooks, and adds what sends to them.
func (h *Hub) webhooks(p *parts, st *store.Store, keys *secret.Keyring) (*webhook.Service, error) {
	guard, err := webhook.NewGuard(h.cfg.Webhooks.AllowedNetworks, h.cfg.Dev)
	if err != nil {
		return nil, fmt.Errorf("webhooks.allowedNetworks: %w", err)
	}
	poster, err := courier.New(courier.Config{Allow: guard.Allow, UserAgent: "budcluster-hub/" + buildinfo.Version()})
	if err != nil {
		return nil, err //nolint:wrapcheck // names what is missing
	}
	wake, _ := p.wakes.Subscribe(store.ChannelEvents, "") // for as long as the hub runs
	runner, err := webhook.NewRunner(webhook.RunnerConfig{
		Queue: st, Feed: p.events, Sealer: keys, Poster: poster, Logger: h.component("webhook"), Metrics: p.registry, Wake: wake,
	})
	if err != nil {
		return nil, err //nolint:wrapcheck // names what is missing
	}
	p.group.Add("webhooks", runner.Run)
	return webhook.New(webhook.Config{ //nolint:wrapcheck // names what is missing
		Store: st, Feed: p.events, Sealer: keys, Guard: guard, Poster: poster, Logger: h.component("webhook"),
	})
}
