package inventory

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/internal/facts"
)

// Config makes a Service.
type Config struct {
	Store  Store
	Logger *slog.Logger
	// Now is time.Now when nil.
	Now func() time.Time
}

// Service is the rules of the inventory.
type Service struct {
	store Store
	log   *slog.Logger
	now   func() time.Time
}

// New checks cfg and makes the Service.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Logger == nil {
		return nil, errors.New("inventory: a store and a logger are needed")
	}
	s := &Service{store: cfg.Store, log: cfg.Logger, now: cfg.Now}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

// Summary compares what the agent has, by digest, with what the hub has, and
// returns what the hub lacks. Nodes that the agent has not are gone. A summary
// without any node comes from an agent that has not looked yet, since it runs
// on a node itself: it removes nothing.
func (s *Service) Summary(ctx context.Context, clusterID uuid.UUID, clusterDigest string, nodes map[string]string) (need []string, needCluster bool, err error) {
	err = s.store.InTx(ctx, func(ctx context.Context) error {
		need = nil
		known, err := s.store.InventoryLock(ctx, clusterID)
		if err != nil || known.Retired {
			return err
		}
		needCluster = clusterDigest != "" && clusterDigest != known.Digest
		have, err := s.store.NodeDigests(ctx, clusterID)
		if err != nil {
			return err
		}
		for name, digest := range nodes {
			if have[name] != digest {
				need = append(need, name)
			}
		}
		slices.Sort(need)
		if len(nodes) == 0 {
			return nil
		}
		var gone []string
		for name := range have {
			if _, still := nodes[name]; !still {
				gone = append(gone, name)
			}
		}
		return s.drop(ctx, clusterID, gone, s.now().UTC())
	})
	if err != nil {
		return nil, false, fmt.Errorf("compare inventory of cluster %s: %w", clusterID, err)
	}
	return need, needCluster, nil
}

// Apply stores a delta. What is the same again writes nothing.
func (s *Service) Apply(ctx context.Context, clusterID uuid.UUID, d Delta) error {
	err := s.store.InTx(ctx, func(ctx context.Context) error {
		known, err := s.store.InventoryLock(ctx, clusterID)
		if err != nil || known.Retired {
			return err
		}
		at := s.now().UTC()
		if err := s.applyEvents(ctx, clusterID, d.Events, at); err != nil {
			return err
		}
		if d.Cluster != nil {
			if err := s.applyCluster(ctx, clusterID, known, *d.Cluster, at); err != nil {
				return err
			}
		}
		if err := s.applyNodes(ctx, clusterID, d, at); err != nil {
			return err
		}
		return s.drop(ctx, clusterID, d.Removed, at)
	})
	if err != nil {
		return fmt.Errorf("apply inventory delta of cluster %s: %w", clusterID, err)
	}
	return nil
}

func (s *Service) applyCluster(ctx context.Context, clusterID uuid.UUID, known Known, f facts.Cluster, at time.Time) error {
	digest := f.Digest()
	if digest == known.Digest {
		return nil
	}
	if err := s.store.ClusterFactsWrite(ctx, clusterID, f, digest); err != nil {
		return err
	}
	changes := diffCluster(known.Facts, f)
	e, err := event.Record(at, event.ClusterChanged, "agent", map[string]any{"changes": changes})
	if err != nil {
		return err
	}
	e.ClusterID, e.Subject, e.Message = clusterID, known.Name, message("cluster "+known.Name, changes)
	if known.Facts != nil { // claims come and go all day: of use to those who watch
		without := *known.Facts
		without.Claims = f.Claims
		e.Transient = without.Digest() == digest
	}
	return s.store.AppendEvents(ctx, e)
}

func (s *Service) applyNodes(ctx context.Context, clusterID uuid.UUID, d Delta, at time.Time) error {
	if len(d.Nodes) == 0 {
		return nil
	}
	wanted := make(map[string]facts.Node, len(d.Nodes)) // of a name that is there twice the last counts
	for _, n := range d.Nodes {
		if n.Name != "" { // what has no name cannot be looked up, nor removed
			wanted[n.Name] = n
		}
	}
	names := slices.Sorted(maps.Keys(wanted))
	have, err := s.store.NodesByName(ctx, clusterID, names)
	if err != nil {
		return err
	}
	var changes []NodeChange
	var events []event.Event
	for _, name := range names {
		next := wanted[name]
		digest := next.Digest()
		old, known := have[name]
		if known && old.Digest == digest {
			continue
		}
		devices, gone := diffDevices(old.Devices, next.Devices)
		changes = append(changes, NodeChange{Node: next, Digest: digest, Devices: devices, Gone: gone})
		e, err := nodeEvent(old.Node, next, known, at, d.ObservedAt)
		if err != nil {
			return err
		}
		e.ClusterID = clusterID
		events = append(events, e)
	}
	if len(changes) == 0 {
		return nil
	}
	if err := s.store.NodesWrite(ctx, clusterID, at, changes); err != nil {
		return err
	}
	return s.store.AppendEvents(ctx, events...)
}

