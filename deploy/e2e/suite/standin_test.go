//go:build e2e

package suite_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/yaml"

	"github.com/budecosystem/budcluster/internal/facts"
)

// entry is what this test needs of an entry of the hub's catalogue.
type entry struct {
	Name, Release, Namespace string
	Chart                    struct{ Name string }
	Removal                  struct {
		Namespace bool
		Leftovers []facts.Leftover
		Nodes     facts.NodeMarks
	}
}

func catalogueEntry(t *testing.T, name string) entry {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(env.repo, "hub/internal/component/catalogue", name+".yaml"))
	require.NoError(t, err)
	var e entry
	require.NoError(t, yaml.Unmarshal(text, &e))
	return e
}

// tidy waits for what Helm has uninstalled to go, and removes what the
// catalogue says is left behind then.
func tidy(t *testing.T, before map[thing]string, entries []entry, node string) {
	t.Helper()
	var kept []string
	await(t, time.Minute, "what the releases made to go", func(ctx context.Context) error {
		kept = kept[:0]
		for object := range snapshot(t) {
			if _, was := before[object]; !was && !expected(object, entries) {
				kept = append(kept, object.String())
			}
		}
		if slices.Sort(kept); len(kept) > 0 {
			return fmt.Errorf("the catalogue does not say that these stay: %s", strings.Join(kept, ", "))
		}
		return nil
	})
	for object := range snapshot(t) {
		if _, was := before[object]; !was && object.namespace != "" && ownNamespace(object.namespace, entries) {
			continue // goes with it
		} else if !was {
			removeObject(t, object)
		}
	}
	for _, e := range entries {
		unmark(t, node, e.Removal.Nodes)
	}
}

// pretendGPUs makes a node pretend that its PCI bus has GPUs, for components to
// find, and takes away what offers GPUs already.
func pretendGPUs(t *testing.T) (node string) {
	t.Helper()
	node = env.cluster.Nodes()[0]
	annotate(t, node, map[string]any{"e2e.budcluster.test/pci": "0302_10de_20b2,0200_15b3_1017"})
	t.Cleanup(func() { annotate(t, node, map[string]any{"e2e.budcluster.test/pci": nil}) })
	withoutGPUs(t)
	return node
}

// withoutGPUs takes the cluster's own device plugin away for a test whose
// components bring one: two must not offer nvidia.com/gpu on one node.
func withoutGPUs(t *testing.T) {
	t.Helper()
	sets := env.cluster.Kube().AppsV1().DaemonSets("kube-system")
	require.NoError(t, sets.Delete(t.Context(), "fakegpu", metav1.DeleteOptions{}))
	t.Cleanup(func() { require.NoError(t, env.cluster.FakeGPUs(context.WithoutCancel(t.Context()), gpusPerNode)) })
	await(t, time.Minute, "the cluster's own device plugin to go", func(ctx context.Context) error {
		pods, err := env.cluster.Kube().CoreV1().Pods("kube-system").List(ctx, metav1.ListOptions{LabelSelector: "app=fakegpu"})
		if err == nil && len(pods.Items) > 0 {
			err = fmt.Errorf("%d pods are left", len(pods.Items))
		}
		return err
	})
}

func helm(t *testing.T, args ...string) {
	t.Helper()
	out, err := env.cluster.Helm(t.Context(), args...).CombinedOutput()
	require.NoError(t, err, "helm %s: %s", strings.Join(args, " "), out)
}

