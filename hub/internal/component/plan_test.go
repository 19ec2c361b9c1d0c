package component_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/component"
	"github.com/budecosystem/budcluster/internal/facts"
	"github.com/budecosystem/budcluster/internal/testutil"
)

// gpuNode is a node as an agent reports it, before and after the GPU operator.
func gpuNode(name string, labels ...string) facts.Node {
	n := facts.Node{Name: name, Ready: true, Labels: map[string]string{
		"feature.node.kubernetes.io/kernel-version.full":    "6.8.0",
		"feature.node.kubernetes.io/pci-0302_10de.present":  "true",
		"feature.node.kubernetes.io/pci-10de.present":       "true",
		"feature.node.kubernetes.io/pci-10de_20b2.present":  "true",
		"feature.node.kubernetes.io/system-os_release.ID":   "ubuntu",
		"feature.node.kubernetes.io/pci-0300_1a03.present.": "true",
	}}
	for _, l := range labels {
		key, value, _ := strings.Cut(l, "=")
		n.Labels[key] = value
	}
	return n
}

func cpuNode(name string) facts.Node {
	return facts.Node{Name: name, Ready: true, Labels: map[string]string{"feature.node.kubernetes.io/kernel-version.full": "6.8.0"}}
}

var (
	kubernetes = facts.Cluster{UID: "uid-1", Platform: facts.PlatformKubernetes, Distribution: "kubernetes"}
	k3s        = facts.Cluster{UID: "uid-1", Platform: facts.PlatformKubernetes, Distribution: "k3s"}
	openshift  = facts.Cluster{UID: "uid-1", Platform: facts.PlatformOpenShift, Distribution: "openshift"}
)

func installed(t testing.TB, names ...string) map[string]component.Installed {
	t.Helper()
	out := map[string]component.Installed{}
	for _, name := range names {
		e := entry(t, catalogue(t), name)
		out[name] = component.Installed{Version: e.Chart.Version, Digest: e.Chart.Digest, Release: e.Release, Namespace: e.Namespace}
	}
	return out
}

