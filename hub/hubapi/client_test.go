package hubapi_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"testing/fstest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/budecosystem/budcluster/hub/apitest"
	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/internal/access"
	"github.com/budecosystem/budcluster/hub/internal/chart"
	"github.com/budecosystem/budcluster/hub/internal/event"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The client's phases are its own, so that it needs no protocol; they must be
// the agent's.
func TestPhasesAreTheAgents(t *testing.T) {
	t.Parallel()
	ours := []hubapi.Phase{
		hubapi.PhasePending, hubapi.PhaseInstalling, hubapi.PhaseUpgrading, hubapi.PhaseRollingBack, hubapi.PhaseProgressing, hubapi.PhaseReady,
		hubapi.PhaseDrifted, hubapi.PhaseAdopted, hubapi.PhaseLocked, hubapi.PhaseFailed, hubapi.PhaseRemoving, hubapi.PhaseRemoved,
	}
	theirs := agentv1.Phases()
	require.Len(t, ours, len(theirs))
	for i, p := range theirs {
		require.Equal(t, string(p), string(ours[i]))
		require.Equal(t, p.Settled(), ours[i].Settled(), p)
	}
	require.False(t, hubapi.Phase("Hibernating").Settled(), "what a newer agent may say")
}

func TestParseURL(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"http://h", "https://h:8080", "https://h/base/", "http://[::1]:8080"} {
		_, err := hubapi.ParseURL(good)
		require.NoError(t, err, good)
	}
	for _, bad := range []string{"", "h:8080", "ftp://h", "https://", "https://u:p@h", "https://h?x=y", "https://h#x", "://", "http://h\x00"} {
		_, err := hubapi.ParseURL(bad)
		require.Error(t, err, bad)
		require.NotContains(t, err.Error(), "u:p")
	}
	_, err := hubapi.New("http://h", "a b", hubapi.Options{})
	require.ErrorContains(t, err, "white space")
}

// Names are escaped: one with a slash must not reach another route.
func TestPathsAreEscaped(t *testing.T) {
	t.Parallel()
	var got string
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got = r.URL.EscapedPath()
		_, _ = w.Write([]byte("{}"))
	}))
	t.Cleanup(srv.Close)
	c, err := hubapi.New(srv.URL+"/base/", "k", hubapi.Options{})
	require.NoError(t, err)
	_, err = c.Node(t.Context(), "a/../b", "n?x=y%2F")
	require.NoError(t, err)
	require.Equal(t, "/base/v1/clusters/a%2F..%2Fb/nodes/n%3Fx=y%252F", got)
}

func TestErrors(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	c := h.Client(t, access.RoleViewer)
	_, err := c.Cluster(t.Context(), "absent")
	var p *hubapi.Problem
	require.ErrorAs(t, err, &p)
	require.Equal(t, hubapi.CodeNotFound, p.Code)
	require.True(t, hubapi.IsNotFound(err))
	require.NotEmpty(t, p.RequestID)
	_, err = c.Keys(t.Context())
	require.True(t, hubapi.IsUnauthorised(err))
	h.AddCluster("edge")
	_, err = h.Client(t, access.RoleAdmin).CreateCluster(t.Context(), hubapi.CreateClusterRequest{Name: "edge"})
	require.True(t, hubapi.IsConflict(err))

	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("the operator left"))
	_, err = c.Clusters(ctx, hubapi.PageOptions{})
	require.ErrorContains(t, err, "the operator left")

	away, err := hubapi.New("http://127.0.0.1:1", "", hubapi.Options{})
	require.NoError(t, err)
	_, err = away.WhoAmI(t.Context())
	var u *hubapi.UnreachableError
	require.ErrorAs(t, err, &u)
	require.True(t, hubapi.IsUnavailable(err))
	require.ErrorContains(t, err, "hub http://127.0.0.1:1 cannot be reached: dial tcp")
}

