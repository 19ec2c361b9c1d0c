package apitest

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/access"
	"github.com/budecosystem/budcluster/hub/internal/chart"
	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/enroll"
	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/release"
	"github.com/budecosystem/budcluster/internal/facts"
	"github.com/budecosystem/budcluster/internal/secret"
)

// cut makes a page of items that are in the order of their key.
func cut[T any](items []T, p page.Page, key func(T) string) ([]T, string, error) {
	after, err := p.Key(1)
	if err != nil {
		return nil, "", err
	}
	var rest []T
	for _, item := range items {
		if p.Cursor == "" || key(item) > after[0] {
			rest = append(rest, item)
		}
	}
	rest = rest[:min(len(rest), p.Size()+1)]
	out, next := page.Cut(rest, p, func(item T) []string { return []string{key(item)} })
	return out, next, nil
}

// clusters is api.Clusters.
type clusters struct{ *Hub }

func (h clusters) Create(_ context.Context, actor, name string, labels map[string]string) (*cluster.Cluster, error) {
	unlock, err := h.enter()
	defer unlock()
	if err != nil {
		return nil, err
	}
	if name == "" {
		return nil, invalid.New("name", "%q is not a cluster name; use at most 63 lower-case letters, digits and dashes, with a letter or digit at both ends", name)
	}
	for _, c := range h.clusters {
		if c.Name == name {
			return nil, &cluster.ExistsError{Name: name}
		}
	}
	c := &cluster.Cluster{ID: h.idLocked(), Name: name, Labels: labels, CreatedAt: Now()}
	h.clusters[c.ID] = c
	h.emitLocked(event.Event{Type: event.ClusterCreated, ClusterID: c.ID, Subject: name, Actor: actor, Message: "cluster " + name + " was created"})
	out := *c
	return &out, nil
}

func (h clusters) findLocked(ref string) (*cluster.Cluster, error) {
	for _, c := range h.clusters {
		if c.Name == ref || c.ID.String() == ref {
			return c, nil
		}
	}
	return nil, &cluster.NotFoundError{Ref: ref}
}

func (h clusters) Get(_ context.Context, ref string) (*cluster.Cluster, error) {
	unlock, err := h.enter()
	defer unlock()
	if err != nil {
		return nil, err
	}
	c, err := h.findLocked(ref)
	if err != nil {
		return nil, err
	}
	out := *c
	return &out, nil
}

func (h clusters) List(_ context.Context, p page.Page) ([]*cluster.Cluster, string, error) {
	unlock, err := h.enter()
	defer unlock()
	if err != nil {
		return nil, "", err
	}
	name := func(c *cluster.Cluster) string { return c.Name }
	return cut(sorted(h.clusters, name), p, name)
}

func (h clusters) Delete(_ context.Context, actor, ref string, force bool) error {
	unlock, err := h.enter()
	defer unlock()
	if err != nil {
		return err
	}
	c, err := h.findLocked(ref)
	if err != nil {
		return err
	}
	n := 0
	for _, r := range h.releases {
		if r.ClusterID == c.ID {
			n++
		}
	}
	if n > 0 && !force {
		return &cluster.HasReleasesError{Name: c.Name, Releases: n}
	}
	delete(h.clusters, c.ID)
	h.emitLocked(event.Event{Type: event.ClusterDeleted, ClusterID: c.ID, Subject: c.Name, Actor: actor})
	return nil
}

func (h clusters) Revoke(_ context.Context, actor, ref string) error {
	unlock, err := h.enter()
	defer unlock()
	if err != nil {
		return err
	}
	c, err := h.findLocked(ref)
	if err != nil {
		return err
	}
	now := Now()
	c.RevokedAt, c.Session = &now, nil
	h.emitLocked(event.Event{Type: event.ClusterRevoked, ClusterID: c.ID, Subject: c.Name, Actor: actor})
	return nil
}

func (h clusters) ListRetired(_ context.Context, p page.Page) ([]*cluster.Cluster, string, error) {
	unlock, err := h.enter()
	defer unlock()
	if err != nil {
		return nil, "", err
	}
	return cut[*cluster.Cluster](nil, p, func(c *cluster.Cluster) string { return c.Name })
}

// Retire closes the row at once: there is no agent to wait for.
func (h clusters) Retire(_ context.Context, actor, ref string, force bool) (*cluster.Cluster, error) {
	unlock, err := h.enter()
	defer unlock()
	if err != nil {
		return nil, err
	}
	c, err := h.findLocked(ref)
	if err != nil {
		return nil, err
	}
	if c.RevokedAt != nil && !force {
		return nil, &cluster.UnreachableError{Name: c.Name}
	}
	now := Now()
	c.RetiredAt = &now
	delete(h.clusters, c.ID)
	h.emitLocked(event.Event{Type: event.ClusterRetired, ClusterID: c.ID, Subject: c.Name, Actor: actor})
	out := *c
	return &out, nil
}