// TestPlan is a table of clusters: what is planned in each, and why, is golden.
func TestPlan(t *testing.T) {
	t.Parallel()
	unpinned := strings.Repeat("b", 64)
	foreignNFD := found("nfd/worker", "DaemonSet", "nfd", "nfd-worker", "")
	cases := map[string]component.Input{
		"nothing is known yet":       {},
		"nobody has looked yet":      {Cluster: kubernetes, Nodes: []facts.Node{gpuNode("gpu-1")}},
		"CPU nodes":                  {Cluster: kubernetes, Nodes: []facts.Node{cpuNode("a"), cpuNode("b")}, Presence: nothing(t)},
		"before feature discovery":   {Cluster: kubernetes, Nodes: []facts.Node{{Name: "a", Ready: true}}, Presence: nothing(t)},
		"GPU nodes":                  {Cluster: kubernetes, Nodes: []facts.Node{cpuNode("a"), gpuNode("gpu-2"), gpuNode("gpu-1")}, Presence: nothing(t)},
		"GPU nodes on k3s":           {Cluster: k3s, Nodes: []facts.Node{gpuNode("gpu-1")}, Presence: nothing(t)},
		"GPU nodes on OpenShift":     {Cluster: openshift, Nodes: []facts.Node{gpuNode("gpu-1")}, Presence: nothing(t)},
		"a driver on the hosts":      {Cluster: kubernetes, Nodes: []facts.Node{gpuNode("gpu-1", "nvidia.com/gpu.deploy.driver=pre-installed")}, Presence: nothing(t)},
		"OpenShift with its own NFD": {Cluster: openshift, Nodes: []facts.Node{gpuNode("gpu-1")}, Presence: nothing(t, found("nfd/worker-named", "DaemonSet", "openshift-nfd", "nfd-worker", ""))},
		"NFD was there before":       {Cluster: kubernetes, Nodes: []facts.Node{gpuNode("gpu-1")}, Presence: nothing(t, foreignNFD)},
		"everything was there before": {Cluster: kubernetes, Nodes: []facts.Node{gpuNode("gpu-1", "nvidia.com/gpu.present=true")}, Presence: nothing(t,
			foreignNFD,
			found("nvidia-gpu-operator/operator", "Deployment", "gpu-operator", "gpu-operator", "gpu-operator"),
			found("hami/scheduler", "Deployment", "kube-system", "hami-scheduler", "hami"),
			found("prometheus-stack/operator", "Deployment", "monitoring", "prometheus-operator", "kps"),
			found("scaler/controller", "Deployment", "scaler-system", "scaler-controller-manager", "scaler"))},
		"a GPU operator with its device plugin was there": {Cluster: kubernetes, Nodes: []facts.Node{gpuNode("gpu-1")}, Presence: nothing(t,
			found("nvidia-gpu-operator/operator", "Deployment", "gpu-operator", "gpu-operator", "gpu-operator"),
			found("nvidia-gpu-operator/device-plugin", "DaemonSet", "gpu-operator", "nvidia-device-plugin-daemonset", ""))},
		"a device plugin of its own was there": {Cluster: kubernetes, Nodes: []facts.Node{gpuNode("gpu-1")}, Presence: nothing(t,
			found("nvidia-gpu-operator/device-plugin", "DaemonSet", "kube-system", "nvidia-device-plugin", "nvdp"))},
		"definitions that a removal has left": {Cluster: kubernetes, Nodes: []facts.Node{cpuNode("a")}, Presence: nothing(t,
			found("nfd/features", "CustomResourceDefinition", "", "nodefeatures.nfd.k8s-sigs.io", ""))},
		"the agent may not look": {Cluster: kubernetes, Nodes: []facts.Node{gpuNode("gpu-1")}, Presence: nothing(t,
			facts.Presence{Probe: "nfd/worker", State: facts.PresenceUnknown, Reason: "the agent may not list daemonsets in apps"})},
		"HAMi is switched off": {
			Cluster: kubernetes, Nodes: []facts.Node{gpuNode("gpu-1")}, Presence: nothing(t),
			Wishes: map[string]component.Wish{"hami": {Wanted: component.WantNo}},
		},
		"the operator is switched off": {
			Cluster: kubernetes, Nodes: []facts.Node{gpuNode("gpu-1")}, Presence: nothing(t),
			Wishes: map[string]component.Wish{"nvidia-gpu-operator": {Wanted: component.WantNo}},
		},
		"the operator is switched off and HAMi asked for": {
			Cluster: kubernetes, Nodes: []facts.Node{gpuNode("gpu-1")}, Presence: nothing(t),
			Wishes: map[string]component.Wish{"nvidia-gpu-operator": {Wanted: component.WantNo}, "hami": {Wanted: component.WantYes}},
		},
		"HAMi is asked for without hardware": {
			Cluster: kubernetes, Nodes: []facts.Node{cpuNode("a")}, Presence: nothing(t),
			Wishes: map[string]component.Wish{"hami": {Wanted: component.WantYes}},
		},
		"AIBrix is asked for": {
			Cluster: kubernetes, Nodes: []facts.Node{cpuNode("a")}, Presence: nothing(t,
				found("aibrix/gateway-api", "CustomResourceDefinition", "", "httproutes.gateway.networking.k8s.io", "")),
			Wishes: map[string]component.Wish{"aibrix": {Wanted: component.WantYes}},
		},
		"AIBrix is asked for and can be": {
			Cluster: kubernetes, Nodes: []facts.Node{cpuNode("a")}, Presence: nothing(t,
				found("aibrix/gateway-api", "CustomResourceDefinition", "", "httproutes.gateway.networking.k8s.io", ""),
				found("aibrix/envoy-gateway", "CustomResourceDefinition", "", "envoyproxies.gateway.envoyproxy.io", ""),
				found("aibrix/ray", "CustomResourceDefinition", "", "rayclusters.ray.io", "")),
			Wishes: map[string]component.Wish{"aibrix": {Wanted: component.WantYes, Digest: "sha256:" + unpinned}},
		},
		"all is installed": {
			Cluster: kubernetes, Nodes: []facts.Node{gpuNode("gpu-1")},
			Presence:  nothing(t, found("nfd/worker", "DaemonSet", "node-feature-discovery", "node-feature-discovery-worker", "node-feature-discovery")),
			Installed: installed(t, "nfd", "nvidia-gpu-operator", "hami", "prometheus-stack", "scaler"),
		},
		"our operator beside somebody's device plugin": {
			Cluster: kubernetes, Nodes: []facts.Node{gpuNode("gpu-1")}, Presence: nothing(t,
				found("nvidia-gpu-operator/device-plugin", "DaemonSet", "gpu-operator", "nvidia-device-plugin-daemonset", ""),
				found("nvidia-gpu-operator/device-plugin", "DaemonSet", "kube-system", "nvidia-device-plugin", "nvdp")),
			Installed: installed(t, "nfd", "nvidia-gpu-operator"),
		},
		"a second NFD beside ours": {
			Cluster: kubernetes, Nodes: []facts.Node{cpuNode("a")}, Presence: nothing(t, foreignNFD),
			Installed: installed(t, "nfd"),
		},
		"the labels have vanished": {
			Cluster: kubernetes, Nodes: []facts.Node{{Name: "gpu-1", Ready: true}}, Presence: nothing(t),
			Installed: installed(t, "nfd", "nvidia-gpu-operator", "hami"),
		},
		"another version is asked for": {
			Cluster: kubernetes, Nodes: []facts.Node{cpuNode("a")}, Presence: nothing(t), Installed: installed(t, "nfd"),
			Wishes: map[string]component.Wish{"nfd": {Version: "0.20.0"}},
		},
		"an older one is installed": {
			Cluster: kubernetes, Nodes: []facts.Node{cpuNode("a")}, Presence: nothing(t),
			Installed: map[string]component.Installed{"nfd": {Version: "0.18.3", Digest: "sha256:" + unpinned, Release: "nfd", Namespace: "bud-system"}},
		},
		"everything goes": {
			Cluster: kubernetes, Nodes: []facts.Node{gpuNode("gpu-1")}, Presence: nothing(t),
			Installed: installed(t, "nfd", "nvidia-gpu-operator", "hami"),
			Wishes:    map[string]component.Wish{"nfd": {Wanted: component.WantNo}, "nvidia-gpu-operator": {Wanted: component.WantNo}, "hami": {Wanted: component.WantNo}},
		},
		"what others require goes": {
			Cluster: kubernetes, Nodes: []facts.Node{gpuNode("gpu-1")}, Presence: nothing(t),
			Installed: installed(t, "nfd", "nvidia-gpu-operator", "hami"),
			Wishes:    map[string]component.Wish{"nvidia-gpu-operator": {Wanted: component.WantNo}},
		},
		"the catalogue has forgotten one": {
			Cluster: kubernetes, Nodes: []facts.Node{cpuNode("a")}, Presence: nothing(t),
			Installed: map[string]component.Installed{"site-agent": {Version: "1.2.3", Release: "site-agent", Namespace: "site"}},
		},
	}
	var out strings.Builder
	for _, name := range slices.Sorted(maps.Keys(cases)) {
		in := cases[name]
		in.ClusterID, in.ClusterName = "0190", "frankfurt"
		items, err := catalogue(t).Plan(in)
		require.NoError(t, err, name)
		fmt.Fprintf(&out, "# %s\n", name)
		for _, i := range items {
			version := ""
			if i.Chart.Version != "" {
				version = " " + i.Chart.Version
			}
			fmt.Fprintf(&out, "%-9s %s%s\n", i.Action, i.Component, version)
			for _, r := range i.Reasons {
				fmt.Fprintf(&out, "          %s: %s\n", r.Code, r.Message)
			}
		}
		out.WriteByte('\n')
	}
	testutil.Golden(t, "plan", []byte(out.String()))
}

