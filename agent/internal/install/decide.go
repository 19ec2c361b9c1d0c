package install

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/budecosystem/budcluster/agent/internal/helm"
	"github.com/budecosystem/budcluster/internal/install"
)

// abandoned is how old a pending record of Helm must be to be nobody's work.
const abandoned = 10 * time.Minute

// present is what the cluster has of an agent.
type present struct {
	history helm.History
	// values of the newest record, as they were given.
	values  map[string]any
	version string
	// pins of the authorities that the agent's identity trusts.
	pins []string
	// running: there is a Deployment of the agent's name.
	running bool
}

// step is what to do first.
type step string

const (
	// stepInstall: there is none, or what is there was never deployed.
	stepInstall step = "install"
	// stepUpgrade: there is one, of this hub.
	stepUpgrade step = "upgrade"
)

// plan is what has to be done for the hub's agent to be there.
type plan struct {
	step step
	// purge: records of a release that was removed are dropped before.
	purge bool
	// forget: the identity of an agent that is no more is dropped before.
	forget bool
}

// decide makes the plan; it is pure.
func decide(p present, hub install.Hub, now time.Time) (plan, error) {
	last, there := p.history.Latest()
	if !there || last.Status == helm.StatusUninstalled {
		if p.running {
			return plan{}, fail(install.ForeignAgent, "an agent is in this cluster that helm does not know (deployment %s/%s); remove it with what installed it, and try again",
				install.DefaultNamespace, install.DefaultRelease)
		}
		return plan{step: stepInstall, purge: there, forget: len(p.pins) > 0 && !slices.Contains(p.pins, hub.Pin)}, nil
	}
	switch {
	case !ours(p, hub):
		return plan{}, foreign(p)
	case last.Status == helm.StatusUninstalling:
		return plan{}, fail(install.NotInstalled, "the agent is just being uninstalled there (helm release %s, revision %d); wait until that is done, or end it with helm uninstall",
			install.DefaultRelease, last.Revision)
	case last.Status.Pending() && now.Sub(last.ChangedAt) < abandoned:
		return plan{}, fail(install.NotInstalled, "somebody is just installing the agent there (helm release %s is %s since %s); wait until that is done",
			install.DefaultRelease, last.Status, last.ChangedAt.UTC().Format(time.RFC3339))
	case p.history.Established():
		return plan{step: stepUpgrade}, nil
	default:
		return plan{step: stepInstall}, nil
	}
}

// ours reports whether an agent belongs to this hub: it dials one of its
// addresses, or its identity is of the hub's authority, whose address may have
// changed since.
func ours(p present, hub install.Hub) bool {
	if slices.Contains(p.pins, hub.Pin) {
		return true
	}
	return len(p.pins) == 0 && slices.ContainsFunc(dialed(p.values), func(a string) bool { return slices.Contains(hub.Addresses, a) })
}

func foreign(p present) error {
	where := "another hub"
	if at := dialed(p.values); len(at) > 0 {
		where = fmt.Sprintf("another hub (%s)", strings.Join(at[:min(3, len(at))], ", "))
	}
	return fail(install.ForeignAgent, "an agent of %s is in this cluster already; remove the cluster there, or uninstall that agent with helm, and try again", where)
}

// dialed lists the hub's addresses in the values of an agent's release.
func dialed(values map[string]any) []string {
	hub, _ := values["hub"].(map[string]any)
	list, _ := hub["addresses"].([]any)
	var all []string
	for _, a := range list {
		if text, ok := a.(string); ok {
			all = append(all, text)
		}
	}
	return all
}

// compose makes the values of the agent's release: what was there, over it
// what the hub wants, over it who the hub is.
func compose(there, wanted map[string]any, hub install.Hub, token string) map[string]any {
	all := overlay(there, wanted)
	addresses := make([]any, 0, len(hub.Addresses))
	for _, a := range hub.Addresses {
		addresses = append(addresses, a)
	}
	all = overlay(all, map[string]any{"hub": map[string]any{"addresses": addresses, "serverName": hub.ServerName}})
	if token != "" {
		delete(all, "existingSecret") // the chart takes one of the two
		all["joinToken"] = token
	}
	return all
}

// overlay returns a deep union in which over wins.
func overlay(under, over map[string]any) map[string]any {
	out := maps.Clone(under)
	if out == nil {
		out = map[string]any{}
	}
	for key, value := range over {
		deeper, isMap := value.(map[string]any)
		below, wasMap := out[key].(map[string]any)
		if isMap && wasMap {
			value = overlay(below, deeper)
		}
		out[key] = value
	}
	return out
}