func (h clusters) Presence(_ context.Context, _ uuid.UUID) (cluster.Presence, error) {
	unlock, err := h.enter()
	defer unlock()
	now := Now()
	ready := true
	return cluster.Presence{At: &now, Answers: []facts.Presence{
		{Probe: "nfd/worker", State: facts.PresenceFound, Kind: "DaemonSet", Namespace: "nfd", Object: "nfd-worker", Ready: &ready},
		{Probe: "hami/scheduler", State: facts.PresenceAbsent},
	}}, err
}

// tokens is api.Tokens.
type tokens struct{ *Hub }

func (h tokens) CreateToken(_ context.Context, actor string, clusterID uuid.UUID, o enroll.TokenOptions) (enroll.Token, secret.String, error) {
	unlock, err := h.enter()
	defer unlock()
	if err != nil {
		return enroll.Token{}, secret.String{}, err
	}
	if o.TTL > 30*24*time.Hour {
		return enroll.Token{}, secret.String{}, invalid.New("ttl", "%s is out of range; use a duration from 1m0s to 720h0m0s", o.TTL)
	}
	t := enroll.Token{
		ID: fmt.Sprintf("tok%d", len(h.tokens[clusterID])+1), ClusterID: clusterID, Uses: max(o.Uses, 1),
		CreatedAt: Now(), CreatedBy: actor, ExpiresAt: Now().Add(cmp.Or(o.TTL, 24*time.Hour)),
	}
	h.tokens[clusterID] = append(h.tokens[clusterID], t)
	return t, made("bud1." + t.ID + ".secret.pin"), nil
}

func (h tokens) Tokens(_ context.Context, clusterID uuid.UUID) ([]enroll.Token, error) {
	unlock, err := h.enter()
	defer unlock()
	return h.tokens[clusterID], err
}

func (h tokens) RevokeToken(_ context.Context, _ string, clusterID uuid.UUID, tokenID string) error {
	unlock, err := h.enter()
	defer unlock()
	if err != nil {
		return err
	}
	for i := range h.tokens[clusterID] {
		if t := &h.tokens[clusterID][i]; t.ID == tokenID {
			now := Now()
			t.RevokedAt = &now
			return nil
		}
	}
	return enroll.ErrNoToken
}

// releases is api.Releases.
type releases struct{ *Hub }

func (h releases) Apply(_ context.Context, actor string, clusterID uuid.UUID, req release.Request) (*release.Release, bool, error) {
	unlock, err := h.enter()
	defer unlock()
	if err != nil {
		return nil, false, err
	}
	req.Spec = req.Spec.WithDefaults()
	if err := req.Spec.Validate(); err != nil {
		return nil, false, err
	}
	r := h.releaseLocked(clusterID, req.Name)
	have := int64(0)
	if r != nil {
		have = r.Generation
	}
	if req.IfGeneration != nil && *req.IfGeneration != have {
		return nil, false, &release.ConflictError{Name: req.Name, Want: *req.IfGeneration, Have: have}
	}
	if r == nil {
		r = &release.Release{ID: h.idLocked(), ClusterID: clusterID, Name: req.Name, Namespace: req.Namespace, CreatedAt: Now()}
		h.releases[r.ID] = r
	}
	req.Spec.SecretValues = nil
	if r.Generation == 0 || r.RemovedAt != nil || !sameSpec(r.Spec, req.Spec) {
		r.Generation++
		r.Spec, r.UpdatedAt, r.RemovedAt = req.Spec, Now(), nil
		r.Digest = "sha256:" + fmt.Sprintf("%064d", r.Generation)
		h.emitLocked(event.Event{Type: event.ReleaseApplied, ClusterID: clusterID, Subject: req.Name, Actor: actor})
	}
	out := *r
	return &out, have == 0, nil
}

func sameSpec(a, b release.Spec) bool {
	return bytes.Equal(a.Values, b.Values) && a.Chart == b.Chart && a.Timeout == b.Timeout && a.Remediation == b.Remediation &&
		a.MaxAttempts == b.MaxAttempts && a.Drift == b.Drift && a.Adoption == b.Adoption && len(a.Outputs) == len(b.Outputs)
}

func (h releases) Get(_ context.Context, clusterID uuid.UUID, name string) (*release.Release, error) {
	unlock, err := h.enter()
	defer unlock()
	if err != nil {
		return nil, err
	}
	r := h.releaseLocked(clusterID, name)
	if r == nil {
		return nil, &release.NotFoundError{Name: name}
	}
	out := *r
	return &out, nil
}

