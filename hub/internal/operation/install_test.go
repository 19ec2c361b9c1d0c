package operation_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/operation"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

// The hub installs the agent: how far that is, and why it failed, is read from
// the cluster, whoever wrote it.
func TestTheHubInstallsTheAgent(t *testing.T) {
	t.Parallel()
	w := setup(t)
	wf, c, err := w.Register(t.Context(), "ann", operation.Register{Name: "paris", Installs: true, Components: calm})
	require.NoError(t, err)
	waits := func(message string) {
		w.reach(t, wf, func(now *workflow.Workflow) bool { return strings.Contains(now.Steps[0].Message, message) })
	}
	say := func(reason, message string) {
		require.NoError(t, w.clusters.SetDegraded(t.Context(), c.ID, []cluster.Degradation{{Reason: reason, Message: message, Since: time.Now()}}))
	}
	waits("the hub installs the agent")
	say(operation.Installing, "0 of 1 ready: ErrImagePull")
	waits("the hub installs the agent: 0 of 1 ready: ErrImagePull")
	say(operation.NotInstalled, "the image cannot be pulled")
	done := w.end(t, wf)
	require.Equal(t, workflow.StatusFailed, done.Status)
	require.Equal(t, operation.NotInstalled, done.Reason)
	require.Contains(t, done.Message, "the image cannot be pulled")
	require.Equal(t, []string{"Failed"}, w.told(wf))
	gone, err := w.clusters.Get(t.Context(), c.ID.String())
	require.NoError(t, err)
	require.NotNil(t, gone.RetiredAt, "the entry was this run's")
	_, err = w.Retry(t.Context(), "ann", wf.ID.String())
	require.ErrorIs(t, err, workflow.ErrNotRetryable)
	require.ErrorContains(t, err, "upload it again")
}

// A hub that was killed while it installed the agent says nothing more, and the
// kubeconfig is gone: the registration used to wait for a day.
func TestNobodyInstallsTheAgentAnyMore(t *testing.T) {
	t.Parallel()
	w := setup(t)
	wf, c, err := w.Register(t.Context(), "ann", operation.Register{Name: "paris", Installs: true, Components: calm})
	require.NoError(t, err)
	say := func(message string) {
		require.NoError(t, w.clusters.SetDegraded(t.Context(), c.ID, []cluster.Degradation{{Reason: operation.Installing, Message: message, Since: time.Now()}}))
	}
	w.reach(t, wf, func(now *workflow.Workflow) bool { return now.Steps[0].Message != "" })
	w.later.Store(int64(4 * time.Minute))
	say("pulling the image")
	w.reach(t, wf, func(now *workflow.Workflow) bool { return strings.Contains(now.Steps[0].Message, "pulling the image") })
	w.later.Store(int64(6 * time.Minute))
	say("still pulling the image")
	done := w.end(t, wf)
	require.Equal(t, workflow.StatusFailed, done.Status)
	require.Equal(t, operation.InstallerLost, done.Reason)
	require.Contains(t, done.Message, "upload the kubeconfig again")
	require.Equal(t, []string{"Failed"}, w.told(wf))
	w.later.Store(0) // else the next one is given up as well, unless the agent is faster than the first look

	wf, c, err = w.Register(t.Context(), "ann", operation.Register{Name: "paris", Installs: true, Components: calm})
	require.NoError(t, err, "the name is free again")
	w.join(t, &agent{cluster: c.ID})
	require.Equal(t, workflow.StatusCompleted, w.end(t, wf).Status, "an agent that comes is welcome, whoever was at it last")
}

// An agent that the hub installed goes again when the registration fails, after
// what it has to remove; a person's stays.
func TestAnInstalledAgentGoesWithItsRegistration(t *testing.T) {
	t.Parallel()
	w := setup(t)
	for name, installs := range map[string]bool{"ours": true, "a-persons": false} {
		wf, c, err := w.Register(t.Context(), "ann", operation.Register{Name: name, Installs: installs, Components: calm})
		require.NoError(t, err)
		a := w.join(t, &agent{cluster: c.ID, gpu: true, fails: map[string]string{"hami": "hami-x7k2p: CrashLoopBackOff"}})
		done := w.end(t, wf)
		require.Equal(t, workflow.StatusFailed, done.Status, name)
		require.NotContains(t, done.Message, "left behind", name)
		after, err := w.clusters.Get(t.Context(), c.ID.String())
		require.NoError(t, err)
		if installs {
			require.NotNil(t, after.RetiredAt)
			require.NotNil(t, after.GoneAt, "the agent itself said so")
			require.Equal(t, "retired", a.did()[len(a.did())-1], "after all that it removed")
		} else {
			require.Nil(t, after.RetiredAt)
			require.NotContains(t, a.did(), "retired")
		}
	}
}
