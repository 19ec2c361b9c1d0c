package inventory

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/internal/facts"
)

// NotFoundError says which node there is not. It is ErrNotFound.
type NotFoundError struct{ Name string }

// Error names the node and the remedy.
func (e *NotFoundError) Error() string {
	return fmt.Sprintf("there is no node %q in this cluster; `budcluster node list` shows those that there are", e.Name)
}

// Is makes it ErrNotFound.
func (e *NotFoundError) Is(target error) bool { return target == ErrNotFound }

// Nodes returns one page of nodes in order of cluster and name.
func (s *Service) Nodes(ctx context.Context, f Filter, p page.Page) (nodes []Node, next string, err error) {
	if err := checkKind(f.Kind); err != nil {
		return nil, "", err
	}
	key, clusterID, err := cursor(p, 2)
	if err != nil {
		return nil, "", err
	}
	nodes, err = s.store.NodeList(ctx, f, NodeKey{ClusterID: clusterID, Name: key[1]}, p.Size()+1)
	if err != nil {
		return nil, "", fmt.Errorf("list nodes: %w", err)
	}
	nodes, next = page.Cut(nodes, p, func(n Node) []string { return []string{n.ClusterID.String(), n.Name} })
	return nodes, next, nil
}

// Node finds one node.
func (s *Service) Node(ctx context.Context, clusterID uuid.UUID, name string) (*Node, error) {
	if !isName(name) {
		return nil, &NotFoundError{Name: invalid.Clip(name)}
	}
	n, err := s.store.NodeByName(ctx, clusterID, name)
	if errors.Is(err, ErrNotFound) {
		return nil, &NotFoundError{Name: invalid.Clip(name)}
	}
	if err != nil {
		return nil, fmt.Errorf("get node %s: %w", name, err)
	}
	return &n, nil
}

// isName is false for what is no name and nothing that the database takes.
func isName(name string) bool { return !strings.ContainsRune(name, 0) && utf8.ValidString(name) }

// Devices returns one page of devices in order of cluster, node and id.
func (s *Service) Devices(ctx context.Context, f DeviceFilter, p page.Page) (devices []Device, next string, err error) {
	if err := checkKind(f.Kind); err != nil {
		return nil, "", err
	}
	key, clusterID, err := cursor(p, 3)
	if err != nil {
		return nil, "", err
	}
	devices, err = s.store.DeviceList(ctx, f, DeviceKey{ClusterID: clusterID, Node: key[1], ID: key[2]}, p.Size()+1)
	if err != nil {
		return nil, "", fmt.Errorf("list devices: %w", err)
	}
	devices, next = page.Cut(devices, p, func(d Device) []string { return []string{d.ClusterID.String(), d.Node, d.ID} })
	return devices, next, nil
}

func cursor(p page.Page, parts int) (key []string, clusterID uuid.UUID, err error) {
	if key, err = p.Key(parts); err != nil {
		return nil, uuid.Nil, err
	}
	if key[0] == "" {
		return key, uuid.Nil, nil
	}
	if clusterID, err = uuid.Parse(key[0]); err != nil {
		return nil, uuid.Nil, invalid.New("cursor", "%q is not one that this list gave out; leave it away to start at the first page", invalid.Clip(p.Cursor))
	}
	return key, clusterID, nil
}

func checkKind(kind facts.Kind) error {
	kinds := []facts.Kind{facts.KindCUDA, facts.KindROCm, facts.KindHPU, facts.KindCPU}
	if kind == "" || slices.Contains(kinds, kind) {
		return nil
	}
	return invalid.New("kind", "%q is not a kind of device; use cuda, rocm, hpu or cpu", invalid.Clip(string(kind)))
}
