package agenttest

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"io"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/budecosystem/budcluster/internal/facts"
	"github.com/budecosystem/budcluster/internal/pki"
	"github.com/budecosystem/budcluster/internal/tunnel"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

type hubEnroll struct {
	agentv1.UnimplementedEnrollServiceServer
	h *Hub
}

func (e *hubEnroll) Enroll(_ context.Context, r *agentv1.EnrollRequest) (*agentv1.EnrollResponse, error) {
	if err := e.h.refusal("Enroll"); err != nil {
		return nil, err
	}
	token, err := pki.ParseJoinToken(r.GetToken())
	if err != nil {
		return nil, Refusal("TokenMalformed", err.Error())
	}
	spki := sha256.Sum256(keyOf(r.GetCsr()))
	e.h.mu.Lock()
	known := e.h.tokens[token.ID]
	e.h.mu.Unlock()
	switch {
	case known == nil:
		return nil, Refusal("TokenUnknown", "the hub does not know this join token")
	case known.used && known.usedBy != spki:
		return nil, Refusal("TokenUsed", "the join token was used")
	}
	identity, err := e.h.issue(r.GetCsr())
	if err != nil {
		return nil, err
	}
	e.h.change(func() {
		known.used, known.usedBy = true, spki
		e.h.state.Enrolled++
	})
	// Lost after it was signed and counted.
	if err := e.h.refusal("EnrollAnswer"); err != nil {
		return nil, err
	}
	return &agentv1.EnrollResponse{Identity: identity}, nil
}

func (e *hubEnroll) Renew(ctx context.Context, r *agentv1.RenewRequest) (*agentv1.RenewResponse, error) {
	if err := e.h.refusal("Renew"); err != nil {
		return nil, err
	}
	if _, ok := tunnel.PeerCertificate(ctx); !ok {
		return nil, Refusal("CertificateMissing", "renewal needs the current certificate")
	}
	identity, err := e.h.issue(r.GetCsr())
	if err != nil {
		return nil, err
	}
	e.h.change(func() { e.h.state.Renewed++ })
	if err := e.h.refusal("RenewAnswer"); err != nil {
		return nil, err
	}
	return &agentv1.RenewResponse{Identity: identity}, nil
}

func keyOf(csr []byte) []byte {
	pub, err := pki.CheckCSR(csr)
	if err != nil {
		return nil
	}
	der, err := x509.MarshalPKIXPublicKey(pub)
	if err != nil {
		return nil
	}
	return der
}

func (h *Hub) issue(csr []byte) (*agentv1.Identity, error) {
	pub, err := pki.CheckCSR(csr)
	if err != nil {
		return nil, Refusal("CSRInvalid", err.Error())
	}
	now := time.Now()
	leaf, chain, err := h.ca.IssueCluster(pub, h.ClusterID, now, h.cfg.Lifetime)
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.current++
	return &agentv1.Identity{
		CertificatePem: chain, BundlePem: h.ca.CertificatePEM(), ClusterId: h.ClusterID, ClusterName: "test",
		NotAfter: timestamppb.New(leaf.NotAfter), RenewAfter: timestamppb.New(now.Add(leaf.NotAfter.Sub(now) * 2 / 3)), Generation: h.current,
	}, nil
}

// HubSession is one control stream.
type HubSession struct {
	// Hello is what the agent said first.
	Hello  *agentv1.Hello
	Serial string

	tunnel *tunnel.Session
	orders chan *agentv1.ControlResponse
	done   chan struct{} // closed when the stream has ended
	left   bool          // the agent closed it; set before done is closed
}

// Send says something to the agent.
func (s *HubSession) Send(m *agentv1.ControlResponse) {
	select {
	case s.orders <- m:
	case <-s.done:
	}
}

// GoAway asks the agent to leave.
func (s *HubSession) GoAway(reason agentv1.GoAway_Reason, message string, after time.Duration) {
	s.Send(&agentv1.ControlResponse{Message: &agentv1.ControlResponse_GoAway{GoAway: &agentv1.GoAway{
		Reason: reason, Message: message, ReconnectAfter: durationpb.New(after),
	}}})
}

