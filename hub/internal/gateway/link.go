package gateway

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/internal/logkey"
	"github.com/budecosystem/budcluster/internal/pki"
	"github.com/budecosystem/budcluster/internal/tunnel"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

const (
	// grace is what an agent gets to read why it must go, and to go by itself.
	grace = 2 * time.Second
	// refusedFor is how long a refused connection may take to ask why.
	refusedFor = 5 * time.Second
	// answerLeaves is how long the answer to that has to leave the process.
	answerLeaves = 500 * time.Millisecond
)

// Reasons why a session ended: the gateway's own, and those it is given.
const (
	reasonFenced   = "Fenced"
	reasonRevoked  = "Revoked"
	reasonDraining = "Draining"
	reasonExpired  = "CertificateExpired"

	// ReasonLeft: the agent closed its control stream.
	ReasonLeft = "AgentLeft"
	// ReasonLost: the connection broke.
	ReasonLost = "ConnectionLost"
	// ReasonSilent: no frame came for the liveness timeout.
	ReasonSilent = "Silent"
)

func reasons() []string {
	return []string{reasonFenced, reasonRevoked, reasonDraining, reasonExpired, ReasonLeft, ReasonLost, ReasonSilent}
}

// sentence is what the record of events says of a reason.
func sentence(reason string) string {
	switch reason {
	case reasonFenced:
		return "a newer session took over"
	case reasonRevoked:
		return "its identity was revoked"
	case reasonDraining:
		return "the hub is stopping"
	case reasonExpired:
		return "the certificate of its connection ended"
	case ReasonLeft:
		return "the agent left"
	case ReasonSilent:
		return "nothing was heard from the agent"
	default:
		return "the connection broke"
	}
}

// Link is one connection of an agent.
type Link struct {
	g       *Gateway
	session *tunnel.Session
	cluster uuid.UUID
	refused error // a status; set once, before the link is shared
	renewed atomic.Bool

	// info is set by Attach, before attached is closed.
	info     cluster.SessionInfo
	epoch    atomic.Int64
	attached chan struct{} // closed when the session is open

	orders   chan *agentv1.ControlResponse
	leave    chan departure
	answered chan struct{} // closed when a refused link was told why
	once     struct{ hello, answered, closed sync.Once }

	mu     sync.Mutex // guards what follows
	client *grpc.ClientConn
	gone   bool
	reason string // why we ended it; empty when we did not
}

// departure is why and how a link has to go.
type departure struct {
	reason  agentv1.GoAway_Reason
	message string
	after   time.Duration // when the agent should be back
	grace   time.Duration // until the connection is closed from here
	ended   string        // recorded as the session's end
}

// Epoch is the number of the session.
func (l *Link) Epoch() int64 { return l.epoch.Load() }

// Orders carries what the hub wants said on the control stream.
func (l *Link) Orders() <-chan *agentv1.ControlResponse { return l.orders }

// Close records the session's end and closes the connection. What the gateway
// itself decided goes before the reason given.
func (l *Link) Close(ctx context.Context, reason string) {
	l.once.closed.Do(func() {
		l.mu.Lock()
		if l.reason != "" {
			reason = l.reason
		}
		l.mu.Unlock()
		l.g.detach(l)
		l.g.metrics.closed.WithLabelValues(reason).Inc()
		if err := l.g.cfg.Clusters.CloseSession(ctx, l.cluster, l.Epoch(), sentence(reason)); err != nil {
			l.g.log.WarnContext(ctx, "session end not recorded, its lease will end it",
				slog.String(logkey.ClusterID, l.cluster.String()), slog.Int64(logkey.Epoch, l.Epoch()), slog.Any(logkey.Error, err))
		}
		l.g.log.InfoContext(ctx, "agent disconnected", slog.String(logkey.ClusterID, l.cluster.String()),
			slog.Int64(logkey.Epoch, l.Epoch()), slog.String(logkey.Reason, reason))
		_ = l.session.Close()
	})
}

// conn is made on first use and connects on first call.
func (l *Link) conn() (*grpc.ClientConn, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		return nil, fmt.Errorf("cluster %s: %w", l.cluster, ErrAway)
	}
	if l.client != nil {
		return l.client, nil
	}
	client, err := l.session.ClientConn(tunnel.LaneControl)
	if err != nil {
		return nil, fmt.Errorf("dial agent of cluster %s: %w", l.cluster, err)
	}
	l.client = client
	return client, nil
}

