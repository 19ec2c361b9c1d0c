package hub

import (
	"context"
	"net/netip"

	"github.com/budecosystem/budcluster/hub/internal/bootstrap"
	"github.com/budecosystem/budcluster/hub/internal/enroll"
	"github.com/budecosystem/budcluster/internal/kubeconfig"
)

// installer makes what brings the agent into clusters of uploaded kubeconfigs.
func (h *Hub) installer(tokens *enroll.Service) (*bootstrap.Installer, error) {
	addresses := kubeconfig.Addresses{AllowLoopback: h.cfg.Dev}
	for _, n := range h.cfg.Bootstrap.DenyNetworks {
		if p, err := netip.ParsePrefix(n); err == nil { // checked by Validate
			addresses.Deny = append(addresses.Deny, p.Masked())
		}
	}
	return bootstrap.New(bootstrap.Config{ //nolint:wrapcheck // names what is missing
		Binary:       h.cfg.AgentBinary,
		HubAddresses: []string{h.cfg.Tunnel.Address},
		Pin: func(ctx context.Context) (string, error) {
			authority, err := tokens.Authority(ctx)
			if err != nil {
				return "", err //nolint:wrapcheck // a sentence already
			}
			return authority.Pin(), nil
		},
		Addresses: addresses, AllowInsecure: h.cfg.Bootstrap.AllowInsecure,
		Logger: h.component("bootstrap"),
	})
}

// agentValues are what the chart of such an agent is given besides.
func (h *Hub) agentValues() map[string]any {
	if h.cfg.Bootstrap.ImageRegistry == "" {
		return nil
	}
	return map[string]any{"global": map[string]any{"imageRegistry": h.cfg.Bootstrap.ImageRegistry}}
}