// A proxy that answers in the hub's place is named as such.
func TestForeignAnswers(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		"<html>502</html>":       "answered 502 Bad Gateway, not in the form of a hub; check that the address is a hub's and what stands between.",
		"upstream\n timed   out": "It said: upstream timed out",
		`{"message":"no"}`:       `It said: {"message":"no"}`,
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", "7")
			w.WriteHeader(http.StatusBadGateway)
			_, _ = w.Write([]byte(body))
		}))
		t.Cleanup(srv.Close)
		c, err := hubapi.New(srv.URL, "k", hubapi.Options{})
		require.NoError(t, err)
		_, err = c.WhoAmI(t.Context())
		var p *hubapi.Problem
		require.ErrorAs(t, err, &p)
		require.ErrorContains(t, err, want)
		require.Equal(t, 7, p.RetryAfterSeconds)
		require.True(t, hubapi.IsUnavailable(err))
	}
}

// A stream that breaks between two events goes on where it broke.
func TestFollowMissesNothingAndRepeatsNothing(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	id := h.AddCluster("edge")
	var calls atomic.Int32
	breaking := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := calls.Add(1)
		switch {
		case n == 2:
			http.Error(w, "proxy restarts", http.StatusServiceUnavailable)
		case n <= 4: // breaks after some hundred bytes, perhaps amid an event
			h.Server.Handler().ServeHTTP(&cutting{ResponseWriter: w, left: 400 + int(n)*150}, r)
		default:
			h.Server.Handler().ServeHTTP(w, r)
		}
	}))
	t.Cleanup(breaking.Close)
	t.Cleanup(breaking.CloseClientConnections)
	for i := range 20 {
		h.Emit(event.Event{Type: event.NodeChanged, ClusterID: id, Subject: fmt.Sprint(i)})
	}
	c, err := hubapi.New(breaking.URL, apitest.AdminKey, hubapi.Options{RetryBase: time.Millisecond})
	require.NoError(t, err)
	want := int64(1)
	for e, err := range c.Follow(t.Context(), hubapi.EventQuery{Cluster: "edge"}) {
		require.NoError(t, err)
		require.Equal(t, want, e.ID)
		if want++; want == 15 {
			for range 10 {
				h.Emit(event.Event{Type: event.NodeChanged, ClusterID: id})
			}
		}
		if e.ID == 30 {
			break
		}
	}
	require.GreaterOrEqual(t, calls.Load(), int32(4))
}

// cutting fails after some bytes.
type cutting struct {
	http.ResponseWriter
	left int
}

func (c *cutting) Write(b []byte) (int, error) {
	if len(b) > c.left {
		_, _ = c.ResponseWriter.Write(b[:c.left])
		_ = http.NewResponseController(c.ResponseWriter).Flush()
		panic(http.ErrAbortHandler) // breaks the connection
	}
	c.left -= len(b)
	return c.ResponseWriter.Write(b)
}

func (c *cutting) Unwrap() http.ResponseWriter { return c.ResponseWriter }