// RenewNow asks the agent for renewal.
func (s *HubSession) RenewNow() {
	s.Send(&agentv1.ControlResponse{Message: &agentv1.ControlResponse_RenewNow{RenewNow: &agentv1.RenewNow{}}})
}

// Break ends the connection without a word.
func (s *HubSession) Break() { _ = s.tunnel.Close() }

// Done is closed when the stream has ended.
func (s *HubSession) Done() <-chan struct{} { return s.done }

// Left says, once Done is closed, whether the agent took its leave.
func (s *HubSession) Left() bool { return s.left }

// Agent calls the agent through the tunnel.
func (s *HubSession) Agent() (agentv1.AgentServiceClient, func(), error) {
	cc, err := s.tunnel.ClientConn(tunnel.LaneControl)
	if err != nil {
		return nil, nil, err
	}
	return agentv1.NewAgentServiceClient(cc), func() { _ = cc.Close() }, nil
}

type hubLink struct {
	agentv1.UnimplementedLinkServiceServer
	h *Hub
}

func (l *hubLink) Control(stream grpc.BidiStreamingServer[agentv1.ControlRequest, agentv1.ControlResponse]) error {
	if err := l.h.refusal("Control"); err != nil {
		return err
	}
	m, err := stream.Recv()
	if err != nil {
		return err
	}
	session, ok := tunnel.SessionFrom(stream.Context())
	if !ok || m.GetHello() == nil {
		return Refusal("HelloMissing", "the first message must be Hello")
	}
	s := &HubSession{
		Hello: m.GetHello(), Serial: session.Peer().SerialNumber.String(), tunnel: session,
		orders: make(chan *agentv1.ControlResponse), done: make(chan struct{}),
	}
	defer close(s.done)
	l.h.mu.Lock()
	epoch := int64(len(l.h.sessions) + 1)
	l.h.mu.Unlock()
	err = stream.Send(&agentv1.ControlResponse{Message: &agentv1.ControlResponse_Welcome{Welcome: &agentv1.Welcome{
		Protocol: agentv1.Version, HubVersion: "test", ClusterId: l.h.ClusterID, ClusterName: "test", Epoch: epoch,
		HeartbeatInterval: durationpb.New(l.h.cfg.Heartbeat), LivenessTimeout: durationpb.New(l.h.cfg.Liveness), BundlePem: l.h.ca.CertificatePEM(),
	}}})
	if err != nil {
		return err
	}
	l.h.change(func() {
		l.h.sessions = append(l.h.sessions, s)
		l.h.state.Sessions++
	})
	return l.talk(stream, s)
}

func (l *hubLink) talk(stream grpc.BidiStreamingServer[agentv1.ControlRequest, agentv1.ControlResponse], s *HubSession) error {
	in := make(chan *agentv1.ControlRequest)
	ended := make(chan error, 1)
	go func() {
		for {
			m, err := stream.Recv()
			if err != nil {
				ended <- err
				return
			}
			select {
			case in <- m:
			case <-stream.Context().Done():
				return
			}
		}
	}()
	beat := time.NewTicker(l.h.cfg.Heartbeat)
	defer beat.Stop()
	silence := time.NewTimer(l.h.cfg.Liveness)
	defer silence.Stop()
	for {
		out := &agentv1.ControlResponse{Message: &agentv1.ControlResponse_Heartbeat{Heartbeat: &agentv1.HubHeartbeat{}}}
		select {
		case <-stream.Context().Done():
			return stream.Context().Err()
		case <-silence.C:
			_ = s.tunnel.Close()
			return errors.New("silent")
		case err := <-ended:
			s.left = errors.Is(err, io.EOF)
			return nil
		case m := <-in:
			silence.Reset(l.h.cfg.Liveness)
			if b := m.GetHeartbeat(); b != nil {
				l.h.change(func() {
					l.h.state.Heartbeats++
					l.h.state.Degraded = b.GetDegraded()
				})
			}
			continue
		case out = <-s.orders:
		case <-beat.C:
		}
		if err := stream.Send(out); err != nil {
			return err
		}
	}
}