func (h releases) List(_ context.Context, f release.Filter, p page.Page) ([]*release.Release, string, error) {
	unlock, err := h.enter()
	defer unlock()
	if err != nil {
		return nil, "", err
	}
	key := func(r *release.Release) string { return r.ClusterID.String() + "/" + r.Name }
	var out []*release.Release
	for _, r := range sorted(h.releases, key) {
		if (f.ClusterID == nil || *f.ClusterID == r.ClusterID) && (f.Phase == "" || f.Phase == r.Status.Phase) {
			out = append(out, r)
		}
	}
	return cut(out, p, key)
}

func (h releases) Delete(_ context.Context, actor string, clusterID uuid.UUID, name string, forget bool) (*release.Release, error) {
	unlock, err := h.enter()
	defer unlock()
	if err != nil {
		return nil, err
	}
	r := h.releaseLocked(clusterID, name)
	if r == nil {
		return nil, &release.NotFoundError{Name: name}
	}
	if forget {
		delete(h.releases, r.ID)
	}
	now := Now()
	r.RemovedAt = &now
	r.Generation++
	h.emitLocked(event.Event{Type: event.ReleaseDeleted, ClusterID: clusterID, Subject: name, Actor: actor})
	out := *r
	return &out, nil
}

// nodes is api.Inventory.
type nodes struct{ *Hub }

func (h nodes) allLocked(id *uuid.UUID) []inventory.Node {
	var out []inventory.Node
	for _, c := range sorted(h.clusters, func(c *cluster.Cluster) string { return c.ID.String() }) {
		if id != nil && *id != c.ID {
			continue
		}
		for _, n := range sorted(h.nodes[c.ID], func(n facts.Node) string { return n.Name }) {
			out = append(out, inventory.Node{ClusterID: c.ID, ClusterName: c.Name, Node: n, UpdatedAt: Now().Add(-time.Minute), LastSeen: c.LastSeen})
		}
	}
	return out
}

func nodeKey(n inventory.Node) string { return n.ClusterID.String() + "/" + n.Name }

func (h nodes) Nodes(_ context.Context, f inventory.Filter, p page.Page) ([]inventory.Node, string, error) {
	unlock, err := h.enter()
	defer unlock()
	if err != nil {
		return nil, "", err
	}
	var out []inventory.Node
	for _, n := range h.allLocked(f.ClusterID) {
		if f.Ready == nil || *f.Ready == n.Ready {
			out = append(out, n)
		}
	}
	return cut(out, p, nodeKey)
}

func (h nodes) Node(_ context.Context, clusterID uuid.UUID, name string) (*inventory.Node, error) {
	unlock, err := h.enter()
	defer unlock()
	if err != nil {
		return nil, err
	}
	for _, n := range h.allLocked(&clusterID) {
		if n.Name == name {
			return &n, nil
		}
	}
	return nil, &inventory.NotFoundError{Name: name}
}

func (h nodes) Devices(_ context.Context, f inventory.DeviceFilter, p page.Page) ([]inventory.Device, string, error) {
	unlock, err := h.enter()
	defer unlock()
	if err != nil {
		return nil, "", err
	}
	var out []inventory.Device
	for _, n := range h.allLocked(f.ClusterID) {
		for _, d := range n.Devices {
			if (f.Node == "" || f.Node == n.Name) && (f.Vendor == "" || f.Vendor == d.Vendor) &&
				(f.Kind == "" || f.Kind == d.Kind) && (f.Model == "" || f.Model == d.Model) {
				out = append(out, inventory.Device{
					ClusterID: n.ClusterID, ClusterName: n.ClusterName, Node: n.Name, Device: d,
					NodeReady: n.Ready, NodeSchedulable: n.Schedulable, UpdatedAt: n.UpdatedAt, LastSeen: n.LastSeen,
				})
			}
		}
	}
	return cut(out, p, func(d inventory.Device) string { return d.ClusterID.String() + "/" + d.Node + "/" + d.ID })
}

// keys is api.Access.
type keys struct{ *Hub }

func (h keys) Authenticate(_ context.Context, presented string) (access.Principal, error) {
	unlock, err := h.enter()
	defer unlock()
	if err != nil {
		return access.Principal{}, err
	}
	p, ok := h.roles[presented]
	if !ok {
		return p, access.ErrDenied
	}
	return p, nil
}

