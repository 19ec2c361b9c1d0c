package release

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	coordinationv1 "k8s.io/api/coordination/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/budecosystem/budcluster/agent/api/v1alpha1"
	"github.com/budecosystem/budcluster/agent/internal/helm"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

func tree(t *testing.T, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	require.NoError(t, json.Unmarshal([]byte(text), &u.Object))
	return u
}

func TestDiffObjects(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		live, applied string   // the objects
		want          []string // the fields that differ
	}{
		"the same":            {`{"spec":{"a":1}}`, `{"spec":{"a":1}}`, nil},
		"what servers keep":   {`{"metadata":{"resourceVersion":"1","generation":1,"managedFields":[]},"status":{"x":1}}`, `{"metadata":{"resourceVersion":"2","generation":2}}`, nil},
		"a field":             {`{"spec":{"a":1}}`, `{"spec":{"a":2}}`, []string{"spec.a"}},
		"a field taken away":  {`{"spec":{}}`, `{"spec":{"a":{"b":1}}}`, []string{"spec.a"}},
		"nothing in two ways": {`{"spec":{"a":{},"b":null}}`, `{"spec":{"c":[]}}`, nil},
		"a named item":        {`{"spec":{"containers":[{"name":"a","image":"x"},{"name":"b"}]}}`, `{"spec":{"containers":[{"name":"b"},{"name":"a","image":"y"}]}}`, []string{"spec.containers[a].image"}},
		"a list":              {`{"spec":{"args":["a"]}}`, `{"spec":{"args":["b"]}}`, []string{"spec.args"}},
		"a label":             {`{"metadata":{"labels":{"a.b/c":"x"}}}`, `{"metadata":{"labels":{"a.b/c":"y"}}}`, []string{"metadata.labels[a.b/c]"}},
		"other types":         {`{"spec":{"a":[1]}}`, `{"spec":{"a":{"x":1}}}`, []string{"spec.a"}},
	}
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var got []string
			for _, d := range diffObjects(tree(t, c.live), tree(t, c.applied)) {
				got = append(got, d.text)
			}
			require.Equal(t, c.want, got)
		})
	}
}

func FuzzDiffObjects(f *testing.F) {
	f.Add(`{"spec":{"a":[{"name":"x"}]}}`, `{"spec":{"a":[{"name":"x","y":1},{"name":"x"}]}}`)
	f.Fuzz(func(t *testing.T, a, b string) {
		var x, y map[string]any
		if json.Unmarshal([]byte(a), &x) != nil || json.Unmarshal([]byte(b), &y) != nil {
			t.Skip()
		}
		require.Empty(t, diffObjects(&unstructured.Unstructured{Object: x}, &unstructured.Unstructured{Object: x}))
		_ = diffObjects(&unstructured.Unstructured{Object: x}, &unstructured.Unstructured{Object: y})
	})
}

func TestMergeValues(t *testing.T) {
	t.Parallel()
	got, err := mergeValues(json.RawMessage(`{"a":{"b":1,"c":2},"n":9007199254740993,"l":[1]}`), json.RawMessage(`{"a":{"c":3},"l":[2]}`))
	require.NoError(t, err)
	require.Equal(t, map[string]any{"a": map[string]any{"b": int64(1), "c": int64(3)}, "n": int64(9007199254740993), "l": []any{int64(2)}}, got)
	for _, bad := range []string{`[1]`, `"x"`, `{`, `1`} {
		_, err := mergeValues(json.RawMessage(bad), nil)
		require.Error(t, err, bad)
	}
	for _, empty := range []string{``, `null`, `{}`} {
		got, err := mergeValues(json.RawMessage(empty), nil)
		require.NoError(t, err)
		require.Empty(t, got)
	}
}

func FuzzMergeValues(f *testing.F) {
	f.Add([]byte(`{"a":{"b":1}}`), []byte(`{"a":2}`))
	f.Fuzz(func(t *testing.T, a, b []byte) {
		merged, err := mergeValues(a, b)
		if err != nil {
			t.Skip()
		}
		over, err := object(b)
		require.NoError(t, err)
		for key := range over {
			require.Contains(t, merged, key, "what is written over is there")
		}
		first, err := contentHash("sha256:x", merged, nil)
		require.NoError(t, err)
		require.Len(t, first, 32)
		again, err := contentHash("sha256:x", deepCopy(merged), nil)
		require.NoError(t, err)
		require.Equal(t, first, again)
	})
}

func TestContentHash(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, c := range []struct {
		chart   string
		values  map[string]any
		mirrors map[string]string
	}{
		{"a", nil, nil}, {"b", nil, nil}, {"a", map[string]any{"x": 1}, nil}, {"a", nil, map[string]string{"x": "y"}},
	} {
		h, err := contentHash(c.chart, c.values, c.mirrors)
		require.NoError(t, err)
		require.False(t, seen[h])
		seen[h] = true
	}
}

func TestBackoff(t *testing.T) {
	t.Parallel()
	for n, base := range map[int]time.Duration{0: 5 * time.Second, 1: 5 * time.Second, 2: 10 * time.Second, 4: 40 * time.Second, 7: 5 * time.Minute, 1000: 5 * time.Minute} {
		got := backoff(n)
		require.InDelta(t, base.Seconds(), got.Seconds(), base.Seconds()*0.21, "%d", n)
	}
}

