package notify_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/notify"
	"github.com/budecosystem/budcluster/hub/internal/pg"
	"github.com/budecosystem/budcluster/hub/internal/store"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

// write writes n messages to a stream, numbered from 0.
func (b *bundle) write(tb testing.TB, stream uuid.UUID, n int, topics ...string) {
	tb.Helper()
	for i := range n {
		p := notify.Payload{Type: stream.String(), Event: strconv.Itoa(i), Content: notify.Content{Title: "x", Status: notify.StatusRunning}}
		require.NoError(tb, b.Tell(tb.Context(), stream, strconv.Itoa(i), notify.Reply{Topics: topics}, p))
	}
}

// clock is a time that moves when it is told to.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.at.Store(time.Now().Add(time.Minute).UnixNano()) // after all that is written next
	return c
}

func (c *clock) now() time.Time                { return time.Unix(0, c.at.Load()) }
func (c *clock) pass(d time.Duration)          { c.at.Add(int64(d)) }
func (c *clock) set(d *notify.DelivererConfig) { d.Now = c.now }

// Three replicas share the lanes: every message comes once, and those of a
// lane in their order.
func TestReplicasShare(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const streams, each = 12, 9
	var all []uuid.UUID
	for range streams {
		all = append(all, uuid.New())
	}
	var writers sync.WaitGroup
	for _, stream := range all {
		writers.Go(func() { b.write(t, stream, each, "a", "b") })
	}
	to := &broker{}
	var replicas sync.WaitGroup
	var delivered atomic.Int64
	for range 3 {
		replicas.Go(func() {
			d := deliverer(t, b.store, to, func(cfg *notify.DelivererConfig) { cfg.Lanes = 4 })
			for delivered.Load() < streams*each*2 {
				n, err := d.Deliver(t.Context())
				require.NoError(t, err)
				delivered.Add(int64(n))
			}
		})
	}
	writers.Wait()
	replicas.Wait()
	seen := map[string]int{}
	for _, m := range to.took {
		lane := m.Topic + m.Type
		require.Contains(t, string(m.Body), fmt.Sprintf(`"event":"%d"`, seen[lane]), "of lane %s", lane)
		seen[lane]++
	}
	require.Len(t, seen, streams*2)
	for lane, n := range seen {
		require.Equal(t, each, n, lane)
	}
}

// A message that fails holds up what comes after it in its lane, and nothing
// else.
func TestFailureHoldsUpItsLane(t *testing.T) {
	t.Parallel()
	b, time := setup(t), newClock()
	bad, good := uuid.New(), uuid.New()
	b.write(t, bad, 3, "t", "other")
	b.write(t, good, 3, "t")
	to := &broker{fail: func(m notify.Message) error {
		if m.Type == bad.String() && m.Topic == "t" {
			return errors.New("the broker is away")
		}
		return nil
	}}
	registry := prometheus.NewRegistry()
	d := deliverer(t, b.store, to, func(cfg *notify.DelivererConfig) { cfg.Now, cfg.Metrics = time.now, registry })
	for range 5 {
		_, err := d.Deliver(t.Context())
		require.NoError(t, err)
		time.pass(2 * 60e9)
	}
	require.Len(t, to.took, 6)
	failed := metric(t, registry, "budcluster_hub_outbox_attempts_failed_total")
	require.Equal(t, 5.0, failed, "once for each time that it was due")

	to.failing(nil)
	_, err := d.Deliver(t.Context())
	require.NoError(t, err)
	require.Len(t, to.took, 9)
	for i, m := range to.took[6:] {
		require.Contains(t, string(m.Body), fmt.Sprintf(`"event":"%d"`, i))
	}
	n, err := d.Deliver(t.Context())
	require.NoError(t, err)
	require.Zero(t, n)
}

func metric(tb testing.TB, r *prometheus.Registry, name string) float64 {
	tb.Helper()
	families, err := r.Gather()
	require.NoError(tb, err)
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	require.Fail(tb, "no metric "+name)
	return 0
}

