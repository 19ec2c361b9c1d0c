package hubtest_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/budecosystem/budcluster/hub/hubtest"
	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/release"
	"github.com/budecosystem/budcluster/internal/facts"
	"github.com/budecosystem/budcluster/internal/testutil"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// two gives a gateway with two clusters that are connected.
func two(t *testing.T) (g *hubtest.Gateway, alpha, beta *hubtest.Connection, a, b *hubtest.Agent) {
	t.Helper()
	g = hubtest.NewGateway(t, hubtest.GatewayOptions{})
	a, b = g.Agent("alpha"), g.Agent("beta")
	return g, a.MustConnect(), b.MustConnect(), a, b
}

func wanted(clusterID uuid.UUID, generation int64, chart string) *release.Release {
	return &release.Release{
		ID: uuid.New(), ClusterID: clusterID, Name: "web", Namespace: "default", Generation: generation,
		Digest: fmt.Sprintf("sha256:%d", generation), Spec: release.Spec{Chart: release.Chart{Digest: chart}},
	}
}

func TestSyncSendsWhatIsLacking(t *testing.T) {
	t.Parallel()
	testutil.Bubble(t, func(t *testing.T) {
		g, alpha, _, a, b := two(t)
		have, lack := wanted(a.ClusterID, 3, "x"), wanted(a.ClusterID, 1, "x")
		g.Rules.Apply(have)
		g.Rules.Apply(lack)
		g.Rules.Apply(wanted(b.ClusterID, 1, "x"))
		s, err := alpha.Sync(t.Context(),
			&agentv1.ReleaseRef{Id: have.ID.String(), Generation: 3, Digest: "sha256:3"},
			&agentv1.ReleaseRef{Id: "not a uuid", Generation: -1},
			&agentv1.ReleaseRef{Id: uuid.NewString(), Generation: math.MaxInt64})
		require.NoError(t, err)
		require.Len(t, s.Snapshot.GetReleases(), 2, "and nothing of the other cluster")
		m, err := s.Stream.Recv()
		require.NoError(t, err)
		require.Equal(t, lack.ID.String(), m.GetUpsert().GetId())

		// A change wakes the stream at once, without any poll.
		start := time.Now()
		newer := *have
		newer.Generation, newer.Digest = 4, "sha256:4"
		g.Rules.Apply(&newer)
		m, err = s.Stream.Recv()
		require.NoError(t, err)
		require.Equal(t, int64(4), m.GetUpsert().GetGeneration())
		require.Zero(t, time.Since(start))

		// A tombstone goes down, Removed comes up, Forget ends it.
		removed := time.Now()
		gone := newer
		gone.Generation, gone.Digest, gone.RemovedAt = 5, "sha256:5", &removed
		g.Rules.Apply(&gone)
		m, err = s.Stream.Recv()
		require.NoError(t, err)
		require.True(t, m.GetUpsert().GetRemoved())
		require.NoError(t, s.Report(&agentv1.ReleaseStatus{Id: gone.ID.String(), ObservedGeneration: 5, Phase: "Removed"}))
		m, err = s.Stream.Recv()
		require.NoError(t, err)
		require.Equal(t, gone.ID.String(), m.GetForget().GetId())
		g.Stop()
	})
}

// What an agent says of releases that are not its own changes nothing, costs
// it nothing, and looks the same whether they exist or not.
func TestStatusOfForeignReleases(t *testing.T) {
	t.Parallel()
	testutil.Bubble(t, func(t *testing.T) {
		g, alpha, _, a, b := two(t)
		own, foreign := wanted(a.ClusterID, 1, "x"), wanted(b.ClusterID, 1, "x")
		g.Rules.Apply(own)
		g.Rules.Apply(foreign)
		s, err := alpha.Sync(t.Context(), &agentv1.ReleaseRef{Id: own.ID.String(), Generation: 1, Digest: "sha256:1"})
		require.NoError(t, err)
		for _, id := range []string{foreign.ID.String(), uuid.NewString(), "", "'; drop table releases; --", "\x00"} {
			require.NoError(t, s.Report(&agentv1.ReleaseStatus{Id: id, Phase: "Failed", ObservedGeneration: -1}))
		}
		require.NoError(t, s.Report(&agentv1.ReleaseStatus{
			Id: own.ID.String(), Phase: "Ready", Message: "a\x00b", ObservedGeneration: 1, Progress: &agentv1.Progress{Ready: -3}, Outputs: map[string]string{"k\x00": "v\x00"},
		}))
		synctest.Wait()
		statuses := g.Rules.Statuses()
		require.Len(t, statuses, 1)
		require.Equal(t, own.ID, statuses[0].ReleaseID)
		require.Equal(t, "a\uFFFDb", statuses[0].Status.Message)
		require.Zero(t, statuses[0].Status.Ready)
		require.Equal(t, map[string]string{"k\uFFFD": "v\uFFFD"}, statuses[0].Status.Outputs)
		g.Stop()
	})
}