type hubRelease struct {
	agentv1.UnimplementedReleaseServiceServer
	h *Hub
}

func (r *hubRelease) Sync(stream grpc.BidiStreamingServer[agentv1.SyncRequest, agentv1.SyncResponse]) error {
	if err := r.h.refusal("Sync"); err != nil {
		return err
	}
	m, err := stream.Recv()
	if err != nil {
		return err
	}
	sent := map[string]int64{}
	for _, ref := range m.GetHave().GetReleases() {
		sent[ref.GetId()] = ref.GetGeneration()
	}
	snapshot := &agentv1.Snapshot{}
	r.h.mu.Lock()
	for _, d := range r.h.desired {
		snapshot.Releases = append(snapshot.Releases, &agentv1.ReleaseRef{Id: d.GetId(), Generation: d.GetGeneration(), Digest: d.GetDigest()})
	}
	r.h.mu.Unlock()
	if err := stream.Send(&agentv1.SyncResponse{Message: &agentv1.SyncResponse_Snapshot{Snapshot: snapshot}}); err != nil {
		return err
	}
	if err := r.ask(stream); err != nil {
		return err
	}
	var told *agentv1.Retire
	var wanted *agentv1.AgentTarget
	ended := make(chan error, 1)
	forget := make(chan string)
	go func() { ended <- r.receive(stream, forget) }()
	for {
		changed := r.h.watch()
		if err := r.tell(stream, &told); err != nil {
			return err
		}
		if err := r.replace(stream, &wanted); err != nil {
			return err
		}
		if told == nil {
			if err := r.upsert(stream, sent); err != nil {
				return err
			}
		}
		select {
		case err := <-ended:
			return err
		case id := <-forget:
			if err := stream.Send(&agentv1.SyncResponse{Message: &agentv1.SyncResponse_Forget{Forget: &agentv1.Forget{Id: id}}}); err != nil {
				return err
			}
		case <-changed:
		}
	}
}

func (r *hubRelease) ask(stream grpc.BidiStreamingServer[agentv1.SyncRequest, agentv1.SyncResponse]) error {
	r.h.mu.Lock()
	probes := r.h.probes
	r.h.mu.Unlock()
	if probes == nil {
		return nil
	}
	return stream.Send(&agentv1.SyncResponse{Message: &agentv1.SyncResponse_Probes{Probes: probes}})
}

// tell says what was decided about the cluster, once.
func (r *hubRelease) tell(stream grpc.BidiStreamingServer[agentv1.SyncRequest, agentv1.SyncResponse], told **agentv1.Retire) error {
	r.h.mu.Lock()
	retire := r.h.retire
	r.h.mu.Unlock()
	if retire == nil || retire == *told {
		return nil
	}
	*told = retire
	return stream.Send(&agentv1.SyncResponse{Message: &agentv1.SyncResponse_Retire{Retire: retire}})
}

// replace says which agent is wanted, once.
func (r *hubRelease) replace(stream grpc.BidiStreamingServer[agentv1.SyncRequest, agentv1.SyncResponse], wanted **agentv1.AgentTarget) error {
	r.h.mu.Lock()
	target := r.h.agent
	r.h.mu.Unlock()
	if target == nil || target == *wanted {
		return nil
	}
	*wanted = target
	return stream.Send(&agentv1.SyncResponse{Message: &agentv1.SyncResponse_Agent{Agent: target}})
}

func (r *hubRelease) upsert(stream grpc.BidiStreamingServer[agentv1.SyncRequest, agentv1.SyncResponse], sent map[string]int64) error {
	r.h.mu.Lock()
	var lacking []*agentv1.Release
	for id, d := range r.h.desired {
		if sent[id] != d.GetGeneration() {
			lacking = append(lacking, d)
		}
	}
	r.h.mu.Unlock()
	for _, d := range lacking {
		if err := stream.Send(&agentv1.SyncResponse{Message: &agentv1.SyncResponse_Upsert{Upsert: d}}); err != nil {
			return err
		}
		sent[d.GetId()] = d.GetGeneration()
	}
	return nil
}

