package hubtest_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/budecosystem/budcluster/hub/hubtest"
	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/gateway"
	"github.com/budecosystem/budcluster/internal/testutil"
	"github.com/budecosystem/budcluster/internal/tunnel"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// ended is how one connection's life ended.
type ended struct {
	told  *agentv1.GoAway
	err   error
	after time.Duration
}

// live answers for a connection in the background.
func live(c *hubtest.Connection) <-chan ended {
	out, start := make(chan ended, 1), time.Now()
	go func() {
		told, err := c.Live()
		out <- ended{told: told, err: err, after: time.Since(start)}
	}()
	return out
}

func reasonOf(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}

func TestBeatingAgentStaysForHours(t *testing.T) {
	t.Parallel()
	testutil.Bubble(t, func(t *testing.T) {
		g := hubtest.NewGateway(t, hubtest.GatewayOptions{})
		a := g.Agent("alpha")
		c := a.MustConnect()
		require.Equal(t, []any{"alpha", a.ClusterID.String(), 10 * time.Second, 25 * time.Second, int32(agentv1.Version)},
			[]any{
				c.Welcome.GetClusterName(), c.Welcome.GetClusterId(), c.Welcome.GetHeartbeatInterval().AsDuration(),
				c.Welcome.GetLivenessTimeout().AsDuration(), c.Welcome.GetProtocol(),
			})
		done := live(c)
		time.Sleep(3 * time.Hour)
		synctest.Wait()
		require.Empty(t, done)
		require.Equal(t, cluster.StateConnected, g.Rules.State(a.ClusterID))
		require.WithinDuration(t, time.Now(), *g.Rules.Cluster(a.ClusterID).LastSeen, 10*time.Second)
		c.Close()
		<-done
	})
}

// A vanished peer is known by the control stream, within the timeout; the
// cluster is Unknown then and keeps when it was last seen.
func TestSilenceEndsASession(t *testing.T) {
	t.Parallel()
	cases := map[string]func(*hubtest.Agent){
		"an agent that hangs": func(*hubtest.Agent) {},
		"a line that swallows every byte": func(a *hubtest.Agent) {
			dial := a.Dial
			a.Dial = func(ctx context.Context) (net.Conn, error) {
				conn, err := dial(ctx)
				return &fading{Conn: conn, at: time.Now().Add(time.Second)}, err
			}
		},
	}
	for name, prepare := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testutil.Bubble(t, func(t *testing.T) {
				g := hubtest.NewGateway(t, hubtest.GatewayOptions{})
				a := g.Agent("alpha")
				prepare(a)
				start := time.Now()
				c := a.MustConnect()
				for len(g.Rules.Closed()) == 0 {
					<-g.Rules.Changed()
				}
				require.Equal(t, 25*time.Second, time.Since(start))
				require.Equal(t, "nothing was heard from the agent", g.Rules.Closed()[0].Reason)
				require.Equal(t, cluster.StateUnknown, g.Rules.State(a.ClusterID))
				require.NotNil(t, g.Rules.Cluster(a.ClusterID).LastSeen)
				_, err := g.Conn(a.ClusterID)
				require.ErrorIs(t, err, gateway.ErrAway)
				c.Close()
			})
		})
	}
}

// fading is a connection whose NAT entry is dropped: nothing arrives any more,
// and nobody is told.
type fading struct {
	net.Conn
	at time.Time
}

func (f *fading) Write(b []byte) (int, error) {
	if time.Now().After(f.at) {
		return len(b), nil
	}
	return f.Conn.Write(b)
}

func TestNewerSessionFencesTheOlder(t *testing.T) {
	t.Parallel()
	testutil.Bubble(t, func(t *testing.T) {
		g := hubtest.NewGateway(t, hubtest.GatewayOptions{})
		a := g.Agent("alpha")
		old := a.MustConnect()
		oldEnd := live(old)
		time.Sleep(time.Minute)
		next := a.MustConnect()
		nextEnd := live(next)
		require.Greater(t, next.Welcome.GetEpoch(), old.Welcome.GetEpoch())

		e := <-oldEnd
		require.Equal(t, agentv1.GoAway_REASON_FENCED, e.told.GetReason())
		time.Sleep(time.Hour)
		require.Empty(t, nextEnd)
		require.Equal(t, cluster.StateConnected, g.Rules.State(a.ClusterID))
		closed := g.Rules.Closed()
		require.Len(t, closed, 1)
		require.Equal(t, old.Welcome.GetEpoch(), closed[0].Epoch)
		next.Close()
		<-nextEnd
	})
}

