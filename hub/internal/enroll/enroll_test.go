package enroll_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/enroll"
	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/store"
	"github.com/budecosystem/budcluster/hub/internal/store/storetest"
	"github.com/budecosystem/budcluster/internal/id"
	"github.com/budecosystem/budcluster/internal/pki"
	"github.com/budecosystem/budcluster/internal/secret"
	"github.com/budecosystem/budcluster/internal/testutil"
)

type bundle struct {
	*enroll.Service
	store    *store.Store
	keys     *secret.Keyring
	clusters *cluster.Service

	mu  sync.Mutex // guards now
	now time.Time
}

func (b *bundle) clock() time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.now
}

func (b *bundle) pass(d time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.now = b.now.Add(d)
}

func setup(t *testing.T) *bundle {
	t.Helper()
	b := &bundle{store: storetest.New(t), keys: storetest.Keyring(t), now: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)}
	b.Service = b.replica(t)
	var err error
	b.clusters, err = cluster.New(cluster.Config{Store: b.store, Logger: slog.New(slog.DiscardHandler), Now: b.clock})
	require.NoError(t, err)
	return b
}

// replica is one more Service on the same database.
func (b *bundle) replica(t *testing.T) *enroll.Service {
	t.Helper()
	svc, err := enroll.New(enroll.Config{Store: b.store, Sealer: b.keys, Logger: slog.New(slog.DiscardHandler), Now: b.clock})
	require.NoError(t, err)
	return svc
}

func (b *bundle) cluster(t *testing.T, name string) uuid.UUID {
	t.Helper()
	c, err := b.clusters.Create(t.Context(), "tester", name, nil)
	require.NoError(t, err)
	return c.ID
}

func (b *bundle) token(t *testing.T, clusterID uuid.UUID, o enroll.TokenOptions) (enroll.Token, string) {
	t.Helper()
	token, text, err := b.CreateToken(t.Context(), "tester", clusterID, o)
	require.NoError(t, err)
	return token, text.Reveal()
}

// agent is one that keeps its key and certificate.
type agent struct {
	key  *ecdsa.PrivateKey
	csr  []byte
	cert *x509.Certificate
}

func newAgent(t *testing.T) *agent {
	t.Helper()
	key, err := pki.NewKey()
	require.NoError(t, err)
	csr, err := pki.NewCSR(key)
	require.NoError(t, err)
	return &agent{key: key, csr: csr}
}

func (a *agent) request(token, uid string) enroll.Request {
	return enroll.Request{Token: token, CSR: a.csr, ClusterUID: uid, AgentVersion: "0.1.0", RemoteAddr: "10.0.0.1:1"}
}

func parse(t *testing.T, text []byte) *x509.Certificate {
	t.Helper()
	block, _ := pem.Decode(text)
	require.NotNil(t, block)
	cert, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	return cert
}

// join makes an agent that has enrolled as cluster berlin, with uid-1.
func (b *bundle) join(t *testing.T) (*agent, uuid.UUID) {
	t.Helper()
	clusterID := b.cluster(t, "berlin")
	_, text := b.token(t, clusterID, enroll.TokenOptions{})
	a := newAgent(t)
	identity, err := b.Enroll(t.Context(), a.request(text, "uid-1"))
	require.NoError(t, err)
	a.cert = parse(t, identity.CertificatePEM)
	return a, clusterID
}

// renew makes the agent's next self. If it is lost, the answer never came.
func (b *bundle) renew(t *testing.T, a *agent) *agent {
	t.Helper()
	next := newAgent(t)
	identity, err := b.Renew(t.Context(), a.cert, next.csr)
	require.NoError(t, err)
	next.cert = parse(t, identity.CertificatePEM)
	return next
}

func reason(t *testing.T, err error) enroll.Reason {
	t.Helper()
	var refused *enroll.RefusedError
	require.ErrorAs(t, err, &refused)
	return refused.Reason
}