func (r *hubRelease) receive(stream grpc.BidiStreamingServer[agentv1.SyncRequest, agentv1.SyncResponse], forget chan<- string) error {
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if p := m.GetPresence(); p != nil {
			r.h.change(func() { r.h.state.Presence = p })
		}
		if a := m.GetAgent(); a != nil {
			r.h.change(func() { r.h.state.Agent = a })
		}
		if left := m.GetRetired(); left != nil {
			r.h.change(func() {
				r.h.state.Retired = left
				r.h.retire = &agentv1.Retire{Generation: left.GetGeneration(), Recorded: true}
			})
		}
		s := m.GetStatus()
		if s == nil {
			continue
		}
		drop := false
		r.h.change(func() {
			r.h.state.Statuses[s.GetId()] = s
			r.h.state.History = append(r.h.state.History, s)
			if d := r.h.desired[s.GetId()]; d.GetRemoved() && s.GetPhase() == string(agentv1.PhaseRemoved) {
				delete(r.h.desired, s.GetId())
				drop = true
			}
		})
		if drop {
			select {
			case forget <- s.GetId():
			case <-stream.Context().Done():
				return nil
			}
		}
	}
}

func (r *hubRelease) FetchChart(req *agentv1.FetchChartRequest, stream grpc.ServerStreamingServer[agentv1.FetchChartResponse]) error {
	if err := r.h.refusal("FetchChart"); err != nil {
		return err
	}
	r.h.mu.Lock()
	chart, ok := r.h.charts[req.GetDigest()]
	r.h.mu.Unlock()
	if !ok {
		return Refusal("NotFound", "there is no such chart")
	}
	r.h.change(func() { r.h.state.Fetched++ })
	const part = 64 << 10
	for size := int64(len(chart)); ; size = 0 {
		n := min(part, len(chart))
		if err := stream.Send(&agentv1.FetchChartResponse{Size: size, Data: chart[:n]}); err != nil {
			return err
		}
		if chart = chart[n:]; len(chart) == 0 {
			return nil
		}
	}
}

type hubInventory struct {
	agentv1.UnimplementedInventoryServiceServer
	h *Hub
}

func (i *hubInventory) Report(stream grpc.BidiStreamingServer[agentv1.ReportRequest, agentv1.ReportResponse]) error {
	if err := i.h.refusal("Report"); err != nil {
		return err
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		out := &agentv1.ReportResponse{}
		switch x := m.GetMessage().(type) {
		case *agentv1.ReportRequest_Summary:
			out.Message = &agentv1.ReportResponse_Need{Need: i.compare(x.Summary)}
		case *agentv1.ReportRequest_Delta:
			i.take(x.Delta)
			out.Message = &agentv1.ReportResponse_Ack{Ack: &agentv1.Ack{Sequence: x.Delta.GetSequence()}}
		}
		if err := stream.Send(out); err != nil {
			return err
		}
	}
}

func (i *hubInventory) compare(s *agentv1.Summary) *agentv1.Need {
	need := &agentv1.Need{}
	i.h.change(func() {
		i.h.state.Summaries++
		have := i.h.state.Nodes
		for name, digest := range s.GetNodes() {
			if facts.NodeFromProto(have[name]).Digest() != digest {
				need.Nodes = append(need.Nodes, name)
			}
		}
		for name := range have {
			if _, ok := s.GetNodes()[name]; !ok {
				delete(have, name)
			}
		}
		need.Cluster = facts.ClusterFromProto(i.h.state.Cluster).Digest() != s.GetClusterDigest()
	})
	return need
}

func (i *hubInventory) take(d *agentv1.Delta) {
	i.h.change(func() {
		i.h.state.Deltas++
		for _, n := range d.GetNodes() {
			i.h.state.Nodes[n.GetName()] = n
		}
		for _, name := range d.GetRemoved() {
			delete(i.h.state.Nodes, name)
		}
		i.h.state.Events = append(i.h.state.Events, d.GetNodeEvents()...)
		if d.GetCluster() != nil {
			i.h.state.Cluster = d.GetCluster()
		}
	})
}
