package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/hub/internal/store/sqlcgen"
	"github.com/budecosystem/budcluster/internal/facts"
)

// InventoryLock lets one transaction at a time change a cluster's inventory.
// The lock is an advisory one: a lock on the cluster's row would be a write to
// it for each delta.
func (s *Store) InventoryLock(ctx context.Context, clusterID uuid.UUID) (inventory.Known, error) {
	if err := s.q.InventoryLock(ctx, s.db(ctx), sqlcgen.InventoryLockParams{Class: lockInventory, ClusterID: clusterID.String()}); err != nil {
		return inventory.Known{}, fmt.Errorf("lock inventory: %w", err)
	}
	r, err := s.q.InventoryCluster(ctx, s.db(ctx), clusterID)
	if err != nil {
		return inventory.Known{}, notFound(err, inventory.ErrNoCluster)
	}
	f, err := decode[*facts.Cluster](r.Facts, "facts of cluster "+r.Name)
	return inventory.Known{Name: r.Name, Facts: f, Digest: r.FactsDigest, Retired: r.Retired}, err
}

// ClusterFactsWrite replaces the facts of the cluster as a whole.
func (s *Store) ClusterFactsWrite(ctx context.Context, clusterID uuid.UUID, f facts.Cluster, digest string) error {
	raw, err := encode(f, "cluster facts")
	if err != nil {
		return err
	}
	return s.q.ClusterSetFacts(ctx, s.db(ctx), sqlcgen.ClusterSetFactsParams{ID: clusterID, Facts: raw, FactsDigest: digest})
}

// NodeDigests returns each node's digest.
func (s *Store) NodeDigests(ctx context.Context, clusterID uuid.UUID) (map[string]string, error) {
	rows, err := s.q.NodeDigests(ctx, s.db(ctx), clusterID)
	if err != nil {
		return nil, err
	}
	digests := make(map[string]string, len(rows))
	for _, r := range rows {
		digests[r.Name] = r.Digest
	}
	return digests, nil
}

// NodesByName returns those of the named nodes that are there.
func (s *Store) NodesByName(ctx context.Context, clusterID uuid.UUID, names []string) (map[string]inventory.Stored, error) {
	rows, err := s.q.NodesByName(ctx, s.db(ctx), sqlcgen.NodesByNameParams{ClusterID: clusterID, Names: names})
	if err != nil {
		return nil, err
	}
	nodes := make(map[string]inventory.Stored, len(rows))
	for _, r := range rows {
		n, err := decode[facts.Node](r.Facts, "facts of node "+r.Name)
		if err != nil {
			return nil, err
		}
		nodes[r.Name] = inventory.Stored{Node: n, Digest: r.Digest}
	}
	return nodes, nil
}

