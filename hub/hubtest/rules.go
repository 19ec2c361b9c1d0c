package hubtest

import (
	"context"
	"crypto/x509"
	"fmt"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/chart"
	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/enroll"
	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/hub/internal/release"
	"github.com/budecosystem/budcluster/internal/facts"
	"github.com/budecosystem/budcluster/internal/pki"
)

// Rules stands in for the rules and their store where there is no database.
type Rules struct {
	lease  time.Duration
	bundle []byte

	mu       sync.Mutex // guards everything below
	away     error      // what every call answers while the store is away
	stuck    bool
	clusters map[uuid.UUID]*cluster.Cluster
	epoch    int64
	closed   []ClosedSession
	degraded [][]cluster.Degradation
	releases map[uuid.UUID]*release.Release
	statuses []ReleaseStatus
	deltas   []inventory.Delta
	charts   map[string][]byte
	watchers map[chan struct{}]uuid.UUID
	changed  chan struct{} // closed and replaced with every change

	presence   map[uuid.UUID][]facts.Presence
	retirement map[uuid.UUID]cluster.Retirement
	agents     map[uuid.UUID]cluster.AgentUpgrade
	left       map[uuid.UUID][]string
}

// ClosedSession is one call of CloseSession.
type ClosedSession struct {
	ClusterID uuid.UUID
	Epoch     int64
	Reason    string
}

// ReleaseStatus is one call of Observe.
type ReleaseStatus struct {
	ClusterID, ReleaseID uuid.UUID
	Status               release.Status
}

func newRules(lease time.Duration, bundle []byte) *Rules {
	return &Rules{
		lease: lease, bundle: bundle, clusters: map[uuid.UUID]*cluster.Cluster{}, releases: map[uuid.UUID]*release.Release{},
		charts: map[string][]byte{}, watchers: map[chan struct{}]uuid.UUID{}, changed: make(chan struct{}),
		presence: map[uuid.UUID][]facts.Presence{}, retirement: map[uuid.UUID]cluster.Retirement{}, agents: map[uuid.UUID]cluster.AgentUpgrade{}, left: map[uuid.UUID][]string{},
	}
}

// AddCluster enters a cluster that has joined.
func (r *Rules) AddCluster(name string) uuid.UUID {
	r.mu.Lock()
	defer r.unlock()
	now := time.Now()
	c := &cluster.Cluster{ID: uuid.New(), Name: name, UID: "uid-" + name, CreatedAt: now, JoinedAt: &now}
	r.clusters[c.ID] = c
	return c.ID
}

// Revoke revokes a cluster, as any replica may.
func (r *Rules) Revoke(id uuid.UUID) {
	r.mu.Lock()
	defer r.unlock()
	now := time.Now()
	r.clusters[id].RevokedAt = &now
	r.stirLocked(id)
}

// Delete deletes a cluster.
func (r *Rules) Delete(id uuid.UUID) {
	r.mu.Lock()
	defer r.unlock()
	delete(r.clusters, id)
	r.stirLocked(id)
}

// TakeOver gives the cluster's session to another replica.
func (r *Rules) TakeOver(id uuid.UUID) {
	r.mu.Lock()
	defer r.unlock()
	r.epoch++
	r.clusters[id].Session = &cluster.Session{Replica: "another", Epoch: r.epoch, LeaseUntil: time.Now().Add(r.lease)}
	r.stirLocked(id)
}

// Expire ends the leases that are over, as another replica would.
func (r *Rules) Expire() {
	r.mu.Lock()
	defer r.unlock()
	for id, c := range r.clusters {
		if c.Session != nil && !time.Now().Before(c.Session.LeaseUntil) {
			c.Session = nil
			r.stirLocked(id)
		}
	}
}

// SetAway has every call fail with err until it is called with nil.
func (r *Rules) SetAway(err error) {
	r.mu.Lock()
	defer r.unlock()
	r.away = err
}

// SetStuck has every call that opens, renews or checks a session, or records a
// degradation, hang until its context ends.
func (r *Rules) SetStuck(stuck bool) {
	r.mu.Lock()
	defer r.unlock()
	r.stuck = stuck
}

