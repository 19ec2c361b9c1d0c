package link_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"net"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/budecosystem/budcluster/agent/agenttest"
	"github.com/budecosystem/budcluster/agent/internal/dial"
	"github.com/budecosystem/budcluster/agent/internal/health"
	"github.com/budecosystem/budcluster/agent/internal/link"
	"github.com/budecosystem/budcluster/internal/facts"
	"github.com/budecosystem/budcluster/internal/testutil"
	"github.com/budecosystem/budcluster/internal/tunnel"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

type bundle struct {
	*agenttest.LinkEnd
	hub  *agenttest.Hub
	net  *agenttest.Net
	stop func()
}

// setup joins a link and a scripted hub by pipes, in fake time: call it inside
// a bubble.
func setup(t *testing.T, change ...func(*bundle)) *bundle {
	t.Helper()
	b := &bundle{hub: agenttest.NewHub(t, agenttest.HubConfig{}), net: agenttest.NewNet()}
	cert, ca := b.hub.Identity(t)
	b.LinkEnd = agenttest.NewLink(t, agenttest.LinkConfig{
		Dialer: &tunnel.Dialer{NetDial: b.net.Dial}, Certificate: cert, BundlePEM: ca,
	})
	for _, f := range change {
		f(b)
	}
	stopHub := b.hub.Serve(t, b.net)
	stop := b.Start(t)
	b.stop = func() {
		stop()
		stopHub()
	}
	return b
}

func inBubble(t *testing.T, test func(t *testing.T, b *bundle), change ...func(*bundle)) {
	t.Helper()
	testutil.Bubble(t, func(t *testing.T) {
		b := setup(t, change...)
		test(t, b)
		b.stop()
	})
}

func reasons(b *health.Board) []health.Reason {
	var out []health.Reason
	for _, d := range b.List() {
		out = append(out, d.Reason)
	}
	return out
}

func TestUp(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, b *bundle) {
		s := b.hub.Session(t, 1)
		require.Equal(t, "agent-0", s.Hello.GetInstance())
		require.Equal(t, "uid-test", s.Hello.GetClusterUid())
		b.hub.Await(t, "cluster facts", func(s agenttest.HubState) bool { return s.Cluster.GetUid() == "uid-test" })

		b.Inventory.SetNode(facts.Node{Name: "n1", UID: "u1", Ready: true})
		changed := time.Now()
		b.hub.Await(t, "node", func(s agenttest.HubState) bool { return s.Nodes["n1"].GetReady() })
		require.Less(t, time.Since(changed), time.Second)

		b.hub.Want(&agentv1.Release{Id: "r1", Name: "r", Generation: 1})
		b.Releases.Await(t, "r1", 1)
		b.Releases.SetStatus(&agentv1.ReleaseStatus{Id: "r1", Phase: "Ready", ObservedGeneration: 1})
		b.hub.Await(t, "status", func(s agenttest.HubState) bool { return s.Statuses["r1"].GetPhase() == "Ready" })
		b.hub.Want(&agentv1.Release{Id: "r1", Name: "r", Generation: 2, Removed: true})
		b.Releases.Await(t, "r1", 2)
		b.Releases.SetStatus(&agentv1.ReleaseStatus{Id: "r1", Phase: "Removed", ObservedGeneration: 2})
		b.Releases.Await(t, "r1", 0)

		agent, closeAgent, err := s.Agent()
		require.NoError(t, err)
		defer closeAgent()
		answer, err := agent.Inspect(t.Context(), &agentv1.InspectRequest{})
		require.NoError(t, err)
		require.EqualValues(t, 1, answer.GetNodes())
		require.Positive(t, answer.GetResidentBytes())

		time.Sleep(time.Hour) // an idle hour: heartbeats both ways, one connection
		state := b.hub.State()
		require.Equal(t, 1, state.Sessions)
		require.InDelta(t, 360, state.Heartbeats, 5)
		require.Empty(t, reasons(b.Board))
	})
}