func TestSyncEndsSoThatTheAgentComesBack(t *testing.T) {
	t.Parallel()
	testutil.Bubble(t, func(t *testing.T) {
		g, alpha, _, a, _ := two(t)
		own := wanted(a.ClusterID, 1, "x")
		g.Rules.Apply(own)
		s, err := alpha.Sync(t.Context(), &agentv1.ReleaseRef{Id: own.ID.String(), Generation: 1, Digest: "sha256:1"})
		require.NoError(t, err)
		g.Rules.SetAway(errors.New("password authentication failed for user bud"))
		require.NoError(t, s.Report(&agentv1.ReleaseStatus{Id: own.ID.String(), Phase: "Ready"}))
		_, err = s.Stream.Recv()
		require.Equal(t, codes.Unavailable, status.Code(err))
		require.NotContains(t, err.Error(), "password", "the hub's own trouble does not travel")
		require.Empty(t, reasonOf(err), "not final: the agent may try again")
		g.Rules.SetAway(nil)
		g.Stop()
	})
}

func TestChartsGoToThoseWhoseReleasesNameThem(t *testing.T) {
	t.Parallel()
	testutil.Bubble(t, func(t *testing.T) {
		g, alpha, beta, a, _ := two(t)
		data := bytes.Repeat([]byte("chart"), 100_000)
		sum := sha256.Sum256(data)
		digest := "sha256:" + hex.EncodeToString(sum[:])
		g.Rules.AddChart(digest, data)
		g.Rules.Apply(wanted(a.ClusterID, 1, digest))

		got, err := alpha.FetchChart(t.Context(), digest)
		require.NoError(t, err)
		require.True(t, bytes.Equal(data, got))

		stream, err := agentv1.NewReleaseServiceClient(alpha.CC).FetchChart(t.Context(), &agentv1.FetchChartRequest{Digest: digest})
		require.NoError(t, err)
		for {
			m, err := stream.Recv()
			if err != nil {
				break
			}
			require.LessOrEqual(t, proto.Size(m), 64<<10)
		}

		unknown := "sha256:" + hex.EncodeToString(make([]byte, 32))
		_, foreign := beta.FetchChart(t.Context(), digest)
		_, missing := beta.FetchChart(t.Context(), unknown)
		require.Equal(t, codes.NotFound, status.Code(foreign))
		require.Equal(t, codes.NotFound, status.Code(missing), "missing and forbidden look the same")
		for _, bad := range []string{"", "sha256:", "../../etc/passwd", "sha256:" + string(bytes.Repeat([]byte("Z"), 64))} {
			_, err = beta.FetchChart(t.Context(), bad)
			require.Equal(t, codes.InvalidArgument, status.Code(err))
		}
		g.Stop()
	})
}

func TestReport(t *testing.T) {
	t.Parallel()
	testutil.Bubble(t, func(t *testing.T) {
		g, alpha, _, _, _ := two(t)
		inv, err := alpha.Inventory(t.Context())
		require.NoError(t, err)
		need, err := inv.Summary(&agentv1.Summary{ClusterDigest: "c", Nodes: map[string]string{"n1": "d1"}})
		require.NoError(t, err)
		require.Equal(t, []string{"n1"}, need.GetNodes())
		require.True(t, need.GetCluster())
		ack, err := inv.Delta(&agentv1.Delta{
			Sequence: 1, Cluster: &agentv1.ClusterFacts{Version: "v1.37.0"},
			Nodes: []*agentv1.NodeFacts{{
				Name: "n1", Labels: map[string]string{"a\x00": "b"}, Capacity: &agentv1.Resources{CpuMillis: math.MinInt64, Extended: map[string]int64{"x": -5}},
				Devices: []*agentv1.Device{nil, {MemoryBytes: proto.Int64(-1)}},
			}},
		})
		require.NoError(t, err)
		require.Equal(t, int64(1), ack.GetSequence())
		deltas := g.Rules.Deltas()
		require.Len(t, deltas, 1)
		require.NotContains(t, fmt.Sprint(deltas[0].Nodes[0].Labels), "\x00")
		need, err = inv.Summary(&agentv1.Summary{Nodes: map[string]string{"n1": "d1"}})
		require.NoError(t, err)
		require.Empty(t, need.GetNodes())
		g.Stop()
	})
}