// TestValues are the final values of every component per kind of cluster.
func TestValues(t *testing.T) {
	t.Parallel()
	for name, cluster := range map[string]facts.Cluster{"kubernetes": kubernetes, "k3s": k3s, "openshift": openshift} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			wishes := map[string]component.Wish{}
			for _, c := range catalogue(t).Components() {
				wishes[c.Name] = component.Wish{Wanted: component.WantYes}
			}
			have := installed(t, slices.Collect(maps.Keys(wishes))...) // else some are blocked on OpenShift
			items, err := catalogue(t).Plan(component.Input{
				ClusterID: "0190", ClusterName: "frankfurt", Cluster: cluster, Nodes: []facts.Node{labelled("node-1")}, Presence: nothing(t),
				Wishes: wishes, Installed: have,
			})
			require.NoError(t, err)
			for _, i := range items {
				var values any
				require.NoError(t, json.Unmarshal(i.Values, &values), i.Component)
				pretty, err := json.MarshalIndent(values, "", "  ")
				require.NoError(t, err)
				testutil.Golden(t, "values/"+name+"/"+i.Component, append(pretty, '\n'))
			}
		})
	}
}

// labelled is a node as our own feature discovery labels it, with one of each.
func labelled(name string) facts.Node {
	n := gpuNode(name)
	for _, l := range []string{"pci-1002.present", "pci-1200_1002.present", "pci-1da3.present", "pci-1200_1da3.present"} {
		n.Labels["feature.node.kubernetes.io/"+l] = "true"
	}
	return n
}