// awaitComponent waits for what the catalogue calls ready, beyond the release.
func awaitComponent(t *testing.T, name, node string) {
	t.Helper()
	await(t, 2*time.Minute, name+" to be ready", func(ctx context.Context) error {
		n, err := env.cluster.Kube().CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return err
		}
		switch name {
		case "nfd":
			if !facts.FeaturesSeen(n.Labels) || len(facts.PCIDevices(n.Labels, "10de")) == 0 {
				return fmt.Errorf("the node's labels are %v", n.Labels)
			}
		case "nvidia-gpu-operator":
			policy, err := env.cluster.Dynamic().Resource(schema.GroupVersionResource{Group: "nvidia.com", Version: "v1", Resource: "clusterpolicies"}).
				Get(ctx, "cluster-policy", metav1.GetOptions{})
			if err != nil {
				return err
			}
			if state, _, _ := unstructured.NestedString(policy.Object, "status", "state"); state != "ready" || n.Labels["nvidia.com/gpu.present"] != "true" {
				return fmt.Errorf("the policy is %q", state)
			}
		case "hami":
			if gpus := n.Status.Allocatable["nvidia.com/gpu"]; gpus.Value() != 80 {
				return fmt.Errorf("the node offers %s shares", gpus.String())
			}
		}
		return nil
	})
}

// failsWithItsReason: the device plugin's own words are in its pod's status,
// where the agent finds them.
func failsWithItsReason(t *testing.T, node string) {
	t.Helper()
	const why, key = "cannot initialise NVML: driver not loaded", "fail.e2e.budcluster.test/hami-device-plugin"
	annotate(t, node, map[string]any{key: why})
	defer annotate(t, node, map[string]any{key: nil})
	await(t, time.Minute, "HAMi's device plugin to fail", func(ctx context.Context) error {
		pods, err := env.cluster.Kube().CoreV1().Pods("kube-system").List(ctx, metav1.ListOptions{LabelSelector: "app.kubernetes.io/component=hami-device-plugin"})
		if err != nil {
			return err
		}
		for _, pod := range pods.Items {
			for _, status := range pod.Status.ContainerStatuses {
				if last := status.LastTerminationState.Terminated; last != nil && last.Message == why && !status.Ready {
					return nil
				}
			}
		}
		return fmt.Errorf("none of %d pods says so", len(pods.Items))
	})
}

func annotate(t *testing.T, node string, annotations map[string]any) {
	t.Helper()
	patchNode(t, node, map[string]any{"metadata": map[string]any{"annotations": annotations}})
}

func patchNode(t *testing.T, node string, patch map[string]any) {
	t.Helper()
	raw, err := yaml.Marshal(patch)
	require.NoError(t, err)
	raw, err = yaml.YAMLToJSON(raw)
	require.NoError(t, err)
	_, err = env.cluster.Kube().CoreV1().Nodes().Patch(context.WithoutCancel(t.Context()), node, types.MergePatchType, raw, metav1.PatchOptions{})
	require.NoError(t, err)
}

func unmark(t *testing.T, node string, marks facts.NodeMarks) {
	t.Helper()
	n, err := env.cluster.Kube().CoreV1().Nodes().Get(t.Context(), node, metav1.GetOptions{})
	require.NoError(t, err)
	gone := func(have map[string]string, patterns []string) map[string]any {
		out := map[string]any{}
		for key := range have {
			if slices.ContainsFunc(patterns, func(p string) bool { return facts.MatchObject(p, key) }) {
				out[key] = nil
			}
		}
		return out
	}
	patchNode(t, node, map[string]any{"metadata": map[string]any{
		"labels": gone(n.Labels, marks.Labels), "annotations": gone(n.Annotations, marks.Annotations),
	}})
}

// thing is one object of the cluster.
type thing struct {
	resource              schema.GroupVersionResource
	kind, namespace, name string
	labels                string
	going                 bool // it is deleted, and something still holds it
}

func (o thing) String() string { return path.Join(o.kind, o.namespace, o.name) }

// undisturbed is the snapshot that a test compares with later: it waits for
// what an earlier test left going (namespaces take seconds) to be gone.
func undisturbed(t *testing.T) map[thing]string {
	t.Helper()
	var before map[thing]string
	await(t, 2*time.Minute, "what earlier tests removed to be gone", func(context.Context) error {
		last := before
		before = snapshot(t)
		for one := range before {
			if one.going {
				return fmt.Errorf("%s is still going", one)
			}
		}
		if !maps.Equal(last, before) {
			return errors.New("the cluster changes")
		}
		return nil
	})
	return before
}

