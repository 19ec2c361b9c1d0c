//go:build e2e

package suite_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

// blow is something that goes wrong at a step's boundary.
type blow struct {
	name   string
	strike func(t *testing.T, o *ordeal)
	// retries: an operation of Helm may be cut off by it, which then leaves a
	// record that says so, and is made again.
	retries bool
}

// killHub is kill -9, and another hub.
func killHub() blow {
	return blow{name: "hub", strike: func(t *testing.T, o *ordeal) {
		t.Helper()
		o.hub.kill()
		o.hub.again(t)
	}}
}

// TestHubCrashesAtEveryStep: what TestOthersCrashAtEveryStep does to the agent
// and to PostgreSQL is done to the hub.
func TestHubCrashesAtEveryStep(t *testing.T) { crashAtEveryStep(t, killHub()) }

// crashAtEveryStep registers a cluster with pretended GPUs and removes it again,
// as the platform asks for that, and strikes at every boundary of every step.
// It ends right: with one terminal result, each step done once and each chart
// installed once, and after the removal the cluster is as before.
func crashAtEveryStep(t *testing.T, blows ...blow) {
	t.Helper()
	o := newOrdeal(t)
	for _, b := range blows {
		t.Run(b.name, func(t *testing.T) {
			before := o.prepare(t)
			r := o.register(t, b, "crash-"+b.name, always)
			d := o.remove(t, b, r.clusterID, always)
			awaitAsBefore(t, before)
			measured(t, "%s struck at each of %d boundaries: registered in %s, removed in %s", b.name, len(r.struck)+len(d.struck),
				r.took.Round(100*time.Millisecond), d.took.Round(100*time.Millisecond))
			proved(t, "%s struck after %s: both workflows Completed, with one terminal result each, every chart installed once, and the cluster is as before",
				b.name, strings.Join(append(r.struck, d.struck...), ", "))
		})
	}
}

// ordeal is a hub that stands in for the platform's cluster service. What it
// needs outlives it: a PostgreSQL of its own, and the platform.
type ordeal struct {
	hub      *hub
	database *postgres
	platform *platform
}

func newOrdeal(t *testing.T) *ordeal {
	t.Helper()
	pretendGPUs(t)
	o := &ordeal{database: newPostgres(t), platform: newPlatform(t)}
	dir := t.TempDir()
	ca, url := filepath.Join(dir, "ca.crt"), filepath.Join(dir, "url")
	require.NoError(t, os.WriteFile(ca, o.database.ca, 0o600))
	require.NoError(t, os.WriteFile(url, []byte(o.database.url(ca)), 0o600))
	components, _ := standIns(t)
	o.hub = newHub(t, append(o.platform.flags(), "--database-url-file", url, "--components-dir", components, "--workflows-lease", "2s")...)
	return o
}

// prepare has what is left of a run that failed removed, and gives what is
// there before the next one.
func (o *ordeal) prepare(t *testing.T) map[thing]string {
	t.Helper()
	before := undisturbed(t)
	t.Cleanup(func() {
		if t.Failed() {
			s := &site{hub: o.hub, namespace: agentSpace}
			s.explain(t)
			s.leave(t)
		}
	})
	return before
}

// agentSpace is where the hub puts the agents that it installs.
const agentSpace = "budcluster-system"

// always is a choice of all boundaries.
func always(int) bool { return true }

// passage is a workflow that was carried through.
type passage struct {
	workflow  hubapi.Workflow
	clusterID string
	took      time.Duration
	struck    []string // the boundaries
	// boundaries are the numbers of the steps with which others were over in the
	// same blink of an eye, the last of each; 0 is the begin.
	boundaries []int
}

// register has the platform register the cluster, and the blow struck at the
// boundaries that are chosen.
func (o *ordeal) register(t *testing.T, b blow, name string, chosen func(boundary int) bool) passage {
	t.Helper()
	helmBefore := helmRecords(t)
	w := o.platform.register(t, name)
	p := o.carry(t, b, w.workflow, chosen)
	o.requireOneEnd(t, w, p.workflow)
	o.requireOneOfEach(t, b, p.clusterID, helmBefore)
	return p
}

// remove has the platform remove it.
func (o *ordeal) remove(t *testing.T, b blow, clusterID string, chosen func(boundary int) bool) passage {
	t.Helper()
	w := o.platform.delete(t, clusterID)
	p := o.carry(t, b, w.workflow, chosen)
	o.requireOneEnd(t, w, p.workflow)
	return p
}

// carry follows a workflow to its end and strikes at boundaries: when it has
// begun, and each time that a step is over. Steps that are skipped within the
// same blink of an eye are one boundary.
func (o *ordeal) carry(t *testing.T, b blow, id string, chosen func(boundary int) bool) passage {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	started := time.Now()
	var p passage
	strike := func(boundary string) {
		t.Logf("%6s  %s: %s is struck", time.Since(started).Round(100*time.Millisecond), boundary, b.name)
		b.strike(t, o)
		p.struck = append(p.struck, boundary)
	}
	p.boundaries = append(p.boundaries, 0)
	if chosen(0) {
		strike("begun")
	}
	over := map[string]bool{}
	for w, err := range o.hub.client.WatchWorkflow(ctx, id) {
		require.NoError(t, err, "the workflow is %s", p.workflow.Status)
		p.workflow, p.clusterID = w, w.ClusterID
		var passed []string // at once
		hit, last := false, 0
		for i, step := range w.Steps {
			if step.Status.Settled() && !over[step.Name] {
				over[step.Name] = true
				passed, hit, last = append(passed, step.Name), hit || chosen(i+1), i+1
				t.Logf("%6s  %s: %s %s", time.Since(started).Round(100*time.Millisecond), step.Name, step.Status, step.Message)
			}
		}
		if last > 0 {
			p.boundaries = append(p.boundaries, last)
		}
		if hit {
			strike(strings.Join(passed, " and "))
		}
	}
	p.took = time.Since(started)
	require.Equal(t, hubapi.WorkflowCompleted, p.workflow.Status, "%s: %s", p.workflow.Reason, p.workflow.Message)
	return p
}