// A summary of 100,000 nodes ends its own stream with a sentence, and neither
// the session nor anybody else's.
func TestReportIsBounded(t *testing.T) {
	t.Parallel()
	huge := map[string]string{}
	for i := range 100_000 {
		huge[fmt.Sprintf("n%d", i)] = "d"
	}
	cases := map[string]struct {
		summary *agentv1.Summary
		code    codes.Code
		reason  string
	}{
		"100,000 nodes":           {&agentv1.Summary{Nodes: huge}, codes.InvalidArgument, "TooManyNodes"},
		"a node without a name":   {&agentv1.Summary{Nodes: map[string]string{"": "d"}}, codes.InvalidArgument, "NodeNameInvalid"},
		"a message beyond bounds": {&agentv1.Summary{ClusterDigest: string(bytes.Repeat([]byte("x"), 9<<20))}, codes.ResourceExhausted, ""},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testutil.Bubble(t, func(t *testing.T) {
				g, alpha, beta, _, _ := two(t)
				inv, err := alpha.Inventory(t.Context())
				require.NoError(t, err)
				_, err = inv.Summary(tc.summary)
				require.Equal(t, tc.code, status.Code(err), "%v", err)
				require.Equal(t, tc.reason, reasonOf(err))
				for _, c := range []*hubtest.Connection{alpha, beta} {
					inv, err = c.Inventory(t.Context())
					require.NoError(t, err)
					_, err = inv.Summary(&agentv1.Summary{Nodes: map[string]string{"n": "d"}})
					require.NoError(t, err)
				}
				g.Stop()
			})
		})
	}
}

func TestStreamsMustBeginAsTheyShould(t *testing.T) {
	t.Parallel()
	testutil.Bubble(t, func(t *testing.T) {
		g, alpha, _, _, _ := two(t)
		sync, err := agentv1.NewReleaseServiceClient(alpha.CC).Sync(t.Context())
		require.NoError(t, err)
		require.NoError(t, sync.Send(&agentv1.SyncRequest{Message: &agentv1.SyncRequest_Status{Status: &agentv1.ReleaseStatus{}}}))
		_, err = sync.Recv()
		require.Equal(t, "HaveMissing", reasonOf(err))

		inv, err := alpha.Inventory(t.Context())
		require.NoError(t, err)
		_, err = inv.Delta(&agentv1.Delta{})
		require.Equal(t, "SummaryMissing", reasonOf(err))

		enroll := agentv1.NewEnrollServiceClient(alpha.CC)
		_, err = enroll.Enroll(t.Context(), &agentv1.EnrollRequest{Token: "bud1.x"})
		require.Equal(t, "AlreadyEnrolled", reasonOf(err))
		g.Stop()
	})
}