func (h keys) CreateKey(_ context.Context, actor, name string, role access.Role) (access.Key, secret.String, error) {
	unlock, err := h.enter()
	defer unlock()
	if err != nil {
		return access.Key{}, secret.String{}, err
	}
	if !access.RoleAdmin.Allows(role) || role == "" {
		return access.Key{}, secret.String{}, invalid.New("role", "%q is not a role; use one of viewer, operator, admin", role)
	}
	k := access.Key{ID: fmt.Sprintf("key%d", len(h.keys)+1), Name: name, Role: role, CreatedAt: Now(), CreatedBy: actor}
	for _, other := range h.keys {
		if other.Name == name && other.RevokedAt == nil {
			return access.Key{}, secret.String{}, &access.ExistsError{Name: name}
		}
	}
	h.keys = append(h.keys, k)
	text := "budk_" + k.ID + "_secret"
	h.roles[text] = access.Principal{Name: name, Role: role}
	return k, made(text), nil
}

func (h keys) Keys(context.Context) ([]access.Key, error) {
	unlock, err := h.enter()
	defer unlock()
	return h.keys, err
}

func (h keys) RevokeKey(_ context.Context, _, id string) error {
	unlock, err := h.enter()
	defer unlock()
	if err != nil {
		return err
	}
	for i := range h.keys {
		if k := &h.keys[i]; k.ID == id && k.RevokedAt == nil {
			now := Now()
			k.RevokedAt = &now
			delete(h.roles, "budk_"+k.ID+"_secret")
			return nil
		}
	}
	return access.ErrNotFound
}

// events is api.Events.
type events struct{ *Hub }

// List checks and bounds as event.Service does, through it.
func (h events) service() (*event.Service, error) {
	return event.New(event.Config{Store: h, Poll: time.Hour})
}

func (h events) List(ctx context.Context, f event.Filter) ([]event.Event, error) {
	s, err := h.service()
	if err != nil {
		return nil, err
	}
	return s.List(ctx, f)
}

func (h events) Latest(ctx context.Context) (int64, error) { return h.EventLatest(ctx) }

func (h events) Follow(ctx context.Context, f event.Filter, after int64, wake <-chan struct{}, fn func(event.Event) error) error {
	s, err := h.service()
	if err != nil {
		return err
	}
	return s.Follow(ctx, f, after, wake, fn)
}

// EventList is event.Store's.
func (h events) EventList(_ context.Context, f event.Filter) ([]event.Event, error) {
	unlock, err := h.enter()
	defer unlock()
	if err != nil {
		return nil, err
	}
	var out []event.Event
	for _, e := range h.events {
		if e.ID <= f.After || f.ClusterID != nil && *f.ClusterID != e.ClusterID || !hasType(f.Types, e.Type) {
			continue
		}
		if out = append(out, e); len(out) == f.Limit {
			break
		}
	}
	return out, nil
}

func hasType(types []string, t event.Type) bool {
	if slices.Contains(types, string(t)) {
		return true
	}
	return len(types) == 0
}

// EventLatest is event.Store's.
func (h events) EventLatest(context.Context) (int64, error) {
	unlock, err := h.enter()
	defer unlock()
	return int64(len(h.events)), err
}

// EventPurge is event.Store's.
func (events) EventPurge(context.Context, time.Time, time.Time, int) (int, error) {
	return 0, errors.New("nothing is purged here")
}

// chartStore is chart.Store.
type chartStore struct{ *Hub }

func (h chartStore) PutChart(_ context.Context, c chart.Chart) (bool, error) {
	unlock, err := h.enter()
	defer unlock()
	if err != nil {
		return false, err
	}
	if _, ok := h.packed[c.Digest]; ok {
		return false, nil
	}
	c.Content = bytes.Clone(c.Content)
	h.packed[c.Digest] = c
	return true, nil
}

func (h chartStore) ChartContent(_ context.Context, digest string) ([]byte, error) {
	defer h.lock()()
	if c, ok := h.packed[digest]; ok {
		return c.Content, nil
	}
	return nil, chart.ErrNotFound
}

func (h chartStore) ChartMeta(_ context.Context, digest string) (chart.Meta, error) {
	defer h.lock()()
	if c, ok := h.packed[digest]; ok {
		return c.Meta, nil
	}
	return chart.Meta{}, chart.ErrNotFound
}

func (h chartStore) Charts(_ context.Context, p page.Page) ([]chart.Meta, string, error) {
	unlock, err := h.enter()
	defer unlock()
	if err != nil {
		return nil, "", err
	}
	key := func(c chart.Chart) string { return c.Name + "/" + c.Version + "/" + c.Digest }
	list, next, err := cut(sorted(h.packed, key), p, key)
	out := make([]chart.Meta, 0, len(list))
	for _, c := range list {
		out = append(out, c.Meta)
	}
	return out, next, err
}
