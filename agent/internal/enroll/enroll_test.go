package enroll_test

import (
	"context"
	"crypto/tls"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/budecosystem/budcluster/agent/agenttest"
	"github.com/budecosystem/budcluster/agent/internal/dial"
	"github.com/budecosystem/budcluster/agent/internal/enroll"
	"github.com/budecosystem/budcluster/agent/internal/health"
	"github.com/budecosystem/budcluster/internal/pki"
	"github.com/budecosystem/budcluster/internal/tunnel"
)

var server *agenttest.Kube

func TestMain(m *testing.M) {
	os.Exit(agenttest.RunWithKube(m, func(k *agenttest.Kube) { server = k }))
}

const secretName = "budcluster-agent-identity"

type bundle struct {
	*enroll.Enroller
	cfg    enroll.Config
	hub    *agenttest.Hub
	dialer *dial.Hub
	client kubernetes.Interface
	ns     string
	board  *health.Board
	events *agenttest.Events
	uid    string
	clock  time.Duration // added to the agent's clock
}

func setup(t *testing.T, client kubernetes.Interface, ns string, network *tunnel.Dialer, address string, hub *agenttest.Hub) *bundle {
	t.Helper()
	b := &bundle{hub: hub, client: client, ns: ns, board: health.New(time.Now), events: &agenttest.Events{}, uid: "uid-1"}
	var err error
	b.dialer, err = dial.New(dial.Config{Addresses: []string{address}, ServerName: agenttest.HubName, Dialer: network, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	b.cfg = enroll.Config{
		Store: &enroll.Store{Client: client, Namespace: ns, Name: secretName}, Hub: b.dialer,
		ClusterUID: func(context.Context) (string, error) { return b.uid, nil },
		TokenFile:  filepath.Join(t.TempDir(), "token"), AgentVersion: "test",
		Board: b.board, Notifier: b.events, Logger: slog.New(slog.DiscardHandler),
		Now: func() time.Time { return time.Now().Add(b.clock) },
	}
	b.restart(t)
	return b
}

// onServer runs against a real API server and real sockets.
func onServer(t *testing.T) *bundle {
	t.Helper()
	hub := agenttest.NewHub(t, agenttest.HubConfig{})
	address, _ := hub.Listen(t, "")
	return setup(t, server.Client(t), server.Namespace(t), &tunnel.Dialer{}, address, hub)
}

// restart is a new process: nothing is known but what was stored.
func (b *bundle) restart(t *testing.T) {
	t.Helper()
	var err error
	b.Enroller, err = enroll.New(b.cfg)
	require.NoError(t, err)
}

func (b *bundle) giveToken(t *testing.T, token string) {
	t.Helper()
	require.NoError(t, os.WriteFile(b.cfg.TokenFile, []byte(token+"\n"), 0o600))
}

func (b *bundle) secret(t *testing.T) *corev1.Secret {
	t.Helper()
	s, err := b.client.CoreV1().Secrets(b.ns).Get(t.Context(), secretName, metav1.GetOptions{})
	require.NoError(t, err)
	return s
}

func (b *bundle) current(t *testing.T) *enroll.Identity {
	t.Helper()
	i, err := b.Current(t.Context())
	require.NoError(t, err)
	return i
}

func (b *bundle) refused(t *testing.T) *dial.RefusedError {
	t.Helper()
	_, err := b.Current(t.Context())
	var refusal *dial.RefusedError
	require.ErrorAs(t, err, &refusal)
	return refusal
}

// works dials the control lane with the identity.
func (b *bundle) works(t *testing.T, i *enroll.Identity) {
	t.Helper()
	conn, err := b.dialer.Dial(t.Context(), func(name string) (*tls.Config, error) {
		return pki.AgentConfig(i.Certificate, i.BundlePEM, name)
	})
	require.NoError(t, err)
	session, err := tunnel.Client(conn, tunnel.Options{})
	require.NoError(t, err)
	defer func() { require.NoError(t, session.Close()) }()
	stream, err := session.OpenStream(t.Context(), tunnel.Header{Kind: tunnel.KindGRPC, Lane: tunnel.LaneControl})
	require.NoError(t, err)
	one := make([]byte, 1)
	_, err = stream.Read(one) // the first byte of HTTP/2: the hub accepted us
	require.NoError(t, err)
}

func TestJoin(t *testing.T) {
	t.Parallel()
	b := onServer(t)
	b.giveToken(t, b.hub.Token(t))
	i := b.current(t)
	require.Equal(t, b.hub.ClusterID, i.ClusterID)
	b.works(t, i)
	data := b.secret(t).Data
	require.Equal(t, b.hub.ClusterID, string(data["cluster-id"]))
	require.Equal(t, "1", string(data["generation"]))
	require.NotEmpty(t, data["ca.crt"])
	require.NotContains(t, data, "next.key")
	require.Equal(t, []string{"Enrolled"}, b.events.Reasons())

	b.restart(t)
	require.NoError(t, os.Remove(b.cfg.TokenFile))
	again := b.current(t)
	require.Equal(t, i.Certificate.Certificate, again.Certificate.Certificate)
	require.Equal(t, 1, b.hub.State().Enrolled)
	require.Empty(t, b.board.List())
}

// TestCrashBetweenSignedAndStored: the hub has signed and used up the token,
// and the answer never arrived. The key was stored before, so the same token
// is good for it once more.
func TestCrashBetweenSignedAndStored(t *testing.T) {
	t.Parallel()
	b := onServer(t)
	b.giveToken(t, b.hub.Token(t))
	b.hub.RefuseCalls("EnrollAnswer", "", "connection lost")
	_, err := b.Current(t.Context())
	require.Error(t, err)
	require.Equal(t, health.EnrollmentPending, b.board.List()[0].Reason)
	require.NotEmpty(t, b.secret(t).Data["next.key"])

	b.hub.RefuseCalls("EnrollAnswer", "", "")
	b.restart(t)
	b.works(t, b.current(t))
	require.Equal(t, 2, b.hub.State().Enrolled)
}

func TestRefusals(t *testing.T) {
	t.Parallel()
	other := agenttest.NewHub(t, agenttest.HubConfig{})
	for name, c := range map[string]struct {
		token  func(t *testing.T, b *bundle) string
		reason string
	}{
		"no token":        {func(*testing.T, *bundle) string { return "" }, "TokenMalformed"},
		"cut token":       {func(t *testing.T, b *bundle) string { token := b.hub.Token(t); return token[:len(token)-5] }, "TokenMalformed"},
		"token is no use": {func(t *testing.T, b *bundle) string { return b.hub.Token(t) }, "TokenUsed"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			b := onServer(t)
			if c.reason == "TokenUsed" {
				b.hub.RefuseCalls("Enroll", "TokenUsed", "join token was used already; create a new one")
			}
			b.giveToken(t, c.token(t, b))
			for range 3 {
				require.Equal(t, c.reason, b.refused(t).Reason)
			}
			require.Equal(t, []string{c.reason}, b.events.Reasons(), "said once")
			require.Equal(t, health.EnrollmentRefused, b.board.List()[0].Reason)
		})
	}
	t.Run("token of another hub", func(t *testing.T) {
		t.Parallel()
		b := onServer(t)
		b.giveToken(t, other.Token(t))
		_, err := b.Current(t.Context())
		var wrongPin *pki.PinError
		require.ErrorAs(t, err, &wrongPin)
	})
	t.Run("no file", func(t *testing.T) {
		t.Parallel()
		require.Equal(t, "TokenMissing", onServer(t).refused(t).Reason)
	})
}

// TestNewTokenEndsTheWait: nobody has to restart the pod.
func TestNewTokenEndsTheWait(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := setup(t, fake.NewClientset(), "ns", &tunnel.Dialer{}, "192.0.2.1:1", agenttest.NewHub(t, agenttest.HubConfig{}))
		b.giveToken(t, "nonsense")
		require.Equal(t, "TokenMalformed", b.refused(t).Reason)
		begin := time.Now()
		b.Await(t.Context())
		require.Equal(t, enroll.DefaultPatience, time.Since(begin))

		begin = time.Now()
		time.AfterFunc(time.Minute, func() { b.giveToken(t, "other nonsense") })
		b.Await(t.Context())
		require.Less(t, time.Since(begin), time.Minute+enroll.DefaultTokenPoll+time.Second)
	})
}