// A topic at which the broker hangs keeps one hand busy; the others deliver
// all the rest.
func TestHangingTopicHoldsUpNobodyElse(t *testing.T) {
	t.Parallel()
	b := setup(t)
	const others = 7
	b.write(t, uuid.New(), 2, "hangs")
	for range others {
		b.write(t, uuid.New(), 3, "t")
	}
	released, took := make(chan struct{}), make(chan struct{}, 3*others)
	to := hanging{released: released, took: took}
	d := deliverer(t, b.store, to, func(cfg *notify.DelivererConfig) { cfg.Lanes = 2 })
	var ended sync.WaitGroup
	ended.Go(func() {
		n, err := d.Deliver(t.Context())
		require.NoError(t, err)
		require.Equal(t, 3*others+2, n)
	})
	for range 3 * others {
		<-took
	}
	close(released)
	ended.Wait()
}

// hanging is a broker that does not answer at one topic until it is released.
type hanging struct {
	released <-chan struct{}
	took     chan<- struct{}
}

func (h hanging) Publish(_ context.Context, m notify.Message) error {
	if m.Topic == "hangs" {
		<-h.released
		return nil
	}
	h.took <- struct{}{}
	return nil
}

// What cannot be delivered is given up after the horizon, or at once when that
// is certain; the next of its lane goes on.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	b, time := setup(t), newClock()
	stream := uuid.New()
	b.write(t, stream, 3, "t")
	to := &broker{fail: func(m notify.Message) error {
		switch m.ID {
		case uuid.NewSHA1(stream, []byte("0")):
			return errors.New("the topic is not there")
		case uuid.NewSHA1(stream, []byte("1")):
			return workflow.Permanent(errors.New("the sidecar answered 413"))
		default:
			return nil
		}
	}}
	d := deliverer(t, b.store, to, time.set)
	attempts := 0
	for range 40 {
		_, err := d.Deliver(t.Context())
		require.NoError(t, err)
		attempts++
		if len(to.on("t")) > 0 {
			break
		}
		time.pass(3600e9)
	}
	require.Equal(t, 25, attempts, "a day of attempts each hour")
	require.Contains(t, string(to.took[0].Body), `"event":"2"`)

	rows, err := b.pool.Query(t.Context(), "SELECT key || ': ' || error FROM outbox WHERE dead_at IS NOT NULL ORDER BY id")
	require.NoError(t, err)
	var dead []string
	for rows.Next() {
		var line string
		require.NoError(t, rows.Scan(&line))
		dead = append(dead, line)
	}
	require.NoError(t, rows.Err())
	require.Equal(t, []string{"0: the topic is not there", "1: the sidecar answered 413"}, dead)
	state, err := b.store.OutboxState(t.Context(), time.now())
	require.NoError(t, err)
	require.Equal(t, notify.State{Dead: 2}, state)
}

// A hub that was down for longer than the horizon gives nothing up at its
// first attempt.
func TestOldMessagesGetTheirAttempts(t *testing.T) {
	t.Parallel()
	b, time := setup(t), newClock()
	b.write(t, uuid.New(), 1, "t")
	time.pass(72 * 3600e9)
	to := &broker{fail: func(notify.Message) error { return errors.New("not yet up") }}
	d := deliverer(t, b.store, to, time.set)
	for range 9 {
		_, err := d.Deliver(t.Context())
		require.NoError(t, err)
		time.pass(60e9)
	}
	to.failing(nil)
	_, err := d.Deliver(t.Context())
	require.NoError(t, err)
	require.Len(t, to.took, 1)
}

// A replica that died with a claim delays its message by the lease; one that
// only seemed dead can end nothing any more.
func TestLease(t *testing.T) {
	t.Parallel()
	b, time := setup(t), newClock()
	stream := uuid.New()
	b.write(t, stream, 2, "t")
	claims, err := b.store.OutboxClaim(t.Context(), time.now(), time.now().Add(30e9), 10)
	require.NoError(t, err)
	require.Len(t, claims, 1, "the second is behind the first")

	to := &broker{}
	d := deliverer(t, b.store, to, time.set)
	_, err = d.Deliver(t.Context())
	require.NoError(t, err)
	require.Empty(t, to.took)
	time.pass(31e9)
	again, err := b.store.OutboxClaim(t.Context(), time.now(), time.now().Add(30e9), 10)
	require.NoError(t, err)
	require.Equal(t, claims[0].ID, again[0].ID)
	for _, o := range []notify.Outcome{{At: time.now()}, {At: time.now(), Dead: true}} {
		next, err := b.store.OutboxDone(t.Context(), claims[0], o, time.now().Add(30e9))
		require.NoError(t, err)
		require.Nil(t, next, "the claim was lost")
	}
	require.NoError(t, b.store.OutboxRetry(t.Context(), claims[0], time.now(), "late"))
	next, err := b.store.OutboxDone(t.Context(), again[0], notify.Outcome{At: time.now()}, time.now())
	require.NoError(t, err)
	require.Equal(t, "1", next.Key)
	_, err = d.Deliver(t.Context())
	require.NoError(t, err)
	require.Len(t, to.took, 1)
}