func TestEnroll(t *testing.T) {
	t.Parallel()
	b := setup(t)
	clusterID := b.cluster(t, "berlin")
	token, text := b.token(t, clusterID, enroll.TokenOptions{})
	require.Equal(t, 1, token.Uses)
	require.Equal(t, b.clock().Add(24*time.Hour), token.ExpiresAt)

	a := newAgent(t)
	identity, err := b.Enroll(t.Context(), a.request(text, "uid-1"))
	require.NoError(t, err)
	require.Equal(t, clusterID, identity.ClusterID)
	require.Equal(t, "berlin", identity.ClusterName)
	require.Equal(t, int64(1), identity.Generation)
	require.Equal(t, b.clock().Add(16*time.Hour), identity.RenewAfter)
	require.Equal(t, b.BundlePEM(), identity.BundlePEM)
	cert := parse(t, identity.CertificatePEM)
	name, err := pki.IDOf(cert)
	require.NoError(t, err)
	require.Equal(t, pki.ID{TrustDomain: "budcluster.local", Kind: pki.KindCluster, Name: clusterID.String()}, name)

	got, err := b.Admit(t.Context(), cert)
	require.NoError(t, err)
	require.Equal(t, clusterID, got)
	c, err := b.clusters.Get(t.Context(), "berlin")
	require.NoError(t, err)
	require.Equal(t, "uid-1", c.UID)
	require.Equal(t, "0.1.0", c.AgentVersion)
	require.Equal(t, cluster.StateUnknown, c.State(b.clock()))

	tokens, err := b.Tokens(t.Context(), clusterID)
	require.NoError(t, err)
	require.Len(t, tokens, 1)
	require.Equal(t, enroll.TokenStateUsed, tokens[0].State(b.clock()))
	events, err := b.store.EventList(t.Context(), event.Filter{ClusterID: &clusterID, Limit: 10})
	require.NoError(t, err)
	for _, e := range events {
		require.NotContains(t, e.Message+string(e.Data), strings.Split(text, ".")[2], "no secret in an event")
	}
}

// The first answer may be lost; the same key gets its certificate again, and
// no other key does.
func TestEnrollAgainWithTheSameKey(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, text := b.token(t, b.cluster(t, "berlin"), enroll.TokenOptions{})
	a := newAgent(t)
	_, err := b.Enroll(t.Context(), a.request(text, "uid-1"))
	require.NoError(t, err)
	again, err := b.Enroll(t.Context(), a.request(text, "uid-1"))
	require.NoError(t, err)
	require.Equal(t, int64(2), again.Generation)
	_, err = b.Enroll(t.Context(), newAgent(t).request(text, "uid-1"))
	require.Equal(t, enroll.TokenUsed, reason(t, err))
	b.pass(25 * time.Hour)
	_, err = b.Enroll(t.Context(), a.request(text, "uid-1"))
	require.Equal(t, enroll.TokenUsed, reason(t, err))
}

func TestSingleUseTokenHasOneWinner(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, text := b.token(t, b.cluster(t, "berlin"), enroll.TokenOptions{})
	const agents = 8
	agentsOf := make([]*agent, agents)
	for i := range agentsOf {
		agentsOf[i] = newAgent(t)
	}
	start := make(chan struct{})
	errs := make(chan error, agents)
	for _, a := range agentsOf {
		go func() {
			<-start
			_, err := b.Enroll(context.WithoutCancel(t.Context()), a.request(text, "uid-1"))
			errs <- err
		}()
	}
	close(start)
	won := 0
	for range agents {
		if err := <-errs; err == nil {
			won++
		} else {
			require.Equal(t, enroll.TokenUsed, reason(t, err))
		}
	}
	require.Equal(t, 1, won)
}

func TestOneKubernetesClusterJoinsOnce(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.join(t)
	paris := b.cluster(t, "paris")
	_, text := b.token(t, paris, enroll.TokenOptions{Uses: 2})

	_, err := b.Enroll(t.Context(), newAgent(t).request(text, "uid-1"))
	var refused *enroll.RefusedError
	require.ErrorAs(t, err, &refused)
	require.Equal(t, enroll.ClusterUIDMismatch, refused.Reason)
	require.Equal(t, "berlin", refused.Other)

	_, err = b.Enroll(t.Context(), newAgent(t).request(text, "uid-2"))
	require.NoError(t, err, "the refusal did not use the token up")
	_, err = b.Enroll(t.Context(), newAgent(t).request(text, "uid-3"))
	require.Equal(t, enroll.ClusterUIDMismatch, reason(t, err), "one record is not two Kubernetes clusters")
	tokens, err := b.Tokens(t.Context(), paris)
	require.NoError(t, err)
	require.Equal(t, 1, tokens[0].Used)
}

