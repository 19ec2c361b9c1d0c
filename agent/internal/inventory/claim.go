package inventory

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/budecosystem/budcluster/internal/facts"
)

// slimClaim keeps of a claim what says which one it is, and its phase.
func slimClaim(obj any) (any, error) {
	claim, ok := obj.(*corev1.PersistentVolumeClaim)
	if !ok {
		return obj, nil
	}
	slim := &corev1.PersistentVolumeClaim{Status: corev1.PersistentVolumeClaimStatus{Phase: claim.Status.Phase}}
	slim.Namespace, slim.Name, slim.UID, slim.ResourceVersion = claim.Namespace, claim.Name, claim.UID, claim.ResourceVersion
	return slim, nil
}

// claimStore keeps the phase of each claim. What changes is reported when it is
// counted next.
func (c *Collector) claimStore() cache.ReflectorStore {
	key := func(p *corev1.PersistentVolumeClaim) string { return p.Namespace + "/" + p.Name }
	return &store[*corev1.PersistentVolumeClaim]{
		c: c, kind: kindClaims, transform: slimClaim, key: key,
		keys:   func() []string { return keysOf(c.claims) },
		set:    func(p *corev1.PersistentVolumeClaim) { c.claims[key(p)] = phaseOf(p) },
		remove: func(name string) { delete(c.claims, name) },
	}
}

// phaseOf is one of the constants, whose text is not a part of the decoded
// object. A claim that nobody has looked at yet is pending.
func phaseOf(p *corev1.PersistentVolumeClaim) corev1.PersistentVolumeClaimPhase {
	switch p.Status.Phase {
	case corev1.ClaimBound:
		return corev1.ClaimBound
	case corev1.ClaimLost:
		return corev1.ClaimLost
	default:
		return corev1.ClaimPending
	}
}

// countClaimsLocked makes a fact of the claims' phases. Claims that may not be
// listed, or were not yet, are unknown.
func (c *Collector) countClaimsLocked() {
	state := c.kinds[kindClaims]
	c.cluster.Claims = nil
	if state.listed && state.denied == "" {
		c.cluster.Claims = count(c.claims)
	}
	c.describeClusterLocked()
}

func count(claims map[string]corev1.PersistentVolumeClaimPhase) *facts.Claims {
	out := &facts.Claims{}
	for name, phase := range claims {
		switch phase {
		case corev1.ClaimBound:
			out.Bound++
		case corev1.ClaimLost:
			out.Lost++
			out.LostNames = append(out.LostNames, name)
		default:
			out.Pending++
			out.PendingNames = append(out.PendingNames, name)
		}
	}
	out.LostNames, out.PendingNames = first(out.LostNames), first(out.PendingNames)
	return out
}

// first are the names that are reported. The rest is not held on to.
func first(names []string) []string {
	slices.Sort(names)
	return slices.Clone(names[:min(len(names), facts.MaxClaimNames)])
}