// TestBoardSlowReader: a reader that does not read misses what happened in
// between, never the last word.
func TestBoardSlowReader(t *testing.T) {
	t.Parallel()
	b := newBoard()
	b.set(&agentv1.ReleaseStatus{Id: "a", Message: "first"})
	statuses := b.subscribe(t.Context())
	require.Equal(t, "first", (<-statuses).GetMessage())
	b.set(&agentv1.ReleaseStatus{Id: "a", Message: "0"})
	for i := range 100 {
		b.set(&agentv1.ReleaseStatus{Id: "b", Message: fmt.Sprint(i)})
	}
	last := map[string]string{}
	for last["b"] != "99" {
		s := <-statuses
		last[s.GetId()] = s.GetMessage()
	}
	require.Equal(t, "0", last["a"])
	b.end()
	_, open := <-statuses
	require.False(t, open)
}

// agents are two lock holders with a clock that the test turns.
func lockers(t *testing.T, pods ...string) (now *time.Time, all []*locks) {
	t.Helper()
	clock := time.Now()
	typed := fake.NewClientset()
	for _, p := range pods {
		all = append(all, &locks{typed: typed, namespace: "ns", identity: p, now: func() time.Time { return clock }, seen: newSightings()})
	}
	return &clock, all
}

func TestLock(t *testing.T) {
	t.Parallel()
	now, a := lockers(t, "pod-a_1", "pod-b_1", "pod-a_2")
	ctx := t.Context()
	held, release, err := a[0].acquire(ctx, "web")
	require.NoError(t, err)
	require.NoError(t, held.Err())
	_, _, err = a[1].acquire(ctx, "web")
	require.ErrorIs(t, err, errLocked)
	_, other, err := a[1].acquire(ctx, "db")
	require.NoError(t, err, "each release has its own lock")
	other()
	release()
	_, second, err := a[1].acquire(ctx, "web")
	require.NoError(t, err, "a lock that was given back is free at once")
	second()

	require.NoError(t, a[0].take(ctx, "web")) // and dies
	require.ErrorIs(t, a[1].take(ctx, "web"), errLocked)
	*now = now.Add(lockDuration - time.Second)
	require.ErrorIs(t, a[1].take(ctx, "web"), errLocked)
	*now = now.Add(2 * time.Second)
	require.NoError(t, a[1].take(ctx, "web"), "not renewed for its duration, by our own clock")

	require.NoError(t, a[0].write(ctx, "x", func(l *coordinationv1.Lease) error { l.Spec.HolderIdentity = &a[0].identity; return nil }))
	require.NoError(t, a[2].take(ctx, "x"), "an earlier process of the same pod is dead for sure")
}

// TestLostLockFences: whoever lost the lock must not write any more.
func TestLostLockFences(t *testing.T) {
	t.Parallel()
	_, a := lockers(t, "pod-a_1")
	thief := "pod-b_1"
	l := a[0]
	require.NoError(t, l.take(t.Context(), "web"))
	require.NoError(t, l.write(t.Context(), "web", func(lease *coordinationv1.Lease) error { lease.Spec.HolderIdentity = &thief; return nil }))
	ctx, cancel := context.WithCancelCause(t.Context())
	defer cancel(nil)
	l.renew(t.Context(), "web", make(chan struct{}), cancel) // returns when it sees the thief
	require.ErrorIs(t, context.Cause(ctx), helm.ErrFenced)
}

func TestManagerOf(t *testing.T) {
	t.Parallel()
	live := tree(t, `{"metadata":{"managedFields":[
		{"manager":"budcluster","operation":"Apply","time":"2026-01-03T00:00:00Z","fieldsV1":{"f:data":{"f:word":{}}}},
		{"manager":"kubectl-edit","operation":"Update","time":"2026-01-02T00:00:00Z","fieldsV1":{"f:data":{"f:word":{}}}},
		{"manager":"old","operation":"Update","time":"2026-01-01T00:00:00Z","fieldsV1":{"f:data":{"f:word":{}}}}]},"data":{"word":"x"}}`)
	d := diffObjects(live, tree(t, `{"data":{"word":"y"}}`))
	require.Len(t, d, 1)
	require.Equal(t, "kubectl-edit", managerOf(live, d[0].path, fieldManager))
}

func TestMemorySurvivesTheStatus(t *testing.T) {
	t.Parallel()
	m := Memory{
		Generation: 3, Attempts: 2, RetryAt: time.Unix(1_700_000_000, 0).UTC(), FailedOperation: "op", Permanent: true,
		Failure: Reason{Phase: agentv1.PhaseFailed, Code: ReasonInstallFailed, Message: "no"},
	}
	var s v1alpha1.ReleaseStatus
	remember(&s, m, 3)
	require.Equal(t, m, memoryOf(s))
	remember(&s, m, 4)
	require.Equal(t, Memory{Generation: 4, FailedOperation: "op", Failure: Reason{Phase: agentv1.PhaseFailed}}, memoryOf(s))
}

func TestConditions(t *testing.T) {
	t.Parallel()
	var s v1alpha1.ReleaseStatus
	now := time.Now()
	setCondition(&s, v1alpha1.ConditionOrphaned, "r", "", now)
	require.Empty(t, s.Conditions)
	setCondition(&s, v1alpha1.ConditionOrphaned, "r", "kept", now)
	setCondition(&s, v1alpha1.ConditionOrphaned, "r", "kept", now.Add(time.Hour))
	require.Len(t, s.Conditions, 1)
	require.Equal(t, metav1.NewTime(now.UTC().Truncate(time.Second)), s.Conditions[0].LastTransitionTime)
	setCondition(&s, v1alpha1.ConditionOrphaned, "r", "", now)
	require.Empty(t, s.Conditions)
}