// NodesWrite inserts or replaces nodes, and their devices where they changed.
func (s *Store) NodesWrite(ctx context.Context, clusterID uuid.UUID, at time.Time, changes []inventory.NodeChange) error {
	nodes := sqlcgen.NodesUpsertParams{ClusterID: clusterID, At: at}
	devices := sqlcgen.DevicesUpsertParams{ClusterID: clusterID, At: at}
	gone := sqlcgen.DevicesDeleteParams{ClusterID: clusterID}
	for _, c := range changes {
		raw, err := encode(c.Node, "facts of node "+c.Node.Name)
		if err != nil {
			return err
		}
		nodes.Names, nodes.Digests, nodes.Facts = append(nodes.Names, c.Node.Name), append(nodes.Digests, c.Digest), append(nodes.Facts, raw)
		nodes.Ready, nodes.Schedulable = append(nodes.Ready, c.Node.Ready), append(nodes.Schedulable, c.Node.Schedulable)
		for _, d := range c.Devices {
			raw, err := encode(d, "facts of device "+d.ID)
			if err != nil {
				return err
			}
			devices.NodeNames, devices.Ids, devices.Facts = append(devices.NodeNames, c.Node.Name), append(devices.Ids, d.ID), append(devices.Facts, raw)
			devices.Vendors, devices.Kinds, devices.Models = append(devices.Vendors, d.Vendor), append(devices.Kinds, string(d.Kind)), append(devices.Models, d.Model)
		}
		for _, id := range c.Gone {
			gone.NodeNames, gone.Ids = append(gone.NodeNames, c.Node.Name), append(gone.Ids, id)
		}
	}
	err := s.q.NodesUpsert(ctx, s.db(ctx), nodes)
	if violates(err, foreignKeyViolation, "") {
		return inventory.ErrNoCluster
	}
	if err != nil {
		return fmt.Errorf("write %d nodes: %w", len(changes), err)
	}
	if len(gone.Ids) > 0 {
		if err := s.q.DevicesDelete(ctx, s.db(ctx), gone); err != nil {
			return fmt.Errorf("delete %d devices: %w", len(gone.Ids), err)
		}
	}
	if len(devices.Ids) > 0 {
		if err := s.q.DevicesUpsert(ctx, s.db(ctx), devices); err != nil {
			return fmt.Errorf("write %d devices: %w", len(devices.Ids), err)
		}
	}
	return nil
}

// NodesDrop deletes nodes with their devices.
func (s *Store) NodesDrop(ctx context.Context, clusterID uuid.UUID, names []string) ([]string, error) {
	return s.q.NodesDelete(ctx, s.db(ctx), sqlcgen.NodesDeleteParams{ClusterID: clusterID, Names: names})
}

// NodeList returns nodes in order of cluster and name.
func (s *Store) NodeList(ctx context.Context, f inventory.Filter, after inventory.NodeKey, limit int) ([]inventory.Node, error) {
	return s.nodes(ctx, sqlcgen.NodeListParams{
		AfterCluster: after.ClusterID, AfterName: after.Name, ClusterID: f.ClusterID, Ready: f.Ready, Schedulable: f.Schedulable,
		Kind: optional(string(f.Kind)), Lim: int32(limit), //nolint:gosec // a page's limit
	})
}

// NodeByName looks a node up.
func (s *Store) NodeByName(ctx context.Context, clusterID uuid.UUID, name string) (inventory.Node, error) {
	nodes, err := s.nodes(ctx, sqlcgen.NodeListParams{ClusterID: &clusterID, Name: &name, Lim: 1})
	if err != nil {
		return inventory.Node{}, err
	}
	if len(nodes) == 0 {
		return inventory.Node{}, inventory.ErrNotFound
	}
	return nodes[0], nil
}

func (s *Store) nodes(ctx context.Context, p sqlcgen.NodeListParams) ([]inventory.Node, error) {
	rows, err := s.q.NodeList(ctx, s.db(ctx), p)
	if err != nil {
		return nil, err
	}
	nodes := make([]inventory.Node, 0, len(rows))
	for _, r := range rows {
		n, err := decode[facts.Node](r.Facts, "facts of node "+r.Name)
		if err != nil {
			return nil, err
		}
		nodes = append(nodes, inventory.Node{
			ClusterID: r.ClusterID, ClusterName: r.ClusterName, Node: n, UpdatedAt: r.UpdatedAt, LastSeen: lastSeen(r.LastSeen, r.SeenAt),
		})
	}
	return nodes, nil
}

