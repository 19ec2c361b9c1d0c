package hub_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/budecosystem/budcluster/hub"
	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/hubtest"
	"github.com/budecosystem/budcluster/internal/chartfile"
	"github.com/budecosystem/budcluster/internal/pki"
	"github.com/budecosystem/budcluster/internal/testutil"
	"github.com/budecosystem/budcluster/internal/tunnel"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

func reasonOf(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

// live answers for a connection in the background.
func live(c *hubtest.Connection) <-chan *agentv1.GoAway {
	out := make(chan *agentv1.GoAway, 1)
	go func() {
		told, _ := c.Live()
		out <- told
	}()
	return out
}

func soon(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func is(state hubapi.ClusterState) func(hubapi.Cluster) bool {
	return func(c hubapi.Cluster) bool { return c.State == state }
}

func TestJoinConnectLeave(t *testing.T) {
	t.Parallel()
	h := hubtest.New(t)
	made := h.Create("alpha")
	require.Contains(t, made.InstallCommand, made.JoinToken.Token)
	require.Contains(t, made.InstallCommand, h.TunnelAddress)
	require.Equal(t, hubapi.ClusterPending, made.Cluster.State)

	a := h.Agent("uid-alpha")
	require.NoError(t, a.Enroll(t.Context(), made.JoinToken.Token))
	require.Equal(t, made.Cluster.ID, a.ClusterID.String())
	require.Equal(t, int64(1), a.Identity.GetGeneration())
	c := a.MustConnect()
	end := live(c)
	cl, err := h.Client.WaitCluster(soon(t), "alpha", is(hubapi.ClusterConnected))
	require.NoError(t, err)
	require.Equal(t, "0.0.0-test", cl.AgentVersion)
	require.Equal(t, "agent-0", cl.Session.Instance)
	require.Equal(t, "uid-alpha", cl.UID)

	c.Close()
	<-end
	cl, err = h.Client.WaitCluster(soon(t), "alpha", is(hubapi.ClusterUnknown))
	require.NoError(t, err)
	require.NotNil(t, cl.LastSeen)
	_, err = h.Client.Agent(t.Context(), "alpha")
	require.True(t, hubapi.IsUnavailable(err), "%v", err)
}

// Every way in which a token can be wrong ends in a sentence on the side that
// can act on it.
func TestJoinIsRefusedWithASentence(t *testing.T) {
	t.Parallel()
	h := hubtest.New(t)
	first := h.Create("first")
	good := first.JoinToken.Token
	require.NoError(t, h.Agent("uid-first").Enroll(t.Context(), good))

	revoked, err := h.Client.CreateToken(t.Context(), "first", hubapi.CreateTokenRequest{})
	require.NoError(t, err)
	require.NoError(t, h.Client.RevokeToken(t.Context(), "first", revoked.JoinToken.ID))
	fresh := func() string {
		made, err := h.Client.CreateToken(t.Context(), "first", hubapi.CreateTokenRequest{})
		require.NoError(t, err)
		return made.JoinToken.Token
	}
	parsed, err := pki.ParseJoinToken(good)
	require.NoError(t, err)
	parts := strings.Split(fresh(), ".")
	otherSecret := slices.Clone(parts)
	otherSecret[2] = strings.Split(good, ".")[2]
	unknown := slices.Clone(parts)
	unknown[1] = uuid.NewString()

	cases := map[string]struct {
		token, uid string
		reason     string
	}{
		"used twice":          {good, "uid-second", "TokenUsed"},
		"revoked":             {revoked.JoinToken.Token, "uid-first", "TokenRevoked"},
		"truncated":           {good[:40], "uid-first", "TokenMalformed"},
		"empty":               {"", "uid-first", "TokenMalformed"},
		"garbage":             {"\x00\n'; drop table", "uid-first", "TokenMalformed"},
		"of 60 KiB":           {strings.Repeat("x", 60<<10), "uid-first", "TokenMalformed"},
		"another's secret":    {strings.Join(otherSecret, "."), "uid-first", "TokenUnknown"},
		"unknown id":          {strings.Join(unknown, "."), "uid-first", "TokenUnknown"},
		"uid of nobody":       {fresh(), "", "ClusterUIDInvalid"},
		"another cluster's":   {fresh(), "uid-other", "ClusterUIDMismatch"},
		"a joined cluster's":  {h.Create("second").JoinToken.Token, "uid-first", "ClusterUIDMismatch"},
		"more than a message": {strings.Repeat("x", 100<<10), "uid-first", ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := h.Agent(tc.uid).EnrollPinned(t.Context(), strings.ToValidUTF8(tc.token, "?"), parsed.Pin)
			require.Error(t, err)
			require.Equal(t, tc.reason, reasonOf(err), "%v", err)
			require.NotContains(t, err.Error(), strings.Split(good, ".")[2], "no error shows a secret")
		})
	}
	t.Run("wrong pin", func(t *testing.T) {
		t.Parallel()
		var wrong *pki.PinError
		err := h.Agent("u").EnrollPinned(t.Context(), good, strings.Repeat("ab", 32))
		require.ErrorAs(t, err, &wrong)
	})
	t.Run("wrong name", func(t *testing.T) {
		t.Parallel()
		a := h.Agent("u")
		a.ServerName = "hub.example.com"
		var wrong *pki.NameError
		require.ErrorAs(t, a.EnrollPinned(t.Context(), good, parsed.Pin), &wrong)
		require.Contains(t, wrong.Presented, "127.0.0.1")
	})
	t.Run("nothing but enrollment without a certificate", func(t *testing.T) {
		t.Parallel()
		err := h.Agent("u").Stranger(t.Context(), parsed.Pin, func(cc *grpc.ClientConn) error {
			stream, err := agentv1.NewLinkServiceClient(cc).Control(t.Context())
			if err != nil {
				return err
			}
			_, err = stream.Recv()
			return err
		})
		require.Equal(t, codes.Unimplemented, status.Code(err), "%v", err)
	})
}

func TestRevokedClusterIsCutOffForReal(t *testing.T) {
	t.Parallel()
	h := hubtest.New(t)
	a, other := h.Joined("alpha"), h.Joined("beta")
	end, otherEnd := live(a.MustConnect()), live(other.MustConnect())
	start := time.Now()
	_, err := h.Client.RevokeCluster(t.Context(), "alpha")
	require.NoError(t, err)
	told := <-end
	t.Logf("cut off after %s", time.Since(start))
	require.Less(t, time.Since(start), 5*time.Second)
	require.Equal(t, agentv1.GoAway_REASON_REVOKED, told.GetReason())
	require.Contains(t, told.GetMessage(), "revoked")

	_, err = a.Connect(t.Context())
	require.Equal(t, codes.PermissionDenied, status.Code(err), "%v", err)
	require.Equal(t, "CertificateRevoked", reasonOf(err))
	require.Empty(t, otherEnd)
	cl, err := h.Client.Cluster(t.Context(), "alpha")
	require.NoError(t, err)
	require.Equal(t, hubapi.ClusterRevoked, cl.State)

	// A new token brings it back.
	again, err := h.Client.CreateToken(t.Context(), "alpha", hubapi.CreateTokenRequest{})
	require.NoError(t, err)
	require.NoError(t, a.Enroll(t.Context(), again.JoinToken.Token))
	a.MustConnect()
	_, err = h.Client.WaitCluster(soon(t), "alpha", is(hubapi.ClusterConnected))
	require.NoError(t, err)
}

// What happens at one replica reaches the agents at the others.
func TestReplicasActAsOne(t *testing.T) {
	t.Parallel()
	one := hubtest.New(t)
	two := one.Replica("hub-1")
	a := one.Joined("alpha")
	end := live(a.MustConnect())

	// The agent comes back at the other replica: the older session is fenced.
	a.Dial = two.Agent("").Dial
	c := a.MustConnect()
	require.Equal(t, agentv1.GoAway_REASON_FENCED, (<-end).GetReason())
	end = live(c)
	cl, err := one.Client.WaitCluster(soon(t), "alpha", is(hubapi.ClusterConnected))
	require.NoError(t, err)
	require.Equal(t, "hub-1", cl.Session.Replica)

	// Desired state that is written at one goes down through the other.
	s, err := c.Sync(t.Context())
	require.NoError(t, err)
	pushed, _ := pushChart(t, one)
	_, _, err = one.Client.ApplyRelease(t.Context(), "alpha", "app", hubapi.ReleaseRequest{Namespace: "apps", Chart: hubapi.ChartSource{Digest: pushed.Digest}}, nil)
	require.NoError(t, err)
	m := next(t, s)
	require.Equal(t, "app", m.GetUpsert().GetName())

	start := time.Now()
	_, err = one.Client.RevokeCluster(t.Context(), "alpha")
	require.NoError(t, err)
	require.Equal(t, agentv1.GoAway_REASON_REVOKED, (<-end).GetReason())
	t.Logf("cut off by another replica after %s", time.Since(start))
	require.Less(t, time.Since(start), 5*time.Second)
}

// From a change in the cluster to the event stream.
func TestNodeChangeReachesTheStream(t *testing.T) {
	t.Parallel()
	h := hubtest.New(t)
	c := h.Joined("alpha").MustConnect()
	live(c)
	inv, err := c.Inventory(t.Context())
	require.NoError(t, err)
	_, err = inv.Summary(&agentv1.Summary{})
	require.NoError(t, err)
	node := &agentv1.NodeFacts{Name: "n1", Ready: true, Schedulable: true}
	_, err = inv.Delta(&agentv1.Delta{Sequence: 1, Nodes: []*agentv1.NodeFacts{node}})
	require.NoError(t, err)
	after := int64(0)
	list, err := h.Client.Events(t.Context(), hubapi.EventQuery{Cluster: "alpha"})
	require.NoError(t, err)
	for _, e := range list.Items {
		after = max(after, e.ID)
	}
	node.Schedulable = false
	start := time.Now()
	_, err = inv.Delta(&agentv1.Delta{Sequence: 2, Nodes: []*agentv1.NodeFacts{node}})
	require.NoError(t, err)
	for e, err := range h.Client.Follow(soon(t), hubapi.EventQuery{Cluster: "alpha", After: after}) {
		require.NoError(t, err)
		if e.Subject == "n1" {
			break
		}
	}
	t.Logf("from delta to stream in %s", time.Since(start))
	require.Less(t, time.Since(start), time.Second)
}

func TestRenewal(t *testing.T) {
	t.Parallel()
	h := hubtest.New(t, hubtest.With(func(c *hub.Config) { c.Certificate.Lifetime = 3 * time.Second }))
	made := h.Create("alpha")
	a := h.Agent("uid-alpha")
	require.NoError(t, a.Enroll(t.Context(), made.JoinToken.Token))
	c := a.MustConnect()
	end := live(c)
	first := a.Certificate
	require.NoError(t, c.Renew(t.Context()))
	require.Equal(t, int64(2), a.Identity.GetGeneration())
	a.MustConnect()
	require.Equal(t, agentv1.GoAway_REASON_FENCED, (<-end).GetReason())

	// Past its end the certificate opens no tunnel, and is renewed on the
	// join lane all the same.
	token, err := pki.ParseJoinToken(made.JoinToken.Token)
	require.NoError(t, err)
	wait := time.NewTimer(time.Until(a.Certificate.Leaf.NotAfter) + time.Second)
	defer wait.Stop()
	<-wait.C
	_, err = a.Connect(t.Context())
	require.Error(t, err)
	require.NoError(t, a.RenewJoin(t.Context(), token.Pin))
	require.Equal(t, int64(3), a.Identity.GetGeneration())
	a.MustConnect()

	// The one before the last is a copy that somebody kept.
	old := *a
	old.Certificate = first
	require.Error(t, old.RenewJoin(t.Context(), token.Pin))
}

func TestHubRestartKeepsEverything(t *testing.T) {
	t.Parallel()
	h := hubtest.New(t)
	a := h.Joined("alpha")
	c := a.MustConnect()
	end := live(c)
	epoch := c.Welcome.GetEpoch()
	start := time.Now()
	require.NoError(t, h.Stop())
	t.Logf("stopped after %s", time.Since(start))
	require.Less(t, time.Since(start), 6*time.Second)
	told := <-end
	require.Equal(t, agentv1.GoAway_REASON_DRAINING, told.GetReason())
	require.GreaterOrEqual(t, told.GetReconnectAfter().AsDuration(), time.Second)

	h.Start()
	cl, err := h.Client.Cluster(t.Context(), "alpha")
	require.NoError(t, err)
	require.Equal(t, hubapi.ClusterUnknown, cl.State)
	c = a.MustConnect()
	require.Greater(t, c.Welcome.GetEpoch(), epoch)
	_, err = h.Client.WaitCluster(soon(t), "alpha", is(hubapi.ClusterConnected))
	require.NoError(t, err)
}

func pushChart(t *testing.T, h *hubtest.Hub) (hubapi.Chart, []byte) {
	t.Helper()
	tgz, _, err := chartfile.Pack(fstest.MapFS{
		"Chart.yaml":          {Data: []byte("apiVersion: v2\nname: app\nversion: 1.0.0\n")},
		"templates/note.yaml": {Data: []byte("kind: ConfigMap\napiVersion: v1\nmetadata: {name: note}\n")},
	})
	require.NoError(t, err)
	pushed, err := h.Client.PushChart(t.Context(), bytes.NewReader(tgz))
	require.NoError(t, err)
	return pushed, tgz
}

// One release from PUT to Removed, with what an agent does in between.
func TestReleaseThereAndBack(t *testing.T) {
	t.Parallel()
	h := hubtest.New(t)
	a, b := h.Joined("alpha"), h.Joined("beta")
	alpha, beta := a.MustConnect(), b.MustConnect()
	live(alpha)
	live(beta)
	s, err := alpha.Sync(t.Context())
	require.NoError(t, err)
	require.Empty(t, s.Snapshot.GetReleases())

	pushed, tgz := pushChart(t, h)
	start := time.Now()
	r, _, err := h.Client.ApplyRelease(t.Context(), "alpha", "app", hubapi.ReleaseRequest{
		Namespace: "apps", Chart: hubapi.ChartSource{Digest: pushed.Digest},
		Values: json.RawMessage(`{"replicas":2}`), SecretValues: json.RawMessage(`{"password":"hunter2"}`),
	}, nil)
	require.NoError(t, err)
	m := next(t, s)
	t.Logf("from PUT to the agent in %s", time.Since(start))
	require.Less(t, time.Since(start), time.Second)
	require.Equal(t, r.ID, m.GetUpsert().GetId())
	require.JSONEq(t, `{"password":"hunter2"}`, string(m.GetUpsert().GetSpec().GetSecretValues()))

	got, err := alpha.FetchChart(t.Context(), pushed.Digest)
	require.NoError(t, err)
	require.True(t, bytes.Equal(tgz, got))
	_, err = beta.FetchChart(t.Context(), pushed.Digest)
	require.Equal(t, codes.NotFound, status.Code(err))

	// What beta says of alpha's release is nobody's business.
	foreign, err := beta.Sync(t.Context())
	require.NoError(t, err)
	for _, id := range []string{r.ID, "\x00", "no uuid", uuid.NewString()} {
		require.NoError(t, foreign.Report(&agentv1.ReleaseStatus{Id: id, ObservedGeneration: 1, Phase: "Failed", Message: "evil"}))
	}
	require.NoError(t, s.Report(&agentv1.ReleaseStatus{
		Id: r.ID, ObservedGeneration: 1, Phase: "Ready", Message: "all \x00 ready", Owned: true, Revision: -1,
		Progress: &agentv1.Progress{Ready: 1, Total: 1}, Outputs: map[string]string{"ip\x00": "10.0.0.1\x00"},
		ChangedAt: &timestamppb.Timestamp{Seconds: math.MaxInt64},
	}))
	r, err = h.Client.WaitRelease(soon(t), "alpha", "app", 1, nil)
	require.NoError(t, err)
	require.Equal(t, hubapi.PhaseReady, r.Status.Phase)
	require.Equal(t, "all \uFFFD ready", r.Status.Message)
	require.Zero(t, r.Status.Revision)

	_, err = h.Client.DeleteRelease(t.Context(), "alpha", "app", false)
	require.NoError(t, err)
	m = next(t, s)
	require.True(t, m.GetUpsert().GetRemoved())
	require.NoError(t, s.Report(&agentv1.ReleaseStatus{Id: r.ID, ObservedGeneration: m.GetUpsert().GetGeneration(), Phase: "Removed"}))
	m = next(t, s)
	require.Equal(t, r.ID, m.GetForget().GetId())
	_, err = h.Client.Release(t.Context(), "alpha", "app")
	require.True(t, hubapi.IsNotFound(err))
}

// What an attacker with a cluster's identity reports stays within that cluster
// and within what PostgreSQL can hold.
func TestHostileInventoryIsKeptHarmless(t *testing.T) {
	t.Parallel()
	h := hubtest.New(t)
	a := h.Joined("alpha")
	c := a.MustConnect()
	live(c)
	inv, err := c.Inventory(t.Context())
	require.NoError(t, err)
	_, err = inv.Summary(&agentv1.Summary{ClusterDigest: "\x00", Nodes: map[string]string{"n\x00": "\x00", "n1": "d"}})
	require.NoError(t, err)
	start := time.Now()
	_, err = inv.Delta(&agentv1.Delta{
		Sequence: math.MinInt64, ObservedAt: &timestamppb.Timestamp{Seconds: math.MinInt64, Nanos: -1},
		Cluster: &agentv1.ClusterFacts{
			Uid: "\x00", Version: "v1\x00", Platform: "\x00", StorageClasses: []*agentv1.StorageClass{nil, {Parameters: map[string]string{"\x00": "\x00"}}},
			Claims: &agentv1.Claims{Bound: math.MinInt64, Pending: math.MaxInt64, Lost: math.MaxInt64, LostNames: []string{"\x00", strings.Repeat("m", 1<<20)}}, Dns: &agentv1.Dns{Service: "\x00"},
		},
		Removed:    []string{"\x00", ""},
		NodeEvents: hostileEvents(),
		Nodes: []*agentv1.NodeFacts{
			nil,
			{
				Name: "n1", Uid: "\x00", Ready: true, Labels: map[string]string{"": "", "\x00": "\x00"}, Taints: []*agentv1.Taint{nil, {}},
				Capacity:    &agentv1.Resources{CpuMillis: math.MinInt64, MemoryBytes: -1, Extended: map[string]int64{"\x00": math.MaxInt64}},
				Allocatable: &agentv1.Resources{CpuMillis: math.MaxInt64}, Requested: &agentv1.Resources{CpuMillis: math.MinInt64},
				CreatedAt: &timestamppb.Timestamp{Seconds: math.MaxInt64},
				Devices: []*agentv1.Device{
					nil,
					{},
					{Id: "x\x00", Kind: "\x00", Health: "\x00", MemoryBytes: proto.Int64(math.MinInt64), Index: proto.Int32(-7)},
					{Id: "x\x00", Model: strings.Repeat("m", 1<<20), SuspectSince: &timestamppb.Timestamp{Seconds: -1 << 60}},
				},
			},
		},
	})
	if err == nil {
		nodes, err := h.Client.Nodes(t.Context(), hubapi.NodeQuery{Cluster: "alpha"})
		require.NoError(t, err)
		require.Less(t, time.Since(start), time.Second, "change to visible")
		require.Contains(t, nodeNames(nodes.Items), "n1")
		return
	}
	require.NotEmpty(t, reasonOf(err), "a refusal, not a failure of the hub: %v", err)
}

// hostileEvents are more than are kept, with times and counts that are none.
func hostileEvents() []*agentv1.NodeEvent {
	events := []*agentv1.NodeEvent{
		nil,
		{Uid: "\x00", Node: "\x00", Count: math.MinInt64, LastAt: &timestamppb.Timestamp{Seconds: math.MinInt64}},
		{Uid: strings.Repeat("u", 1<<20), Node: strings.Repeat("é", 1<<19), Message: strings.Repeat("\x00", 1<<20), Count: math.MaxInt64, FirstAt: &timestamppb.Timestamp{Seconds: math.MaxInt64}},
	}
	for i := range 5000 {
		events = append(events, &agentv1.NodeEvent{Uid: fmt.Sprint(i), Node: "n1", Count: math.MaxInt64, LastAt: &timestamppb.Timestamp{Seconds: 1 << 37}})
	}
	return events
}

func nodeNames(nodes []hubapi.Node) []string {
	var names []string
	for _, n := range nodes {
		names = append(names, n.Name)
	}
	return names
}

func TestHubReachesTheAgentThroughItsTunnel(t *testing.T) {
	t.Parallel()
	h := hubtest.New(t)
	c := h.Joined("alpha").MustConnect()
	live(c)
	server := grpc.NewServer(tunnel.GRPCServerOptions()...)
	agentv1.RegisterAgentServiceServer(server, inspected{})
	var wg sync.WaitGroup
	wg.Go(func() { _ = server.Serve(c.Session) })
	t.Cleanup(func() {
		server.Stop()
		wg.Wait()
	})
	a, err := h.Client.Agent(t.Context(), "alpha")
	require.NoError(t, err)
	require.Equal(t, "agent-0", a.Instance)
	require.Equal(t, 7, a.Nodes)
}

type inspected struct {
	agentv1.UnimplementedAgentServiceServer
}

func (inspected) Inspect(context.Context, *agentv1.InspectRequest) (*agentv1.InspectResponse, error) {
	return &agentv1.InspectResponse{Instance: "agent-0", Nodes: 7}, nil
}

func TestHealthAndMetrics(t *testing.T) {
	t.Parallel()
	h := hubtest.New(t)
	live(h.Joined("alpha").MustConnect())
	get := func(path string) string {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, h.URL+path, nil)
		require.NoError(t, err)
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		defer func() { require.NoError(t, resp.Body.Close()) }()
		require.Equal(t, http.StatusOK, resp.StatusCode, path)
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return string(body)
	}
	get("/healthz")
	get("/readyz")
	metrics := get("/metrics")
	require.Contains(t, metrics, "budcluster_hub_sessions 1")
	require.Contains(t, metrics, `budcluster_hub_agent_calls_total{code="OK",method="Enroll"} 1`)
	require.NotContains(t, metrics, "alpha", "no label names a cluster")
	var names []string
	for line := range strings.Lines(metrics) {
		if f := strings.Fields(line); len(f) == 4 && f[1] == "TYPE" && strings.HasPrefix(f[2], "budcluster_") {
			names = append(names, f[2]+" "+f[3]+"\n")
		}
	}
	testutil.Golden(t, "metrics", []byte(strings.Join(names, "")))
}