// A cluster that leaves is told so at once, and of nothing else any more; when
// its agent has done its part it hears that this is known.
func TestRetirement(t *testing.T) {
	t.Parallel()
	testutil.Bubble(t, func(t *testing.T) {
		g, alpha, _, a, _ := two(t)
		g.Rules.Apply(wanted(a.ClusterID, 1, "x"))
		s, err := alpha.Sync(t.Context())
		require.NoError(t, err)
		m, err := s.Stream.Recv()
		require.NoError(t, err)
		require.NotNil(t, m.GetUpsert())
		start := time.Now()
		g.Rules.Retire(a.ClusterID, 3, false)
		m, err = s.Stream.Recv()
		require.NoError(t, err)
		require.True(t, proto.Equal(&agentv1.Retire{Generation: 3}, m.GetRetire()))
		require.Zero(t, time.Since(start))
		g.Rules.Apply(wanted(a.ClusterID, 1, "y")) // not sent: it would be the next message
		require.NoError(t, s.Stream.Send(&agentv1.SyncRequest{Message: &agentv1.SyncRequest_Retired{
			Retired: &agentv1.Retired{Generation: 3, Left: []string{"a", "b"}},
		}}))
		m, err = s.Stream.Recv()
		require.NoError(t, err)
		require.True(t, proto.Equal(&agentv1.Retire{Generation: 3, Recorded: true}, m.GetRetire()), "got %v", m)
		left, retired := g.Rules.Left(a.ClusterID)
		require.True(t, retired)
		require.Equal(t, []string{"a", "b"}, left)

		// An agent that died before it went is told again, first of all.
		again, err := alpha.Sync(t.Context())
		require.NoError(t, err)
		m, err = again.Stream.Recv()
		require.NoError(t, err)
		require.True(t, m.GetRetire().GetRecorded())
		g.Stop()
	})
}

// TestAgentIsReplaced: which agent is wanted is told at once, on each stream
// until it has an end, and what became of it comes up.
func TestAgentIsReplaced(t *testing.T) {
	t.Parallel()
	testutil.Bubble(t, func(t *testing.T) {
		g, alpha, _, a, _ := two(t)
		s, err := alpha.Sync(t.Context())
		require.NoError(t, err)
		g.Rules.WantAgent(a.ClusterID, cluster.AgentTarget{Generation: 2, Digest: "sha256:x", AppVersion: "2.0.0", ConnectWithin: time.Minute})
		m, err := s.Stream.Recv()
		require.NoError(t, err)
		require.Equal(t, int64(2), m.GetAgent().GetGeneration())
		require.Equal(t, "sha256:x", m.GetAgent().GetChart().GetDigest())
		require.Equal(t, time.Minute, m.GetAgent().GetConnectWithin().AsDuration())
		again, err := alpha.Sync(t.Context())
		require.NoError(t, err)
		m, err = again.Stream.Recv()
		require.NoError(t, err)
		require.NotNil(t, m.GetAgent())

		require.NoError(t, again.Stream.Send(&agentv1.SyncRequest{Message: &agentv1.SyncRequest_Agent{
			Agent: &agentv1.AgentStatus{ObservedGeneration: 2, Phase: string(cluster.AgentReturned), Message: "not in time"},
		}}))
		synctest.Wait()
		u, err := g.Rules.AgentUpgrade(t.Context(), a.ClusterID)
		require.NoError(t, err)
		require.Equal(t, "not in time", u.Status.Message)
		g.Rules.Apply(wanted(a.ClusterID, 1, "y"))
		third, err := alpha.Sync(t.Context())
		require.NoError(t, err)
		m, err = third.Stream.Recv()
		require.NoError(t, err)
		require.NotNil(t, m.GetUpsert(), "what had an end is not told again")
		g.Stop()
	})
}

// What the hub asks for goes down with the first words, and what was found
// comes up whenever it changes.
func TestPresence(t *testing.T) {
	t.Parallel()
	testutil.Bubble(t, func(t *testing.T) {
		probes := []facts.Probe{{Name: "nfd/worker", APIVersion: "apps/v1", Kind: "DaemonSet", Object: "*worker"}}
		g := hubtest.NewGateway(t, hubtest.GatewayOptions{Probes: probes})
		a := g.Agent("alpha")
		s, err := a.MustConnect().Sync(t.Context())
		require.NoError(t, err)
		m, err := s.Stream.Recv()
		require.NoError(t, err)
		require.Equal(t, probes, facts.ProbesFromProto(m.GetProbes()))
		yes := true
		found := []facts.Presence{{Probe: "nfd/worker", State: facts.PresenceFound, Kind: "DaemonSet", Object: "x\x00", Ready: &yes}}
		require.NoError(t, s.Stream.Send(&agentv1.SyncRequest{Message: &agentv1.SyncRequest_Presence{Presence: facts.PresenceToProto(found)}}))
		synctest.Wait()
		got := g.Rules.Presence(a.ClusterID)
		require.Len(t, got, 1)
		require.Equal(t, "x\uFFFD", got[0].Object)
		require.True(t, *got[0].Ready)
		g.Stop()
	})
}
