package store

import (
	"context"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/notify"
	"github.com/budecosystem/budcluster/hub/internal/store/sqlcgen"
)

// ChannelOutbox announces that there are messages to deliver.
const ChannelOutbox = "bud_outbox"

var (
	_ notify.Store   = (*Store)(nil)
	_ notify.Queue   = (*Store)(nil)
	_ notify.Archive = (*Store)(nil)
)

// OutboxAppend writes messages of one stream. The lock makes their ids grow in
// the order of commits, so that nothing appears before what is claimed.
func (s *Store) OutboxAppend(ctx context.Context, at time.Time, stream uuid.UUID, entries []notify.Entry) error {
	return s.InTx(ctx, func(ctx context.Context) error {
		if err := s.q.OutboxLock(ctx, s.db(ctx), sqlcgen.OutboxLockParams{Class: lockOutbox, Stream: stream.String()}); err != nil {
			return fmt.Errorf("lock stream %s: %w", stream, err)
		}
		p := sqlcgen.OutboxInsertParams{Stream: stream, At: at}
		for _, e := range entries {
			p.Topics, p.Keys, p.EventIds = append(p.Topics, e.Topic), append(p.Keys, e.Key), append(p.EventIds, e.ID)
			p.Types, p.Bodies = append(p.Types, e.Type), append(p.Bodies, string(e.Body))
			p.Sources = append(p.Sources, e.Source)
		}
		n, err := s.q.OutboxInsert(ctx, s.db(ctx), p)
		if err == nil && n > 0 {
			tx := transactionOf(ctx)
			tx.wakes = append(tx.wakes, wake{channel: ChannelOutbox})
		}
		return err
	})
}

// OutboxClaim takes the first message of each lane that is due.
func (s *Store) OutboxClaim(ctx context.Context, now, until time.Time, limit int) ([]notify.Claim, error) {
	rows, err := s.q.OutboxClaim(ctx, s.db(ctx), sqlcgen.OutboxClaimParams{Now: now, Until: until, Lim: int32(limit)}) //nolint:gosec // a batch
	return claimsOf(rows), err
}

func claimsOf(rows []sqlcgen.Outbox) []notify.Claim {
	claims := make([]notify.Claim, 0, len(rows))
	for _, r := range rows {
		claims = append(claims, notify.Claim{
			Row: r.ID, Stream: r.Stream, Key: r.Key, WrittenAt: r.WrittenAt, Attempt: int(r.Attempts),
			Message: notify.Message{ID: r.EventID, Topic: r.Topic, Type: r.Type, Source: r.Source, Body: r.Body},
		})
	}
	return claims
}

// OutboxDone ends a claim and takes the next message of its lane. Whoever lost
// the claim to another gets none.
func (s *Store) OutboxDone(ctx context.Context, c notify.Claim, o notify.Outcome, until time.Time) (next *notify.Claim, err error) {
	err = s.InTx(ctx, func(ctx context.Context) error {
		ours, err := s.outboxEnd(ctx, c, o)
		if err != nil || ours == 0 {
			return err
		}
		rows, err := s.q.OutboxNext(ctx, s.db(ctx), sqlcgen.OutboxNextParams{Stream: c.Stream, Topic: c.Topic, Until: until})
		if len(rows) > 0 {
			next = &claimsOf(rows)[0]
		}
		return err
	})
	return next, err
}

func (s *Store) outboxEnd(ctx context.Context, c notify.Claim, o notify.Outcome) (int64, error) {
	attempt := int32(min(c.Attempt, 1<<30)) //nolint:gosec // bounded
	if o.Dead {
		return s.q.OutboxDead(ctx, s.db(ctx), sqlcgen.OutboxDeadParams{ID: c.Row, Attempt: attempt, At: o.At, Error: o.Error})
	}
	return s.q.OutboxSent(ctx, s.db(ctx), sqlcgen.OutboxSentParams{ID: c.Row, Attempt: attempt, At: o.At})
}

// OutboxRetry gives a claim back until it is due again.
func (s *Store) OutboxRetry(ctx context.Context, c notify.Claim, due time.Time, why string) error {
	_, err := s.q.OutboxFailed(ctx, s.db(ctx), sqlcgen.OutboxFailedParams{ID: c.Row, Attempt: int32(min(c.Attempt, 1<<30)), Due: due, Error: why}) //nolint:gosec // bounded
	return err
}

// OutboxPurge deletes old messages that are sent or dead.
func (s *Store) OutboxPurge(ctx context.Context, before time.Time, limit int) (int, error) {
	n, err := s.q.OutboxPurge(ctx, s.db(ctx), sqlcgen.OutboxPurgeParams{Before: before, Lim: int32(limit)}) //nolint:gosec // a batch
	return int(n), err
}

// OutboxState counts what is not delivered.
func (s *Store) OutboxState(ctx context.Context, now time.Time) (notify.State, error) {
	row, err := s.q.OutboxState(ctx, s.db(ctx), now)
	state := notify.State{Pending: int(row.Pending), Dead: int(row.Dead)}
	if err == nil && state.Pending > 0 {
		state.Oldest = max(now.Sub(row.Oldest), 0)
	}
	return state, err
}

// OutboxList returns messages without their bodies, the newest first.
func (s *Store) OutboxList(ctx context.Context, status notify.LetterStatus, before int64, limit int) ([]notify.Letter, error) {
	rows, err := s.q.OutboxList(ctx, s.db(ctx), sqlcgen.OutboxListParams{Before: before, Status: string(status), Lim: int32(limit)}) //nolint:gosec // a page's limit
	if err != nil {
		return nil, err
	}
	found := make([]notify.Letter, 0, len(rows))
	for _, r := range rows {
		found = append(found, letterOf(r))
	}
	return found, nil
}

func letterOf(r sqlcgen.OutboxListRow) notify.Letter {
	l := notify.Letter{
		Row: r.ID, Stream: r.Stream, Topic: r.Topic, Key: r.Key, EventID: r.EventID, Type: r.Type, Size: int(r.Size), WrittenAt: r.WrittenAt,
		Status: notify.LetterPending, Attempts: int(r.Attempts), Error: r.Error,
	}
	switch {
	case r.DeadAt != nil:
		l.Status, l.EndedAt = notify.LetterDead, r.DeadAt
	case r.SentAt != nil:
		l.Status, l.EndedAt = notify.LetterSent, r.SentAt
	default:
		l.NextAt = &r.DueAt
	}
	return l
}

// OutboxRevive makes a dead letter one that is due, and wakes who delivers.
func (s *Store) OutboxRevive(ctx context.Context, row int64, now time.Time) (l notify.Letter, err error) {
	err = s.InTx(ctx, func(ctx context.Context) error {
		r, err := s.q.OutboxRevive(ctx, s.db(ctx), sqlcgen.OutboxReviveParams{ID: row, Now: now})
		if err != nil {
			return notFound(err, notify.ErrNoLetter)
		}
		l = letterOf(sqlcgen.OutboxListRow(r))
		tx := transactionOf(ctx)
		tx.wakes = append(tx.wakes, wake{channel: ChannelOutbox})
		return nil
	})
	return l, err
}

// OutboxDiscard deletes a dead letter.
func (s *Store) OutboxDiscard(ctx context.Context, row int64) (notify.Letter, error) {
	r, err := s.q.OutboxDiscard(ctx, s.db(ctx), row)
	if err != nil {
		return notify.Letter{}, notFound(err, notify.ErrNoLetter)
	}
	return letterOf(sqlcgen.OutboxListRow(r)), nil
}
