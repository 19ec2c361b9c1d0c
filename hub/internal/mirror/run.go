package mirror

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/logkey"
)

// relevant are the events after which a cluster may look different.
func relevant() []string {
	types := []event.Type{
		event.ClusterJoined, event.ClusterConnected, event.ClusterDisconnected, event.ClusterRevoked, event.ClusterDeleted, event.ClusterRetired,
		event.NodeAdded, event.NodeChanged, event.NodeRemoved, event.WorkflowStarted, event.WorkflowFinished,
	}
	names := make([]string, 0, len(types))
	for _, t := range types {
		names = append(names, string(t))
	}
	return names
}

// Run follows what happens, until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	sweep := time.NewTicker(s.cfg.Sweep)
	defer sweep.Stop()
	settle := time.NewTimer(s.cfg.Settle)
	defer settle.Stop()
	dirty, all := map[uuid.UUID]bool{}, true // what happened while nobody ran is found by looking at all
	latest, err := s.cfg.Feed.Latest(ctx)
	for ; err != nil && ctx.Err() == nil; latest, err = s.cfg.Feed.Latest(ctx) {
		s.log.WarnContext(ctx, "the feed cannot be followed yet", slog.Any(logkey.Error, err))
		if !pause(ctx, time.Second) {
			return nil
		}
	}
	s.after = latest
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-s.cfg.Wake:
			if s.gather(ctx, dirty) {
				settle.Reset(s.cfg.Settle)
			}
		case <-sweep.C:
			all = true
			s.gather(ctx, dirty)
			settle.Reset(s.cfg.Settle)
		case <-settle.C:
			if err := s.flush(ctx, dirty, all); err != nil && ctx.Err() == nil {
				s.log.WarnContext(ctx, "the platform's services could not be shown what changed; it is tried again", slog.Any(logkey.Error, err))
				settle.Reset(min(10*s.cfg.Settle, s.cfg.Sweep))
				continue
			}
			clear(dirty)
			all = false
		}
	}
}

func pause(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// gather reads the feed to its end, and reports whether there is something to
// do. Of each dirty cluster it says whether the platform may have begun to ask
// for it. A feed that cannot be read is read at the next wake-up or sweep.
func (s *Service) gather(ctx context.Context, dirty map[uuid.UUID]bool) (more bool) {
	f := event.Filter{Types: relevant(), Limit: page.MaxLimit}
	for {
		f.After = s.after
		events, err := s.cfg.Feed.List(ctx, f)
		if err != nil {
			if ctx.Err() == nil {
				s.log.WarnContext(ctx, "the feed cannot be read; it is tried again", slog.Any(logkey.Error, err))
			}
			return more
		}
		for _, e := range events {
			s.after = e.ID
			if e.ClusterID != uuid.Nil {
				began := e.Type == event.WorkflowStarted || e.Type == event.WorkflowFinished
				dirty[e.ClusterID], more = dirty[e.ClusterID] || began, true
			}
		}
		if len(events) < f.Limit {
			return more
		}
	}
}

// flush shows what changed: of those that are dirty, or of all.
func (s *Service) flush(ctx context.Context, dirty map[uuid.UUID]bool, all bool) error {
	if all {
		if err := s.everything(ctx, dirty); err != nil {
			return err
		}
	}
	var shown []uuid.UUID
	for id, began := range dirty {
		ours, err := s.refresh(ctx, id, began)
		if err != nil {
			return fmt.Errorf("show cluster %s: %w", id, err)
		}
		if ours {
			shown = append(shown, id)
		}
	}
	if len(shown) == 0 {
		return nil
	}
	return s.share(ctx, shown)
}

// everything makes all clusters dirty for which the platform asked, those too
// whose registration began unseen.
func (s *Service) everything(ctx context.Context, dirty map[uuid.UUID]bool) error {
	known, err := s.cfg.Store.MirrorList(ctx)
	if err != nil {
		return fmt.Errorf("list the platform's clusters: %w", err)
	}
	for _, t := range known {
		dirty[t.ClusterID] = true
	}
	runs, _, err := s.cfg.Workflows.List(ctx, workflow.Filter{Kind: workflow.RegisterCluster}, page.Page{Limit: page.MaxLimit})
	if err != nil {
		return fmt.Errorf("list registrations: %w", err)
	}
	for _, run := range runs {
		if asked(run.Reply) != "" {
			dirty[run.ClusterID] = true
		}
	}
	return nil
}