// TestTwoAgents: two that both believe to lead end up with one identity.
func TestTwoAgents(t *testing.T) {
	t.Parallel()
	b := onServer(t)
	b.giveToken(t, b.hub.Token(t))
	second, err := enroll.New(b.cfg)
	require.NoError(t, err)
	var wg sync.WaitGroup
	for _, e := range []*enroll.Enroller{b.Enroller, second} {
		wg.Go(func() {
			for range 50 {
				if _, err := e.Current(t.Context()); err == nil {
					return
				}
			}
			t.Error("never got an identity")
		})
	}
	wg.Wait()
	mine := b.current(t)
	theirs, err := second.Current(t.Context())
	require.NoError(t, err)
	require.Equal(t, mine.Certificate.Certificate, theirs.Certificate.Certificate)
	b.works(t, mine)
}

func TestExpiredRenewsOnTheJoinLane(t *testing.T) {
	t.Parallel()
	b := onServer(t)
	b.giveToken(t, b.hub.Token(t))
	old := b.current(t)
	b.clock = 48 * time.Hour
	b.restart(t)
	i := b.current(t)
	require.Greater(t, i.Generation, old.Generation)
	require.Equal(t, old.ClusterID, i.ClusterID)
	require.Equal(t, 1, b.hub.State().Renewed)
}

