package mirror

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"strconv"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/hub/internal/notify"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

// statusUpdate is the type of the messages about a cluster's state.
const statusUpdate = "cluster-status-update"

// seen is a cluster as it is in the database now; nil when it is not of the
// fleet.
type seen struct {
	state State
	entry Entry
}

func (s *Service) see(ctx context.Context, clusterID uuid.UUID) (*seen, error) {
	var nodes []inventory.Node // before the cluster: one that leaves loses them in the same moment
	p := page.Page{Limit: page.MaxLimit}
	for {
		some, next, err := s.cfg.Inventory.Nodes(ctx, inventory.Filter{ClusterID: &clusterID}, p)
		if err != nil {
			return nil, err
		}
		if nodes = append(nodes, some...); next == "" {
			break
		}
		p.Cursor = next
	}
	c, err := s.cfg.Clusters.Get(ctx, clusterID.String())
	if errors.Is(err, cluster.ErrNotFound) || err == nil && c.RetiredAt != nil {
		return nil, nil //nolint:nilnil // it left the fleet
	}
	if err != nil {
		return nil, err
	}
	state := StateOf(With(c, nodes), s.now(), s.cfg.Grace)
	return &seen{state, lean(EntryOf(c, nodes, state))}, nil
}

// refresh tells what is new of a cluster, in one transaction with remembering
// it. It reports whether the platform asked for the cluster; began says that it
// may have done so just now.
func (s *Service) refresh(ctx context.Context, clusterID uuid.UUID, began bool) (ours bool, err error) {
	find := s.cfg.Store.MirrorGet
	if began {
		find = s.adopt
	}
	if told, err := find(ctx, clusterID); err != nil || told == nil {
		return false, err
	}
	err = s.cfg.Store.InTx(ctx, func(ctx context.Context) error {
		told, err := s.cfg.Store.MirrorLock(ctx, clusterID)
		if err != nil || told == nil {
			return err
		}
		ours = true
		now, err := s.see(ctx, clusterID)
		if err != nil || now == nil { // its removal has told of its end
			return err
		}
		return s.tell(ctx, told, now)
	})
	return ours, err
}

// tell writes a message if the platform does not know what is so now.
func (s *Service) tell(ctx context.Context, told *Told, now *seen) error {
	result, err := encode("state of cluster", statusResult{ClusterID: told.ClusterID, Status: now.state, NodeInfo: still(now.entry)})
	if err != nil {
		return err
	}
	sum := sha256.Sum256(result)
	digest := hex.EncodeToString(sum[:])
	if told.Digest == digest {
		return nil
	}
	first := told.RegisteredAt == nil
	if first {
		complete, err := s.complete(ctx, told.ClusterID)
		if err != nil || !complete {
			return err
		}
		at := s.now().UTC()
		told.RegisteredAt = &at
	}
	told.Digest = digest
	if first { // the registration's results have said it
		return s.cfg.Store.MirrorUpdate(ctx, told)
	}
	told.Count++
	if err := s.cfg.Store.MirrorUpdate(ctx, told); err != nil {
		return err
	}
	if result, err = encode("state of cluster", statusResult{ClusterID: told.ClusterID, Status: now.state, NodeInfo: now.entry}); err != nil {
		return err
	}
	key := statusUpdate + "/" + strconv.FormatInt(told.Count, 10)
	return s.cfg.Tell(ctx, told.ClusterID, key, notify.Reply{Topics: []string{s.cfg.Topic}}, notify.Payload{
		Type: statusUpdate, Event: workflow.NoticeResults, WorkflowID: uuid.NewSHA1(told.ClusterID, []byte(key)).String(),
		Content: notify.Content{Title: "Cluster status updated", Message: "Cluster " + told.Name + " is " + string(now.state), Status: notify.StatusCompleted, Result: result},
	})
}

// complete reports whether a registration of the cluster has succeeded.
func (s *Service) complete(ctx context.Context, clusterID uuid.UUID) (bool, error) {
	runs, _, err := s.cfg.Workflows.List(ctx, workflow.Filter{ClusterID: &clusterID, Kind: workflow.RegisterCluster, Status: workflow.StatusCompleted}, page.Page{Limit: 1})
	return len(runs) > 0, err
}

// entryNow is the entry of a cluster, nil if it is to have none; gone when it is
// in the register no more.
func (s *Service) entryNow(ctx context.Context, clusterID uuid.UUID) (entry json.RawMessage, gone bool, err error) {
	told, err := s.cfg.Store.MirrorGet(ctx, clusterID)
	if err != nil || told == nil {
		return nil, false, err
	}
	now, err := s.see(ctx, clusterID)
	if err != nil {
		return nil, false, err
	}
	if now == nil {
		_, err := s.cfg.Clusters.Get(ctx, clusterID.String())
		return nil, errors.Is(err, cluster.ErrNotFound), nil
	}
	if told.RegisteredAt == nil {
		return nil, false, nil
	}
	entry, err = encode("cluster "+told.Name, now.entry)
	return entry, false, err
}