// DeviceList returns devices in order of cluster, node and id.
func (s *Store) DeviceList(ctx context.Context, f inventory.DeviceFilter, after inventory.DeviceKey, limit int) ([]inventory.Device, error) {
	rows, err := s.q.DeviceList(ctx, s.db(ctx), sqlcgen.DeviceListParams{
		AfterCluster: after.ClusterID, AfterNode: after.Node, AfterID: after.ID, ClusterID: f.ClusterID, Node: optional(f.Node),
		Vendor: optional(f.Vendor), Kind: optional(string(f.Kind)), Model: optional(f.Model), Lim: int32(limit), //nolint:gosec // a page's limit
	})
	if err != nil {
		return nil, err
	}
	devices := make([]inventory.Device, 0, len(rows))
	for _, r := range rows {
		d, err := decode[facts.Device](r.Facts, "facts of a device of node "+r.NodeName)
		if err != nil {
			return nil, err
		}
		devices = append(devices, inventory.Device{
			ClusterID: r.ClusterID, ClusterName: r.ClusterName, Node: r.NodeName, Device: d, NodeReady: r.Ready,
			NodeSchedulable: r.Schedulable, UpdatedAt: r.UpdatedAt, LastSeen: lastSeen(r.LastSeen, r.SeenAt),
		})
	}
	return devices, nil
}

// NodeEventsWrite adds events about nodes, or counts them once more, and deletes
// the oldest beyond keep; of all clusters those that are from before before.
func (s *Store) NodeEventsWrite(ctx context.Context, clusterID uuid.UUID, events []facts.NodeEvent, keep int, before time.Time) error {
	p := sqlcgen.NodeEventsUpsertParams{ClusterID: clusterID}
	for _, e := range events {
		p.Uids, p.Nodes, p.Types = append(p.Uids, e.UID), append(p.Nodes, e.Node), append(p.Types, e.Type)
		p.Reasons, p.Messages, p.Counts = append(p.Reasons, e.Reason), append(p.Messages, e.Message), append(p.Counts, e.Count)
		p.FirstAts, p.LastAts = append(p.FirstAts, e.FirstAt), append(p.LastAts, e.LastAt)
		p.Components, p.Hosts = append(p.Components, e.Component), append(p.Hosts, e.Host)
	}
	if err := s.q.NodeEventsUpsert(ctx, s.db(ctx), p); err != nil {
		return fmt.Errorf("write %d node events: %w", len(events), err)
	}
	if err := s.q.NodeEventsTrim(ctx, s.db(ctx), sqlcgen.NodeEventsTrimParams{ClusterID: clusterID, Keep: int32(keep)}); err != nil { //nolint:gosec // some hundreds
		return fmt.Errorf("trim node events: %w", err)
	}
	if err := s.q.NodeEventsPurge(ctx, s.db(ctx), sqlcgen.NodeEventsPurgeParams{Before: before, Lim: 1000}); err != nil {
		return fmt.Errorf("purge node events: %w", err)
	}
	return nil
}

// NodeEventList returns the events about a node since then, the newest first.
func (s *Store) NodeEventList(ctx context.Context, clusterID uuid.UUID, node string, since time.Time) ([]facts.NodeEvent, error) {
	rows, err := s.q.NodeEventList(ctx, s.db(ctx), sqlcgen.NodeEventListParams{ClusterID: clusterID, Node: node, Since: since})
	if err != nil {
		return nil, err
	}
	events := make([]facts.NodeEvent, 0, len(rows))
	for _, r := range rows {
		events = append(events, facts.NodeEvent{
			UID: r.Uid, Node: r.Node, Type: r.Type, Reason: r.Reason, Message: r.Message, Count: r.Count,
			FirstAt: r.FirstAt, LastAt: r.LastAt, Component: r.Component, Host: r.Host,
		})
	}
	return events, nil
}

// NodeEventCounts returns how often something happened to each node since then.
func (s *Store) NodeEventCounts(ctx context.Context, clusterID uuid.UUID, since time.Time) (map[string]int64, error) {
	rows, err := s.q.NodeEventCounts(ctx, s.db(ctx), sqlcgen.NodeEventCountsParams{ClusterID: clusterID, Since: since})
	if err != nil {
		return nil, err
	}
	counts := make(map[string]int64, len(rows))
	for _, r := range rows {
		counts[r.Node] = r.Count
	}
	return counts, nil
}