// release lets go of the connection back to the agent.
func (l *Link) release() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gone = true
	if l.client != nil {
		_ = l.client.Close()
	}
}

// greeted reports whether this is the link's first Hello.
func (l *Link) greeted() (first bool) {
	l.once.hello.Do(func() { first = true })
	return first
}

// depart asks the link's own loop to see the agent off; the first one counts.
func (l *Link) depart(d departure) {
	select {
	case l.leave <- d:
	default:
	}
}

// watch ends when the link should be closed, or with ctx.
func (l *Link) watch(ctx context.Context) {
	if l.refused != nil {
		l.watchRefused(ctx)
		return
	}
	patience := time.NewTimer(l.g.cfg.Timeout)
	defer patience.Stop()
	select {
	case <-ctx.Done():
		return
	case <-patience.C:
		l.g.log.WarnContext(ctx, "connection without hello closed", slog.String(logkey.ClusterID, l.cluster.String()))
		return
	case <-l.attached:
	}
	l.watchAttached(ctx)
}

// watchRefused gives the agent the time to ask once and hear why.
func (l *Link) watchRefused(ctx context.Context) {
	patience := time.NewTimer(refusedFor)
	defer patience.Stop()
	select {
	case <-ctx.Done():
		return
	case <-patience.C:
		return
	case <-l.answered:
	}
	patience.Reset(answerLeaves)
	select {
	case <-ctx.Done():
	case <-patience.C:
	}
}

// watchAttached passes on what stirs about the cluster, and looks after the
// certificate's age.
func (l *Link) watchAttached(ctx context.Context) {
	wake, cancel := l.g.cfg.Watch(l.cluster)
	defer cancel()
	// What happened between the admission and the subscription woke nobody.
	l.g.suspect(l.cluster)
	age := time.NewTimer(0)
	defer age.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case d := <-l.leave:
			l.seeOff(ctx, d)
			return
		case <-age.C:
			age.Reset(l.aged(ctx))
		case <-wake:
			l.g.suspect(l.cluster)
		}
	}
}

// aged acts on the age of the connection's certificate, and says when to look
// again. An agent renews at two thirds by itself and comes back with the new
// certificate; the last sixth is for one that did not, and a session never
// outlives its certificate.
func (l *Link) aged(ctx context.Context) time.Duration {
	cert, now := l.session.Peer(), l.g.cfg.Now()
	life := cert.NotAfter.Sub(cert.NotBefore) - pki.Backdate
	remind := cert.NotAfter.Add(-life / 6)
	switch {
	case !now.Before(cert.NotAfter):
		l.depart(departure{
			reason: agentv1.GoAway_REASON_UNSPECIFIED, grace: grace, ended: reasonExpired,
			message: "the certificate of this connection has ended; dial again with the renewed one",
		})
		return life
	case now.Before(remind):
		return remind.Sub(now)
	}
	if !l.renewed.Load() {
		l.order(&agentv1.ControlResponse{Message: &agentv1.ControlResponse_RenewNow{RenewNow: &agentv1.RenewNow{}}})
		l.g.log.DebugContext(ctx, "agent asked to renew", slog.String(logkey.ClusterID, l.cluster.String()))
	}
	return min(cert.NotAfter.Sub(now), max(life/24, time.Second))
}

// order is dropped when the control stream is that far behind: it will be
// repeated, or the connection closed.
func (l *Link) order(m *agentv1.ControlResponse) {
	select {
	case l.orders <- m:
	default:
	}
}

// seeOff says GoAway and waits for the agent to leave, but not for ever.
func (l *Link) seeOff(ctx context.Context, d departure) {
	l.mu.Lock()
	l.reason = d.ended
	l.mu.Unlock()
	l.order(&agentv1.ControlResponse{Message: &agentv1.ControlResponse_GoAway{GoAway: &agentv1.GoAway{
		Reason: d.reason, Message: d.message, ReconnectAfter: durationpb.New(d.after),
	}}})
	grace := time.NewTimer(d.grace)
	defer grace.Stop()
	select {
	case <-ctx.Done():
	case <-l.session.Done():
	case <-grace.C:
	}
}

func endOf(r agentv1.GoAway_Reason) string {
	switch r {
	case agentv1.GoAway_REASON_DRAINING:
		return reasonDraining
	case agentv1.GoAway_REASON_REVOKED:
		return reasonRevoked
	case agentv1.GoAway_REASON_FENCED:
		return reasonFenced
	default:
		return reasonExpired
	}
}
