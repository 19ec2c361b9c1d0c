//go:build e2e

package suite_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/budecosystem/budcluster/agent/api/v1alpha1"
	"github.com/budecosystem/budcluster/hub/hubapi"
)

// TestSecretCanary gives a release a secret value and looks for it everywhere
// that it must not be. A second release fails on its secret value: errors are
// where secrets escape.
func TestSecretCanary(t *testing.T) {
	s := shared(t)
	canary := "canary-" + strings.ToLower(rand.Text())
	secret := func(value string) func(*hubapi.ReleaseRequest) {
		raw, err := json.Marshal(values{"password": value})
		require.NoError(t, err)
		return func(r *hubapi.ReleaseRequest) { r.SecretValues, r.MaxAttempts = raw, 1 }
	}
	a := newApp(t, s, "with-secret")
	r := a.apply(t, values{"greeting": "hi"}, secret(canary))
	a.settle(t, r.Generation, hubapi.PhaseReady)
	installed, err := env.cluster.Kube().CoreV1().Secrets(a.name).Get(t.Context(), a.name, metav1.GetOptions{})
	require.NoError(t, err)
	require.Equal(t, canary, string(installed.Data["password"]), "the chart got it")

	// The chart's schema allows no blank in it, and Helm's errors quote values.
	bad := newApp(t, s, "with-bad-secret")
	r = bad.apply(t, values{"greeting": "hi"}, secret(canary+" blank"))
	failed := bad.settle(t, r.Generation, hubapi.PhaseFailed)
	t.Logf("the failed one says: %s", failed.Status.Message)

	places := s.placesWithoutSecrets(t, a.name, bad.name)
	encoded := base64.StdEncoding.EncodeToString([]byte(canary))
	for name, content := range places {
		require.NotEmpty(t, content, name)
		require.NotContains(t, content, canary, name)
		require.NotContains(t, content, encoded[:len(encoded)-4], name)
	}
	require.Contains(t, places["custom resources"], "with-secret", "the search sees something")
	require.Contains(t, places["hub's log"], s.name)
	proved(t, "a secret value is in none of: hub's log, agent's log, /v1 (releases, events), custom resources, ConfigMaps, Events, process arguments")
}

// placesWithoutSecrets reads all that people or programs without the right to
// read Secrets may see.
func (s *site) placesWithoutSecrets(t *testing.T, releases ...string) map[string]string {
	t.Helper()
	ctx := t.Context()
	text := func(v any) string {
		raw, err := json.Marshal(v)
		require.NoError(t, err)
		return string(raw)
	}
	places := map[string]string{"agent's log": s.agentLog(t)}
	log, err := os.ReadFile(s.hub.log)
	require.NoError(t, err)
	places["hub's log"] = string(log)

	var events []hubapi.Event
	for after := int64(0); ; {
		page, err := s.hub.client.Events(ctx, hubapi.EventQuery{After: after, Limit: 1000})
		require.NoError(t, err)
		if len(page.Items) == 0 {
			break
		}
		events, after = append(events, page.Items...), page.After
	}
	places["hub's events"] = text(events)
	for _, name := range releases {
		r, err := s.hub.client.Release(ctx, s.name, name)
		require.NoError(t, err)
		places["/v1 release "+name] = text(r)
	}
	resources, err := env.cluster.Dynamic().Resource(v1alpha1.GroupVersionResource()).List(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	places["custom resources"] = text(resources)
	maps, err := env.cluster.Kube().CoreV1().ConfigMaps(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	places["ConfigMaps"] = text(maps)
	kubeEvents, err := env.cluster.Kube().CoreV1().Events(metav1.NamespaceAll).List(ctx, metav1.ListOptions{})
	require.NoError(t, err)
	places["Events"] = text(kubeEvents)
	places["process arguments"] = commandLines(t)
	return places
}

func commandLines(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	require.NoError(t, err)
	var all strings.Builder
	for _, file := range files {
		if line, err := os.ReadFile(file); err == nil {
			all.Write(line)
			all.WriteByte('\n')
		}
	}
	return all.String()
}

// TestNoWildcard asks the API server itself what the agent may do.
func TestNoWildcard(t *testing.T) {
	s := shared(t)
	account := "--as=system:serviceaccount:" + s.namespace + ":" + agentRelease
	out, err := env.cluster.Kubectl(t.Context(), "auth", "can-i", "--list", account, "-n", s.namespace).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Contains(t, string(out), "releases.budcluster.io")
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, " ") { // non-resource URLs, which everybody may read
			continue
		}
		require.NotRegexp(t, `^\*|\*\.\*|\[\*\]$`, strings.TrimSpace(line))
	}
	denied := func(args ...string) {
		out, _ := env.cluster.Kubectl(t.Context(), append(append([]string{"auth", "can-i"}, args...), account)...).CombinedOutput()
		require.Regexp(t, regexp.MustCompile(`(?m)^no`), string(out), "%v", args)
	}
	denied("*", "*", "-A")
	denied("impersonate", "users")
	denied("create", "pods", "--subresource=exec", "-A")
	denied("create", "serviceaccounts", "--subresource=token", "-A")
	denied("create", "nodes")
	denied("delete", "nodes")
	denied("delete", "namespaces")
	denied("escalate", "clusterroles.rbac.authorization.k8s.io")
	proved(t, "the agent's account has no wildcard, and may not impersonate, exec, escalate, or change nodes")
}

// TestTokenIsNowhere: the join token is used up, and still it must be in no log.
func TestTokenIsNowhere(t *testing.T) {
	s := shared(t)
	secret := strings.Split(s.token, ".")[2]
	require.NotContains(t, s.agentLog(t), secret)
	log, err := os.ReadFile(s.hub.log)
	require.NoError(t, err)
	require.NotContains(t, string(log), secret)
	require.NotContains(t, string(log), s.hub.key, "nor is the admin's key in the hub's")
	out, err := env.cluster.Kubectl(context.WithoutCancel(t.Context()), "get", "configmaps,pods,deployments,events", "-n", s.namespace, "-o", "json").Output()
	require.NoError(t, err)
	require.NotContains(t, string(out), secret)
	proved(t, "neither the join token nor the admin's key is in a log, a ConfigMap, a pod or an Event")
}