// hang waits while the store is stuck.
func (r *Rules) hang(ctx context.Context) error {
	r.mu.Lock()
	stuck := r.stuck
	r.mu.Unlock()
	if !stuck {
		return nil
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

// Apply wants a release, or another generation of it.
func (r *Rules) Apply(rel *release.Release) {
	r.mu.Lock()
	defer r.unlock()
	r.releases[rel.ID] = rel
	r.stirLocked(rel.ClusterID)
}

// AddChart stores a chart's bytes.
func (r *Rules) AddChart(digest string, data []byte) {
	r.mu.Lock()
	defer r.unlock()
	r.charts[digest] = data
}

// State of a cluster now.
func (r *Rules) State(id uuid.UUID) cluster.State {
	r.mu.Lock()
	defer r.unlock()
	return r.clusters[id].State(time.Now())
}

// Cluster is a copy of the cluster's record.
func (r *Rules) Cluster(id uuid.UUID) cluster.Cluster {
	r.mu.Lock()
	defer r.unlock()
	return *r.clusters[id]
}

// Closed are the sessions that ended so far.
func (r *Rules) Closed() []ClosedSession {
	r.mu.Lock()
	defer r.unlock()
	return append([]ClosedSession(nil), r.closed...)
}

// Degraded are the lists of degradations that were recorded.
func (r *Rules) Degraded() [][]cluster.Degradation {
	r.mu.Lock()
	defer r.unlock()
	return append([][]cluster.Degradation(nil), r.degraded...)
}

// Statuses are the release statuses that were recorded.
func (r *Rules) Statuses() []ReleaseStatus {
	r.mu.Lock()
	defer r.unlock()
	return append([]ReleaseStatus(nil), r.statuses...)
}

// Deltas are the inventory deltas that were recorded.
func (r *Rules) Deltas() []inventory.Delta {
	r.mu.Lock()
	defer r.unlock()
	return append([]inventory.Delta(nil), r.deltas...)
}

// Changed is closed with the next change of anything.
func (r *Rules) Changed() <-chan struct{} {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed
}

// unlock ends what may have been a change, and says so to those who wait.
func (r *Rules) unlock() {
	close(r.changed)
	r.changed = make(chan struct{})
	r.mu.Unlock()
}

func (r *Rules) stirLocked(id uuid.UUID) {
	for w, of := range r.watchers {
		if of == id {
			select {
			case w <- struct{}{}:
			default:
			}
		}
	}
}

func (r *Rules) watch(id uuid.UUID) (<-chan struct{}, func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	w := make(chan struct{}, 1)
	r.watchers[w] = id
	return w, func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		delete(r.watchers, w)
	}
}

func (r *Rules) findLocked(id uuid.UUID) (*cluster.Cluster, error) {
	if r.away != nil {
		return nil, r.away
	}
	c, ok := r.clusters[id]
	if !ok {
		return nil, &cluster.NotFoundError{Ref: id.String()}
	}
	return c, nil
}

// Get is cluster.Service's, by id only.
func (r *Rules) Get(_ context.Context, ref string) (*cluster.Cluster, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	id, err := uuid.Parse(ref)
	if err != nil {
		return nil, &cluster.NotFoundError{Ref: ref}
	}
	c, err := r.findLocked(id)
	if err != nil {
		return nil, err
	}
	found := *c
	return &found, nil
}

// OpenSession is cluster.Service's.
func (r *Rules) OpenSession(ctx context.Context, id uuid.UUID, info cluster.SessionInfo) (int64, error) {
	if err := r.hang(ctx); err != nil {
		return 0, err
	}
	r.mu.Lock()
	defer r.unlock()
	c, err := r.findLocked(id)
	if err != nil {
		return 0, err
	}
	if c.RevokedAt != nil {
		return 0, &cluster.RevokedError{Name: c.Name}
	}
	r.epoch++
	now := time.Now()
	c.Session = &cluster.Session{Replica: info.Replica, Epoch: r.epoch, Instance: info.Instance, ConnectedAt: now, LeaseUntil: now.Add(r.lease)}
	c.LastSeen, c.AgentVersion = &now, info.AgentVersion
	return r.epoch, nil
}

// RenewSessions is cluster.Service's.
func (r *Rules) RenewSessions(ctx context.Context, replica string, ids []uuid.UUID) error {
	if err := r.hang(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.unlock()
	if r.away != nil {
		return r.away
	}
	now := time.Now()
	for _, id := range ids {
		if c, ok := r.clusters[id]; ok && c.Session != nil && c.Session.Replica == replica {
			c.Session.LeaseUntil, c.LastSeen = now.Add(r.lease), &now
		}
	}
	return nil
}

// Lost is cluster.Service's.
func (r *Rules) Lost(ctx context.Context, held map[uuid.UUID]int64) ([]uuid.UUID, error) {
	if err := r.hang(ctx); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away != nil {
		return nil, r.away
	}
	var lost []uuid.UUID
	for id, epoch := range held {
		c, ok := r.clusters[id]
		if !ok || c.RevokedAt != nil || c.Session == nil || c.Session.Epoch != epoch {
			lost = append(lost, id)
		}
	}
	return lost, nil
}

// CloseSession is cluster.Service's.
func (r *Rules) CloseSession(_ context.Context, id uuid.UUID, epoch int64, reason string) error {
	r.mu.Lock()
	defer r.unlock()
	r.closed = append(r.closed, ClosedSession{ClusterID: id, Epoch: epoch, Reason: reason})
	if c, ok := r.clusters[id]; ok && c.Session != nil && c.Session.Epoch == epoch {
		c.Session = nil
	}
	return r.away
}

// SetDegraded is cluster.Service's.
func (r *Rules) SetDegraded(ctx context.Context, id uuid.UUID, why []cluster.Degradation) error {
	if err := r.hang(ctx); err != nil {
		return err
	}
	r.mu.Lock()
	defer r.unlock()
	c, err := r.findLocked(id)
	if err != nil {
		return err
	}
	c.Degraded = why
	r.degraded = append(r.degraded, why)
	return nil
}

// Retire tells the cluster's agent to leave; recorded says that it has said so.
func (r *Rules) Retire(id uuid.UUID, generation int64, recorded bool) {
	r.mu.Lock()
	defer r.unlock()
	r.retirement[id] = cluster.Retirement{Generation: generation, Recorded: recorded}
	r.stirLocked(id)
}

// Presence is what the cluster's agent said last.
func (r *Rules) Presence(id uuid.UUID) []facts.Presence {
	r.mu.Lock()
	defer r.unlock()
	return r.presence[id]
}

// Left is what agents said that they could not remove, by cluster.
func (r *Rules) Left(id uuid.UUID) (left []string, retired bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	left, retired = r.left[id]
	return left, retired
}

// SetPresence is cluster.Service's.
func (r *Rules) SetPresence(_ context.Context, id uuid.UUID, answers []facts.Presence) error {
	r.mu.Lock()
	defer r.unlock()
	r.presence[id] = answers
	return r.away
}

// Retirement is cluster.Service's.
func (r *Rules) Retirement(_ context.Context, id uuid.UUID) (cluster.Retirement, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.retirement[id], r.away
}

// Retired is cluster.Service's.
func (r *Rules) Retired(_ context.Context, id uuid.UUID, generation int64, left []string) error {
	r.mu.Lock()
	defer r.unlock()
	if r.retirement[id].Generation == generation {
		r.retirement[id] = cluster.Retirement{Generation: generation, Recorded: true}
		r.left[id] = left
	}
	return r.away
}

// AgentUpgrade is cluster.Service's.
func (r *Rules) AgentUpgrade(_ context.Context, id uuid.UUID) (cluster.AgentUpgrade, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.agents[id], r.away
}

// ObserveAgent is cluster.Service's.
func (r *Rules) ObserveAgent(_ context.Context, id uuid.UUID, s cluster.AgentStatus) error {
	r.mu.Lock()
	defer r.unlock()
	u := r.agents[id]
	u.Status = s
	r.agents[id] = u
	return r.away
}

// WantAgent has the agent of a cluster replace itself.
func (r *Rules) WantAgent(id uuid.UUID, t cluster.AgentTarget) {
	r.mu.Lock()
	defer r.unlock()
	r.agents[id] = cluster.AgentUpgrade{Target: &t}
	r.stirLocked(id)
}

// Admit is enroll.Service's.
func (r *Rules) Admit(_ context.Context, peer *x509.Certificate) (uuid.UUID, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	name, err := pki.IDOf(peer)
	if err != nil {
		return uuid.Nil, fmt.Errorf("read identity: %w", err)
	}
	id, err := uuid.Parse(name.Name)
	if err != nil {
		return uuid.Nil, fmt.Errorf("read identity: %w", err)
	}
	c, err := r.findLocked(id)
	if err != nil {
		return id, err
	}
	if c.RevokedAt != nil {
		return id, &cluster.RevokedError{Name: c.Name}
	}
	return id, nil
}

// Desired is release.Service's.
func (r *Rules) Desired(_ context.Context, clusterID uuid.UUID) ([]release.Desired, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.away != nil {
		return nil, r.away
	}
	var out []release.Desired
	for _, rel := range r.releases {
		if rel.ClusterID == clusterID {
			out = append(out, release.Desired{ID: rel.ID, Generation: rel.Generation, Digest: rel.Digest})
		}
	}
	return out, nil
}

// ByIDs is release.Service's.
func (r *Rules) ByIDs(_ context.Context, clusterID uuid.UUID, ids []uuid.UUID) ([]*release.Release, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []*release.Release
	for _, id := range ids {
		if rel, ok := r.releases[id]; ok && rel.ClusterID == clusterID {
			found := *rel
			out = append(out, &found)
		}
	}
	return out, r.away
}

// Observe is release.Service's.
func (r *Rules) Observe(_ context.Context, clusterID, id uuid.UUID, s release.Status) (bool, error) {
	r.mu.Lock()
	defer r.unlock()
	if r.away != nil {
		return false, r.away
	}
	rel, ok := r.releases[id]
	if !ok || rel.ClusterID != clusterID {
		return s.Phase == "Removed", nil
	}
	rel.Status = s
	r.statuses = append(r.statuses, ReleaseStatus{ClusterID: clusterID, ReleaseID: id, Status: s})
	if rel.RemovedAt != nil && s.Phase == "Removed" {
		delete(r.releases, id)
		return true, nil
	}
	return false, nil
}

// ChartAllowed is release.Service's.
func (r *Rules) ChartAllowed(_ context.Context, clusterID uuid.UUID, digest string) (bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rel := range r.releases {
		if rel.ClusterID == clusterID && rel.Spec.Chart.Digest == digest {
			return true, r.away
		}
	}
	target := r.agents[clusterID].Target
	return target != nil && target.Digest == digest, r.away
}

// Summary is inventory.Service's: it needs everything it has no delta of.
func (r *Rules) Summary(_ context.Context, _ uuid.UUID, _ string, nodes map[string]string) ([]string, bool, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	known := map[string]bool{}
	needCluster := true
	for _, d := range r.deltas {
		needCluster = needCluster && d.Cluster == nil
		for _, n := range d.Nodes {
			known[n.Name] = true
		}
	}
	var need []string
	for name := range nodes {
		if !known[name] {
			need = append(need, name)
		}
	}
	return need, needCluster, r.away
}

// ApplyInventory is inventory.Service.Apply.
func (r *Rules) applyInventory(_ context.Context, _ uuid.UUID, d inventory.Delta) error {
	r.mu.Lock()
	defer r.unlock()
	if r.away != nil {
		return r.away
	}
	r.deltas = append(r.deltas, d)
	return nil
}

type ruleInventory struct{ *Rules }

// Apply is inventory.Service's.
func (i ruleInventory) Apply(ctx context.Context, id uuid.UUID, d inventory.Delta) error {
	return i.applyInventory(ctx, id, d)
}

type ruleCharts struct{ *Rules }

// Get is chart.Service's.
func (c ruleCharts) Get(_ context.Context, digest string) ([]byte, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	data, ok := c.charts[digest]
	if !ok {
		return nil, &chart.NotFoundError{Digest: digest}
	}
	return data, nil
}

type ruleEnroller struct{ *Rules }

// Enroll is refused: joining needs the real rules.
func (ruleEnroller) Enroll(context.Context, enroll.Request) (*enroll.Identity, error) {
	return nil, fmt.Errorf("this gateway has no enrollment; use hubtest.New")
}

// Renew is refused: renewal needs the real rules.
func (ruleEnroller) Renew(context.Context, *x509.Certificate, []byte) (*enroll.Identity, error) {
	return nil, fmt.Errorf("this gateway has no enrollment; use hubtest.New")
}

// BundlePEM is the CA of NewGateway.
func (e ruleEnroller) BundlePEM() []byte { return e.bundle }
