package hub

import (
	"context"
	"errors"
	"net/netip"

	"github.com/budecosystem/budcluster/hub/internal/bootstrap"
	"github.com/budecosystem/budcluster/hub/internal/enroll"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/operation"
	"github.com/budecosystem/budcluster/hub/internal/platform"
	"github.com/budecosystem/budcluster/hub/internal/store"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/install"
	"github.com/budecosystem/budcluster/internal/kubeconfig"
)

// register begins a registration that the platform asks for.
func (p *parts) register(ctx context.Context, actor string, req platform.Registration) (*workflow.Workflow, error) {
	w, err := p.onboard.Onboard(ctx, actor, bootstrap.Request{Kubeconfig: req.Kubeconfig},
		operation.Register{Name: req.Name, Existing: req.Existing, IngressURL: req.IngressURL, Reply: req.Reply})
	if failed, ok := errors.AsType[*bootstrap.Error](err); ok && failed.Reason != install.Broken {
		return nil, invalid.New("kubeconfig", "%s", failed.Message)
	}
	return w, err //nolint:wrapcheck // a sentence already
}

// onboarder makes what registers clusters of uploaded kubeconfigs.
func (h *Hub) onboarder(r *rules, st *store.Store) (*bootstrap.Onboarder, error) {
	installer, err := h.installer(r.enroll)
	if err != nil {
		return nil, err
	}
	return bootstrap.NewOnboarder(bootstrap.OnboarderConfig{ //nolint:wrapcheck // names what is missing
		Installer: installer, Registrar: r.operation, Tokens: r.enroll, Workflows: r.workflows,
		Known: st.MemberByUID, Values: h.agentValues(), Logger: h.component("bootstrap"),
	})
}

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
