package install

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/helm"
	"github.com/budecosystem/budcluster/internal/install"
)

func TestDecide(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 1, 12, 0, 0, 0, time.UTC)
	hub := install.Hub{Addresses: []string{"hub:8443"}, Pin: "ours"}
	record := func(s helm.Status, age time.Duration) helm.History {
		return helm.History{{Revision: 1, Status: s, ChangedAt: now.Add(-age)}}
	}
	dials := func(address string) map[string]any {
		return map[string]any{"hub": map[string]any{"addresses": []any{address}}}
	}
	for name, c := range map[string]struct {
		there  present
		want   plan
		reason install.Reason
	}{
		"nothing":                    {present{}, plan{step: stepInstall}, ""},
		"our identity alone":         {present{pins: []string{"ours"}}, plan{step: stepInstall}, ""},
		"another's identity alone":   {present{pins: []string{"theirs"}}, plan{step: stepInstall, forget: true}, ""},
		"not by helm":                {present{running: true}, plan{}, install.ForeignAgent},
		"removed":                    {present{history: record(helm.StatusUninstalled, 0), values: dials("x:1"), pins: []string{"theirs"}}, plan{step: stepInstall, purge: true, forget: true}, ""},
		"ours by address":            {present{history: record(helm.StatusDeployed, 0), values: dials("hub:8443"), running: true}, plan{step: stepUpgrade}, ""},
		"ours by identity":           {present{history: record(helm.StatusDeployed, 0), values: dials("old:8443"), pins: []string{"x", "ours"}}, plan{step: stepUpgrade}, ""},
		"another's by address":       {present{history: record(helm.StatusDeployed, 0), values: dials("x:1")}, plan{}, install.ForeignAgent},
		"another's by identity":      {present{history: record(helm.StatusDeployed, 0), values: dials("hub:8443"), pins: []string{"theirs"}}, plan{}, install.ForeignAgent},
		"of nobody":                  {present{history: record(helm.StatusDeployed, 0)}, plan{}, install.ForeignAgent},
		"failed and never there":     {present{history: record(helm.StatusFailed, 0), values: dials("hub:8443")}, plan{step: stepInstall}, ""},
		"failed after it was there":  {present{history: append(record(helm.StatusFailed, 0), record(helm.StatusDeployed, 0)...), values: dials("hub:8443")}, plan{step: stepUpgrade}, ""},
		"just being installed":       {present{history: record(helm.StatusPendingInstall, time.Minute), values: dials("hub:8443")}, plan{}, install.NotInstalled},
		"abandoned in the middle":    {present{history: record(helm.StatusPendingInstall, abandoned), values: dials("hub:8443")}, plan{step: stepInstall}, ""},
		"just being removed":         {present{history: record(helm.StatusUninstalling, 0), values: dials("hub:8443")}, plan{}, install.NotInstalled},
		"being removed by a another": {present{history: record(helm.StatusUninstalling, 0), values: dials("x:1")}, plan{}, install.ForeignAgent},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got, err := decide(c.there, hub, now)
			if c.reason == "" {
				require.NoError(t, err)
				require.Equal(t, c.want, got)
				return
			}
			f, ok := errors.AsType[*failure](err)
			require.True(t, ok)
			require.Equal(t, c.reason, f.reason)
		})
	}
}

func TestCompose(t *testing.T) {
	t.Parallel()
	there := map[string]any{"existingSecret": map[string]any{"name": "s"}, "image": map[string]any{"tag": "a", "registry": "r"}}
	got := compose(there, map[string]any{"image": map[string]any{"tag": "b"}}, install.Hub{Addresses: []string{"hub:1"}}, "token")
	require.Equal(t, map[string]any{
		"image": map[string]any{"tag": "b", "registry": "r"}, "joinToken": "token",
		"hub": map[string]any{"addresses": []any{"hub:1"}, "serverName": ""},
	}, got)
	require.Equal(t, "a", there["image"].(map[string]any)["tag"], "what was given is not changed")
	require.Equal(t, map[string]any{"name": "s"}, compose(there, nil, install.Hub{}, "")["existingSecret"])
}