func TestAnotherReplicaFences(t *testing.T) {
	t.Parallel()
	testutil.Bubble(t, func(t *testing.T) {
		g := hubtest.NewGateway(t, hubtest.GatewayOptions{})
		a := g.Agent("alpha")
		end := live(a.MustConnect())
		time.Sleep(time.Minute)
		start := time.Now()
		g.Rules.TakeOver(a.ClusterID)
		e := <-end
		require.Equal(t, agentv1.GoAway_REASON_FENCED, e.told.GetReason())
		require.LessOrEqual(t, time.Since(start), 4*time.Second)
	})
}

// Revocation on any replica cuts a cluster off within five seconds, whether
// its agent minds or not, and tells it why then and whenever it comes back.
func TestRevokedClusterIsCutOff(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		act  func(g *hubtest.Gateway, a *hubtest.Agent)
		says string
	}{
		"revoked": {func(g *hubtest.Gateway, a *hubtest.Agent) { g.Rules.Revoke(a.ClusterID) }, "is revoked"},
		"deleted": {func(g *hubtest.Gateway, a *hubtest.Agent) { g.Rules.Delete(a.ClusterID) }, "uninstall the agent"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testutil.Bubble(t, func(t *testing.T) {
				g := hubtest.NewGateway(t, hubtest.GatewayOptions{})
				a, other := g.Agent("alpha"), g.Agent("beta")
				end, otherEnd := live(a.MustConnect()), live(other.MustConnect())
				time.Sleep(time.Minute + 300*time.Millisecond)
				start := time.Now()
				tc.act(g, a)
				e := <-end
				require.Less(t, time.Since(start), 5*time.Second)
				require.Equal(t, agentv1.GoAway_REASON_REVOKED, e.told.GetReason())
				require.Contains(t, e.told.GetMessage(), tc.says)

				_, err := a.Connect(t.Context())
				require.Equal(t, codes.PermissionDenied, status.Code(err), "%v", err)
				require.Contains(t, status.Convert(err).Message(), tc.says)
				require.NotEmpty(t, reasonOf(err), "the agent must know that this is final")

				again, err := a.Dialed(t.Context())
				require.NoError(t, err)
				start = time.Now()
				_, err = again.Sync(t.Context())
				require.Equal(t, codes.PermissionDenied, status.Code(err))
				require.NotContains(t, status.Convert(err).Message(), tc.says, "only the control stream says why")
				<-again.Session.Done()
				require.LessOrEqual(t, time.Since(start), 5*time.Second)

				require.Empty(t, otherEnd, "the other cluster notices nothing")
				g.Stop()
				<-otherEnd
			})
		})
	}
}

// A database that is away costs no agent its connection, not even when the
// leases ran out meanwhile: 5,000 agents dialing anew would be the next outage.
func TestStoreAwayCostsNoConnection(t *testing.T) {
	t.Parallel()
	testutil.Bubble(t, func(t *testing.T) {
		g := hubtest.NewGateway(t, hubtest.GatewayOptions{})
		a := g.Agent("alpha")
		c := a.MustConnect()
		end := live(c)
		time.Sleep(time.Minute)
		g.Rules.SetAway(errors.New("connection refused"))
		time.Sleep(10 * time.Minute)
		require.Equal(t, cluster.StateUnknown, g.Rules.State(a.ClusterID), "nobody can know")
		g.Rules.SetAway(nil)
		g.Rules.Expire()
		time.Sleep(time.Minute)
		require.Empty(t, end)
		require.Equal(t, cluster.StateConnected, g.Rules.State(a.ClusterID))
		_, err := g.Conn(a.ClusterID)
		require.NoError(t, err)
		c.Close()
		<-end
		synctest.Wait()
		require.Equal(t, cluster.StateUnknown, g.Rules.State(a.ClusterID), "the new epoch was closed")
	})
}

// A database that neither answers nor refuses must not silence the hub: its
// agents would take it for dead, and leave.
func TestStoreStuckCostsNoConnection(t *testing.T) {
	t.Parallel()
	testutil.Bubble(t, func(t *testing.T) {
		g := hubtest.NewGateway(t, hubtest.GatewayOptions{})
		a := g.Agent("alpha")
		c := a.MustConnect()
		heard := make(chan time.Time, 1000)
		var wg sync.WaitGroup
		wg.Go(func() {
			defer close(heard)
			for {
				if _, err := c.Control.Recv(); err != nil {
					return
				}
				heard <- time.Now()
			}
		})
		g.Rules.SetStuck(true)
		last := time.Now()
		for i := range 30 {
			require.NoError(t, c.Beat(&agentv1.Degradation{Reason: "R", Message: fmt.Sprint(i)}))
			time.Sleep(10 * time.Second)
		}
		g.Rules.SetStuck(false)
		c.Close()
		wg.Wait()
		count := 0
		for at := range heard {
			require.Less(t, at.Sub(last), 15*time.Second)
			last = at
			count++
		}
		require.GreaterOrEqual(t, count, 29)
		g.Stop()
	})
}