// Two records race for one Kubernetes cluster: the loser is told of the winner.
func TestOneKubernetesClusterRaces(t *testing.T) {
	t.Parallel()
	b := setup(t)
	errs := make(chan error, 6)
	start := make(chan struct{})
	for i := range cap(errs) {
		_, text := b.token(t, b.cluster(t, fmt.Sprintf("c-%d", i)), enroll.TokenOptions{})
		a := newAgent(t)
		go func() {
			<-start
			_, err := b.Enroll(context.WithoutCancel(t.Context()), a.request(text, "uid-1"))
			errs <- err
		}()
	}
	close(start)
	won := 0
	for range cap(errs) {
		err := <-errs
		if err == nil {
			won++
			continue
		}
		var refused *enroll.RefusedError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, enroll.ClusterUIDMismatch, refused.Reason)
		require.NotEmpty(t, refused.Other)
	}
	require.Equal(t, 1, won)
}

func TestRenew(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a, clusterID := b.join(t)
	next := newAgent(t)
	identity, err := b.Renew(t.Context(), a.cert, next.csr)
	require.NoError(t, err)
	require.Equal(t, int64(2), identity.Generation)
	got, err := b.Admit(t.Context(), parse(t, identity.CertificatePEM))
	require.NoError(t, err)
	require.Equal(t, clusterID, got)

	_, err = b.Renew(t.Context(), a.cert, a.csr)
	require.Equal(t, enroll.CSRInvalid, reason(t, err), "a new key for each certificate")
	_, err = b.Renew(t.Context(), a.cert, []byte("nonsense"))
	require.Equal(t, enroll.CSRInvalid, reason(t, err))
	_, err = b.Renew(t.Context(), nil, next.csr)
	require.Equal(t, enroll.CertificateForeign, reason(t, err))
}

// A bad line may swallow any number of answers; the certificate that the agent
// has stays good until it has come with a newer one.
func TestLostRenewalsLockNobodyOut(t *testing.T) {
	t.Parallel()
	b := setup(t)
	first, _ := b.join(t)
	admit := func(a *agent) error {
		_, err := b.Admit(t.Context(), a.cert)
		return err
	}
	require.NoError(t, admit(first))
	var last *agent
	for range 5 {
		last = b.renew(t, first) // lost
	}
	require.NoError(t, admit(first))
	require.NoError(t, admit(last))
	require.NoError(t, admit(first), "a second replica may still hold the one before")
	third := b.renew(t, last)
	require.NoError(t, admit(third))
	require.NoError(t, admit(last))
	require.Equal(t, enroll.CertificateSuperseded, reason(t, admit(first)))
	_, err := b.Renew(t.Context(), first.cert, newAgent(t).csr)
	require.Equal(t, enroll.CertificateSuperseded, reason(t, err))
}

func TestGrace(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a, _ := b.join(t)
	b.pass(24*time.Hour + time.Second)
	_, err := b.Admit(t.Context(), a.cert)
	require.Equal(t, enroll.CertificateExpired, reason(t, err), "an expired certificate opens no tunnel")
	b.pass(30*24*time.Hour - 2*time.Second)
	next := b.renew(t, a)
	_, err = b.Admit(t.Context(), next.cert)
	require.NoError(t, err, "it may renew within the grace time")
	b.pass(31*24*time.Hour + time.Hour)
	_, err = b.Renew(t.Context(), next.cert, newAgent(t).csr)
	require.Equal(t, enroll.CertificateExpired, reason(t, err))
}

func TestRevokedClusterComesBackByANewToken(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a, clusterID := b.join(t)
	_, old := b.token(t, clusterID, enroll.TokenOptions{})
	require.NoError(t, b.clusters.Revoke(t.Context(), "tester", "berlin"))
	_, err := b.Admit(t.Context(), a.cert)
	require.Equal(t, enroll.CertificateRevoked, reason(t, err))
	_, err = b.Renew(t.Context(), a.cert, newAgent(t).csr)
	require.Equal(t, enroll.CertificateRevoked, reason(t, err))
	_, err = b.Enroll(t.Context(), newAgent(t).request(old, "uid-1"))
	require.Equal(t, enroll.TokenRevoked, reason(t, err))

	_, text := b.token(t, clusterID, enroll.TokenOptions{})
	back := newAgent(t)
	identity, err := b.Enroll(t.Context(), back.request(text, "uid-1"))
	require.NoError(t, err)
	_, err = b.Admit(t.Context(), parse(t, identity.CertificatePEM))
	require.NoError(t, err)
	_, err = b.Admit(t.Context(), a.cert)
	require.Equal(t, enroll.CertificateRevoked, reason(t, err), "what was revoked stays so")
}