// out is where --dev prints, shared by hub and test.
type out struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (o *out) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(b)
}

// openDir is a temporary folder that PostgreSQL's user can enter, too.
func openDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "hub-") //nolint:usetesting // t.TempDir is closed to other users
	require.NoError(t, err)
	require.NoError(t, os.Chmod(dir, 0o711))
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	return dir
}

// A hub for trying out makes its own database and shows the first key once,
// and further keys can be made while it runs.
func TestDevHub(t *testing.T) {
	t.Parallel()
	cfg := hub.Defaults()
	cfg.Dev, cfg.StateDir = true, filepath.Join(openDir(t), "state")
	cfg.API.Listen, cfg.Tunnel.Listen, cfg.Tunnel.Address = "127.0.0.1:0", "127.0.0.1:0", "127.0.0.1:8443"
	logger := slog.New(slog.DiscardHandler)
	var shown out
	serve := func(during func(url string)) {
		ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
		require.NoError(t, err)
		running, err := hub.New(cfg, hub.Options{Logger: logger, Out: &shown, APIListener: ln})
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- running.Run(ctx) }()
		select {
		case <-running.Ready():
			during("http://" + ln.Addr().String())
			cancel()
			require.NoError(t, <-done)
		case err := <-done:
			cancel()
			require.NoError(t, err)
		}
	}
	serve(func(url string) {
		line := strings.TrimSpace(shown.text.String())
		key := line[strings.LastIndexByte(line, ' ')+1:]
		c, err := hubapi.New(url, key, hubapi.Options{})
		require.NoError(t, err)
		who, err := c.WhoAmI(t.Context())
		require.NoError(t, err)
		require.Equal(t, hubapi.Role("admin"), who.Role)

		second, err := hub.CreateKey(t.Context(), cfg, logger, hub.NewKey{Name: "viewer", Role: "viewer"})
		require.NoError(t, err)
		c, err = hubapi.New(url, second.Reveal(), hubapi.Options{})
		require.NoError(t, err)
		_, err = c.WhoAmI(t.Context())
		require.NoError(t, err)
	})
	shown.text.Reset()
	serve(func(string) { require.Empty(t, shown.text.String(), "shown once") })
	_, err := hub.CreateKey(t.Context(), cfg, logger, hub.NewKey{Name: "while stopped", Role: "admin"})
	require.Error(t, err, "a name has no spaces")
	_, err = hub.CreateKey(t.Context(), cfg, logger, hub.NewKey{Name: "stopped", Role: "admin"})
	require.NoError(t, err)
	require.NoError(t, hub.Migrate(t.Context(), cfg, logger))
}

// next is the hub's next message about a release: what an agent is to look for
// comes between, once.
func next(t *testing.T, s *hubtest.Sync) *agentv1.SyncResponse {
	t.Helper()
	for {
		m, err := s.Stream.Recv()
		require.NoError(t, err)
		if m.GetProbes() == nil {
			return m
		}
	}
}