func TestFollowEndsWhenTryingAgainCannotHelp(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	c := h.Client(t, access.RoleViewer)
	for _, q := range []hubapi.EventQuery{{Cluster: "absent"}, {Types: []string{"no.type"}}} {
		n := 0
		for _, err := range c.Follow(t.Context(), q) {
			n++
			var p *hubapi.Problem
			require.ErrorAs(t, err, &p)
		}
		require.Equal(t, 1, n)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	for _, err := range c.Follow(ctx, hubapi.EventQuery{}) {
		require.Fail(t, "nothing was ever emitted", "%v", err)
	}
}

// apply makes release app in cluster edge.
func apply(t *testing.T, c *hubapi.Client, values string) hubapi.Release {
	t.Helper()
	tgz, _, err := chart.Pack(fstest.MapFS{"Chart.yaml": {Data: []byte("apiVersion: v2\nname: app\nversion: 1.0.0\n")}})
	require.NoError(t, err)
	pushed, err := c.PushChart(t.Context(), bytes.NewReader(tgz))
	require.NoError(t, err)
	r, _, err := c.ApplyRelease(t.Context(), "edge", "app", hubapi.ReleaseRequest{
		Namespace: "apps", Chart: hubapi.ChartSource{Digest: pushed.Digest}, Values: json.RawMessage(values),
	}, nil)
	require.NoError(t, err)
	return r
}

// The clients of these tests never poll, so each step is woken by an event.
func TestWaitRelease(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		last   hubapi.ReleaseStatus
		failed bool
	}{
		"ready":  {last: hubapi.ReleaseStatus{ObservedGeneration: 1, Phase: hubapi.PhaseReady, Ready: 3, Total: 3}},
		"failed": {last: hubapi.ReleaseStatus{ObservedGeneration: 1, Phase: hubapi.PhaseFailed, Message: "values do not fit"}, failed: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := apitest.New(t, apitest.Options{})
			id := h.AddCluster("edge")
			client := h.Client(t, access.RoleOperator)
			r := apply(t, client, `{}`)
			steps := []hubapi.ReleaseStatus{
				{ObservedGeneration: 0, Phase: hubapi.PhaseReady}, // of an older generation: not what is waited for
				{ObservedGeneration: 1, Phase: hubapi.PhaseInstalling},
				{ObservedGeneration: 1, Phase: hubapi.PhaseProgressing, Ready: 1, Total: 3},
				c.last,
			}
			var seen []string
			got, err := client.WaitRelease(t.Context(), "edge", "app", r.Generation, func(r hubapi.Release) {
				seen = append(seen, string(r.Status.Phase))
				if len(steps) > 0 {
					h.Report(id, "app", steps[0])
					steps = steps[1:]
				}
			})
			require.Equal(t, string(c.last.Phase), string(got.Status.Phase))
			require.Equal(t, []string{"Pending", "Ready", "Installing", "Progressing", string(c.last.Phase)}, seen)
			if !c.failed {
				require.NoError(t, err)
				return
			}
			var f *hubapi.ReleaseFailedError
			require.ErrorAs(t, err, &f)
			require.EqualError(t, err, "release app in cluster edge is Failed: values do not fit")
		})
	}
}

func TestWaitReleaseGoneAndItsEnds(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	id := h.AddCluster("edge")
	c := h.Client(t, access.RoleOperator)
	apply(t, c, `{}`)
	_, err := c.DeleteRelease(t.Context(), "edge", "app", false)
	require.NoError(t, err)
	told := false
	require.NoError(t, c.WaitReleaseGone(t.Context(), "edge", "app", func(hubapi.Release) {
		if !told {
			told = true
			h.Report(id, "app", hubapi.ReleaseStatus{Phase: hubapi.PhaseRemoved})
		}
	}))
	_, err = c.WaitRelease(t.Context(), "edge", "app", 1, nil)
	require.True(t, hubapi.IsNotFound(err))

	apply(t, c, `{}`)
	ctx, cancel := context.WithTimeoutCause(t.Context(), 50*time.Millisecond, errors.New("not ready within 50ms"))
	defer cancel()
	_, err = c.WaitRelease(ctx, "edge", "app", 1, nil)
	require.ErrorContains(t, err, "not ready within 50ms")
	require.ErrorContains(t, c.WaitReleaseGone(t.Context(), "edge", "app", nil), "applied again")
}

func TestWaitCluster(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	id := h.AddCluster("edge")
	h.Leave(id, time.Minute)
	c := h.Client(t, access.RoleViewer)
	looks := 0
	got, err := c.WaitCluster(t.Context(), "edge", func(hubapi.Cluster) bool {
		looks++
		h.Emit(event.Event{Type: event.ClusterConnected, ClusterID: id, Subject: "edge"})
		return looks == 3
	})
	require.NoError(t, err)
	require.Equal(t, "edge", got.Name)
}