// TestLastWords: an orderly stop delivers what was said last and looks like
// leaving, not like a lost connection.
func TestLastWords(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, b *bundle) {
		s := b.hub.Session(t, 1)
		b.hub.Want(&agentv1.Release{Id: "r1", Name: "r", Generation: 1})
		b.Releases.Await(t, "r1", 1)
		b.Releases.SetStatus(&agentv1.ReleaseStatus{Id: "r1", Phase: "Failed", Reason: "Interrupted"})
		b.stop()
		<-s.Done()
		require.True(t, s.Left())
		require.Equal(t, "Interrupted", b.hub.State().Statuses["r1"].GetReason())
	})
}

// TestVanishedHub: a NAT box forgets the connection; both ends see nothing but
// silence.
func TestVanishedHub(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, b *bundle) {
		b.hub.Session(t, 1)
		time.Sleep(5 * time.Minute)
		b.net.Vanish()
		lost := time.Now()
		b.hub.Session(t, 2)
		require.Less(t, time.Since(lost), 26*time.Second+link.DefaultRetryBase)
		require.Greater(t, time.Since(lost), 10*time.Second)
	})
}

func TestBrokenConnection(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, b *bundle) {
		b.hub.Session(t, 1)
		time.Sleep(time.Minute)
		b.net.Refuse(true)
		b.net.Break()
		time.Sleep(10 * time.Minute)
		require.Equal(t, []health.Reason{health.HubUnreachable}, reasons(b.Board))
		_, err := b.FetchChart(t.Context(), "sha256:x")
		require.ErrorIs(t, err, link.ErrAway)

		b.Inventory.SetNode(facts.Node{Name: "n1"}) // changed while away
		b.net.Refuse(false)
		back := time.Now()
		b.hub.Session(t, 2)
		require.LessOrEqual(t, time.Since(back), link.DefaultRetryCap)
		b.hub.Await(t, "the change", func(s agenttest.HubState) bool { return s.Nodes["n1"] != nil })
		require.Empty(t, reasons(b.Board))
	})
}

func TestGoAway(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		reason   agentv1.GoAway_Reason
		after    time.Duration
		min, max time.Duration // when the agent is back
		board    health.Reason
	}{
		"draining: at its slot":          {agentv1.GoAway_REASON_DRAINING, 7 * time.Second, 7 * time.Second, 8 * time.Second, health.HubUnreachable},
		"certificate aged: at once":      {agentv1.GoAway_REASON_UNSPECIFIED, 0, 0, time.Second, health.HubUnreachable},
		"revoked: after long":            {agentv1.GoAway_REASON_REVOKED, 0, 5 * time.Minute, 6 * time.Minute, health.Revoked},
		"fenced: after a while":          {agentv1.GoAway_REASON_FENCED, 0, 30 * time.Second, 61 * time.Second, health.Fenced},
		"a slot next year is not waited": {agentv1.GoAway_REASON_DRAINING, 9000 * time.Hour, 9 * time.Minute, 11 * time.Minute, health.HubUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			inBubble(t, func(t *testing.T, b *bundle) {
				s := b.hub.Session(t, 1)
				time.Sleep(time.Second) // the streams are open
				b.Releases.SetStatus(&agentv1.ReleaseStatus{Id: "r1", Phase: "Ready"})
				s.GoAway(c.reason, "because", c.after)
				asked := time.Now()
				<-s.Done()
				require.Less(t, time.Since(asked), 2*time.Second, "it leaves at once")
				require.NotNil(t, b.hub.State().Statuses["r1"])
				if c.min > time.Second {
					time.Sleep(c.min - time.Second)
					require.Equal(t, []health.Reason{c.board}, reasons(b.Board))
				}
				for b.hub.State().Sessions < 2 {
					time.Sleep(100 * time.Millisecond)
					require.Less(t, time.Since(asked), c.max+2*time.Second)
				}
				require.GreaterOrEqual(t, time.Since(asked), c.min)
				distrusts, _, _ := b.Identities.Counts()
				require.Equal(t, c.board == health.Revoked, distrusts > 0)
			})
		})
	}
}

