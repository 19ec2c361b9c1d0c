//go:build e2e

package suite_test

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

// difference is what is there now and was not, and what was and is not.
func difference(t *testing.T, before map[thing]string) []string {
	t.Helper()
	now := snapshot(t)
	var out []string
	for one, marks := range now {
		if old, ok := before[one]; !ok {
			out = append(out, "is left: "+one.String()+" "+one.labels)
		} else if old != marks {
			out = append(out, "is changed: "+one.String())
		}
	}
	for one := range before {
		if _, ok := now[one]; !ok {
			out = append(out, "is missing: "+one.String()+" "+one.labels)
		}
	}
	slices.Sort(out)
	return out
}

// awaitAsBefore waits for the garbage collector, which has no deadline.
func awaitAsBefore(t *testing.T, before map[thing]string) {
	t.Helper()
	await(t, 3*time.Minute, "the cluster to be as it was", func(context.Context) error {
		if d := difference(t, before); len(d) > 0 {
			return fmt.Errorf("%d differences: %s", len(d), strings.Join(d[:min(len(d), 12)], "; "))
		}
		return nil
	})
}

// furnish installs a release that leaves its namespace behind, and lets the
// agent remove that.
func (s *site) furnish(t *testing.T, name string) {
	t.Helper()
	chart := regexp.MustCompile(`https?://\S+\.tgz`).FindString(s.command)
	// Roles alone change: the agent's pod stays as it is.
	out, err := shell(t, fmt.Sprintf("helm upgrade %s %s --namespace %s --reuse-values --set-json "+
		`'rbac.installer.extraRules=[{"apiGroups":[""],"resources":["namespaces"],"resourceNames":["%s"],"verbs":["delete"]}]'`,
		agentRelease, chart, s.namespace, name))
	require.NoError(t, err, out)
	a := newApp(t, s, name)
	r := a.apply(t, values{}, func(r *hubapi.ReleaseRequest) {
		r.Leftovers = []hubapi.Leftover{{APIVersion: "v1", Kind: "Namespace", Object: name, IfUnused: true}}
	})
	a.settle(t, r.Generation, hubapi.PhaseReady)
}

func (s *site) awaitRetired(t *testing.T, id string, done func(hubapi.Cluster) bool) hubapi.Cluster {
	t.Helper()
	var c hubapi.Cluster
	await(t, 2*time.Minute, "the agent to have removed what is ours", func(ctx context.Context) (err error) {
		if c, err = s.hub.client.Cluster(ctx, id); err == nil && !done(c) {
			err = fmt.Errorf("retiring at %v, retired at %v, gone at %v", c.RetiringAt, c.RetiredAt, c.GoneAt)
		}
		return err
	})
	return c
}

// onlyShared: the definition stays while another agent of these tests uses it.
func onlyShared(t *testing.T, left []string) {
	t.Helper()
	left = slices.DeleteFunc(left, func(text string) bool {
		return env.common != nil && strings.HasPrefix(text, "CustomResourceDefinition/releases.budcluster.io stays: the agent ")
	})
	require.Empty(t, left)
}

// TestRetire: a cluster leaves the fleet, and nothing in it shows that it was
// ever there.
func TestRetire(t *testing.T) {
	before := undisturbed(t)
	s := own(t)
	s.furnish(t, "retire-app")
	c := s.cluster(t)
	require.NotEqual(t, before, snapshot(t))

	started := time.Now()
	_, err := s.hub.client.RetireCluster(t.Context(), s.name, false)
	require.NoError(t, err)
	gone := s.awaitRetired(t, c.ID, func(c hubapi.Cluster) bool { return c.RetiredAt != nil })
	said := time.Since(started)
	onlyShared(t, gone.Left)
	awaitAsBefore(t, before)
	measured(t, "a cluster with one release had left the fleet %s after it was told to, and was as before after %s",
		said.Round(10*time.Millisecond), time.Since(started).Round(100*time.Millisecond))
	proved(t, "after its retirement no object, definition, role, namespace or label of ours is in the cluster, and nothing else was touched")
	s.hub.cli(t, "cluster", "create", s.name)
	proved(t, "its name is free again")
}

// TestRetireByForce: a cluster that does not answer is out at once, and when its
// agent comes back after all, it removes what is ours and itself.
func TestRetireByForce(t *testing.T) {
	before := undisturbed(t)
	s := own(t)
	s.furnish(t, "forced-app")
	c := s.cluster(t)
	scale := func(replicas int) {
		_, err := env.cluster.Kube().AppsV1().Deployments(s.namespace).Patch(t.Context(), agentRelease, types.MergePatchType,
			fmt.Appendf(nil, `{"spec":{"replicas":%d}}`, replicas), metav1.PatchOptions{})
		require.NoError(t, err)
	}
	scale(0)
	s.awaitState(t, hubapi.ClusterUnknown, time.Minute)
	retired, err := s.hub.client.RetireCluster(t.Context(), s.name, true)
	require.NoError(t, err)
	require.NotNil(t, retired.RetiredAt)
	require.Nil(t, retired.GoneAt)
	_, err = env.cluster.Kube().CoreV1().Namespaces().Get(t.Context(), "forced-app", metav1.GetOptions{})
	require.NoError(t, err, "nobody was there to touch anything")

	scale(1)
	back := s.awaitRetired(t, c.ID, func(c hubapi.Cluster) bool { return c.GoneAt != nil })
	onlyShared(t, back.Left)
	awaitAsBefore(t, before)
	proved(t, "an agent that came back to a hub that had retired its cluster by force removed what is ours, and itself")
}

// TestRetireSurvivesKills: the agent is killed while it leaves, twice.
// Whatever it was at, the next one goes on, and none makes anything anew.
func TestRetireSurvivesKills(t *testing.T) {
	before := undisturbed(t)
	s := own(t)
	s.furnish(t, "killed-app")
	c := s.cluster(t)
	_, err := s.hub.client.RetireCluster(t.Context(), s.name, false)
	require.NoError(t, err)
	kills := 0
	kill := func() {
		if pid, err := s.agentProcess(t.Context()); err == nil && syscall.Kill(pid, syscall.SIGKILL) == nil {
			kills++
		}
	}
	kill() // in the middle of the removal of releases, or before it
	gone := s.awaitRetired(t, c.ID, func(c hubapi.Cluster) bool { return c.RetiredAt != nil })
	kill() // in the middle of its own
	onlyShared(t, gone.Left)
	awaitAsBefore(t, before)
	proved(t, "killed %d times while it left, the agent left nothing behind", kills)
}