// TestGraceOver: the hub takes the expired certificate no more. Another join
// token, and only another one, brings the cluster back.
func TestGraceOver(t *testing.T) {
	t.Parallel()
	b := onServer(t)
	b.giveToken(t, b.hub.Token(t))
	b.current(t)
	b.clock = 48 * time.Hour
	b.hub.RefuseCalls("Renew", "CertificateExpired", "expired longer ago than can be renewed")
	require.Equal(t, "CertificateExpired", b.refused(t).Reason)
	require.NotEmpty(t, b.secret(t).Data["tls.crt"], "the identity is kept until there is a better one")
	b.giveToken(t, b.hub.Token(t))
	b.current(t)
	require.Equal(t, 2, b.hub.State().Enrolled)
}

// TestDistrusted: the hub was set up anew and does not know us. A new token
// lets the cluster join again; without one the identity stays.
func TestDistrusted(t *testing.T) {
	t.Parallel()
	b := onServer(t)
	b.giveToken(t, b.hub.Token(t))
	old := b.current(t)
	b.Distrust(old)
	require.Equal(t, old.Generation, b.current(t).Generation, "the token is the one that was used")
	b.giveToken(t, "two tokens\npasted as one")
	require.Equal(t, old.Generation, b.current(t).Generation)
	b.giveToken(t, b.hub.Token(t))
	require.Greater(t, b.current(t).Generation, old.Generation)
	require.Equal(t, 2, b.hub.State().Enrolled)
}

func TestRestoredIntoAnotherCluster(t *testing.T) {
	t.Parallel()
	b := onServer(t)
	b.giveToken(t, b.hub.Token(t))
	b.current(t)
	b.uid = "uid-2"
	b.restart(t)
	require.Equal(t, "IdentityOfAnotherCluster", b.refused(t).Reason)
	b.giveToken(t, b.hub.Token(t))
	b.current(t)
	require.Equal(t, "uid-2", string(b.secret(t).Data["cluster-uid"]))
}

func TestCorruptSecret(t *testing.T) {
	t.Parallel()
	for _, key := range []string{"tls.crt", "tls.key", "generation"} {
		t.Run(key, func(t *testing.T) {
			t.Parallel()
			b := onServer(t)
			b.giveToken(t, b.hub.Token(t))
			b.current(t)
			s := b.secret(t)
			s.Data[key] = []byte("garbage")
			_, err := b.client.CoreV1().Secrets(b.ns).Update(t.Context(), s, metav1.UpdateOptions{})
			require.NoError(t, err)
			b.restart(t)
			refusal := b.refused(t)
			require.Equal(t, "IdentityCorrupt", refusal.Reason)
			require.Contains(t, refusal.Message, key)
		})
	}
}

// TestAPIServerAway: what is known is used as long as it is good.
func TestAPIServerAway(t *testing.T) {
	t.Parallel()
	b := onServer(t)
	b.giveToken(t, b.hub.Token(t))
	i := b.current(t)
	b.cfg.Store.Client = nil
	dead := server.Config()
	dead.Host = "https://127.0.0.1:1"
	away, err := kubernetes.NewForConfig(dead)
	require.NoError(t, err)
	b.cfg.Store.Client = away
	require.Equal(t, i.Generation, b.current(t).Generation)
	b.clock = 48 * time.Hour
	_, err = b.Current(t.Context())
	require.Error(t, err)
}

