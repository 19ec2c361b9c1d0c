package mirror

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/hub/internal/notify"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/logkey"
)

// shareTimeout bounds how long a state store that is away holds up the messages.
const shareTimeout = 5 * time.Second

// statusUpdate is the type of the messages about a cluster's state.
const statusUpdate = "cluster-status-update"

// seen is a cluster as it is in the database now; nil when it is not of the
// fleet.
type seen struct {
	state State
	entry Entry
}

func (s *Service) see(ctx context.Context, clusterID uuid.UUID) (*seen, error) {
	c, err := s.cfg.Clusters.Get(ctx, clusterID.String())
	if errors.Is(err, cluster.ErrNotFound) || err == nil && c.RetiredAt != nil {
		return nil, nil //nolint:nilnil // it left the fleet
	}
	if err != nil {
		return nil, err
	}
	var nodes []inventory.Node
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
	state := StateOf(c, s.now(), s.cfg.Grace)
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

// share writes the entries of clusters into the key that the services share.
// The database is read after the key, so that what is written is never older
// than what was there.
func (s *Service) share(ctx context.Context, ids []uuid.UUID) error {
	if s.cfg.State == nil {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, shareTimeout, fmt.Errorf("the shared key could not be written in %s", shareTimeout))
	defer cancel()
	var gone []uuid.UUID
	err := s.cfg.State.Update(ctx, s.cfg.Key, func(old json.RawMessage) (json.RawMessage, error) {
		gone = nil
		entries, err := s.open(ctx, old)
		if err != nil {
			return nil, err
		}
		for _, id := range ids {
			entry, left, err := s.entryNow(ctx, id)
			if err != nil {
				return nil, err
			}
			if left {
				gone = append(gone, id)
			}
			entries.put(id.String(), entry)
		}
		return entries.close(old)
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", s.cfg.Key, err)
	}
	for _, id := range gone { // nobody has to remember it any more
		if err := s.cfg.Store.MirrorDelete(ctx, id); err != nil {
			return fmt.Errorf("forget cluster %s: %w", id, err)
		}
	}
	return nil
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

// list is the value of the shared key.
type list struct {
	entries []json.RawMessage
	ids     []string
}

// open reads the key. A value that is no list is replaced: nobody could read it.
func (s *Service) open(ctx context.Context, old json.RawMessage) (*list, error) {
	l := &list{}
	if len(bytes.TrimSpace(old)) == 0 {
		return l, nil
	}
	if err := json.Unmarshal(old, &l.entries); err != nil {
		s.log.WarnContext(ctx, "the shared key holds no list; it is written anew", slog.String(logkey.Key, s.cfg.Key))
		return l, nil
	}
	for _, raw := range l.entries {
		var e struct {
			ID string `json:"id"`
		}
		_ = json.Unmarshal(raw, &e) // one without an id is nobody's, and stays
		l.ids = append(l.ids, e.ID)
	}
	return l, nil
}

// put replaces, adds or, with nil, removes an entry.
func (l *list) put(id string, entry json.RawMessage) {
	for i := 0; i < len(l.ids); i++ {
		if l.ids[i] != id {
			continue
		}
		if entry != nil {
			l.entries[i], entry = entry, nil
			continue
		}
		l.entries = append(l.entries[:i], l.entries[i+1:]...) // also one that is there twice
		l.ids = append(l.ids[:i], l.ids[i+1:]...)
		i--
	}
	if entry != nil {
		l.entries, l.ids = append(l.entries, entry), append(l.ids, id)
	}
}

// close gives the new value, or the old one if it says the same.
func (l *list) close(old json.RawMessage) (json.RawMessage, error) {
	if l.entries == nil {
		l.entries = []json.RawMessage{}
	}
	next, err := json.Marshal(l.entries)
	if err != nil {
		return nil, fmt.Errorf("encode entries: %w", err)
	}
	var a, b any
	if json.Unmarshal(old, &a) == nil && json.Unmarshal(next, &b) == nil && reflect.DeepEqual(a, b) {
		return old, nil
	}
	return next, nil
}
