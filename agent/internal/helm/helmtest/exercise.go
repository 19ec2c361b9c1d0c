package helmtest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/helm"
)

// ConfigMapTemplate is a chart's template that shows its value "word".
const ConfigMapTemplate = `apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}
data:
  word: {{ .Values.word | default "none" | quote }}
`

// bench is one release of one backend.
type bench struct {
	client *helm.Client
	ref    helm.Ref
	chart  []byte
}

func (b *bench) operation(word, content, id string) helm.Operation {
	return helm.Operation{
		Ref: b.ref, Chart: b.chart, Values: map[string]any{"word": word}, Timeout: 10 * time.Second,
		Labels: helm.Labels{ReleaseID: "release-1", Operation: id, Content: content},
	}
}

func (b *bench) latest(t *testing.T) helm.Record {
	t.Helper()
	h, err := b.client.History(t.Context(), b.ref)
	require.NoError(t, err)
	r, ok := h.Latest()
	require.True(t, ok, "no record")
	return r
}

// Exercise is what every backend must do. open returns a client and a
// namespace of the test's own.
func Exercise(t *testing.T, open func(t *testing.T) (*helm.Client, string)) {
	t.Helper()
	cases := map[string]func(*testing.T, *bench){
		"life":        exerciseLife,
		"replace":     exerciseReplace,
		"bad chart":   exerciseBadChart,
		"schema":      exerciseSchema,
		"stopped":     exerciseStopped,
		"fenced":      exerciseFenced,
		"unlock":      exerciseUnlock,
		"empty value": exerciseEmptyValues,
	}
	for name, run := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			client, namespace := open(t)
			run(t, &bench{
				client: client, ref: helm.Ref{Namespace: namespace, Name: "web"},
				chart: Chart(t, "web", "1.2.3", map[string]string{"templates/cm.yaml": ConfigMapTemplate}),
			})
		})
	}
}

// exerciseLife goes once through all operations and reads each back.
func exerciseLife(t *testing.T, b *bench) {
	ctx := t.Context()
	h, err := b.client.History(ctx, b.ref)
	require.NoError(t, err)
	require.Empty(t, h)

	require.NoError(t, b.client.Install(ctx, b.operation("one", "content-1", "op-1")))
	r := b.latest(t)
	require.Equal(t, helm.StatusDeployed, r.Status)
	require.Equal(t, helm.Labels{ReleaseID: "release-1", Operation: "op-1", Content: "content-1"}, r.Labels)
	require.False(t, r.Ready)
	require.WithinDuration(t, time.Now(), r.ChangedAt, time.Minute)

	require.NoError(t, b.client.MarkReady(ctx, b.ref, r.Revision))
	require.True(t, b.latest(t).Ready)

	require.NoError(t, b.client.Upgrade(ctx, b.operation("two", "content-2", "op-2")))
	r = b.latest(t)
	require.Equal(t, helm.StatusDeployed, r.Status)
	require.Equal(t, "content-2", r.Content)
	require.False(t, r.Ready, "a new revision has not been ready yet")

	require.NoError(t, b.client.Rollback(ctx, b.ref, 1, helm.Labels{ReleaseID: "release-1", Operation: "op-3"}, time.Second))
	r = b.latest(t)
	require.Equal(t, helm.StatusDeployed, r.Status)
	require.Equal(t, "op-3", r.Operation)
	require.Equal(t, "content-1", r.Content, "a rollback has the content of what it returned to")
	h, err = b.client.History(ctx, b.ref)
	require.NoError(t, err)
	require.False(t, h.Copied())
	require.True(t, h.Established())

	require.NoError(t, b.client.Uninstall(ctx, b.ref, time.Second))
	require.Equal(t, helm.StatusUninstalled, b.latest(t).Status)
	require.NoError(t, b.client.Purge(ctx, b.ref))
	require.NoError(t, b.client.Purge(ctx, b.ref))
	h, err = b.client.History(ctx, b.ref)
	require.NoError(t, err)
	require.Empty(t, h)
}