// requireOneEnd checks that the workflow ended once for everybody, and each of
// its steps too.
func (o *ordeal) requireOneEnd(t *testing.T, a asked, w hubapi.Workflow) {
	t.Helper()
	last := w.CreatedAt
	for _, step := range w.Steps {
		require.Contains(t, []hubapi.StepStatus{hubapi.StepCompleted, hubapi.StepSkipped}, step.Status, "%s: %s", step.Name, step.Message)
		require.NotNil(t, step.FinishedAt, step.Name)
		require.False(t, step.FinishedAt.Before(last), "%s was over before the step before it", step.Name)
		last = *step.FinishedAt
	}

	want := map[string]int{"workflow.started": 1, "workflow.finished": 1}
	for _, step := range w.Steps {
		want["workflow.step "+step.Name] = 1
	}
	got := map[string]int{}
	q := hubapi.EventQuery{Cluster: w.ClusterID, Types: []string{"workflow.started", "workflow.step", "workflow.finished"}, Limit: 1000}
	var events hubapi.EventList
	await(t, time.Minute, "the events", func(ctx context.Context) (err error) { // the last blow may be felt still
		events, err = o.hub.client.Events(ctx, q)
		return err
	})
	require.Less(t, len(events.Items), q.Limit, "there are more events than were read")
	for _, e := range events.Items {
		var data struct {
			Step  string
			State hubapi.StepStatus
		}
		require.NoError(t, json.Unmarshal(e.Data, &data))
		switch {
		case e.Subject != w.ID:
		case data.Step == "":
			got[e.Type]++
		case data.State.Settled():
			got[e.Type+" "+data.Step]++
		}
	}
	require.Equal(t, want, got, "what /v1/events says of the workflow")

	var told []string
	await(t, time.Minute, "the platform to hear of the end", func(context.Context) error {
		if told = o.platform.told(a); !slices.Contains(told, "results COMPLETED") {
			return fmt.Errorf("it heard %v", told)
		}
		return nil
	})
	told = slices.DeleteFunc(told, func(message string) bool { return message == "eta RUNNING" })
	for _, message := range told {
		require.True(t, strings.HasSuffix(message, " COMPLETED") || strings.HasSuffix(message, " STARTED"), "it heard %v", told)
	}
	require.Len(t, slices.Compact(slices.Sorted(slices.Values(told))), len(told), "it heard something twice: %v", told)
	require.Equal(t, "results COMPLETED", told[len(told)-1], "the last that it heard")
}

// requireOneOfEach checks that what the hub wants is in the cluster once, and
// nothing beside it.
func (o *ordeal) requireOneOfEach(t *testing.T, b blow, clusterID string, before map[string][]string) {
	t.Helper()
	wanted := []string{agentSpace + "/" + agentRelease}
	for r, err := range o.hub.client.AllReleases(t.Context(), hubapi.ReleaseQuery{Cluster: clusterID}) {
		require.NoError(t, err)
		require.EqualValues(t, 1, r.Generation, r.Name)
		wanted = append(wanted, r.Namespace+"/"+r.Name)
	}
	require.Greater(t, len(wanted), 4, "%v", wanted)
	now := helmRecords(t)
	maps.DeleteFunc(now, func(name string, _ []string) bool { return before[name] != nil })
	require.ElementsMatch(t, wanted, slices.Collect(maps.Keys(now)), "Helm's releases")
	for name, records := range now {
		if b.retries {
			for _, record := range records[:len(records)-1] {
				require.Contains(t, record, " failed", "%s: only what was cut off is made again: %v", name, records)
			}
			require.Contains(t, records[len(records)-1], " deployed", "%s: %v", name, records)
			continue
		}
		require.Equal(t, []string{"1 deployed"}, records, name)
	}
}

// helmRecords are Helm's records of all releases, by namespace and name, oldest
// first.
func helmRecords(t *testing.T) map[string][]string {
	t.Helper()
	secrets, err := env.cluster.Kube().CoreV1().Secrets("").List(t.Context(), metav1.ListOptions{LabelSelector: "owner=helm"})
	require.NoError(t, err)
	all := map[string][]string{}
	for _, s := range secrets.Items { // by name, so by revision up to the ninth
		name := s.Namespace + "/" + s.Labels["name"]
		all[name] = append(all[name], s.Labels["version"]+" "+s.Labels["status"])
	}
	return all
}

// killAgent ends the agent's process as a crash would. Before the agent is
// there, and when it has left, there is nothing to kill.
func (o *ordeal) killAgent(t *testing.T) {
	t.Helper()
	pid, err := (&site{namespace: agentSpace}).agentProcess(t.Context())
	if err == nil {
		err = syscall.Kill(pid, syscall.SIGKILL)
	}
	if err != nil {
		t.Logf("nothing was killed: %v", err)
	}
}
