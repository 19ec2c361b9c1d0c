package facts_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/internal/facts"
)

const crdVersion = "apiextensions.k8s.io/v1"

func TestLeftoverCheck(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		leftover facts.Leftover
		allowed  bool
	}{
		"definition":               {facts.Leftover{APIVersion: crdVersion, Kind: "CustomResourceDefinition", Object: "a.b.c"}, true},
		"definitions by pattern":   {facts.Leftover{APIVersion: crdVersion, Kind: "CustomResourceDefinition", Object: "*.b.c"}, false},
		"definitions by selector":  {facts.Leftover{APIVersion: crdVersion, Kind: "CustomResourceDefinition", Selector: "a=b"}, false},
		"our own definition":       {facts.Leftover{APIVersion: crdVersion, Kind: "CustomResourceDefinition", Object: "releases.budcluster.io"}, false},
		"our own objects":          {facts.Leftover{APIVersion: "budcluster.io/v1alpha1", Kind: "Release", Object: "x"}, false},
		"everything":               {facts.Leftover{APIVersion: "v1", Kind: "Secret"}, false},
		"everything by a star":     {facts.Leftover{APIVersion: "v1", Kind: "Secret", Object: "**"}, false},
		"a star with a selector":   {facts.Leftover{APIVersion: "v1", Kind: "Secret", Object: "*", Selector: "a=b"}, true},
		"a node":                   {facts.Leftover{APIVersion: "v1", Kind: "Node", Object: "n1"}, false},
		"data":                     {facts.Leftover{APIVersion: "v1", Kind: "PersistentVolume", Object: "pv"}, false},
		"namespace":                {facts.Leftover{APIVersion: "v1", Kind: "Namespace", Object: "gpu", IfUnused: true}, true},
		"namespace in use":         {facts.Leftover{APIVersion: "v1", Kind: "Namespace", Object: "gpu"}, false},
		"namespaces":               {facts.Leftover{APIVersion: "v1", Kind: "Namespace", Object: "gpu*", IfUnused: true}, false},
		"kube-system":              {facts.Leftover{APIVersion: "v1", Kind: "Namespace", Object: "kube-system", IfUnused: true}, false},
		"OpenShift's":              {facts.Leftover{APIVersion: "v1", Kind: "Namespace", Object: "openshift-dns", IfUnused: true}, false},
		"in kube-system by name":   {facts.Leftover{APIVersion: "v1", Kind: "Service", Namespace: "kube-system", Object: "x-kubelet"}, true},
		"in kube-system by labels": {facts.Leftover{APIVersion: "v1", Kind: "Secret", Namespace: "kube-system", Selector: "a=b"}, false},
		"pattern in our own":       {facts.Leftover{APIVersion: "v1", Kind: "Secret", Namespace: "gpu", Object: "x-*"}, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := c.leftover.Check("gpu")
			require.Equal(t, c.allowed, err == nil, "%v", err)
		})
	}
}

func TestNodeMarksCheck(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"hami.io/*", "feature.node.kubernetes.io/*", "nfd.node.kubernetes.io/x", "nvidia.com/gpu.*"} {
		require.NoError(t, facts.NodeMarks{Labels: []string{good}}.Check(), good)
		require.NoError(t, facts.NodeMarks{Annotations: []string{good}}.Check(), good)
	}
	for _, bad := range []string{"*", "/x", "*/x", "*.io/x", "kubernetes.io/hostname", "node-role.kubernetes.io/*", "node.alpha.k8s.io/*", "budcluster.io/x", "zone"} {
		require.Error(t, facts.NodeMarks{Labels: []string{bad}}.Check(), bad)
	}
}

func TestProbeWireForm(t *testing.T) {
	t.Parallel()
	yes := true
	answers := []facts.Presence{
		{
			Probe: "a/b", State: facts.PresenceFound, Kind: "DaemonSet", Namespace: "n", Object: "o", Version: "v1", Ready: &yes,
			Release: "r", ReleaseNamespace: "rn",
		},
		{Probe: "a/c", State: facts.PresenceUnknown, Reason: "no right"},
	}
	require.Equal(t, answers, facts.PresenceFromProto(facts.PresenceToProto(answers)))
	probes := []facts.Probe{{Name: "a/b", APIVersion: "apps/v1", Kind: "DaemonSet", Namespace: "n", Object: "o*", Selector: "a=b"}}
	require.Equal(t, probes, facts.ProbesFromProto(facts.ProbesToProto(probes)))
	leftovers := []facts.Leftover{{APIVersion: "v1", Kind: "Secret", Namespace: "n", Object: "o", Selector: "a=b", IfUnused: true}}
	require.Equal(t, leftovers, facts.LeftoversFromProto(facts.LeftoversToProto(leftovers)))
}