// exerciseReplace repeats an install that failed.
func exerciseReplace(t *testing.T, b *bench) {
	ctx := t.Context()
	require.NoError(t, b.client.Install(ctx, b.operation("one", "content-1", "op-1")))
	require.NoError(t, b.client.Uninstall(ctx, b.ref, time.Second))
	require.NoError(t, b.client.Install(ctx, b.operation("two", "content-2", "op-2")))
	r := b.latest(t)
	require.Equal(t, 2, r.Revision)
	require.Equal(t, "content-2", r.Content)
}

// exerciseBadChart gives what is no chart, and templates that do not render.
func exerciseBadChart(t *testing.T, b *bench) {
	ctx := t.Context()
	op := b.operation("one", "content-1", "op-1")
	op.Chart = []byte("no chart at all")
	err := b.client.Install(ctx, op)
	require.Error(t, err)
	require.True(t, helm.IsPermanent(err))

	op.Chart = Chart(t, "web", "1.0.0", map[string]string{"templates/x.yaml": `{{ fail "the word is missing" }}`})
	err = b.client.Install(ctx, op)
	require.Error(t, err)
	require.False(t, helm.IsPermanent(err))
	require.NotContains(t, err.Error(), "\n")
	require.Contains(t, err.Error(), "the word is missing")
	h, err := b.client.History(ctx, b.ref)
	require.NoError(t, err)
	require.Empty(t, h, "nothing was applied, so nothing is recorded")
}

// exerciseSchema gives values that the chart's schema refuses.
func exerciseSchema(t *testing.T, b *bench) {
	op := b.operation("one", "content-1", "op-1")
	op.Chart = Chart(t, "web", "1.0.0", map[string]string{
		"values.schema.json": `{"type":"object","properties":{"word":{"type":"integer"}}}`,
		"templates/cm.yaml":  ConfigMapTemplate,
	})
	err := b.client.Install(t.Context(), op)
	require.Error(t, err)
	require.True(t, helm.IsPermanent(err), err.Error())
	require.NotContains(t, err.Error(), "\n")
	require.Contains(t, err.Error(), "word")
}

// exerciseStopped ends the context before the operation: nothing is pending.
func exerciseStopped(t *testing.T, b *bench) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, b.client.Install(ctx, b.operation("one", "content-1", "op-1")), context.Canceled)
	h, err := b.client.History(t.Context(), b.ref)
	require.NoError(t, err)
	require.Empty(t, h)
}

// exerciseFenced loses the lock: nothing is written any more.
func exerciseFenced(t *testing.T, b *bench) {
	require.NoError(t, b.client.Install(t.Context(), b.operation("one", "content-1", "op-1")))
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(helm.ErrFenced)
	require.ErrorIs(t, b.client.Upgrade(ctx, b.operation("two", "content-2", "op-2")), helm.ErrFenced)
	require.Equal(t, "content-1", b.latest(t).Content)
}

// exerciseUnlock frees a record that a dead agent left pending.
func exerciseUnlock(t *testing.T, b *bench) {
	ctx := t.Context()
	require.NoError(t, b.client.Install(ctx, b.operation("one", "content-1", "op-1")))
	require.NoError(t, b.client.Unlock(ctx, b.ref, 1, "not pending, so left alone"))
	require.Equal(t, helm.StatusDeployed, b.latest(t).Status)
	require.ErrorIs(t, b.client.Unlock(ctx, b.ref, 7, ""), helm.ErrNoRecord)
}

// exerciseEmptyValues upgrades to no values at all, which is not "as before".
func exerciseEmptyValues(t *testing.T, b *bench) {
	ctx := t.Context()
	require.NoError(t, b.client.Install(ctx, b.operation("one", "content-1", "op-1")))
	op := b.operation("", "content-2", "op-2")
	op.Values = map[string]any{}
	require.NoError(t, b.client.Upgrade(ctx, op))
	d, err := b.client.Details(ctx, helm.NewKinds(CoreKinds{}), b.ref, 2)
	require.NoError(t, err)
	require.Len(t, d.Objects, 1)
	word, _, _ := unstructuredString(d.Objects[0], "data", "word")
	require.Equal(t, "none", word)
	require.Equal(t, "1.2.3", d.ChartVersion)
	require.Equal(t, "1.2.3-app", d.AppVersion)
}
