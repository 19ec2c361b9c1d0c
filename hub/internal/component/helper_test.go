package component_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/component"
	"github.com/budecosystem/budcluster/internal/facts"
)

func catalogue(t testing.TB) *component.Catalogue {
	t.Helper()
	c, err := component.Load(nil)
	require.NoError(t, err)
	return c
}

func entry(t testing.TB, c *component.Catalogue, name string) *component.Component {
	t.Helper()
	e, err := c.Component(name)
	require.NoError(t, err)
	return e
}

// nothing answers every probe of the catalogue with absent, but for those that
// the given presences answer.
func nothing(t testing.TB, but ...facts.Presence) []facts.Presence {
	t.Helper()
	answered := map[string]bool{}
	for _, p := range but {
		answered[p.Probe] = true
	}
	all := but
	for _, probe := range catalogue(t).Probes() {
		if !answered[probe.Name] {
			all = append(all, facts.Presence{Probe: probe.Name, State: facts.PresenceAbsent})
		}
	}
	return all
}

// found is an answer of a probe that found an object of a Helm release.
func found(probe, kind, namespace, object, release string) facts.Presence {
	p := facts.Presence{Probe: probe, State: facts.PresenceFound, Kind: kind, Namespace: namespace, Object: object, Release: release}
	if release != "" {
		p.ReleaseNamespace = namespace
	}
	return p
}
