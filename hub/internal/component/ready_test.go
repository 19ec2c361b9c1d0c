package component_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/component"
	"github.com/budecosystem/budcluster/internal/facts"
)

func TestJudge(t *testing.T) {
	t.Parallel()
	since := time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)
	bare := func(name string) facts.Node { return facts.Node{Name: name, Ready: true} }
	offering := func(name, resource string) facts.Node {
		n := gpuNode(name, "nvidia.com/gpu.present=true")
		n.Allocatable.Extended = map[string]int64{resource: 10}
		return n
	}
	away := bare("away")
	away.Ready = false
	for name, c := range map[string]struct {
		component string
		adopted   bool
		outputs   map[string]string
		nodes     []facts.Node
		after     time.Duration
		state     component.JudgementState
		message   string
		warning   string
	}{
		"labels are there":               {component: "nfd", nodes: []facts.Node{cpuNode("a"), cpuNode("b")}, state: component.JudgedReady},
		"labels are there, adopted":      {component: "nfd", adopted: true, nodes: []facts.Node{cpuNode("a")}, state: component.JudgedReady},
		"labels of one are missing":      {component: "nfd", nodes: []facts.Node{cpuNode("a"), bare("b")}, after: 29 * time.Second, state: component.JudgedWaiting, message: "waiting for node b to be labelled by feature discovery"},
		"labels of one never came":       {component: "nfd", nodes: []facts.Node{cpuNode("a"), bare("b")}, after: 30 * time.Second, state: component.JudgedReady, warning: "waited 30s in vain for node b to be labelled"},
		"no labels yet":                  {component: "nfd", nodes: []facts.Node{bare("a"), bare("b")}, after: time.Second, state: component.JudgedWaiting, message: "waiting for nodes a, b"},
		"no labels ever":                 {component: "nfd", nodes: []facts.Node{bare("e"), bare("d"), bare("c"), bare("b"), bare("a")}, after: time.Minute, state: component.JudgedFailed, message: "waiting for nodes a, b, c and 2 more to be labelled by feature discovery, 30s after it was installed"},
		"a node that is away":            {component: "nfd", nodes: []facts.Node{cpuNode("a"), away}, state: component.JudgedReady},
		"no node at all":                 {component: "nfd", after: time.Minute, state: component.JudgedFailed, message: "no node is there to be labelled"},
		"operator is ready":              {component: "nvidia-gpu-operator", outputs: map[string]string{"clusterPolicyState": "ready"}, state: component.JudgedReady},
		"operator is not ready":          {component: "nvidia-gpu-operator", outputs: map[string]string{"clusterPolicyState": "notReady"}, after: time.Minute, state: component.JudgedWaiting, message: "ClusterPolicy cluster-policy is notReady where ready is needed"},
		"operator has not reported":      {component: "nvidia-gpu-operator", after: 20 * time.Minute, state: component.JudgedFailed, message: "ClusterPolicy cluster-policy is not reported where ready is needed, 20m0s after it was installed"},
		"an adopted one reports nothing": {component: "nvidia-gpu-operator", adopted: true, state: component.JudgedReady},
		"HAMi offers GPUs":               {component: "hami", nodes: []facts.Node{offering("gpu-1", "nvidia.com/gpu"), cpuNode("a")}, state: component.JudgedReady},
		"HAMi offers none":               {component: "hami", nodes: []facts.Node{gpuNode("gpu-1", "nvidia.com/gpu.present=true")}, after: 3 * time.Minute, state: component.JudgedFailed, message: "waiting for node gpu-1 to offer nvidia.com/gpu"},
		"HAMi offers some":               {component: "hami", nodes: []facts.Node{offering("gpu-1", "nvidia.com/gpu"), gpuNode("gpu-2", "nvidia.com/gpu.present=true")}, after: 3 * time.Minute, state: component.JudgedReady, warning: "waited 3m0s in vain for node gpu-2 to offer nvidia.com/gpu"},
		"adopted, and no such hardware":  {component: "amd-gpu", adopted: true, nodes: []facts.Node{cpuNode("a")}, state: component.JudgedReady},
		"ours, and no such hardware":     {component: "amd-gpu", nodes: []facts.Node{cpuNode("a")}, state: component.JudgedWaiting, message: "no node is there to offer amd.com/gpu"},
		"adopted, and it offers none":    {component: "hami", adopted: true, nodes: []facts.Node{gpuNode("gpu-1", "nvidia.com/gpu.present=true")}, state: component.JudgedWaiting, message: "waiting for node gpu-1"},
		"nothing to wait for":            {component: "scaler", state: component.JudgedReady},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			j := entry(t, catalogue(t), c.component).Judge(component.Observation{
				Adopted: c.adopted, Outputs: c.outputs, Nodes: c.nodes, Since: since, Now: since.Add(c.after),
			})
			require.Equal(t, c.state, j.State, j.Message)
			require.Contains(t, j.Message, c.message)
			if c.warning == "" {
				require.Empty(t, j.Warnings)
			} else {
				require.Contains(t, j.Warnings[0], c.warning)
			}
			if c.state == component.JudgedWaiting {
				require.True(t, j.Until.After(since.Add(c.after)))
			}
		})
	}
}