func TestDrainHandsOutSlots(t *testing.T) {
	t.Parallel()
	testutil.Bubble(t, func(t *testing.T) {
		const agents = 40
		g := hubtest.NewGateway(t, hubtest.GatewayOptions{})
		ends := make([]<-chan ended, agents)
		for i := range ends {
			c := g.Agent(fmt.Sprintf("c%d", i)).MustConnect()
			// These leave when they are asked to.
			left := make(chan ended, 1)
			ends[i] = left
			go func() {
				for {
					m, err := c.Control.Recv()
					if err != nil {
						left <- ended{err: err}
						return
					}
					if m.GetGoAway() != nil {
						left <- ended{told: m.GetGoAway()}
						c.Close()
						return
					}
				}
			}()
		}
		start := time.Now()
		g.Stop()
		require.Less(t, time.Since(start), time.Second, "nobody has to be waited for")
		slots := map[time.Duration]bool{}
		var last time.Duration
		for _, end := range ends {
			e := <-end
			require.Equal(t, agentv1.GoAway_REASON_DRAINING, e.told.GetReason())
			after := e.told.GetReconnectAfter().AsDuration()
			require.GreaterOrEqual(t, after, time.Second)
			slots[after], last = true, max(last, after)
		}
		require.Greater(t, len(slots), agents/2, "each has a slot of its own")
		require.Less(t, last, 2*time.Second)
		for _, c := range g.Rules.Closed() {
			require.Equal(t, "the hub is stopping", c.Reason)
		}
		require.Len(t, g.Rules.Closed(), agents)
	})
}

func TestDrainIsBounded(t *testing.T) {
	t.Parallel()
	testutil.Bubble(t, func(t *testing.T) {
		g := hubtest.NewGateway(t, hubtest.GatewayOptions{Drain: 7 * time.Second})
		end := live(g.Agent("stubborn").MustConnect())
		start := time.Now()
		g.Stop()
		require.Equal(t, 7*time.Second, time.Since(start))
		e := <-end
		require.Equal(t, agentv1.GoAway_REASON_DRAINING, e.told.GetReason())
	})
}

func TestConnectionWithoutHelloIsClosed(t *testing.T) {
	t.Parallel()
	testutil.Bubble(t, func(t *testing.T) {
		g := hubtest.NewGateway(t, hubtest.GatewayOptions{})
		start := time.Now()
		c, err := g.Agent("mute").Dialed(t.Context())
		require.NoError(t, err)
		<-c.Session.Done()
		require.Equal(t, 25*time.Second, time.Since(start))
	})
}

// An agent renews by itself at two thirds. One that does not is reminded in the
// last sixth, and no session outlives its certificate.
func TestSessionDoesNotOutliveItsCertificate(t *testing.T) {
	t.Parallel()
	testutil.Bubble(t, func(t *testing.T) {
		g := hubtest.NewGateway(t, hubtest.GatewayOptions{})
		const lifetime = time.Minute // short, as in tests: it has no part in this that it begins before it was issued
		a := g.AgentOf(g.Rules.AddCluster("alpha"), lifetime)
		c := a.MustConnect()
		var reminded time.Time
		var wg sync.WaitGroup
		stop := make(chan struct{})
		wg.Go(func() {
			tick := time.NewTicker(10 * time.Second)
			defer tick.Stop()
			for {
				select {
				case <-stop:
					return
				case <-tick.C:
					_ = c.Beat()
				}
			}
		})
		var told *agentv1.GoAway
		for {
			m, err := c.Control.Recv()
			if err != nil {
				break
			}
			if m.GetRenewNow() != nil && reminded.IsZero() {
				reminded = time.Now()
			}
			if m.GetGoAway() != nil {
				told = m.GetGoAway()
			}
		}
		close(stop)
		wg.Wait()
		leaf := a.Certificate.Leaf
		require.WithinDuration(t, leaf.NotAfter.Add(-lifetime/6), reminded, time.Second)
		require.Contains(t, told.GetMessage(), "certificate")
		require.WithinDuration(t, leaf.NotAfter, time.Now(), 5*time.Second)
	})
}