// Run is woken by the commit, long before its sweep, and ends what is under
// way before it returns.
func TestRun(t *testing.T) {
	t.Parallel()
	b := setup(t)
	listener := pg.NewListener(b.pool, slog.New(slog.DiscardHandler))
	wake, unsubscribe := listener.Subscribe(store.ChannelOutbox, "")
	defer unsubscribe()
	took, going := make(chan notify.Message), make(chan struct{})
	to := &broker{each: func(m notify.Message) {
		took <- m
		<-going
	}}
	d := deliverer(t, b.store, to, func(cfg *notify.DelivererConfig) { cfg.Wake, cfg.Sweep = wake, time.Hour })
	ctx, cancel := context.WithCancel(t.Context())
	var ended sync.WaitGroup
	ended.Go(func() { require.NoError(t, listener.Run(ctx)) })
	ended.Go(func() { require.NoError(t, d.Run(ctx)) })

	b.write(t, uuid.New(), 1, "t")
	<-took
	going <- struct{}{}
	b.write(t, uuid.New(), 2, "t")
	<-took
	cancel()
	close(going)
	ended.Wait()
	state, err := b.store.OutboxState(t.Context(), time.Now())
	require.NoError(t, err)
	require.Equal(t, 1, state.Pending, "the one under way was recorded, the next left to others")
	claims, err := b.store.OutboxClaim(t.Context(), time.Now(), time.Now(), 10)
	require.NoError(t, err)
	require.Len(t, claims, 1, "at once")
}

func TestTidy(t *testing.T) {
	t.Parallel()
	b := setup(t)
	b.write(t, uuid.New(), 2, "t")
	b.deliver(t)
	b.write(t, uuid.New(), 1, "t")
	n, err := b.store.OutboxPurge(t.Context(), time.Now().Add(-time.Hour), 10)
	require.NoError(t, err)
	require.Zero(t, n)
	n, err = b.store.OutboxPurge(t.Context(), time.Now().Add(time.Hour), 10)
	require.NoError(t, err)
	require.Equal(t, 2, n, "what is not delivered stays")

	registry := prometheus.NewRegistry()
	_, err = notify.NewDeliverer(notify.DelivererConfig{Queue: b.store, Publisher: &broker{}, Logger: slog.New(slog.DiscardHandler), Metrics: registry})
	require.NoError(t, err)
	problems, err := testutil.GatherAndLint(registry)
	require.NoError(t, err)
	require.Empty(t, problems)
	_, err = notify.NewDeliverer(notify.DelivererConfig{})
	require.Error(t, err)
	_, err = notify.NewDeliverer(notify.DelivererConfig{Queue: b.store, Publisher: &broker{}, Logger: slog.New(slog.DiscardHandler), Metrics: registry})
	require.Error(t, err, "twice in one registry")
}

// How many messages one process delivers in a second to a broker that takes
// 5 ms for each, from 64 lanes; the baseline is one lane, where each waits for
// the one before.
func BenchmarkDeliver(bench *testing.B) {
	for _, lanes := range []int{1, 64} {
		bench.Run(fmt.Sprintf("lanes=%d", lanes), func(bench *testing.B) {
			b := setup(bench)
			d := deliverer(bench, b.store, slow{5 * time.Millisecond}, nil)
			per := max(bench.N/lanes, 1)
			for range lanes {
				b.write(bench, uuid.New(), per, "t")
			}
			bench.ResetTimer()
			n, err := d.Deliver(bench.Context())
			require.NoError(bench, err)
			require.Equal(bench, per*lanes, n)
			bench.ReportMetric(float64(n)/bench.Elapsed().Seconds(), "messages/s")
		})
	}
}

// slow is a broker that takes its time.
type slow struct{ takes time.Duration }

func (s slow) Publish(ctx context.Context, _ notify.Message) error {
	timer := time.NewTimer(s.takes)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