// TestFencedWaitsForTheLease: without its lease a fenced agent must not throw
// the rightful one out again.
func TestFencedWaitsForTheLease(t *testing.T) {
	t.Parallel()
	testutil.Bubble(t, func(t *testing.T) {
		hub, network := agenttest.NewHub(t, agenttest.HubConfig{}), agenttest.NewNet()
		cert, ca := hub.Identity(t)
		confirmed := make(chan struct{})
		end := agenttest.NewLink(t, agenttest.LinkConfig{
			Dialer: &tunnel.Dialer{NetDial: network.Dial}, Certificate: cert, BundlePEM: ca,
			Change: func(c *link.Config) {
				c.Confirmed = func(ctx context.Context) error {
					select {
					case <-confirmed:
						return nil
					case <-ctx.Done():
						return ctx.Err()
					}
				}
			},
		})
		stopHub, stop := hub.Serve(t, network), end.Start(t)
		hub.Session(t, 1).GoAway(agentv1.GoAway_REASON_FENCED, "another took over", 0)
		time.Sleep(24 * time.Hour)
		require.Equal(t, 1, hub.State().Sessions)
		close(confirmed)
		hub.Session(t, 2)
		stop()
		stopHub()
	})
}

// TestRefused: a hub that does not know the certificate says so on the control
// stream; that is no reason to knock every second.
func TestRefused(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, b *bundle) {
		time.Sleep(4 * time.Minute)
		distrusts, _, awaits := b.Identities.Counts()
		require.Equal(t, 1, distrusts)
		require.Equal(t, 1, awaits)
		require.Equal(t, []string{"CertificateForeign"}, b.Events.Reasons())
		require.Contains(t, b.Board.List()[0].Message, "join again")
		b.hub.RefuseCalls("Control", "", "")
		time.Sleep(time.Minute)
		b.hub.Session(t, 1)
	}, func(b *bundle) {
		b.hub.RefuseCalls("Control", "CertificateForeign", "the certificate is not ours; join again with a token")
	})
}

// TestForeignHub: the address leads to a hub of another authority.
func TestForeignHub(t *testing.T) {
	t.Parallel()
	testutil.Bubble(t, func(t *testing.T) {
		hub, network := agenttest.NewHub(t, agenttest.HubConfig{}), agenttest.NewNet()
		cert, ca := agenttest.NewHub(t, agenttest.HubConfig{}).Identity(t)
		end := agenttest.NewLink(t, agenttest.LinkConfig{Dialer: &tunnel.Dialer{NetDial: network.Dial}, Certificate: cert, BundlePEM: ca})
		stopHub, stop := hub.Serve(t, network), end.Start(t)
		time.Sleep(time.Minute)
		distrusts, _, _ := end.Identities.Counts()
		require.Positive(t, distrusts)
		require.Contains(t, end.Board.List()[0].Message, "not by the hub's authority")
		stop()
		stopHub()
	})
}

// TestUnknownAgent: our certificate comes from another authority; TLS 1.3 tells
// us only after the handshake.
func TestUnknownAgent(t *testing.T) {
	t.Parallel()
	testutil.Bubble(t, func(t *testing.T) {
		hub, network := agenttest.NewHub(t, agenttest.HubConfig{}), agenttest.NewNet()
		cert, _ := agenttest.NewHub(t, agenttest.HubConfig{}).Identity(t)
		_, ca := hub.Identity(t)
		end := agenttest.NewLink(t, agenttest.LinkConfig{Dialer: &tunnel.Dialer{NetDial: network.Dial}, Certificate: cert, BundlePEM: ca})
		stopHub, stop := hub.Serve(t, network), end.Start(t)
		time.Sleep(time.Minute)
		distrusts, _, _ := end.Identities.Counts()
		require.Positive(t, distrusts)
		require.Contains(t, end.Board.List()[0].Message, "join again")
		stop()
		stopHub()
	})
}

