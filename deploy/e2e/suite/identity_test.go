//go:build e2e

package suite_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

// shortLife is a certificate's lifetime that a test can wait for.
const shortLife = 30 * time.Second

func TestCertificateRenewed(t *testing.T) {
	s := own(t, "--certificate-lifetime", shortLife.String())
	first := s.notAfter(t)
	session := s.cluster(t).Session
	require.NotNil(t, session)
	// Past the end of the first one: only a renewal can have kept it going.
	await(t, 2*shortLife+30*time.Second, "a second renewal", func(ctx context.Context) error {
		events, err := s.hub.client.Events(ctx, hubapi.EventQuery{Cluster: s.name, Types: []string{"certificate.issued"}, Limit: 100})
		if err != nil {
			return err
		}
		if len(events.Items) < 3 {
			return fmt.Errorf("%d certificates were issued", len(events.Items))
		}
		return nil
	})
	require.True(t, time.Now().After(first), "the first certificate is over")
	s.awaitState(t, hubapi.ClusterConnected, 20*time.Second)
	require.True(t, s.notAfter(t).After(first))
	proved(t, "with certificates of %s the agent renewed by itself, twice, and is connected after the end of its first one", shortLife)
}

func (s *site) notAfter(t *testing.T) (at time.Time) {
	t.Helper()
	await(t, 30*time.Second, "the agent to say when its certificate ends", func(ctx context.Context) error {
		a, err := s.hub.client.Agent(ctx, s.name)
		if err != nil {
			return err
		}
		if a.CertificateNotAfter == nil {
			return fmt.Errorf("it says %+v", a)
		}
		at = *a.CertificateNotAfter
		return nil
	})
	return at
}

// TestHubAwayForACertificate: the hub is gone for longer than the agent's
// certificate lives. Nothing in the cluster is touched meanwhile or after.
func TestHubAwayForACertificate(t *testing.T) {
	s := own(t, "--certificate-lifetime", shortLife.String())
	a := newApp(t, s, "hub-away")
	r := a.apply(t, values{"greeting": "still here"})
	a.settle(t, r.Generation, hubapi.PhaseReady)
	before := a.snapshot(t)
	agentBefore, err := s.agentPod(t.Context())
	require.NoError(t, err)
	ends := s.notAfter(t)

	s.hub.kill()
	away := time.Now()
	// A Deployment's pod that dies meanwhile comes back without any of us.
	until := time.NewTimer(time.Until(ends) + 5*time.Second + shortLife)
	defer until.Stop()
	select {
	case <-until.C:
	case <-t.Context().Done():
		t.Fatal("stopped while the hub was away")
	}
	require.Equal(t, before, a.snapshot(t), "while the hub was away nothing was touched")
	s.hub.again(t)
	back := time.Now()
	s.awaitState(t, hubapi.ClusterConnected, time.Minute)
	measured(t, "hub away for %s, longer than a certificate: connected %s after it was back",
		back.Sub(away).Round(time.Second), time.Since(back).Round(100*time.Millisecond))
	await(t, 30*time.Second, "the release to be Ready at the hub", func(ctx context.Context) error {
		now, err := s.hub.client.Release(ctx, s.name, a.name)
		if err != nil {
			return err
		}
		if now.Status.Phase != hubapi.PhaseReady || now.Generation != r.Generation {
			return fmt.Errorf("%s, generation %d", now.Status.Phase, now.Generation)
		}
		return nil
	})
	require.Equal(t, before, a.snapshot(t), "and nothing was touched when it came back")
	agentAfter, err := s.agentPod(t.Context())
	require.NoError(t, err)
	require.Equal(t, agentBefore.UID, agentAfter.UID)
	require.Equal(t, agentBefore.Status.ContainerStatuses[0].RestartCount, agentAfter.Status.ContainerStatuses[0].RestartCount, "the agent did not restart")
	proved(t, "the hub was away for longer than a certificate lives: the agent renewed its expired one, and no object of the release was touched (same UIDs and resource versions)")
}

// snapshot is every object in the release's namespace with its version; of
// pods, with the spec's version and the restarts.
func (a *app) snapshot(t *testing.T) map[string]string {
	t.Helper()
	seen := map[string]string{}
	note := func(kind string, o metav1.ObjectMeta) {
		seen[kind+"/"+o.Name] = string(o.UID) + " " + o.ResourceVersion
	}
	ctx, kube := t.Context(), env.cluster.Kube()
	pods, err := kube.CoreV1().Pods(a.name).List(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	for _, o := range pods.Items { // the kubelet writes their status when it likes
		o.ResourceVersion = fmt.Sprint(o.Generation, " ", o.Status.ContainerStatuses[0].RestartCount)
		note("pod", o.ObjectMeta)
	}
	deployments, err := kube.AppsV1().Deployments(a.name).List(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	for _, o := range deployments.Items {
		note("deployment", o.ObjectMeta)
	}
	services, err := kube.CoreV1().Services(a.name).List(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	for _, o := range services.Items {
		note("service", o.ObjectMeta)
	}
	secrets, err := kube.CoreV1().Secrets(a.name).List(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	for _, o := range secrets.Items {
		note("secret", o.ObjectMeta)
	}
	require.NotEmpty(t, seen)
	return seen
}

func TestRevoked(t *testing.T) {
	s := own(t)
	a := newApp(t, s, "revoked")
	r := a.apply(t, values{"greeting": "stays"})
	a.settle(t, r.Generation, hubapi.PhaseReady)
	before := a.snapshot(t)

	started := time.Now()
	_, err := s.hub.client.RevokeCluster(t.Context(), s.name)
	require.NoError(t, err)
	var took time.Duration
	await(t, 30*time.Second, "the session to end", func(ctx context.Context) error {
		c, err := s.hub.client.Cluster(ctx, s.name)
		if err != nil {
			return err
		}
		if c.Session != nil {
			return fmt.Errorf("it is open still: %+v", c.Session)
		}
		if _, err := s.hub.client.Agent(ctx, s.name); err == nil {
			return fmt.Errorf("the agent still answers")
		}
		took = time.Since(started)
		return nil
	})
	measured(t, "revoked to cut off: %s (bar: %s)", took.Round(time.Millisecond), revokeBar)
	require.Less(t, took, revokeBar)
	await(t, time.Minute, "the agent to say why", func(ctx context.Context) error {
		return s.logSays(ctx, `(?i)revoked`)
	})
	// It must stay out: also a new process with the same identity.
	s.restartAgent(t)
	await(t, time.Minute, "the next agent to be refused too", func(ctx context.Context) error {
		return s.logSays(ctx, `(?i)revoked`)
	})
	c := s.cluster(t)
	require.Equal(t, hubapi.ClusterRevoked, c.State)
	require.Nil(t, c.Session)
	require.Equal(t, before, a.snapshot(t))
	proved(t, "a revoked cluster is cut off in %s and stays out, the agent says why, and what runs there is not touched", took.Round(time.Millisecond))
}