func TestDeletedClusterIsForeign(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a, clusterID := b.join(t)
	_, text := b.token(t, clusterID, enroll.TokenOptions{})
	require.NoError(t, b.clusters.Delete(t.Context(), "tester", "berlin", false))
	_, err := b.Admit(t.Context(), a.cert)
	require.Equal(t, enroll.CertificateForeign, reason(t, err))
	_, err = b.Enroll(t.Context(), newAgent(t).request(text, "uid-1"))
	require.Equal(t, enroll.TokenUnknown, reason(t, err))
	_, _, err = b.CreateToken(t.Context(), "tester", clusterID, enroll.TokenOptions{})
	require.ErrorIs(t, err, enroll.ErrNoCluster)
	b.join(t) // the Kubernetes cluster is free to join again
}

func TestForeignCertificates(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a, clusterID := b.join(t)
	ours, err := b.Authority(t.Context())
	require.NoError(t, err)
	theirs, err := pki.NewAuthority("budcluster.local", b.clock(), time.Hour)
	require.NoError(t, err)
	elsewhere, err := pki.NewAuthority("elsewhere.example", b.clock(), time.Hour)
	require.NoError(t, err)
	issue := func(authority *pki.Authority) *x509.Certificate {
		cert, _, err := authority.IssueCluster(a.key.Public(), clusterID.String(), b.clock(), time.Hour)
		require.NoError(t, err)
		return cert
	}
	hub, err := b.HubCertificate(t.Context(), []string{"hub.example"}, "hub-0")
	require.NoError(t, err)
	hubLeaf, err := x509.ParseCertificate(hub.Certificate[0])
	require.NoError(t, err)
	for name, cert := range map[string]*x509.Certificate{
		"another authority": issue(theirs), "another domain": issue(elsewhere), "signed by us, never recorded": issue(ours),
		"the authority itself": ours.Certificate(), "a hub's": hubLeaf,
	} {
		_, err := b.Admit(t.Context(), cert)
		require.Equal(t, enroll.CertificateForeign, reason(t, err), name)
		_, err = b.Renew(t.Context(), cert, newAgent(t).csr)
		require.Equal(t, enroll.CertificateForeign, reason(t, err), name)
	}
}

func TestTokens(t *testing.T) {
	t.Parallel()
	b := setup(t)
	clusterID := b.cluster(t, "berlin")
	token, text := b.token(t, clusterID, enroll.TokenOptions{TTL: time.Hour, Uses: 3})
	require.NoError(t, b.RevokeToken(t.Context(), "tester", clusterID, token.ID))
	require.NoError(t, b.RevokeToken(t.Context(), "tester", clusterID, token.ID), "twice is once")
	require.ErrorIs(t, b.RevokeToken(t.Context(), "tester", id.New(), token.ID), enroll.ErrNoToken, "another cluster's")
	require.ErrorIs(t, b.RevokeToken(t.Context(), "tester", clusterID, "nonsense"), enroll.ErrNoToken)
	_, err := b.Enroll(t.Context(), newAgent(t).request(text, "uid-1"))
	require.Equal(t, enroll.TokenRevoked, reason(t, err))

	_, text = b.token(t, clusterID, enroll.TokenOptions{TTL: time.Hour, Uses: 2})
	for i := range 2 {
		_, err := b.Enroll(t.Context(), newAgent(t).request(text, "uid-1"))
		require.NoError(t, err, i)
	}
	_, err = b.Enroll(t.Context(), newAgent(t).request(text, "uid-1"))
	require.Equal(t, enroll.TokenUsed, reason(t, err))

	_, text = b.token(t, clusterID, enroll.TokenOptions{TTL: time.Hour})
	b.pass(time.Hour)
	_, err = b.Enroll(t.Context(), newAgent(t).request(text, "uid-1"))
	require.Equal(t, enroll.TokenExpired, reason(t, err))

	_, _, err = b.CreateToken(t.Context(), "tester", clusterID, enroll.TokenOptions{TTL: time.Second, Uses: -1})
	require.Len(t, invalid.Of(err), 2)
}

// Two replicas start at once on an empty database, with one key ring.
func TestReplicasShareOneAuthority(t *testing.T) {
	t.Parallel()
	b := setup(t)
	require.Empty(t, b.BundlePEM())
	pins := make(chan string, 6)
	for range cap(pins) {
		svc := b.replica(t)
		go func() {
			authority, err := svc.Authority(context.WithoutCancel(t.Context()))
			if err != nil {
				pins <- err.Error()
				return
			}
			pins <- authority.Pin()
		}()
	}
	first := <-pins
	for range cap(pins) - 1 {
		require.Equal(t, first, <-pins)
	}
	authority, err := b.Authority(t.Context())
	require.NoError(t, err)
	require.Equal(t, first, authority.Pin())
	stored, err := b.store.AuthorityList(t.Context())
	require.NoError(t, err)
	require.Len(t, stored, 1)
	require.NotContains(t, string(stored[0].SealedKey), "PRIVATE KEY")
}