// TestNeverTwoDevicePlugins: whatever is wanted and whatever is there, a plan
// that has HAMi in the cluster has no operator of ours with a device plugin,
// and none at all beside somebody else's.
func TestNeverTwoDevicePlugins(t *testing.T) {
	t.Parallel()
	wants := []component.Wanted{component.WantAuto, component.WantYes, component.WantNo}
	presences := map[string][]facts.Presence{
		"clean":    nothing(t),
		"operator": nothing(t, found("nvidia-gpu-operator/operator", "Deployment", "gpu-operator", "gpu-operator", "gpu-operator")),
		"operator with plugin": nothing(t, found("nvidia-gpu-operator/operator", "Deployment", "gpu-operator", "gpu-operator", "gpu-operator"),
			found("nvidia-gpu-operator/device-plugin", "DaemonSet", "gpu-operator", "nvidia-device-plugin-daemonset", "")),
		"plugin":            nothing(t, found("nvidia-gpu-operator/device-plugin", "DaemonSet", "kube-system", "nvidia-device-plugin", "nvdp")),
		"hami":              nothing(t, found("hami/scheduler", "Deployment", "hami-system", "hami-scheduler", "hami")),
		"unknown":           nothing(t, facts.Presence{Probe: "nvidia-gpu-operator/device-plugin", State: facts.PresenceUnknown, Reason: "forbidden"}),
		"silence":           nil,
		"operator's plugin": nothing(t, found("nvidia-gpu-operator/device-plugin", "DaemonSet", "gpu-operator", "nvidia-device-plugin-daemonset", "")),
	}
	withPlugin, without := operatorValues(t, component.WantNo), operatorValues(t, component.WantYes)
	states := []map[string]component.Installed{
		nil, operatorOf(t, withPlugin), operatorOf(t, without, "hami"), older(operatorOf(t, withPlugin)), older(operatorOf(t, without, "hami")),
	}
	for name, presence := range presences {
		for _, wantOperator := range wants {
			for _, wantHAMi := range wants {
				for i, have := range states {
					items, err := catalogue(t).Plan(component.Input{
						Cluster: kubernetes, Nodes: []facts.Node{gpuNode("gpu-1")}, Presence: presence, Installed: have,
						Wishes: map[string]component.Wish{"nvidia-gpu-operator": {Wanted: wantOperator}, "hami": {Wanted: wantHAMi}},
					})
					require.NoError(t, err)
					checkDevicePlugins(t, fmt.Sprintf("%s, operator %s, hami %s, state %d", name, wantOperator, wantHAMi, i), items, name, have)
				}
			}
		}
	}
}

// operatorValues are those with which a plan installs the operator.
func operatorValues(t *testing.T, hami component.Wanted) json.RawMessage {
	t.Helper()
	return plan(t, component.Input{
		Cluster: kubernetes, Nodes: []facts.Node{gpuNode("gpu-1")}, Presence: nothing(t), Wishes: map[string]component.Wish{"hami": {Wanted: hami}},
	})["nvidia-gpu-operator"].Values
}

