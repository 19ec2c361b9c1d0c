package upgrade_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/helm"
	"github.com/budecosystem/budcluster/agent/internal/upgrade"
)

// inWorld runs a test in fake time.
func inWorld(t *testing.T, fn func(t *testing.T, w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		fn(t, w)
		w.killAll()
	})
}

func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func TestNewOneConnects(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		old := w.start("old-1", "old")
		synctest.Wait()
		require.False(t, old.keeper.Unproven())
		old.keeper.Want(target(1))
		after(4 * time.Second)
		r, template, leader := w.state()
		require.Equal(t, upgrade.Upgrading, r.Phase)
		require.Equal(t, []string{"new", "new-1"}, []string{template, leader}, "the old one stood aside")
		require.True(t, w.pods["new-1"].keeper.Unproven())
		require.False(t, old.keeper.Unproven())
		after(5 * time.Second)
		r, _, leader = w.state()
		require.Equal(t, upgrade.Current, r.Phase)
		require.Equal(t, upgrade.Connected, r.Reason)
		require.Equal(t, "new-1", leader, "the old one may lead again, and does not take the lease away")
		require.False(t, w.pods["new-1"].keeper.Unproven())
		w.kill("old-1") // as the Deployment does once the new one is ready
		after(10 * time.Minute)
		_, template, _ = w.state()
		require.Equal(t, "new", template)
		_, take, cancel := w.pods["new-1"].keeper.Watch()
		defer cancel()
		status, fresh := take()
		require.True(t, fresh)
		require.Equal(t, "Current", status.GetPhase())
		require.Equal(t, "2.0.0", status.GetAgentVersion())
	})
}

// TestImageNeverComes: the old one leads all the time, and returns when the
// time is up, not before and not much later.
func TestImageNeverComes(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		w.image = false
		old := w.start("old-1", "old")
		old.keeper.Want(target(1))
		after(59 * time.Second)
		r, template, leader := w.state()
		require.Equal(t, upgrade.Upgrading, r.Phase)
		require.Equal(t, []string{"new", "old-1"}, []string{template, leader})
		after(3 * time.Second)
		r, template, _ = w.state()
		require.Equal(t, upgrade.RolledBack, r.Phase)
		require.Equal(t, upgrade.NotConnected, r.Reason)
		require.Contains(t, r.Message, "ErrImagePull")
		require.Contains(t, r.Message, "returned to agent 1.0.0")
		require.Equal(t, "old", template)
		require.Equal(t, []string{"leads old-1", "rolled back"}, w.log)
		old.keeper.Want(target(1)) // the same wish again changes nothing
		after(time.Hour)
		require.Len(t, w.log, 2)
		old.keeper.Want(target(2))
		after(time.Second)
		r, _, _ = w.state()
		require.Equal(t, int64(2), r.Generation)
	})
}

// TestNewOneReachesNobody: the old one stood aside, and takes over again.
func TestNewOneReachesNobody(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		w.links = 0
		w.start("old-1", "old").keeper.Want(target(1))
		after(30 * time.Second)
		_, _, leader := w.state()
		require.Equal(t, "new-1", leader)
		after(32 * time.Second)
		r, template, _ := w.state()
		require.Equal(t, upgrade.RolledBack, r.Phase)
		require.Equal(t, "old", template)
		w.kill("new-1") // as the Deployment does
		synctest.Wait()
		_, _, leader = w.state()
		require.Equal(t, "old-1", leader)
	})
}

// TestNewOneIsAlone: the node with the old one is lost. The new one returns by
// itself, a little later.
func TestNewOneIsAlone(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		w.links = 0
		w.start("old-1", "old").keeper.Want(target(1))
		after(10 * time.Second)
		w.kill("old-1")
		after(55 * time.Second)
		r, _, _ := w.state()
		require.Equal(t, upgrade.Upgrading, r.Phase, "it leaves it to an old one")
		after(30 * time.Second)
		r, template, _ := w.state()
		require.Equal(t, upgrade.RolledBack, r.Phase)
		require.Equal(t, "old", template)
	})
}

// TestOldOneIsReplaced: the old one dies in the middle; the pod that its
// template gets instead is an old one too, and carries on.
func TestOldOneIsReplaced(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		w.image = false
		w.start("old-1", "old").keeper.Want(target(1))
		after(10 * time.Second)
		w.kill("old-1")
		w.start("old-2", "old")
		after(time.Minute)
		r, template, leader := w.state()
		require.Equal(t, upgrade.RolledBack, r.Phase, "to reach the hub does not make it the new one")
		require.Equal(t, []string{"old", "old-2"}, []string{template, leader})
	})
}