// TestJudgeEnds: once the longest wait is over, nothing waits any more.
func TestJudgeEnds(t *testing.T) {
	t.Parallel()
	for _, c := range catalogue(t).Components() {
		for _, nodes := range [][]facts.Node{nil, {cpuNode("a")}, {gpuNode("g", "nvidia.com/gpu.present=true"), labelled("l")}} {
			j := c.Judge(component.Observation{Nodes: nodes, Now: time.Unix(0, 0).Add(24 * time.Hour), Since: time.Unix(0, 0)})
			require.NotEqual(t, component.JudgedWaiting, j.State, c.Name)
		}
	}
}

func TestLeftovers(t *testing.T) {
	t.Parallel()
	nfd := entry(t, catalogue(t), "nfd")
	names := func(l []facts.Leftover) (out []string) {
		for _, one := range l {
			out = append(out, one.Kind+" "+one.Namespace+"/"+one.Object)
		}
		return out
	}
	all := []string{
		"CustomResourceDefinition /nodefeatures.nfd.k8s-sigs.io", "CustomResourceDefinition /nodefeaturerules.nfd.k8s-sigs.io",
		"CustomResourceDefinition /nodefeaturegroups.nfd.k8s-sigs.io", "Lease bud-nfd/nfd-master.nfd.kubernetes.io", "Namespace /bud-nfd",
	}
	require.Equal(t, all, names(nfd.Leftovers("bud-nfd", nothing(t))), "nothing was there before")

	before := nothing(t,
		found("nfd/rules", "CustomResourceDefinition", "", "nodefeaturerules.nfd.k8s-sigs.io", ""),
		found("nfd/namespace", "Namespace", "", "bud-nfd", ""),
		facts.Presence{Probe: "nfd/groups", State: facts.PresenceUnknown})
	require.Equal(t, []string{all[0], all[3]}, names(nfd.Leftovers("bud-nfd", before)), "what was there, or may have been, stays")

	kps := entry(t, catalogue(t), "prometheus-stack")
	before = nothing(t, found("prometheus-stack/definitions", "CustomResourceDefinition", "", "servicemonitors.monitoring.coreos.com", ""))
	got := names(kps.Leftovers("bud-system", before))
	require.NotContains(t, got, "CustomResourceDefinition /servicemonitors.monitoring.coreos.com")
	require.Contains(t, got, "CustomResourceDefinition /prometheuses.monitoring.coreos.com")
	require.Contains(t, got, "PersistentVolumeClaim bud-system/")

	var full []facts.Presence
	for range facts.MaxPresences {
		full = append(full, found("prometheus-stack/definitions", "CustomResourceDefinition", "", "other.monitoring.coreos.com", ""))
	}
	for _, name := range names(kps.Leftovers("bud-system", nothing(t, full...))) {
		require.NotContains(t, name, "CustomResourceDefinition", "a list that was cut says nothing of the rest")
	}
}