// operatorOf is the operator that was installed with these values, beside others.
func operatorOf(t *testing.T, values json.RawMessage, beside ...string) map[string]component.Installed {
	t.Helper()
	all := installed(t, append(beside, "nvidia-gpu-operator")...)
	operator := all["nvidia-gpu-operator"]
	operator.ValuesDigest = component.ValuesDigest(values)
	all["nvidia-gpu-operator"] = operator
	return all
}

// older has them installed by a hub whose catalogue was older.
func older(all map[string]component.Installed) map[string]component.Installed {
	for name, have := range all {
		have.Version, have.Digest = "v0.1.0", "sha256:"+strings.Repeat("c", 64)
		all[name] = have
	}
	return all
}

func checkDevicePlugins(t *testing.T, what string, items []component.Item, presence string, have map[string]component.Installed) {
	t.Helper()
	by := map[string]component.Item{}
	for _, i := range items {
		by[i.Component] = i
	}
	hami, operator := by["hami"], by["nvidia-gpu-operator"]
	_, ours := have["nvidia-gpu-operator"]
	foreign := presence == "plugin" || presence == "operator's plugin" && !ours || presence == "operator with plugin" && !ours
	if operator.Action.There() && operator.Values != nil {
		var values struct {
			DevicePlugin struct{ Enabled bool }
		}
		require.NoError(t, json.Unmarshal(operator.Values, &values))
		require.Equal(t, !hami.Action.There() && !foreign, values.DevicePlugin.Enabled, what)
		if operator.Action == component.ActionKeep { // nothing applies the values, so they must be there
			require.Equal(t, have["nvidia-gpu-operator"].ValuesDigest, component.ValuesDigest(operator.Values), what)
		} else {
			require.True(t, operator.Action.Changes(), what)
		}
	}
	if foreign || presence == "unknown" || presence == "silence" {
		require.NotEqual(t, component.ActionInstall, hami.Action, what)
	}
}

// TestAnInstalledOperatorIsReconfigured: HAMi comes later, and the operator of
// ours gives up its device plugin.
func TestAnInstalledOperatorIsReconfigured(t *testing.T) {
	t.Parallel()
	in := component.Input{
		Cluster: kubernetes, Nodes: []facts.Node{gpuNode("gpu-1")}, Presence: nothing(t),
		Wishes: map[string]component.Wish{"hami": {Wanted: component.WantNo}},
	}
	before := plan(t, in)["nvidia-gpu-operator"]
	require.Equal(t, component.ActionInstall, before.Action)

	in.Installed = map[string]component.Installed{"nvidia-gpu-operator": {
		Version: before.Chart.Version, Digest: before.Chart.Digest, Release: before.Release, Namespace: before.Namespace,
		ValuesDigest: component.ValuesDigest(before.Values),
	}}
	require.Equal(t, component.ActionKeep, plan(t, in)["nvidia-gpu-operator"].Action, "nothing has changed")

	in.Wishes = nil
	after := plan(t, in)
	require.Equal(t, component.ActionInstall, after["hami"].Action)
	require.Equal(t, component.ActionConfigure, after["nvidia-gpu-operator"].Action)
	require.Contains(t, after["nvidia-gpu-operator"].Why(), "values for hami")

	in.Installed = older(in.Installed) // the hub's catalogue has gone on since
	operator := plan(t, in)["nvidia-gpu-operator"]
	require.Equal(t, component.ActionConfigure, operator.Action)
	require.Equal(t, "v0.1.0", operator.Chart.Version, "the chart stays")
	require.Equal(t, in.Installed["nvidia-gpu-operator"].Digest, operator.Chart.Digest)
	require.Equal(t, before.Chart.Version, operator.Available)
}