// snapshot lists every object that can be listed, but for those that come and
// go by themselves. The value is what nodes are marked with.
func snapshot(t *testing.T) map[thing]string {
	t.Helper()
	lists, err := env.cluster.Kube().Discovery().ServerPreferredResources()
	if len(lists) == 0 {
		require.NoError(t, err)
	}
	all := map[thing]string{}
	for _, list := range lists {
		gv, err := schema.ParseGroupVersion(list.GroupVersion)
		require.NoError(t, err)
		for _, r := range list.APIResources {
			if !slices.Contains(r.Verbs, "list") || slices.Contains([]string{"Event", "EndpointSlice", "Pod", "ReplicaSet", "ControllerRevision", "APIService"}, r.Kind) {
				continue
			}
			items, err := env.cluster.Dynamic().Resource(gv.WithResource(r.Name)).List(t.Context(), metav1.ListOptions{})
			if err != nil { // a definition that is just going
				continue
			}
			for _, item := range items.Items {
				one := thing{resource: gv.WithResource(r.Name), kind: r.Kind, namespace: item.GetNamespace(), name: item.GetName(), going: item.GetDeletionTimestamp() != nil}
				marks := ""
				if r.Kind == "Node" {
					marks = marksOf(item.GetLabels()) + marksOf(item.GetAnnotations())
				} else {
					one.labels = labelsOf(item.GetLabels())
				}
				all[one] = marks
			}
		}
	}
	return all
}

func labelsOf(m map[string]string) string {
	var out []string
	for _, key := range slices.Sorted(maps.Keys(m)) {
		out = append(out, key+"="+m[key])
	}
	return strings.Join(out, ",")
}

func marksOf(m map[string]string) string {
	m = maps.Clone(m)
	maps.DeleteFunc(m, func(key, _ string) bool {
		return strings.HasPrefix(key, "kubernetes.io/") || strings.HasPrefix(key, "volumes.")
	})
	return labelsOf(m)
}

// expected: the catalogue says that an uninstall leaves it, or it lies in a
// namespace that goes.
func expected(o thing, entries []entry) bool {
	if o.namespace != "" && ownNamespace(o.namespace, entries) || o.kind == "Namespace" && ownNamespace(o.name, entries) {
		return o.namespace == "" || slices.Contains([]string{"ServiceAccount/default", "ConfigMap/kube-root-ca.crt"}, o.kind+"/"+o.name) || listed(o, entries)
	}
	return listed(o, entries)
}

func listed(o thing, entries []entry) bool {
	for _, e := range entries {
		for _, l := range e.Removal.Leftovers {
			namespace := strings.ReplaceAll(l.Namespace, "${namespace}", e.Namespace)
			if l.Kind == facts.KindDefinition && !l.IfUnused && l.Object == o.resource.GroupResource().String() {
				return true // an object that goes with its definition
			}
			if l.Kind == o.kind && namespace == o.namespace && (l.Object == "" || facts.MatchObject(l.Object, o.name)) &&
				(l.Selector == "" || strings.Contains(","+o.labels+",", ","+l.Selector+",")) {
				return true
			}
		}
	}
	return false
}

func ownNamespace(name string, entries []entry) bool {
	return slices.ContainsFunc(entries, func(e entry) bool { return e.Removal.Namespace && e.Namespace == name })
}

func removeObject(t *testing.T, o thing) {
	t.Helper()
	err := env.cluster.Dynamic().Resource(o.resource).Namespace(o.namespace).Delete(t.Context(), o.name, metav1.DeleteOptions{})
	if err != nil && !strings.Contains(err.Error(), "not found") {
		require.NoError(t, err, o)
	}
}