func TestHubCallsTheAgent(t *testing.T) {
	t.Parallel()
	testutil.Bubble(t, func(t *testing.T) {
		g := hubtest.NewGateway(t, hubtest.GatewayOptions{})
		a := g.Agent("alpha")
		c := a.MustConnect()
		end := live(c)
		server := grpc.NewServer(tunnel.GRPCServerOptions()...)
		agentv1.RegisterAgentServiceServer(server, inspected{})
		var wg sync.WaitGroup
		wg.Go(func() { _ = server.Serve(c.Session) })

		cc, err := g.Conn(a.ClusterID)
		require.NoError(t, err)
		resp, err := agentv1.NewAgentServiceClient(cc).Inspect(t.Context(), &agentv1.InspectRequest{})
		require.NoError(t, err)
		require.Equal(t, "agent-0", resp.GetInstance())
		_, err = g.Conn(g.Rules.AddCluster("away"))
		require.ErrorIs(t, err, gateway.ErrAway)

		c.Close()
		<-end
		server.Stop()
		wg.Wait()
		g.Stop()
	})
}

type inspected struct {
	agentv1.UnimplementedAgentServiceServer
}

func (inspected) Inspect(context.Context, *agentv1.InspectRequest) (*agentv1.InspectResponse, error) {
	return &agentv1.InspectResponse{Instance: "agent-0"}, nil
}

func TestHelloIsJudged(t *testing.T) {
	t.Parallel()
	cases := map[string]struct {
		hello  *agentv1.Hello
		reason string // empty: welcome
	}{
		"as it should be":              {hello: &agentv1.Hello{Protocol: 1, ClusterUid: "uid-alpha"}},
		"of a later protocol":          {hello: &agentv1.Hello{Protocol: 99, ClusterUid: "uid-alpha"}},
		"while its API server is away": {hello: &agentv1.Hello{Protocol: 1}},
		"too old":                      {hello: &agentv1.Hello{AgentVersion: "0.0.1", ClusterUid: "uid-alpha"}, reason: "ProtocolTooOld"},
		"from a copy of a cluster":     {hello: &agentv1.Hello{Protocol: 1, ClusterUid: "another"}, reason: "ClusterUIDMismatch"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			testutil.Bubble(t, func(t *testing.T) {
				g := hubtest.NewGateway(t, hubtest.GatewayOptions{})
				c, err := g.Agent("alpha").Dialed(t.Context())
				require.NoError(t, err)
				err = c.Hello(t.Context(), tc.hello)
				if tc.reason == "" {
					require.NoError(t, err)
				} else {
					require.Equal(t, tc.reason, reasonOf(err), "%v", err)
				}
				c.Close()
				g.Stop()
			})
		})
	}
}

func TestOneControlStreamPerConnection(t *testing.T) {
	t.Parallel()
	testutil.Bubble(t, func(t *testing.T) {
		g := hubtest.NewGateway(t, hubtest.GatewayOptions{})
		a := g.Agent("alpha")
		c := a.MustConnect()
		end := live(c)
		second := &hubtest.Connection{Session: c.Session, CC: c.CC, Link: c.Link}
		err := second.Hello(t.Context(), &agentv1.Hello{Protocol: 1, ClusterUid: "uid-alpha"})
		require.Equal(t, codes.FailedPrecondition, status.Code(err), "%v", err)
		time.Sleep(time.Minute)
		require.Empty(t, end, "the first one lives on")
		require.Empty(t, g.Rules.Closed())
		c.Close()
		<-end
		require.NotErrorIs(t, err, io.EOF)
	})
}

func TestDegradationIsWrittenOnChangeOnly(t *testing.T) {
	t.Parallel()
	testutil.Bubble(t, func(t *testing.T) {
		g := hubtest.NewGateway(t, hubtest.GatewayOptions{})
		a := g.Agent("alpha")
		c := a.MustConnect()
		sick := &agentv1.Degradation{Reason: "APIServerUnreachable", Message: "dial: \x00refused"}
		for range 5 {
			require.NoError(t, c.Beat(sick))
			time.Sleep(time.Second)
		}
		for range 5 {
			require.NoError(t, c.Beat())
			time.Sleep(time.Second)
		}
		synctest.Wait()
		written := g.Rules.Degraded()
		require.Len(t, written, 2)
		require.Equal(t, "dial: \uFFFDrefused", written[0][0].Message)
		require.Empty(t, written[1])
		c.Close()
		g.Stop()
	})
}