// TestExpiredForTheHub: our clock is slow, so we did not know.
func TestExpiredForTheHub(t *testing.T) {
	t.Parallel()
	testutil.Bubble(t, func(t *testing.T) {
		hub, network := agenttest.NewHub(t, agenttest.HubConfig{Lifetime: time.Hour}), agenttest.NewNet()
		cert, ca := hub.Identity(t)
		time.Sleep(2 * time.Hour)
		end := agenttest.NewLink(t, agenttest.LinkConfig{Dialer: &tunnel.Dialer{NetDial: network.Dial}, Certificate: cert, BundlePEM: ca})
		stopHub, stop := hub.Serve(t, network), end.Start(t)
		time.Sleep(time.Minute)
		distrusts, outdateds, _ := end.Identities.Counts()
		require.Zero(t, distrusts)
		require.Positive(t, outdateds)
		stop()
		stopHub()
	})
}

// TestStreamsRecoverAlone: a hub whose database is away ends streams, and the
// connection stays.
func TestStreamsRecoverAlone(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, b *bundle) {
		b.Inventory.SetNode(facts.Node{Name: "n1"})
		b.hub.Want(&agentv1.Release{Id: "r1", Name: "r", Generation: 1})
		time.Sleep(10 * time.Minute)
		require.Empty(t, b.hub.State().Nodes)
		b.hub.RefuseCalls("Sync", "", "")
		b.hub.RefuseCalls("Report", "", "")
		b.Releases.Await(t, "r1", 1)
		state := b.hub.Await(t, "node", func(s agenttest.HubState) bool { return s.Nodes["n1"] != nil })
		require.Equal(t, 1, state.Sessions)
	}, func(b *bundle) {
		b.hub.RefuseCalls("Sync", "", "the database is away")
		b.hub.RefuseCalls("Report", "TooManyNodes", "the report names too many nodes")
	})
}

// TestSummaryFindsAGap: a change that got lost is found by its digest.
func TestSummaryFindsAGap(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, b *bundle) {
		b.Inventory.SetNode(facts.Node{Name: "n1"})
		b.hub.Await(t, "node", func(s agenttest.HubState) bool { return s.Nodes["n1"] != nil })
		b.Inventory.Forge(facts.Node{Name: "n1", Ready: true})
		time.Sleep(link.DefaultSummary + time.Second)
		require.True(t, b.hub.State().Nodes["n1"].GetReady())
	})
}

// TestNodeEventsTravelInParts: what happens to nodes follows the facts.
func TestNodeEventsTravelInParts(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, b *bundle) {
		b.hub.Session(t, 1)
		time.Sleep(time.Second)
		before := b.hub.State().Deltas
		for i := range 250 {
			b.Inventory.Happen(facts.NodeEvent{UID: strconv.Itoa(i), Node: "n1", Count: 1})
		}
		state := b.hub.Await(t, "events", func(s agenttest.HubState) bool { return len(s.Events) == 250 })
		require.Equal(t, 3, state.Deltas-before)
		require.Equal(t, "249", state.Events[249].GetUid())
	})
}

// TestManyNodesTravelInParts: no message grows with the cluster.
func TestManyNodesTravelInParts(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, b *bundle) {
		b.hub.Session(t, 1)
		time.Sleep(time.Second)
		before := b.hub.State().Deltas
		for i := range 120 {
			b.Inventory.SetNode(facts.Node{Name: "n" + string(rune('a'+i/26)) + string(rune('a'+i%26))})
		}
		state := b.hub.Await(t, "nodes", func(s agenttest.HubState) bool { return len(s.Nodes) == 120 })
		require.Equal(t, 3, state.Deltas-before)
	})
}

func TestDegradationTravelsAtOnce(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, b *bundle) {
		b.hub.Session(t, 1)
		time.Sleep(time.Second)
		b.Board.Set(health.APIServerUnreachable, "gone")
		at := time.Now()
		state := b.hub.Await(t, "degradation", func(s agenttest.HubState) bool { return len(s.Degraded) == 1 })
		require.Equal(t, "APIServerUnreachable", state.Degraded[0].GetReason())
		require.Less(t, time.Since(at), time.Second)
	})
}

func TestFetchChart(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, b *bundle) {
		chart := make([]byte, 300<<10)
		_, _ = rand.Read(chart)
		digest := b.hub.AddChart(chart)
		b.hub.Session(t, 1)
		time.Sleep(time.Second)
		got, err := b.FetchChart(t.Context(), digest)
		require.NoError(t, err)
		require.True(t, bytes.Equal(chart, got))
		_, err = b.FetchChart(t.Context(), "sha256:none")
		var refusal *dial.RefusedError
		require.ErrorAs(t, err, &refusal)
	})
}

