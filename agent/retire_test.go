package agent_test

import (
	"context"
	"log/slog"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/budecosystem/budcluster/agent"
	"github.com/budecosystem/budcluster/agent/agenttest"
	"github.com/budecosystem/budcluster/agent/internal/helm"
	"github.com/budecosystem/budcluster/agent/internal/helm/helmtest"
	"github.com/budecosystem/budcluster/agent/internal/retire"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

const ownChart = `
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: "{{ .Release.Namespace }}-retire"}
rules: []
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: agent}
spec:
  replicas: 0
  selector: {matchLabels: {app: agent}}
  template:
    metadata: {labels: {app: agent}}
    spec: {containers: [{name: a, image: a}]}
`

// TestRetire: the agent removes what the hub wanted, says so, and takes itself
// out of the cluster once the hub knows; the next process does not begin anew.
func TestRetire(t *testing.T) {
	t.Parallel()
	b := setup(t)
	client := server.Client(t)
	own, err := helm.New(helm.Config{REST: server.Config(), Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	require.NoError(t, own.Install(t.Context(), helm.Operation{
		Ref: helm.Ref{Namespace: b.cfg.Namespace, Name: "agent"}, Timeout: time.Second,
		Chart: helmtest.Chart(t, "agent", "1.0.0", map[string]string{"templates/all.yaml": ownChart}),
	}))
	anchor := b.cfg.Namespace + "-retire"
	b.cfg.Installation = agent.InstallationConfig{Release: "agent", Deployment: "agent", Anchor: anchor}
	b.giveToken(t, b.hub.Token(t))
	p := b.start(t)
	p.awaitReadyz(t, http.StatusOK, "leading, connected")
	session := b.hub.Session(t, 1)
	r := b.release(t, 1, `{"greeting":"hello"}`)
	b.hub.Want(r)
	b.hub.Await(t, "release", phaseOf(r.GetId(), agentv1.PhaseReady, 1))

	w, err := client.RbacV1().ClusterRoles().Watch(t.Context(), metav1.ListOptions{FieldSelector: "metadata.name=" + anchor})
	require.NoError(t, err)
	defer w.Stop()
	b.hub.Retire(5)
	b.hub.Await(t, "removal", func(s agenttest.HubState) bool {
		return s.Statuses[r.GetId()].GetPhase() == string(agentv1.PhaseRemoved)
	})
	b.hub.Await(t, "the last word", func(s agenttest.HubState) bool { return s.Retired.GetGeneration() == 5 })
	_, err = client.CoreV1().ConfigMaps(b.cfg.Namespace).Get(t.Context(), "web", metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err))
	<-session.Done()
	require.True(t, session.Left(), "it says goodbye")
	for gone := false; !gone; {
		e := <-w.ResultChan()
		gone = e.Type == "DELETED"
	}
	d, err := client.AppsV1().Deployments(b.cfg.Namespace).Get(t.Context(), "agent", metav1.GetOptions{})
	require.NoError(t, err)
	require.NotEmpty(t, d.Annotations[retire.Mark])
	require.Equal(t, anchor, d.OwnerReferences[0].Name)
	identity, err := client.CoreV1().Secrets(b.cfg.Namespace).Get(t.Context(), b.cfg.IdentitySecret, metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, anchor, identity.OwnerReferences[0].Name)
	p.stop()

	// What the garbage collector does meanwhile; a pod that starts now leaves
	// all as it is.
	require.NoError(t, client.CoreV1().Secrets(b.cfg.Namespace).Delete(t.Context(), b.cfg.IdentitySecret, metav1.DeleteOptions{}))
	leases := client.CoordinationV1().Leases(b.cfg.Namespace)
	require.NoError(t, leases.Delete(t.Context(), b.cfg.LeaderElection.LeaseName, metav1.DeleteOptions{}))
	b.giveToken(t, b.hub.Token(t))
	p = b.start(t, func(c *agent.Config) { c.PodName = "agent-1" })
	short, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	<-short.Done()
	p.stop()
	require.Equal(t, 1, b.hub.State().Enrolled)
	_, err = leases.Get(t.Context(), b.cfg.LeaderElection.LeaseName, metav1.GetOptions{})
	require.True(t, apierrors.IsNotFound(err), "the lease is not made again")
}