func TestTrust(t *testing.T) {
	t.Parallel()
	b := onServer(t)
	b.giveToken(t, b.hub.Token(t))
	i := b.current(t)
	_, other := agenttest.NewHub(t, agenttest.HubConfig{}).Identity(t)
	both := append(append([]byte(nil), i.BundlePEM...), other...)
	require.NoError(t, b.Trust(t.Context(), both))
	require.Equal(t, both, b.secret(t).Data["ca.crt"])
	require.Error(t, b.Trust(t.Context(), []byte("nonsense")))
	require.Equal(t, both, b.current(t).BundlePEM)
}

// onceEach calls on a fresh connection of the join lane each time: what Keep
// needs, without the sessions of a tunnel, which no two bubbles may share.
type onceEach struct {
	grpc.ClientConnInterface
	dialer *dial.Hub
	i      *enroll.Identity
}

func (c *onceEach) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	ca, err := pki.DecodeCertificates(c.i.BundlePEM)
	if err != nil {
		return err
	}
	conn, err := c.dialer.Dial(ctx, func(name string) (*tls.Config, error) {
		return pki.JoinConfig(pki.Pin(ca[0]), name, &c.i.Certificate), nil
	})
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	cc, err := tunnel.JoinClientConn(conn)
	if err != nil {
		return err
	}
	defer func() { _ = cc.Close() }()
	return cc.Invoke(ctx, method, args, reply, opts...)
}

// versioned is a fake API server that counts resource versions.
func versioned() *fake.Clientset {
	client := fake.NewClientset()
	version := 0
	count := func(action clienttesting.Action) (bool, runtime.Object, error) {
		if create, ok := action.(clienttesting.CreateAction); ok { // and updates
			if m, err := meta.Accessor(create.GetObject()); err == nil {
				version++
				m.SetResourceVersion(strconv.Itoa(version))
			}
		}
		return false, nil, nil
	}
	client.PrependReactor("create", "*", count)
	client.PrependReactor("update", "*", count)
	return client
}

// TestKeep renews at two thirds, with a new key each time; a hub that is in
// trouble is asked again, and only late does the board say so.
func TestKeep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		hub, network := agenttest.NewHub(t, agenttest.HubConfig{Lifetime: 24 * time.Hour}), agenttest.NewNet()
		stop := hub.Serve(t, network)
		b := setup(t, versioned(), "ns", &tunnel.Dialer{NetDial: network.Dial}, "192.0.2.1:1", hub)
		b.giveToken(t, b.hub.Token(t))
		first := b.current(t)
		cc := &onceEach{dialer: b.dialer, i: first}

		joined := time.Now()
		hub.RefuseCalls("Renew", "", "the database is away")
		done := make(chan error, 1)
		go func() { done <- b.Keep(t.Context(), first, cc, nil) }()
		time.Sleep(19 * time.Hour)
		require.Empty(t, b.board.List(), "there is plenty of time")
		time.Sleep(2 * time.Hour)
		require.Equal(t, health.RenewalFailing, b.board.List()[0].Reason)
		hub.RefuseCalls("Renew", "", "")
		require.NoError(t, <-done)
		require.Empty(t, b.board.List())
		require.Less(t, time.Since(joined), 22*time.Hour)
		second := b.current(t)
		require.Equal(t, first.Generation+1, second.Generation)
		require.NotEqual(t, first.Certificate.Leaf.RawSubjectPublicKeyInfo, second.Certificate.Leaf.RawSubjectPublicKeyInfo)

		cc.i = second
		began := time.Now()
		require.NoError(t, b.Keep(t.Context(), second, cc, nil))
		require.InDelta(t, 17, time.Since(began).Hours(), 1)

		cc.i = b.current(t)
		asked := make(chan struct{}, 1)
		asked <- struct{}{}
		began = time.Now()
		require.NoError(t, b.Keep(t.Context(), cc.i, cc, asked))
		require.Less(t, time.Since(began), time.Second)
		stop()
	})
}