// TestTwoOldOnes: a standby stands aside as well.
func TestTwoOldOnes(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		w.start("old-1", "old").keeper.Want(target(1))
		w.start("old-2", "old")
		after(20 * time.Second)
		r, _, leader := w.state()
		require.Equal(t, "new-1", leader)
		require.Equal(t, upgrade.Current, r.Phase)
	})
}

func TestHelmRefuses(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		w.failing = errRefused
		w.start("old-1", "old").keeper.Want(target(1))
		after(5 * time.Second)
		r, _, leader := w.state()
		require.Equal(t, upgrade.RolledBack, r.Phase)
		require.Equal(t, upgrade.NotApplied, r.Reason)
		require.Contains(t, r.Message, "RBAC permissions")
		require.Equal(t, "old-1", leader)
	})
}

// TestKilledInHelm: what Helm left says what became of it.
func TestKilledInHelm(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		w.slow = 20 * time.Second
		w.start("old-1", "old").keeper.Want(target(1))
		after(10 * time.Second)
		w.kill("old-1")
		w.start("old-2", "old")
		after(5 * time.Second)
		r, template, _ := w.state()
		require.Equal(t, upgrade.RolledBack, r.Phase)
		require.Equal(t, "old", template)
	})
}

// TestKilledBeforeHelm: the next leader does it.
func TestKilledBeforeHelm(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		require.NoError(t, w.Save(t.Context(), upgrade.Record{
			Generation: 1, Phase: upgrade.Upgrading, FromHash: "old", FromRevision: 1, Operation: "op", ConnectWithin: time.Minute,
			Digest: target(1).GetChart().GetDigest(), StartedAt: time.Now(),
		}, ""))
		w.start("old-2", "old")
		after(20 * time.Second)
		r, template, _ := w.state()
		require.Equal(t, upgrade.Current, r.Phase)
		require.Equal(t, "new", template)
	})
}

// TestReturnIsTakenOver: who returns may die of it.
func TestReturnIsTakenOver(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		require.NoError(t, w.Save(t.Context(), upgrade.Record{
			Generation: 1, Phase: upgrade.Returning, FromHash: "old", FromRevision: 1, Operation: "op", Holder: "old-1", HeldAt: time.Now(),
		}, ""))
		w.start("old-2", "old")
		after(59 * time.Second)
		r, _, _ := w.state()
		require.Equal(t, upgrade.Returning, r.Phase)
		after(4 * time.Second)
		r, _, _ = w.state()
		require.Equal(t, upgrade.RolledBack, r.Phase)
	})
}

func TestSameTemplate(t *testing.T) {
	t.Parallel()
	inWorld(t, func(t *testing.T, w *world) {
		w.next = "old"
		w.start("old-1", "old").keeper.Want(target(1))
		after(2 * time.Second)
		r, _, leader := w.state()
		require.Equal(t, upgrade.Current, r.Phase)
		require.Equal(t, upgrade.Unchanged, r.Reason)
		require.Equal(t, "old-1", leader)
	})
}

// TestRefusals: nothing is changed, and the hub is told why.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		history helm.History
		reason  upgrade.Reason
		phase   upgrade.Phase
	}{
		"not by helm":      {nil, upgrade.NotByHelm, upgrade.Failed},
		"somebody's work":  {helm.History{{Revision: 3, Status: helm.StatusPendingUpgrade}}, upgrade.Busy, upgrade.Failed},
		"that very chart":  {helm.History{{Revision: 3, Status: helm.StatusDeployed, Labels: helm.Labels{Content: target(1).GetChart().GetDigest()[7:47]}}}, upgrade.Unchanged, upgrade.Current},
		"a failed upgrade": {helm.History{{Revision: 3, Status: helm.StatusFailed}}, upgrade.Busy, upgrade.Failed},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inWorld(t, func(t *testing.T, w *world) {
				w.history = c.history
				w.start("old-1", "old").keeper.Want(target(1))
				after(2 * time.Second)
				r, template, _ := w.state()
				require.Equal(t, c.reason, r.Reason)
				require.Equal(t, c.phase, r.Phase)
				require.Equal(t, "old", template)
			})
		})
	}
}
