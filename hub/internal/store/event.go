package store

import (
	"context"
	"fmt"
	"time"

	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/store/sqlcgen"
)

// AppendEvents keeps events for the end of ctx's transaction, or writes them
// in one of their own.
func (s *Store) AppendEvents(ctx context.Context, events ...event.Event) error {
	if len(events) == 0 {
		return nil
	}
	if tx := transactionOf(ctx); tx != nil {
		tx.events = append(tx.events, events...)
		return nil
	}
	return s.InTx(ctx, func(ctx context.Context) error { return s.AppendEvents(ctx, events...) })
}

// insertEvents writes events under the lock that makes their ids grow in the
// order of commits. Lock and rows are one statement: each way to this process
// and back under the lock is one that all replicas wait for.
func (s *Store) insertEvents(ctx context.Context, events []event.Event) error {
	p := sqlcgen.EventInsertParams{Class: lockEvents}
	for _, e := range events {
		data := string(e.Data)
		if data == "" {
			data = "{}"
		}
		p.At, p.Types, p.ClusterIds = append(p.At, e.At), append(p.Types, string(e.Type)), append(p.ClusterIds, e.ClusterID)
		p.Subjects, p.Actors, p.Messages = append(p.Subjects, e.Subject), append(p.Actors, e.Actor), append(p.Messages, e.Message)
		p.Data, p.Transient = append(p.Data, data), append(p.Transient, e.Transient)
	}
	if err := s.q.EventInsert(ctx, transactionOf(ctx), p); err != nil {
		return fmt.Errorf("insert %d events: %w", len(events), err)
	}
	return nil
}

// EventList returns events after f.After, oldest first.
func (s *Store) EventList(ctx context.Context, f event.Filter) ([]event.Event, error) {
	rows, err := s.q.EventList(ctx, s.db(ctx), sqlcgen.EventListParams{After: f.After, ClusterID: f.ClusterID, Types: f.Types, Lim: int32(f.Limit)}) //nolint:gosec // a page's limit
	if err != nil {
		return nil, err
	}
	events := make([]event.Event, 0, len(rows))
	for _, r := range rows {
		events = append(events, event.Event{
			ID: r.ID, At: r.At, Type: event.Type(r.Type), ClusterID: deref(r.ClusterID), Subject: r.Subject,
			Actor: r.Actor, Message: r.Message, Data: r.Data, Transient: r.Transient,
		})
	}
	return events, nil
}

// EventLatest returns the highest id.
func (s *Store) EventLatest(ctx context.Context) (int64, error) {
	return s.q.EventLatest(ctx, s.db(ctx))
}

// EventPurge deletes old events, at most limit of each sort.
func (s *Store) EventPurge(ctx context.Context, old, oldTransient time.Time, limit int) (int, error) {
	n, err := s.q.EventPurge(ctx, s.db(ctx), sqlcgen.EventPurgeParams{Old: old, OldTransient: oldTransient, Lim: int32(limit)}) //nolint:gosec // a batch
	return int(n), err
}