// TestAnUpgradeTakesNoOldDigest: an entry without a digest takes that of what is
// installed for the same version only.
func TestAnUpgradeTakesNoOldDigest(t *testing.T) {
	t.Parallel()
	hami := entry(t, catalogue(t), "hami")
	require.Empty(t, hami.Chart.Digest, "use another entry here")
	in := component.Input{
		Cluster: kubernetes, Nodes: []facts.Node{gpuNode("gpu-1")}, Presence: nothing(t), Installed: installed(t, "nvidia-gpu-operator", "hami"),
		Wishes: map[string]component.Wish{"hami": {Wanted: component.WantYes, Version: hami.Chart.Version}},
	}
	have := in.Installed["hami"]
	have.Digest = "sha256:" + strings.Repeat("c", 64)
	in.Installed["hami"] = have
	require.Equal(t, have.Digest, plan(t, in)["hami"].Chart.Digest)
	have.Version = "2.8.0"
	in.Installed["hami"] = have
	item := plan(t, in)["hami"]
	require.Equal(t, component.ActionUpgrade, item.Action)
	require.Equal(t, hami.Chart.Version, item.Chart.Version)
	require.Empty(t, item.Chart.Digest)
}

// TestABuiltInChartHasOneVersion: a wish for another one would never come true.
func TestABuiltInChartHasOneVersion(t *testing.T) {
	t.Parallel()
	gaudi := entry(t, catalogue(t), "intel-gaudi")
	require.NotEmpty(t, gaudi.Chart.Builtin, "use another entry here")
	item := plan(t, component.Input{
		Cluster: kubernetes, Nodes: []facts.Node{labelled("node-1")}, Presence: nothing(t), Installed: installed(t, "intel-gaudi"),
		Wishes: map[string]component.Wish{"intel-gaudi": {Wanted: component.WantYes, Version: "99.0.0"}},
	})["intel-gaudi"]
	require.Equal(t, component.ActionKeep, item.Action)
	require.Equal(t, gaudi.Chart.Version, item.Chart.Version)
}

func plan(t testing.TB, in component.Input) map[string]component.Item {
	t.Helper()
	items, err := catalogue(t).Plan(in)
	require.NoError(t, err)
	out := map[string]component.Item{}
	for _, i := range items {
		out[i.Component] = i
	}
	return out
}

func TestWishesAreMergedLast(t *testing.T) {
	t.Parallel()
	item := plan(t, component.Input{
		ClusterID: "0190", ClusterName: "frankfurt", Cluster: k3s, Nodes: []facts.Node{gpuNode("gpu-1")}, Presence: nothing(t),
		Wishes: map[string]component.Wish{
			"nvidia-gpu-operator": {Values: map[string]any{
				"driver":  map[string]any{"enabled": false},
				"toolkit": map[string]any{"env": []any{map[string]any{"name": "CONTAINERD_SOCKET", "value": "/run/site.sock"}, map[string]any{"name": "DEBUG", "value": "${cluster.name}"}}},
				"gfd":     nil,
			}},
		},
	})["nvidia-gpu-operator"]
	var values struct {
		Driver  struct{ Enabled bool }
		Toolkit struct {
			Env []struct{ Name, Value string }
		}
	}
	require.NoError(t, json.Unmarshal(item.Values, &values))
	require.False(t, values.Driver.Enabled)
	env := map[string]string{}
	for _, e := range values.Toolkit.Env {
		require.NotContains(t, env, e.Name, "twice")
		env[e.Name] = e.Value
	}
	require.Equal(t, map[string]string{
		"CONTAINERD_CONFIG": "/var/lib/rancher/k3s/agent/etc/containerd/config.toml", "CONTAINERD_SOCKET": "/run/site.sock",
		"CONTAINERD_RUNTIME_CLASS": "nvidia", "CONTAINERD_SET_AS_DEFAULT": "true", "NVIDIA_CONTAINER_RUNTIME_MODE": "legacy", "DEBUG": "frankfurt",
	}, env)
	require.Contains(t, string(item.Values), `"gfd":null`, "null makes Helm drop the chart's default")
}

