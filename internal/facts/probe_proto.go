package facts

import (
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// ProbesToProto is the wire form of what is asked.
func ProbesToProto(probes []Probe) *agentv1.Probes {
	out := &agentv1.Probes{Probes: make([]*agentv1.Probe, 0, len(probes))}
	for _, p := range probes {
		out.Probes = append(out.Probes, &agentv1.Probe{
			Name: p.Name, ApiVersion: p.APIVersion, Kind: p.Kind, Namespace: p.Namespace, Object: p.Object, Selector: p.Selector,
		})
	}
	return out
}

// ProbesFromProto reads the wire form.
func ProbesFromProto(in *agentv1.Probes) []Probe {
	out := make([]Probe, 0, len(in.GetProbes()))
	for _, p := range in.GetProbes() {
		out = append(out, Probe{
			Name: p.GetName(), APIVersion: p.GetApiVersion(), Kind: p.GetKind(), Namespace: p.GetNamespace(), Object: p.GetObject(), Selector: p.GetSelector(),
		})
	}
	return out
}

// PresenceToProto is the wire form of the answers.
func PresenceToProto(answers []Presence) *agentv1.Presence {
	out := &agentv1.Presence{Present: make([]*agentv1.Present, 0, len(answers))}
	for _, a := range answers {
		out.Present = append(out.Present, &agentv1.Present{
			Probe: a.Probe, State: string(a.State), Reason: a.Reason, Kind: a.Kind, Namespace: a.Namespace, Object: a.Object,
			Version: a.Version, Ready: a.Ready, HelmRelease: a.Release, HelmNamespace: a.ReleaseNamespace,
		})
	}
	return out
}

// PresenceFromProto reads the wire form.
func PresenceFromProto(in *agentv1.Presence) []Presence {
	out := make([]Presence, 0, len(in.GetPresent()))
	for _, a := range in.GetPresent() {
		out = append(out, Presence{
			Probe: a.GetProbe(), State: PresenceState(a.GetState()), Reason: a.GetReason(), Kind: a.GetKind(), Namespace: a.GetNamespace(),
			Object: a.GetObject(), Version: a.GetVersion(), Ready: a.Ready, Release: a.GetHelmRelease(), ReleaseNamespace: a.GetHelmNamespace(),
		})
	}
	return out
}

// LeftoversToProto is the wire form of what a release may leave behind.
func LeftoversToProto(leftovers []Leftover) []*agentv1.Leftover {
	out := make([]*agentv1.Leftover, 0, len(leftovers))
	for _, l := range leftovers {
		out = append(out, &agentv1.Leftover{
			ApiVersion: l.APIVersion, Kind: l.Kind, Namespace: l.Namespace, Object: l.Object, Selector: l.Selector, IfUnused: l.IfUnused,
		})
	}
	return out
}

// LeftoversFromProto reads the wire form.
func LeftoversFromProto(in []*agentv1.Leftover) []Leftover {
	var out []Leftover
	for _, l := range in {
		out = append(out, Leftover{
			APIVersion: l.GetApiVersion(), Kind: l.GetKind(), Namespace: l.GetNamespace(), Object: l.GetObject(),
			Selector: l.GetSelector(), IfUnused: l.GetIfUnused(),
		})
	}
	return out
}