func TestLostKeyRing(t *testing.T) {
	t.Parallel()
	b := setup(t)
	_, err := b.Authority(t.Context())
	require.NoError(t, err)
	other, err := enroll.New(enroll.Config{Store: b.store, Sealer: storetest.Keyring(t), Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	_, err = other.Authority(t.Context())
	require.ErrorContains(t, err, "the folder of crypto keys must be the one it was made with")
	moved, err := enroll.New(enroll.Config{Store: b.store, Sealer: b.keys, Logger: slog.New(slog.DiscardHandler), TrustDomain: "other.example"})
	require.NoError(t, err)
	_, err = moved.Authority(t.Context())
	require.ErrorContains(t, err, `trustDomain: "other.example" is configured, and the certificate authority is of "budcluster.local"`)
}

func TestServerCertificate(t *testing.T) {
	t.Parallel()
	b := setup(t)
	cert := b.NewServerCertificate([]string{"hub.example", "10.0.0.1"}, "hub-0")
	require.Nil(t, cert.Current())
	require.NoError(t, cert.Load(t.Context()))
	leaf, err := x509.ParseCertificate(cert.Current().Certificate[0])
	require.NoError(t, err)
	require.NoError(t, leaf.VerifyHostname("hub.example"))
	_, err = leaf.Verify(x509.VerifyOptions{Roots: b.Bundle(), CurrentTime: b.clock()})
	require.NoError(t, err)
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(errors.New("enough"))
	require.NoError(t, cert.Run(ctx))
}

func TestErrorsThatUsersSee(t *testing.T) {
	t.Parallel()
	b := setup(t)
	a, clusterID := b.join(t)
	paris := b.cluster(t, "paris")
	_, used := b.token(t, clusterID, enroll.TokenOptions{})
	_, err := b.Enroll(t.Context(), newAgent(t).request(used, "uid-1"))
	require.NoError(t, err)
	_, good := b.token(t, paris, enroll.TokenOptions{Uses: 5})
	unknown, err := pki.NewJoinToken(strings.Repeat("0", 64))
	require.NoError(t, err)
	var seen strings.Builder
	show := func(req enroll.Request) {
		_, err := b.Enroll(t.Context(), req)
		fmt.Fprintf(&seen, "%s: %v\n", reason(t, err), err)
		for _, part := range []string{used, good, unknown.Reveal()} {
			require.NotContains(t, err.Error(), strings.Split(part, ".")[2], "no secret in an error")
		}
	}
	show(newAgent(t).request("", "uid-1"))
	show(newAgent(t).request(good[:60], "uid-1"))
	show(newAgent(t).request(unknown.Reveal(), "uid-1"))
	show(newAgent(t).request(used, "uid-1"))
	show(newAgent(t).request(good, "uid-1"))
	show(newAgent(t).request(good, ""))
	show(newAgent(t).request(good, "a\x00b"))
	show(enroll.Request{Token: good, CSR: []byte("nonsense"), ClusterUID: "uid-2"})
	showPeer := func(_ any, err error) { fmt.Fprintf(&seen, "%s: %v\n", reason(t, err), err) }
	showPeer(b.Renew(t.Context(), a.cert, a.csr))
	b.pass(60 * 24 * time.Hour)
	show(newAgent(t).request(good, "uid-2"))
	showPeer(b.Admit(t.Context(), a.cert))
	showPeer(b.Renew(t.Context(), a.cert, newAgent(t).csr))
	require.NoError(t, b.clusters.Revoke(t.Context(), "tester", "berlin"))
	showPeer(b.Admit(t.Context(), a.cert))
	require.NoError(t, b.clusters.Delete(t.Context(), "tester", "berlin", false))
	showPeer(b.Admit(t.Context(), a.cert))
	_, _, err = b.CreateToken(t.Context(), "tester", paris, enroll.TokenOptions{TTL: time.Second, Uses: 5000})
	fmt.Fprintln(&seen, err)
	_, err = enroll.New(enroll.Config{
		Store: b.store, Sealer: b.keys, Logger: slog.New(slog.DiscardHandler),
		CertificateLifetime: time.Millisecond, RenewalGrace: -1, TokenTTL: time.Second,
	})
	fmt.Fprintln(&seen, err)
	testutil.Golden(t, "errors", testutil.Normalise([]byte(seen.String())))
}