func TestBadWishesAreSentences(t *testing.T) {
	t.Parallel()
	deep := map[string]any{}
	for at, i := deep, 0; i < 100; i++ {
		next := map[string]any{}
		at["a"] = next
		at = next
	}
	for name, c := range map[string]struct {
		component string
		wish      component.Wish
		want      string
	}{
		"unknown component":   {"gpu", component.Wish{}, `there is no component "gpu"`},
		"unknown wish":        {"nfd", component.Wish{Wanted: "maybe"}, `component nfd: wanted: "maybe" is not known; use one of auto, yes, no`},
		"bad digest":          {"nfd", component.Wish{Digest: "latest"}, `digest: "latest" is not a digest`},
		"long version":        {"nfd", component.Wish{Version: strings.Repeat("1", 300)}, "version: it is 300 characters long"},
		"deep values":         {"nfd", component.Wish{Values: deep}, "values: they are nested deeper than 64 levels"},
		"unknown placeholder": {"nfd", component.Wish{Values: map[string]any{"a": "${cluster.token}"}}, "${cluster.token} is not known"},
	} {
		_, err := catalogue(t).Plan(component.Input{Wishes: map[string]component.Wish{c.component: c.wish}})
		require.ErrorContains(t, err, c.want, name)
	}
}

// FuzzPlan: whatever is known and wished for, a plan is made, in order and with
// a reason for everything; it is the same again; and nothing is installed whose
// requirements are not there, nor over what somebody else has.
func FuzzPlan(f *testing.F) {
	seed := func(in component.Input) {
		raw, err := json.Marshal(in)
		require.NoError(f, err)
		f.Add(raw)
	}
	seed(component.Input{})
	seed(component.Input{Cluster: k3s, Nodes: []facts.Node{gpuNode("gpu-1"), cpuNode("a")}, Presence: nothing(f)})
	seed(component.Input{
		Cluster: openshift, Nodes: []facts.Node{labelled("b")}, Presence: nothing(f, found("nfd/worker", "DaemonSet", "x", "nfd-worker", "")),
		Installed: installed(f, "nfd", "hami"), Wishes: map[string]component.Wish{"hami": {Wanted: component.WantNo}, "nfd": {Version: "1"}},
	})
	c := catalogue(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		var in component.Input
		if json.Unmarshal(raw, &in) != nil {
			return
		}
		items, err := c.Plan(in)
		if err != nil {
			require.NotEmpty(t, in.Wishes, err)
			return
		}
		again, err := c.Plan(in)
		require.NoError(t, err)
		require.Equal(t, items, again)
		checkPlan(t, c, in, items)
	})
}

func checkPlan(t *testing.T, c *component.Catalogue, in component.Input, items []component.Item) {
	t.Helper()
	there := map[string]bool{}
	for i, entry := range c.Components() {
		item := items[i]
		require.Equal(t, entry.Name, item.Component)
		require.NotEmpty(t, item.Reasons, item.Component)
		for _, r := range item.Reasons {
			require.Contains(t, component.ReasonCodes(), r.Code)
			require.NotEmpty(t, r.Message)
		}
		there[item.Component] = item.Action.There()
		_, have := in.Installed[item.Component]
		switch item.Action {
		case component.ActionInstall:
			require.False(t, have)
			require.True(t, json.Valid(item.Values))
			for _, f := range item.Found {
				for _, probe := range entry.Presence {
					require.False(t, probe.Decisive && f.Probe == entry.Name+"/"+probe.Name, "%s over %s", entry.Name, f)
				}
			}
			waived := in.Wishes[entry.Name].Wanted == component.WantYes
			for _, name := range entry.Requires {
				require.True(t, there[name] || waived, "%s without %s", entry.Name, name)
			}
		case component.ActionAdopt, component.ActionSkip, component.ActionUnknown:
			require.Empty(t, item.Values)
		case component.ActionRemove:
			require.True(t, have)
			require.Equal(t, component.WantNo, in.Wishes[item.Component].Wanted, "only a no removes")
		default:
		}
	}
}

// BenchmarkPlan is one cluster of a hundred nodes with GPUs.
func BenchmarkPlan(b *testing.B) {
	c := catalogue(b)
	in := component.Input{ClusterID: "c", ClusterName: "one", Cluster: facts.Cluster{Platform: facts.PlatformKubernetes, Distribution: "kubernetes"}, Presence: nothing(b)}
	for i := range 100 {
		in.Nodes = append(in.Nodes, gpuNode(fmt.Sprintf("gpu-%d", i)))
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := c.Plan(in); err != nil {
			b.Fatal(err)
		}
	}
}
