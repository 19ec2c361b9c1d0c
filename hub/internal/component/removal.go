package component

import (
	"slices"

	"github.com/budecosystem/budcluster/internal/facts"
)

const (
	kindDefinition = "CustomResourceDefinition"
	kindNamespace  = "Namespace"
	// ownNamespace stands for the release's namespace in leftovers.
	ownNamespace = "${namespace}"
	// namespaceProbe asks for a namespace that would be the component's own.
	namespaceProbe = "namespace"
)

// Leftovers says what is to be removed, in this order, once the component's
// release is gone from a namespace: what such a release leaves, without the
// definitions and the namespace that were there before it. Before is what the
// probes found when the component was installed; where they could not tell, it
// is not known whose it is, so it stays.
func (c *Component) Leftovers(namespace string, before []facts.Presence) []facts.Leftover {
	var out []facts.Leftover
	for _, l := range c.Removal.Leftovers {
		if l.Kind == kindDefinition && c.wasThere(l, before) {
			continue
		}
		if l.Namespace == ownNamespace {
			l.Namespace = namespace
		}
		out = append(out, l)
	}
	if c.Removal.Namespace && absent(before, c.Name+"/"+namespaceProbe) {
		out = append(out, facts.Leftover{APIVersion: "v1", Kind: kindNamespace, Object: namespace, IfUnused: true})
	}
	return out
}

// wasThere: a definition was found, or could not be looked for. One that no
// probe asks after is the component's own.
func (c *Component) wasThere(l facts.Leftover, before []facts.Presence) bool {
	for _, probe := range c.Presence {
		if probe.Kind != l.Kind || !facts.MatchObject(probe.Object, l.Object) {
			continue
		}
		var answers []facts.Presence
		for _, a := range before {
			if a.Probe == c.Name+"/"+probe.Name {
				answers = append(answers, a)
			}
		}
		told := slices.ContainsFunc(answers, func(a facts.Presence) bool {
			return a.State != facts.PresenceAbsent && (a.State != facts.PresenceFound || a.Object == l.Object)
		})
		if told || len(answers) == 0 || len(answers) >= facts.MaxPresences { // a full list may have been cut
			return true
		}
	}
	return false
}

// absent: somebody looked, and it was not there.
func absent(before []facts.Presence, probe string) bool {
	return slices.ContainsFunc(before, func(a facts.Presence) bool { return a.Probe == probe && a.State == facts.PresenceAbsent })
}