// TestRenewedDialsAgain: the new certificate is proven while the old one is
// still good.
func TestRenewedDialsAgain(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, b *bundle) {
		s := b.hub.Session(t, 1)
		s.RenewNow()
		asked := time.Now()
		next := b.hub.Session(t, 2)
		require.Less(t, time.Since(asked), 2*time.Second)
		require.NotEqual(t, s.Serial, next.Serial)
	}, func(b *bundle) {
		b.Identities.Renew = func(context.Context, grpc.ClientConnInterface) error {
			b.Identities.Certificate, _ = b.hub.Identity(t)
			return nil
		}
	})
}

// TestOverTCP runs the same over real sockets.
// What the hub asks for and decides goes down; what was found, and that all is
// removed, comes up.
func TestPresenceAndRetirement(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, b *bundle) {
		b.hub.Session(t, 1)
		b.Presence.Set([]facts.Presence{{Probe: "a/b", State: facts.PresenceAbsent}})
		b.hub.Await(t, "presence", func(s agenttest.HubState) bool { return len(s.Presence.GetPresent()) == 1 })
		b.hub.Ask(facts.ProbesToProto([]facts.Probe{{Name: "a/b"}}))
		b.net.Break()
		b.hub.Session(t, 2)
		synctest.Wait()
		require.Len(t, b.Presence.Asked(), 1)

		b.hub.Retire(4)
		synctest.Wait()
		require.Len(t, b.Retirement.Told(), 1)
		require.False(t, b.Retirement.Told()[0].GetRecorded())
		b.hub.WantAgent(&agentv1.AgentTarget{Generation: 7})
		synctest.Wait()
		require.Equal(t, int64(7), b.Upgrades.Wanted()[0].GetGeneration())
		b.Upgrades.Set(&agentv1.AgentStatus{ObservedGeneration: 7})
		b.hub.Await(t, "upgrade", func(s agenttest.HubState) bool { return s.Agent.GetObservedGeneration() == 7 })
		b.Retirement.Set(&agentv1.Retired{Generation: 4, Left: []string{"x"}})
		b.hub.Await(t, "retired", func(s agenttest.HubState) bool { return s.Retired.GetGeneration() == 4 })
		synctest.Wait()
		require.True(t, b.Retirement.Told()[1].GetRecorded())
	})
}

// A new join token is the owner's word that the agent is wanted: it is not
// retired but joins again.
func TestNewTokenBeatsRetirement(t *testing.T) {
	t.Parallel()
	inBubble(t, func(t *testing.T, b *bundle) {
		b.hub.Session(t, 1)
		b.Identities.Next = true
		b.hub.Retire(1)
		b.hub.Session(t, 2)
		distrusts, _, _ := b.Identities.Counts()
		require.Positive(t, distrusts)
		// A token that did not help is not tried again: then it is retired.
		synctest.Wait()
		require.Len(t, b.Retirement.Told(), 1)
	})
}

func TestOverTCP(t *testing.T) { //nolint:paralleltest // runs before the bubbles: they share yamux's timers
	hub := agenttest.NewHub(t, agenttest.HubConfig{})
	address, stopHub := hub.Listen(t, "")
	cert, ca := hub.Identity(t)
	host, _, err := net.SplitHostPort(address)
	require.NoError(t, err)
	end := agenttest.NewLink(t, agenttest.LinkConfig{
		Dialer: &tunnel.Dialer{}, Address: address, ServerName: host, Certificate: cert, BundlePEM: ca,
	})
	stop := end.Start(t)
	hub.Session(t, 1)
	end.Inventory.SetNode(facts.Node{Name: "n1"})
	hub.Await(t, "node", func(s agenttest.HubState) bool { return s.Nodes["n1"] != nil })
	stopHub()
	_, stopHub = hub.Listen(t, address)
	hub.Session(t, 2)
	stop()
	stopHub()
}
