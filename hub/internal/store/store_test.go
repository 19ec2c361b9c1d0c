package store_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/chart"
	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/pg"
	"github.com/budecosystem/budcluster/hub/internal/pg/pgtest"
	"github.com/budecosystem/budcluster/hub/internal/store"
	"github.com/budecosystem/budcluster/hub/internal/store/storetest"
	"github.com/budecosystem/budcluster/internal/id"
)

func newCluster(name string) *cluster.Cluster {
	return &cluster.Cluster{ID: id.New(), Name: name, CreatedAt: time.Now().UTC()}
}

func TestInTx(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	broken := errors.New("broken")
	kept, lost := newCluster("kept"), newCluster("lost")

	require.NoError(t, s.InTx(t.Context(), func(ctx context.Context) error {
		require.NoError(t, s.ClusterInsert(ctx, kept))
		_, err := s.ClusterByID(ctx, kept.ID)
		require.NoError(t, err, "seen inside")
		_, err = s.ClusterByID(t.Context(), kept.ID)
		require.ErrorIs(t, err, cluster.ErrNotFound, "not seen outside")
		return nil
	}))
	_, err := s.ClusterByID(t.Context(), kept.ID)
	require.NoError(t, err)

	require.ErrorIs(t, s.InTx(t.Context(), func(ctx context.Context) error {
		require.NoError(t, s.InTx(ctx, func(ctx context.Context) error { return s.ClusterInsert(ctx, lost) }))
		return broken
	}), broken)
	_, err = s.ClusterByID(t.Context(), lost.ID)
	require.ErrorIs(t, err, cluster.ErrNotFound, "the inner one was part of the outer one")

	require.Panics(t, func() {
		_ = s.InTx(t.Context(), func(ctx context.Context) error {
			require.NoError(t, s.ClusterInsert(ctx, lost))
			panic("a bug")
		})
	})
	_, err = s.ClusterByID(t.Context(), lost.ID)
	require.ErrorIs(t, err, cluster.ErrNotFound, "a panic commits nothing, and leaves no connection behind")

	ctx, cancel := context.WithCancel(t.Context())
	require.ErrorIs(t, s.InTx(ctx, func(ctx context.Context) error {
		cancel()
		return s.ClusterInsert(ctx, lost)
	}), context.Canceled)
	require.NoError(t, s.Ping(t.Context()))
}

// Two transactions lock two rows crosswise; Postgres ends one of them, and its
// second try finds the way free.
func TestDeadlockIsTriedAgain(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	a, b := newCluster("a"), newCluster("b")
	require.NoError(t, s.ClusterInsert(t.Context(), a))
	require.NoError(t, s.ClusterInsert(t.Context(), b))
	holds := [2]chan struct{}{make(chan struct{}), make(chan struct{})}
	tries := make(chan int, 2)
	errs := make(chan error, 2)
	for i, order := range [][2]uuid.UUID{{a.ID, b.ID}, {b.ID, a.ID}} {
		go func() {
			n := 0
			errs <- s.InTx(t.Context(), func(ctx context.Context) error {
				n++
				if _, err := s.ClusterLock(ctx, order[0]); err != nil {
					return err
				}
				if n == 1 {
					close(holds[i])
					<-holds[1-i]
				}
				_, err := s.ClusterLock(ctx, order[1])
				return err
			})
			tries <- n
		}()
	}
	require.NoError(t, <-errs)
	require.NoError(t, <-errs)
	require.GreaterOrEqual(t, <-tries+<-tries, 3)
}