func (s *Service) drop(ctx context.Context, clusterID uuid.UUID, names []string, at time.Time) error {
	if len(names) == 0 {
		return nil
	}
	gone, err := s.store.NodesDrop(ctx, clusterID, names)
	if err != nil {
		return err
	}
	slices.Sort(gone)
	events := make([]event.Event, 0, len(gone))
	for _, name := range gone {
		events = append(events, event.Event{
			At: at, Type: event.NodeRemoved, ClusterID: clusterID, Subject: name, Actor: "agent", Message: "node " + name + " is gone",
		})
	}
	return s.store.AppendEvents(ctx, events...)
}

// nodeEvent tells what changed. What the node's pods ask for changes all day:
// an event about nothing else is for those who watch.
func nodeEvent(old, next facts.Node, known bool, at, observedAt time.Time) (event.Event, error) {
	data := map[string]any{"ready": next.Ready, "schedulable": next.Schedulable}
	if !observedAt.IsZero() {
		data["observedAt"] = observedAt.UTC()
	}
	kind, text := event.NodeAdded, "node "+next.Name+" was added"
	if known {
		changes := facts.DiffNodes(old, next)
		data["changes"] = changes
		kind, text = event.NodeChanged, message("node "+next.Name, changes)
	}
	e, err := event.Record(at, kind, "agent", data)
	if err != nil {
		return event.Event{}, err
	}
	e.Subject, e.Message = next.Name, text
	if known {
		old.Requested = next.Requested
		e.Transient = old.Digest() == next.Digest()
	}
	return e, nil
}

// message is one sentence about at most three changes.
func message(subject string, changes []facts.Change) string {
	const most = 3
	parts := make([]string, 0, most)
	for i, c := range changes {
		if i == most {
			parts = append(parts, fmt.Sprintf("and %d more", len(changes)-most))
			break
		}
		parts = append(parts, fmt.Sprintf("%s %s → %s", c.Field, orNone(c.From), orNone(c.To)))
	}
	if len(parts) == 0 {
		return subject + " changed"
	}
	return subject + " changed: " + strings.Join(parts, ", ")
}

func orNone(text string) string {
	if text == "" {
		return "(none)"
	}
	return text
}

// diffDevices compares by id. Of an id that is there twice the first counts.
func diffDevices(old, next []facts.Device) (changed []facts.Device, gone []string) {
	before := make(map[string]facts.Device, len(old))
	for _, d := range slices.Backward(old) {
		before[d.ID] = d
	}
	after := make(map[string]bool, len(next))
	for _, d := range next {
		if after[d.ID] {
			continue
		}
		after[d.ID] = true
		if have, known := before[d.ID]; !known || !reflect.DeepEqual(have, d) {
			changed = append(changed, d)
		}
	}
	for id := range before {
		if !after[id] {
			gone = append(gone, id)
		}
	}
	slices.Sort(gone)
	return changed, gone
}

// diffCluster names what changed of the cluster as a whole.
func diffCluster(old *facts.Cluster, next facts.Cluster) []facts.Change {
	if old == nil {
		old = &facts.Cluster{}
	}
	var changes []facts.Change
	add := func(field, from, to string) {
		if from != to {
			changes = append(changes, facts.Change{Field: field, From: from, To: to})
		}
	}
	add("uid", old.UID, next.UID)
	add("version", old.Version, next.Version)
	add("platform", string(old.Platform), string(next.Platform))
	add("distribution", old.Distribution, next.Distribution)
	if !reflect.DeepEqual(old.StorageClasses, next.StorageClasses) {
		add("storageClasses", storageNames(old.StorageClasses), storageNames(next.StorageClasses)+marker(storageNames(old.StorageClasses) == storageNames(next.StorageClasses)))
	}
	if !reflect.DeepEqual(old.IngressClasses, next.IngressClasses) {
		add("ingressClasses", ingressNames(old.IngressClasses), ingressNames(next.IngressClasses)+marker(ingressNames(old.IngressClasses) == ingressNames(next.IngressClasses)))
	}
	add("claims", claimsText(old.Claims), claimsText(next.Claims))
	add("dns", dnsText(old.DNS), dnsText(next.DNS))
	return changes
}

func claimsText(c *facts.Claims) string {
	if c == nil {
		return ""
	}
	return fmt.Sprintf("%d bound, %d pending, %d lost", c.Bound, c.Pending, c.Lost)
}

func dnsText(d *facts.DNS) string {
	switch {
	case d == nil:
		return ""
	case d.Service == "":
		return "no service"
	case d.Ready == nil:
		return d.Service
	default:
		return fmt.Sprintf("%s, %d ready", d.Service, *d.Ready)
	}
}

// marker makes a change visible that is within classes of the same names.
func marker(same bool) string {
	if same {
		return " (changed)"
	}
	return ""
}

func storageNames(classes []facts.StorageClass) string {
	names := make([]string, 0, len(classes))
	for _, c := range classes {
		names = append(names, c.Name)
	}
	return strings.Join(names, ", ")
}

func ingressNames(classes []facts.IngressClass) string {
	names := make([]string, 0, len(classes))
	for _, c := range classes {
		names = append(names, c.Name)
	}
	return strings.Join(names, ", ")
}
