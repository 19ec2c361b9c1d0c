package taskhub

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/budecosystem/budcluster/internal/logkey"
)

// lease is the right to work on one instance or one activity. Whoever holds
// the token may commit; a later claim writes another, and the commit of the
// former holder finds no row.
type lease struct {
	instance string
	activity int64 // 0: the lease is on the instance, for a turn
	token    int64
	lost     chan struct{} // closed when this process may not go on

	mu      sync.Mutex // guards until, settled, gone
	until   time.Time  // by this process's clock, and never after the table's
	settled bool       // its end is being committed
	gone    bool       // lost is closed
}

func newToken() int64 { return 1 + rand.Int64N(1<<62) } //nolint:gosec // it tells claims apart, it keeps nobody out

// settle says that the end is being committed, so that a renewal that finds no
// row any more is no surprise.
func (l *lease) settle() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.settled = true
}

// revoke tells the holder to stop. It reports whether that is news.
func (l *lease) revoke() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone || l.settled {
		return false
	}
	l.gone = true
	close(l.lost)
	return true
}

// leases is what this process holds.
type leases struct {
	mu   sync.Mutex // guards held
	held map[*lease]struct{}
}

// take notes that this process holds a lease since a statement that was sent
// at the given time.
func (h *Hub) take(instance string, activity, token int64, sent time.Time) *lease {
	l := &lease{instance: instance, activity: activity, token: token, lost: make(chan struct{}), until: sent.Add(h.cfg.Lease)}
	h.leases.mu.Lock()
	defer h.leases.mu.Unlock()
	h.leases.held[l] = struct{}{}
	return l
}

func (h *Hub) drop(l *lease) {
	h.leases.mu.Lock()
	defer h.leases.mu.Unlock()
	delete(h.leases.held, l)
}

// revokeActivities stops what this process does for an instance that was
// terminated. Other processes notice at their next renewal.
func (h *Hub) revokeActivities(instance string) {
	h.leases.mu.Lock()
	defer h.leases.mu.Unlock()
	for l := range h.leases.held {
		if l.instance == instance && l.activity != 0 {
			l.revoke()
		}
	}
}

// Keep renews what this process holds, all of it at once, until ctx ends. It
// has to run for longer than the work.
func (h *Hub) Keep(ctx context.Context) error {
	every, soon := h.cfg.Lease/3, h.cfg.Lease/12 //nolint:mnd // three tries in a lease; twelve when the database is away
	timer := time.NewTimer(every)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		}
		pause := every
		if err := h.renew(ctx); err != nil && ctx.Err() == nil {
			pause = soon
			h.log.WarnContext(ctx, "leases could not be renewed", slog.Any(logkey.Error, err), slog.Duration(logkey.RetryAfter, pause))
		}
		h.expire(ctx)
		timer.Reset(pause)
	}
}

const renewTurnsSQL = `
UPDATE wf.instances i SET claim_at = now() + $1
FROM (SELECT id, token FROM unnest($2::text[], $3::bigint[]) u(id, token) ORDER BY id) u
WHERE i.id = u.id AND i.token = u.token
RETURNING i.id, 0::bigint`

const renewActivitiesSQL = `
UPDATE wf.activities a SET claim_at = now() + $1
FROM (SELECT instance, id, token FROM unnest($2::text[], $3::bigint[], $4::bigint[]) u(instance, id, token) ORDER BY instance, id) u
WHERE a.instance_id = u.instance AND a.id = u.id AND a.token = u.token
RETURNING a.instance_id, a.id`

// renew extends what was not claimed or renewed just now.
func (h *Hub) renew(ctx context.Context) error {
	sent := time.Now()
	old := h.old(sent.Add(h.cfg.Lease * 5 / 6)) //nolint:mnd // what was claimed just now has time
	if len(old) == 0 {
		return nil
	}
	type key struct {
		instance string
		activity int64
	}
	renewed := make(map[key]bool, len(old))
	collect := func(rows pgx.Rows) error {
		var k key
		_, err := pgx.ForEachRow(rows, []any{&k.instance, &k.activity}, func() error {
			renewed[k] = true
			return nil
		})
		return err
	}
	var turns, activities []string
	var turnTokens, activityTokens, ids []int64
	for _, l := range old {
		if l.activity == 0 {
			turns, turnTokens = append(turns, l.instance), append(turnTokens, l.token)
			continue
		}
		activities, ids, activityTokens = append(activities, l.instance), append(ids, l.activity), append(activityTokens, l.token)
	}
	var batch pgx.Batch // one round trip, one statement for each table
	if len(turns) > 0 {
		batch.Queue(renewTurnsSQL, h.cfg.Lease, turns, turnTokens).Query(collect)
	}
	if len(activities) > 0 {
		batch.Queue(renewActivitiesSQL, h.cfg.Lease, activities, ids, activityTokens).Query(collect)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, h.cfg.Lease/4, fmt.Errorf("no answer in %s", h.cfg.Lease/4)) //nolint:mnd // a quarter, then another try
	defer cancel()
	if err := h.pool.SendBatch(ctx, &batch).Close(); err != nil {
		return fmt.Errorf("renew %d leases: %w", len(old), err)
	}
	for _, l := range old {
		if renewed[key{l.instance, l.activity}] {
			l.mu.Lock()
			l.until = sent.Add(h.cfg.Lease)
			l.mu.Unlock()
			continue
		}
		h.lose(ctx, l, "it is another's or has ended")
	}
	return nil
}

// old lists the leases that end before t, in the order in which every
// statement locks rows.
func (h *Hub) old(t time.Time) []*lease {
	h.leases.mu.Lock()
	defer h.leases.mu.Unlock()
	var old []*lease
	for l := range h.leases.held {
		l.mu.Lock()
		if !l.settled && !l.gone && l.until.Before(t) {
			old = append(old, l)
		}
		l.mu.Unlock()
	}
	slices.SortFunc(old, func(a, b *lease) int { return strings.Compare(a.instance, b.instance) })
	return old
}

// expire gives up what could not be renewed while there is still time to stop
// before another process may begin.
func (h *Hub) expire(ctx context.Context) {
	for _, l := range h.old(time.Now().Add(h.cfg.Lease / 6)) { //nolint:mnd // two short pauses of Keep
		h.lose(ctx, l, "it could not be renewed in time")
	}
}

func (h *Hub) lose(ctx context.Context, l *lease, why string) {
	if l.revoke() {
		h.log.WarnContext(ctx, "lease lost", slog.String(logkey.Instance, l.instance), slog.String(logkey.Reason, why))
	}
}
