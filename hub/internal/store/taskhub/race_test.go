package taskhub_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/budecosystem/budcluster/hub/internal/pg/pgtest"
	"github.com/budecosystem/budcluster/hub/internal/store/taskhub"
)

// queue holds an instance's row while statements line up for it in the order
// in which they are begun, then lets them go on.
type queue struct {
	pool    *pgxpool.Pool
	results chan error
	waiting int
	release func()
}

func hold(t *testing.T, pool *pgxpool.Pool, instance string) *queue {
	t.Helper()
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "SELECT FROM wf.instances WHERE id = $1 FOR UPDATE", instance)
	require.NoError(t, err)
	return &queue{pool: pool, results: make(chan error, 10), release: func() { require.NoError(t, tx.Rollback(t.Context())) }}
}

// join begins fn and returns when its statement waits, with its snapshot.
func (q *queue) join(t *testing.T, fn func() error) {
	t.Helper()
	go func() { q.results <- fn() }()
	q.waiting++
	for n := 0; n < q.waiting; {
		require.NoError(t, q.pool.QueryRow(soon(t), `SELECT count(*) FROM pg_stat_activity
			WHERE datname = current_database() AND application_name = 'budcluster-hub-workflows' AND wait_event_type = 'Lock'`).Scan(&n))
	}
}

func (q *queue) end(t *testing.T) {
	t.Helper()
	q.release()
	for range q.waiting {
		require.NoError(t, <-q.results)
	}
}

// A result that is committed while the turn that makes its instance another
// execution waits for the row is not swept: the turn's statement began before
// it. Tasks are numbered anew in each execution, so the new one took the old
// one's result for its own.
func TestStaleAnswerDuringContinueAsNew(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Migrated(t))
	r := start(t, pool, taskhub.Config{})
	create(t, r.Hub, "x")
	r.turn(t, schedule(0))
	stale := r.nextActivity(t)
	require.NoError(t, r.AddNewWorkflowEvent(t.Context(), "x", raised("again")))
	wi := r.nextTurn(t)
	apply(t, wi, end(asNew))

	q := hold(t, pool, "x")
	q.join(t, func() error { return r.CompleteActivityWorkItem(t.Context(), answer(stale, "old")) })
	q.join(t, func() error { return r.CompleteWorkflowWorkItem(t.Context(), wi) })
	q.end(t)

	require.NoError(t, r.AddNewWorkflowEvent(t.Context(), "x", raised("only this")))
	next := r.nextTurn(t)
	require.Empty(t, seen(next))
	require.Len(t, next.NewEvents, 1)
	apply(t, next, end(completed))
	require.NoError(t, r.CompleteWorkflowWorkItem(t.Context(), next))
	require.Equal(t, 0, count(t, pool, "events"))
}

// What came for a child while its last turn waited for the row is not for a
// later child of the same id.
func TestLateEventIsNotForTheNextOfItsName(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Migrated(t))
	r := start(t, pool, taskhub.Config{})
	create(t, r.Hub, "kid")
	wi := r.nextTurn(t)
	apply(t, wi, end(completed))
	q := hold(t, pool, "kid")
	q.join(t, func() error { return r.AddNewWorkflowEvent(t.Context(), "kid", raised("late")) })
	q.join(t, func() error { return r.CompleteWorkflowWorkItem(t.Context(), wi) })
	q.end(t)

	create(t, r.Hub, "parent")
	r.turn(t, child(0, "kid"))
	kid := r.nextTurn(t)
	require.Equal(t, "kid", string(kid.InstanceID))
	require.Len(t, kid.NewEvents, 1, "its start")
}

// A turn takes so many events and no more. The rest of them is for the next,
// also when that is another execution's.
func TestMoreEventsThanATurnTakes(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Migrated(t))
	client := open(t, pool, taskhub.Config{})
	create(t, client, "x")
	const n = 1100
	_, err := pool.Exec(t.Context(), "INSERT INTO wf.events (instance_id, visible_at, event) SELECT 'x', now(), $1 FROM generate_series(1, $2)", encoded(t, raised("go")), n)
	require.NoError(t, err)
	r := start(t, pool, taskhub.Config{})
	first := r.turn(t, end(asNew))
	require.Len(t, first.NewEvents, 1+1000)
	second := r.turn(t, end(completed))
	require.Len(t, second.NewEvents, n-1000)
	require.Equal(t, 0, count(t, pool, "events"))
}

func encoded(t *testing.T, m proto.Message) []byte {
	t.Helper()
	raw, err := proto.Marshal(m)
	require.NoError(t, err)
	return raw
}