// What a transaction announces is heard when it is committed, and not else.
func TestAnnouncements(t *testing.T) {
	t.Parallel()
	s, pool := storetest.NewWithPool(t)
	listener := pg.NewListener(pool, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- listener.Run(ctx) }()
	mine, other := id.New(), id.New()
	subscribe := func(channel, payload string) <-chan struct{} {
		wake, unsubscribe := listener.Subscribe(channel, payload)
		t.Cleanup(unsubscribe)
		<-wake // it listens
		return wake
	}
	events := subscribe(store.ChannelEvents, "")
	releases := subscribe(store.ChannelReleases, mine.String())
	eventsOfMine, _ := listener.Subscribe(store.ChannelEvents, mine.String())
	releasesOfOther, _ := listener.Subscribe(store.ChannelReleases, other.String())

	broken := errors.New("broken")
	change := func(clusterID uuid.UUID, result error) {
		require.ErrorIs(t, s.InTx(t.Context(), func(ctx context.Context) error {
			s.WakeReleases(ctx, clusterID)
			s.WakeReleases(ctx, clusterID)
			require.NoError(t, s.AppendEvents(ctx, event.Event{At: time.Now(), Type: event.ReleaseApplied, ClusterID: clusterID}))
			return result
		}), result)
	}
	change(other, broken)
	change(mine, nil)
	for name, wake := range map[string]<-chan struct{}{"events": events, "releases": releases, "events of mine": eventsOfMine} {
		timer := time.NewTimer(pgtest.Soon)
		select {
		case <-wake:
		case <-timer.C:
			t.Fatal("not woken: " + name)
		}
		timer.Stop()
	}
	select {
	case <-releasesOfOther:
		t.Fatal("woken by a transaction that was rolled back, or by another cluster's")
	default:
	}
	cancel()
	require.NoError(t, <-done)
}

func TestCharts(t *testing.T) {
	t.Parallel()
	s := storetest.New(t)
	a := chart.Chart{Meta: chart.Meta{
		Name: "nginx", Version: "1.0.0", AppVersion: "1.27", Description: "serves", Digest: storetest.Digest(),
		Size: 3, CreatedAt: time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC),
	}, Content: []byte("tgz")}
	created, err := s.PutChart(t.Context(), a)
	require.NoError(t, err)
	require.True(t, created)
	created, err = s.PutChart(t.Context(), chart.Chart{Meta: chart.Meta{Digest: a.Digest, Name: "other"}, Content: []byte("other")})
	require.NoError(t, err)
	require.False(t, created, "a digest names one content")
	meta, err := s.ChartMeta(t.Context(), a.Digest)
	require.NoError(t, err)
	require.Equal(t, a.Meta, meta)
	content, err := s.ChartContent(t.Context(), a.Digest)
	require.NoError(t, err)
	require.Equal(t, a.Content, content)
	_, err = s.ChartContent(t.Context(), "sha256:none")
	require.ErrorIs(t, err, chart.ErrNotFound)
	_, err = s.ChartMeta(t.Context(), "sha256:none")
	require.ErrorIs(t, err, chart.ErrNotFound)

	storetest.Chart(t, s, "apache", "2.0.0")
	storetest.Chart(t, s, "nginx", "0.9.0")
	var names []string
	p := page.Page{Limit: 2}
	for {
		charts, next, err := s.Charts(t.Context(), p)
		require.NoError(t, err)
		for _, c := range charts {
			names = append(names, c.Name+" "+c.Version)
		}
		if p.Cursor = next; next == "" {
			break
		}
	}
	require.Equal(t, []string{"apache 2.0.0", "nginx 0.9.0", "nginx 1.0.0"}, names)
}

// Whoever looks into the database finds out what a table is for.
func TestEveryTableIsExplained(t *testing.T) {
	t.Parallel()
	_, pool := storetest.NewWithPool(t)
	rows, err := pool.Query(t.Context(), `
		SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = 'public' AND relkind = 'r' AND relname <> 'goose_db_version' AND obj_description(c.oid, 'pg_class') IS NULL`)
	require.NoError(t, err)
	silent, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Empty(t, silent)
}

// A foreign key without an index makes each delete read the whole table.
func TestEveryForeignKeyHasAnIndex(t *testing.T) {
	t.Parallel()
	_, pool := storetest.NewWithPool(t)
	rows, err := pool.Query(t.Context(), `
		SELECT k.conname FROM pg_constraint k
		WHERE k.contype = 'f' AND NOT EXISTS (
			SELECT 1 FROM pg_index i WHERE i.indrelid = k.conrelid AND (i.indkey::int2[])[0:cardinality(k.conkey) - 1] @> k.conkey)`)
	require.NoError(t, err)
	bare, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.Empty(t, bare)
}
