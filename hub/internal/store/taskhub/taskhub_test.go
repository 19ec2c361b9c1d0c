package taskhub_test

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/dapr/durabletask-go/api"
	"github.com/dapr/durabletask-go/api/protos"
	"github.com/dapr/durabletask-go/backend"
	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/budecosystem/budcluster/hub/internal/pg/pgtest"
	"github.com/budecosystem/budcluster/hub/internal/store/taskhub"
)

func TestConfigIsChecked(t *testing.T) {
	t.Parallel()
	_, err := taskhub.Open(t.Context(), taskhub.Config{Lease: time.Millisecond, Turns: -1, Retention: -time.Hour})
	require.ErrorContains(t, err, "pool: it is nil")
	require.ErrorContains(t, err, "log: it is nil")
	require.ErrorContains(t, err, "lease: 1ms is too short")
	require.ErrorContains(t, err, "turns -1")
	require.ErrorContains(t, err, "retention -1h0m0s")
}

// A workflow from its start to its end, and what is in the tables meanwhile.
func TestLife(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Migrated(t))
	r := start(t, pool, taskhub.Config{})
	create(t, r.Hub, "x")
	require.Equal(t, protos.OrchestrationStatus_ORCHESTRATION_STATUS_PENDING, statusOf(t, r.Hub, "x"))

	first := r.turn(t, schedule(0), schedule(1), schedule(2))
	require.Len(t, first.NewEvents, 1)
	require.Equal(t, `"in"`, first.NewEvents[0].GetExecutionStarted().GetInput().GetValue())
	require.Equal(t, protos.OrchestrationStatus_ORCHESTRATION_STATUS_RUNNING, statusOf(t, r.Hub, "x"))
	require.Equal(t, 3, count(t, pool, "activities"), "all of them in one turn")
	require.Equal(t, 1, count(t, pool, "history"), "one row for a turn")

	for i := range 3 {
		require.NoError(t, r.CompleteActivityWorkItem(t.Context(), answer(r.nextActivity(t), fmt.Sprint(i))))
	}
	require.Equal(t, 0, count(t, pool, "activities"), "a row goes with its result")
	var got []string
	for len(got) < 3 {
		wi := r.nextTurn(t)
		got = append(got, seen(wi)...)
		if len(got) < 3 {
			apply(t, wi)
		} else {
			apply(t, wi, end(completed))
		}
		require.NoError(t, r.CompleteWorkflowWorkItem(t.Context(), wi))
	}
	require.ElementsMatch(t, []string{"0", "1", "2"}, got)
	require.Equal(t, 0, count(t, pool, "events"))

	m, err := r.GetWorkflowMetadata(t.Context(), "x")
	require.NoError(t, err)
	require.Equal(t, completed, m.GetRuntimeStatus())
	require.Equal(t, `"in"`, m.GetInput().GetValue())
	require.Equal(t, `"out"`, m.GetOutput().GetValue())
	require.Equal(t, "test", m.GetName())
	h, err := r.GetInstanceHistory(t.Context(), &protos.GetInstanceHistoryRequest{InstanceId: "x"})
	require.NoError(t, err)
	require.NotNil(t, h.GetEvents()[1].GetExecutionStarted())
	require.NotNil(t, h.GetEvents()[len(h.GetEvents())-1].GetExecutionCompleted())
}

// A process that runs no workers takes nothing, whatever it commits.
func TestWithoutWorkersNothingIsTaken(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Migrated(t))
	client := open(t, pool, taskhub.Config{})
	create(t, client, "x")
	require.NoError(t, client.AddNewWorkflowEvent(t.Context(), "x", raised("go")))
	var free bool
	require.NoError(t, pool.QueryRow(t.Context(), "SELECT token IS NULL AND claim_at <= now() FROM wf.instances").Scan(&free))
	require.True(t, free)
	wi := start(t, pool, taskhub.Config{}).nextTurn(t)
	require.Len(t, wi.NewEvents, 2, "the start, then the event")
	require.NotNil(t, wi.NewEvents[0].GetExecutionStarted())
	require.NotNil(t, wi.NewEvents[1].GetEventRaised())
}

// Who lost a lease cannot commit, neither a turn nor an activity, and changes
// nothing by trying.
func TestFencing(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Migrated(t))
	cfg := taskhub.Config{Lease: time.Second}
	dead := start(t, pool, cfg)
	create(t, dead.Hub, "x")
	lost := dead.nextTurn(t)
	dead.stopLeases() // it lives, but does not renew

	other := start(t, pool, cfg)
	wi := other.nextTurn(t) // after the lease
	apply(t, lost, schedule(0), wake(1, time.Hour))
	require.ErrorIs(t, dead.CompleteWorkflowWorkItem(t.Context(), lost), backend.ErrWorkItemLockLost)
	require.NoError(t, dead.AbandonWorkflowWorkItem(t.Context(), lost), "and cannot give it back")
	for _, table := range []string{"history", "activities", "events"} {
		require.Equal(t, 0, count(t, pool, table), table)
	}
	dead.stopClaims()
	apply(t, wi, schedule(0))
	require.NoError(t, other.CompleteWorkflowWorkItem(t.Context(), wi))

	held := other.nextActivity(t)
	other.stopLeases()
	third := start(t, pool, cfg)
	again := third.nextActivity(t)
	require.ErrorIs(t, other.CompleteActivityWorkItem(t.Context(), answer(held, "late")), backend.ErrWorkItemLockLost)
	require.NoError(t, other.AbandonActivityWorkItem(t.Context(), held))
	require.Equal(t, 1, count(t, pool, "activities"))
	require.NoError(t, third.CompleteActivityWorkItem(t.Context(), answer(again, "in time")))
	other.stopClaims()
	require.Equal(t, []string{"in time"}, seen(third.nextTurn(t)))
}

// A lease that is another's is noticed at the next renewal.
func TestLostLeaseIsNoticed(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Migrated(t))
	r := start(t, pool, taskhub.Config{Lease: time.Second})
	create(t, r.Hub, "x")
	r.turn(t, schedule(0))
	wi := r.nextActivity(t)
	select {
	case <-r.Lost(wi):
		t.Fatal("lost at once")
	default:
	}
	_, err := pool.Exec(t.Context(), "UPDATE wf.activities SET token = 1")
	require.NoError(t, err)
	select {
	case <-r.Lost(wi):
	case <-soon(t).Done():
		t.Fatal("not noticed")
	}
	require.NoError(t, r.CompleteActivityWorkItem(t.Context(), answer(wi, "late")), "it is known already; there is nothing to say")
	require.Equal(t, 1, count(t, pool, "activities"))
}

// A lease that cannot be renewed is given up before it ends in the table.
func TestLeaseIsGivenUpInTime(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Migrated(t))
	const lease = 6 * time.Second // it is given up a sixth of it before its end
	r := start(t, pool, taskhub.Config{Lease: lease})
	create(t, r.Hub, "x")
	r.turn(t, schedule(0))
	wi := r.nextActivity(t)
	tx, err := pool.Begin(t.Context()) // whoever wants to renew waits for this
	require.NoError(t, err)
	defer func() { require.NoError(t, tx.Rollback(context.WithoutCancel(t.Context()))) }()
	var left float64
	require.NoError(t, tx.QueryRow(t.Context(), "SELECT extract(epoch FROM claim_at - clock_timestamp())::float8 FROM wf.activities FOR UPDATE").Scan(&left))
	ends := time.Now().Add(time.Duration(left * float64(time.Second)))
	select {
	case <-r.Lost(wi):
		require.True(t, time.Now().Before(ends), "others may have begun by now")
	case <-soon(t).Done():
		t.Fatal("held for ever")
	}
}

// What fails inside of the engine is tried again ever later, and not in a hot
// loop.
func TestAbandonBacksOff(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Migrated(t))
	r := start(t, pool, taskhub.Config{})
	create(t, r.Hub, "x")
	pause := func(table string) (attempts int, seconds float64) {
		require.NoError(t, pool.QueryRow(t.Context(), "SELECT attempts, extract(epoch FROM claim_at - now())::float8 FROM wf."+table+" WHERE token IS NULL").Scan(&attempts, &seconds))
		return attempts, seconds
	}
	require.NoError(t, r.AbandonWorkflowWorkItem(t.Context(), r.nextTurn(t)))
	attempts, seconds := pause("instances")
	require.Equal(t, 1, attempts)
	require.InDelta(t, 1, seconds, 0.5)
	wi := r.nextTurn(t)
	require.EqualValues(t, 1, wi.RetryCount)
	require.NoError(t, r.AbandonWorkflowWorkItem(t.Context(), wi))
	attempts, seconds = pause("instances")
	require.Equal(t, 2, attempts)
	require.InDelta(t, 2, seconds, 0.5)

	// An event does not make it sooner.
	require.NoError(t, r.AddNewWorkflowEvent(t.Context(), "x", raised("go")))
	_, again := pause("instances")
	require.InDelta(t, seconds, again, 0.5)

	// A success makes it forgotten.
	wi = r.turn(t, schedule(0))
	require.Len(t, wi.NewEvents, 2)
	require.NoError(t, r.AbandonActivityWorkItem(t.Context(), r.nextActivity(t)))
	attempts, seconds = pause("activities")
	require.Equal(t, 1, attempts)
	require.InDelta(t, 1, seconds, 0.5)
	require.NoError(t, r.CompleteActivityWorkItem(t.Context(), answer(r.nextActivity(t), "ok")))
}

// What cannot be read is left for later, and is said; the rest goes on.
func TestUnreadable(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Migrated(t))
	client := open(t, pool, taskhub.Config{})
	for _, id := range []string{"start", "event", "history", "activity", "good"} {
		create(t, client, id)
	}
	broken := start(t, pool, taskhub.Config{})
	var taken []*backend.WorkflowWorkItem
	for range 5 {
		wi := broken.nextTurn(t)
		if wi.InstanceID == "activity" {
			apply(t, wi, schedule(0))
			require.NoError(t, broken.CompleteWorkflowWorkItem(t.Context(), wi))
			continue
		}
		if wi.InstanceID == "history" {
			apply(t, wi)
			require.NoError(t, broken.CompleteWorkflowWorkItem(t.Context(), wi))
			continue
		}
		taken = append(taken, wi)
	}
	defer func() { // what was taken from it
		for _, wi := range taken {
			_ = broken.AbandonWorkflowWorkItem(t.Context(), wi)
		}
	}()
	broken.stopClaims()
	broken.stopLeases()
	for _, sql := range []string{
		"UPDATE wf.instances SET start = '\\xff' WHERE id = 'start'",
		"INSERT INTO wf.events (instance_id, visible_at, event) VALUES ('event', now(), '\\xff')",
		"UPDATE wf.history SET events = '\\xff' WHERE instance_id = 'history'",
		"UPDATE wf.activities SET event = '\\xff'",
		"UPDATE wf.activities SET token = NULL, claim_at = now()",
		"UPDATE wf.instances SET token = NULL, claim_at = now() WHERE id <> 'activity'",
	} {
		_, err := pool.Exec(t.Context(), sql)
		require.NoError(t, err, sql)
	}
	var said lines
	require.NoError(t, client.AddNewWorkflowEvent(t.Context(), "history", raised("go")))
	r := start(t, pool, taskhub.Config{Log: slog.New(slog.NewTextHandler(&said, nil))})
	require.Equal(t, api.InstanceID("good"), r.nextTurn(t).InstanceID)
	for _, id := range []string{"start", "event", "history", "activity"} {
		said.await(t, "instance="+id)
	}
	require.Equal(t, 3, strings.Count(said.String(), "workflow cannot be read"), "once each, not in a loop")
	require.Equal(t, 1, strings.Count(said.String(), "activity cannot be read"))
}

// lines keeps what is logged.
type lines struct {
	mu   sync.Mutex // guards text, more
	text strings.Builder
	more chan struct{}
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.more != nil {
		close(l.more)
		l.more = nil
	}
	return l.text.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

func (l *lines) await(t *testing.T, text string) {
	t.Helper()
	for {
		l.mu.Lock()
		if strings.Contains(l.text.String(), text) {
			l.mu.Unlock()
			return
		}
		if l.more == nil {
			l.more = make(chan struct{})
		}
		more := l.more
		l.mu.Unlock()
		select {
		case <-more:
		case <-soon(t).Done():
			t.Fatalf("it never said %q", text)
		}
	}
}

// Work that nobody has taken when a process stops is another's at once, not
// after a lease.
func TestStopGivesBack(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Migrated(t))
	cfg := taskhub.Config{Lease: time.Hour, Poll: time.Hour}
	r := start(t, pool, cfg)
	for i := range 5 {
		create(t, r.Hub, fmt.Sprint("x", i))
	}
	r.turn(t, schedule(0))
	taken := r.nextTurn(t)
	r.stopClaims()
	other := start(t, pool, cfg)
	for range 3 {
		other.turn(t, end(completed))
	}
	require.NotNil(t, other.nextActivity(t))

	// What was taken is committed, and what it begins is for others.
	apply(t, taken, schedule(0))
	require.NoError(t, r.CompleteWorkflowWorkItem(t.Context(), taken))
	require.Equal(t, taken.InstanceID, other.nextActivity(t).InstanceID)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := r.NextWorkflowWorkItem(ctx)
	require.ErrorIs(t, err, context.Canceled)
}

// A slot for each thing held, and no more: the rest is for others, who hear of
// it at once.
func TestFullReplicaLeavesWorkToOthers(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Migrated(t))
	cfg := taskhub.Config{Lease: time.Hour, Poll: time.Hour, Turns: 1, Activities: 2}
	full := start(t, pool, cfg)
	create(t, full.Hub, "x")
	held := full.nextTurn(t)
	create(t, full.Hub, "y")
	other := start(t, pool, cfg)
	require.Equal(t, api.InstanceID("y"), other.nextTurn(t).InstanceID)
	apply(t, held, schedule(0), schedule(1), schedule(2))
	require.NoError(t, full.CompleteWorkflowWorkItem(t.Context(), held))
	for _, r := range []*replica{full, full, other} {
		require.NotNil(t, r.nextActivity(t))
	}
}

// A timer goes off when it is time, not when somebody happens to look: nobody
// would for half an hour.
func TestTimersWake(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Migrated(t))
	cfg := taskhub.Config{Lease: time.Hour, Poll: time.Hour}
	r := start(t, pool, cfg)
	create(t, r.Hub, "x")
	r.turn(t, wake(0, 300*time.Millisecond), wake(1, 100*time.Millisecond), wake(2, 24*time.Hour))
	for _, id := range []int32{1, 0} {
		wi := r.turn(t)
		require.Len(t, wi.NewEvents, 1)
		require.Equal(t, id, wi.NewEvents[0].GetTimerFired().GetTimerId())
		require.False(t, time.Now().Before(wi.NewEvents[0].GetTimerFired().GetFireAt().AsTime()))
	}
	require.Equal(t, 1, count(t, pool, "events"))

	// The same for one that is to start later, which another process made.
	later := started("later", "e")
	later.GetExecutionStarted().ScheduledStartTimestamp = timestamppb.New(time.Now().Add(300 * time.Millisecond))
	client := open(t, pool, cfg)
	require.NoError(t, client.CreateWorkflowInstance(t.Context(), later))
	require.NoError(t, client.AddNewWorkflowEvent(t.Context(), "later", raised("go")), "an event does not make it start earlier")
	wi := r.nextTurn(t)
	require.Equal(t, api.InstanceID("later"), wi.InstanceID)
	require.Len(t, wi.NewEvents, 2)
	require.False(t, time.Now().Before(later.GetExecutionStarted().GetScheduledStartTimestamp().AsTime()))
}

// Waiting without a limit leaves no row behind: it is a timer in the year 9999.
func TestForeverIsNoTimer(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Migrated(t))
	r := start(t, pool, taskhub.Config{})
	create(t, r.Hub, "x")
	forever := wake(0, 0)
	forever.GetCreateTimer().FireAt = timestamppb.New(time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC))
	r.turn(t, forever)
	require.Equal(t, 0, count(t, pool, "events"))
}

// An event that comes while its instance is held is in the next turn.
func TestEventDuringATurn(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Migrated(t))
	r := start(t, pool, taskhub.Config{Lease: time.Hour, Poll: time.Hour})
	create(t, r.Hub, "x")
	wi := r.nextTurn(t)
	require.NoError(t, r.AddNewWorkflowEvent(t.Context(), "x", raised("one")))
	require.NoError(t, open(t, pool, taskhub.Config{}).AddNewWorkflowEvent(t.Context(), "x", raised("two")))
	apply(t, wi)
	require.NoError(t, r.CompleteWorkflowWorkItem(t.Context(), wi))
	wi = r.nextTurn(t)
	require.Len(t, wi.NewEvents, 2)
	require.Equal(t, "one", wi.NewEvents[0].GetEventRaised().GetName())
	require.Equal(t, "two", wi.NewEvents[1].GetEventRaised().GetName())
}

// The start of an id that is there already changes nothing, in whatever state
// that is, and however many ask at the same time.
func TestCreateIsIdempotent(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Migrated(t))
	a, b := open(t, pool, taskhub.Config{}), open(t, pool, taskhub.Config{})
	errs := make(chan error)
	for i := range 20 {
		h := []*taskhub.Hub{a, b}[i%2]
		go func() {
			errs <- h.CreateWorkflowInstance(context.WithoutCancel(t.Context()), started("x", fmt.Sprint("execution ", i)))
		}()
	}
	for range 20 {
		require.NoError(t, <-errs)
	}
	r := start(t, pool, taskhub.Config{})
	first := r.turn(t, end(completed))
	require.NoError(t, r.CreateWorkflowInstance(t.Context(), started("x", "again")))
	require.Equal(t, completed, statusOf(t, r.Hub, "x"))
	h, err := r.GetInstanceHistory(t.Context(), &protos.GetInstanceHistoryRequest{InstanceId: "x"})
	require.NoError(t, err)
	require.Equal(t, first.NewEvents[0].GetExecutionStarted().GetWorkflowInstance().GetExecutionId().GetValue(),
		h.GetEvents()[1].GetExecutionStarted().GetWorkflowInstance().GetExecutionId().GetValue())
}

func TestBadInstances(t *testing.T) {
	t.Parallel()
	h := open(t, pgtest.Pool(t, pgtest.Migrated(t)), taskhub.Config{})
	for _, id := range []string{"", strings.Repeat("x", 257), "a\x00b", "\xff"} {
		require.ErrorContains(t, h.CreateWorkflowInstance(t.Context(), started(id, "e")), "give 1 to 256 bytes of text", "%q", id)
	}
	require.Error(t, h.CreateWorkflowInstance(t.Context(), raised("no start")))
	require.Error(t, h.CreateWorkflowInstance(t.Context(), nil))
	require.Error(t, h.AddNewWorkflowEvent(t.Context(), "x", nil))
	require.NoError(t, h.AddNewWorkflowEvent(t.Context(), "nobody", raised("go")), "the library expects silence")
	require.ErrorIs(t, h.Post(t.Context(), "nobody", raised("go")), api.ErrInstanceNotFound)
	_, err := h.GetWorkflowMetadata(t.Context(), "nobody")
	require.ErrorIs(t, err, api.ErrInstanceNotFound)
	require.Error(t, h.CompleteWorkflowWorkItem(t.Context(), &backend.WorkflowWorkItem{}), "it came from elsewhere")
	require.Error(t, h.CompleteActivityWorkItem(t.Context(), &backend.ActivityWorkItem{NewEvent: raised("x")}))
}

// Text that Postgres cannot hold does not fail the turn that has it.
func TestStatusWithoutNUL(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.Pool(t, pgtest.Migrated(t)), taskhub.Config{})
	create(t, r.Hub, "x")
	wi := r.nextTurn(t)
	last := end(completed)
	last.GetCompleteWorkflow().Result.Value = "a\x00b"
	apply(t, wi, last)
	require.NoError(t, r.CompleteWorkflowWorkItem(t.Context(), wi))
	m, err := r.GetWorkflowMetadata(t.Context(), "x")
	require.NoError(t, err)
	require.Equal(t, "a\uFFFDb", m.GetOutput().GetValue())
}

// Results, timers and children of what an instance was before are not taken
// for its own.
func TestStaleAnswers(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Migrated(t))
	r := start(t, pool, taskhub.Config{})
	create(t, r.Hub, "x")
	r.turn(t, schedule(0), wake(1, time.Hour), child(2, "c"))
	stale := r.nextActivity(t)
	kid := r.nextTurn(t)
	require.Equal(t, api.InstanceID("c"), kid.InstanceID)

	require.NoError(t, r.AddNewWorkflowEvent(t.Context(), "x", raised("again")))
	r.turn(t, end(asNew)) // and nothing else
	require.Equal(t, 0, count(t, pool, "events"), "the timer is gone")
	require.Equal(t, 1, count(t, pool, "history")-0, "and what was before, too")
	require.NoError(t, r.CompleteActivityWorkItem(t.Context(), answer(stale, "old")))
	apply(t, kid, end(completed))
	require.NoError(t, r.CompleteWorkflowWorkItem(t.Context(), kid))
	require.Equal(t, 0, count(t, pool, "events"))
	require.Equal(t, 0, count(t, pool, "activities"))

	require.NoError(t, r.AddNewWorkflowEvent(t.Context(), "x", raised("only this")))
	wi := r.nextTurn(t)
	require.Equal(t, api.InstanceID("x"), wi.InstanceID)
	require.Len(t, wi.NewEvents, 1)
	require.Equal(t, "only this", wi.NewEvents[0].GetEventRaised().GetName())
}

// A terminated instance begins nothing any more, and stops what runs.
func TestTerminateStops(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Migrated(t))
	r := start(t, pool, taskhub.Config{Activities: 1})
	create(t, r.Hub, "x")
	r.turn(t, schedule(0), schedule(1))
	running := r.nextActivity(t)
	require.NoError(t, r.AddNewWorkflowEvent(t.Context(), "x", raised("stop")))
	r.turn(t, end(terminated), schedule(3), wake(4, time.Hour), child(5, "c"))
	select {
	case <-r.Lost(running):
	case <-soon(t).Done():
		t.Fatal("the activity was not told")
	}
	for _, table := range []string{"activities", "events"} {
		require.Equal(t, 0, count(t, pool, table), table)
	}
	_, err := r.GetWorkflowMetadata(t.Context(), "c")
	require.ErrorIs(t, err, api.ErrInstanceNotFound)
	require.NoError(t, r.CompleteActivityWorkItem(t.Context(), answer(running, "too late")))
}

// An activity that its workflow did not wait for is done nevertheless.
func TestUnawaitedActivity(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Migrated(t))
	r := start(t, pool, taskhub.Config{})
	create(t, r.Hub, "x")
	r.turn(t, schedule(0), end(completed))
	require.NoError(t, r.CompleteActivityWorkItem(t.Context(), answer(r.nextActivity(t), "done")))
	require.Equal(t, 0, count(t, pool, "activities"))
	require.Equal(t, 0, count(t, pool, "events"))
}

func TestChildren(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Migrated(t))
	r := start(t, pool, taskhub.Config{})
	create(t, r.Hub, "busy")
	busy := r.nextTurn(t)
	create(t, r.Hub, "x")
	r.turn(t, child(0, "c"), child(1, "busy"))

	var failed, done *protos.HistoryEvent
	for range 3 { // the child, and what the parent hears of both
		if failed != nil && done != nil {
			break
		}
		wi := r.nextTurn(t)
		if wi.InstanceID == "c" {
			apply(t, wi, end(completed))
		} else {
			apply(t, wi)
		}
		for _, e := range wi.NewEvents {
			if e.GetChildWorkflowInstanceFailed() != nil {
				failed = e
			}
			if e.GetChildWorkflowInstanceCompleted() != nil {
				done = e
			}
		}
		require.NoError(t, r.CompleteWorkflowWorkItem(t.Context(), wi))
	}
	require.EqualValues(t, 1, failed.GetChildWorkflowInstanceFailed().GetTaskScheduledId())
	require.Contains(t, failed.GetChildWorkflowInstanceFailed().GetFailureDetails().GetErrorMessage(), "an instance of this id is on already")
	require.EqualValues(t, 0, done.GetChildWorkflowInstanceCompleted().GetTaskScheduledId())
	require.Equal(t, `"out"`, done.GetChildWorkflowInstanceCompleted().GetResult().GetValue())
	apply(t, busy)
	require.NoError(t, r.CompleteWorkflowWorkItem(t.Context(), busy), "nothing happened to it")

	// A child may be tried again under its id once it has ended.
	require.NoError(t, r.AddNewWorkflowEvent(t.Context(), "x", raised("again")))
	r.turn(t, child(2, "c"))
	wi := r.nextTurn(t)
	require.Equal(t, api.InstanceID("c"), wi.InstanceID)
	require.NotNil(t, wi.NewEvents[0].GetExecutionStarted())
	m, err := r.GetWorkflowMetadata(t.Context(), "c")
	require.NoError(t, err)
	require.Equal(t, "x", m.GetParentInstanceId())
	require.Equal(t, protos.OrchestrationStatus_ORCHESTRATION_STATUS_PENDING, m.GetRuntimeStatus())
}

func TestPurge(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Migrated(t))
	r := start(t, pool, taskhub.Config{})
	for i := range 5 {
		create(t, r.Hub, fmt.Sprint("old", i))
		r.turn(t, end(completed))
	}
	create(t, r.Hub, "on")
	wi := r.nextTurn(t)
	_, err := r.PurgeWorkflowState(t.Context(), "on", nil, false)
	require.ErrorIs(t, err, api.ErrNotCompleted)
	_, err = r.PurgeWorkflowState(t.Context(), "nobody", nil, false)
	require.ErrorIs(t, err, api.ErrInstanceNotFound)
	require.ErrorIs(t, r.Purge(t.Context(), "nobody"), api.ErrInstanceNotFound)
	far := "elsewhere"
	_, err = r.PurgeWorkflowState(t.Context(), "old0", &protos.TaskRouter{TargetAppID: &far}, false)
	require.Error(t, err)

	n, err := r.PurgeOld(t.Context(), time.Now().Add(-time.Hour), 10)
	require.NoError(t, err)
	require.Zero(t, n, "they are not old")
	left := 5
	for left > 0 { // in batches
		n, err := r.PurgeOld(t.Context(), time.Now().Add(time.Minute), 2)
		require.NoError(t, err)
		require.Equal(t, min(left, 2), n)
		left -= n
	}
	require.Equal(t, 1, count(t, pool, "instances"), "the one that is on")
	require.Equal(t, 0, count(t, pool, "history"))

	n, err = r.PurgeWorkflowState(t.Context(), "on", nil, true)
	require.NoError(t, err)
	require.Equal(t, 1, n)
	apply(t, wi, schedule(0))
	require.ErrorIs(t, r.CompleteWorkflowWorkItem(t.Context(), wi), backend.ErrWorkItemLockLost)
	for _, table := range []string{"instances", "history", "activities", "events"} {
		require.Equal(t, 0, count(t, pool, table), table)
	}
}

// What ended long ago goes by itself, in as many statements as it takes; what
// is on stays, however old.
func TestOldInstancesGo(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Migrated(t))
	client := open(t, pool, taskhub.Config{})
	for _, id := range []string{"on", "new"} {
		create(t, client, id)
	}
	for _, sql := range []string{
		`INSERT INTO wf.instances (id, name, execution_id, status, start, created_at, updated_at, ended_at)
			SELECT 'old' || n, 'test', 'e', 'Completed', '', now() - interval '9 days', now(), now() - interval '25 hours' FROM generate_series(1, 1200) n`,
		"INSERT INTO wf.history (instance_id, turn, events) SELECT id, 1, '' FROM wf.instances WHERE id LIKE 'old%'",
		"UPDATE wf.instances SET created_at = now() - interval '9 days', claim_at = now() + interval '1 hour' WHERE id = 'on'",
		"UPDATE wf.instances SET ended_at = now() - interval '23 hours', claim_at = NULL WHERE id = 'new'",
	} {
		_, err := pool.Exec(t.Context(), sql)
		require.NoError(t, err, sql)
	}
	start(t, pool, taskhub.Config{Sweep: time.Hour})
	ctx := soon(t)
	for left := 1202; left > 2; {
		require.NoError(t, pool.QueryRow(ctx, "SELECT count(*) FROM wf.instances").Scan(&left))
	}
	var left []string
	require.NoError(t, pool.QueryRow(ctx, "SELECT array_agg(id ORDER BY id) FROM wf.instances").Scan(&left))
	require.Equal(t, []string{"new", "on"}, left)
	require.Equal(t, 0, count(t, pool, "history"))
}

func TestListPages(t *testing.T) {
	t.Parallel()
	h := open(t, pgtest.Pool(t, pgtest.Migrated(t)), taskhub.Config{})
	var want []string
	for i := range 7 {
		want = append(want, fmt.Sprint("i", i))
		create(t, h, want[i])
	}
	var got []string
	size := uint32(3)
	req := &protos.ListInstanceIDsRequest{PageSize: &size}
	for pages := 1; ; pages++ {
		page, err := h.ListInstanceIDs(t.Context(), req)
		require.NoError(t, err)
		got = append(got, page.GetInstanceIds()...)
		if req.ContinuationToken = page.ContinuationToken; req.ContinuationToken == nil {
			require.Equal(t, 3, pages)
			break
		}
		require.Len(t, page.GetInstanceIds(), 3)
	}
	require.Equal(t, want, got)
}

func TestWatch(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Migrated(t))
	r := start(t, pool, taskhub.Config{})
	elsewhere := open(t, pool, taskhub.Config{})
	create(t, r.Hub, "x")
	wi := r.nextTurn(t)
	done := make(chan error, 2)
	for _, h := range []*taskhub.Hub{r.Hub, elsewhere} {
		go func() { done <- h.WatchWorkflowRuntimeStatus(soon(t), "x", api.WorkflowMetadataIsComplete) }()
	}
	apply(t, wi, end(completed))
	require.NoError(t, r.CompleteWorkflowWorkItem(t.Context(), wi))
	require.NoError(t, <-done)
	require.NoError(t, <-done)
	require.ErrorIs(t, r.WatchWorkflowRuntimeStatus(soon(t), "nobody", api.WorkflowMetadataIsComplete), api.ErrInstanceNotFound)
}

// A version that no replica knows does not fail the instance: it waits.
func TestStalled(t *testing.T) {
	t.Parallel()
	pool := pgtest.Pool(t, pgtest.Migrated(t))
	var said lines
	r := start(t, pool, taskhub.Config{Log: slog.New(slog.NewTextHandler(&said, nil))})
	create(t, r.Hub, "x")
	wi := r.nextTurn(t)
	apply(t, wi, &protos.WorkflowAction{WorkflowActionType: &protos.WorkflowAction_WorkflowVersionNotAvailable{
		WorkflowVersionNotAvailable: &protos.WorkflowVersionNotAvailableAction{},
	}})
	require.NoError(t, r.CompleteWorkflowWorkItem(t.Context(), wi))
	require.Equal(t, protos.OrchestrationStatus_ORCHESTRATION_STATUS_STALLED, statusOf(t, r.Hub, "x"))
	require.Equal(t, 0, count(t, pool, "history"), "nothing of the turn is kept")
	require.Contains(t, said.String(), "waits for a replica that knows its version")
	wi = r.turn(t, end(completed)) // a replica that knows it
	require.EqualValues(t, 1, wi.RetryCount)
	require.Equal(t, completed, statusOf(t, r.Hub, "x"))
}

// What the database's clock, zone and the hub's own are does not matter: test
// databases are in Kathmandu. Inputs come back as they were.
func TestPayloads(t *testing.T) {
	t.Parallel()
	r := start(t, pgtest.Pool(t, pgtest.Migrated(t)), taskhub.Config{})
	big, err := json.Marshal(strings.Repeat("ü\u0000", 100_000))
	require.NoError(t, err)
	e := started("x", "e")
	e.GetExecutionStarted().Input.Value = string(big)
	require.NoError(t, r.CreateWorkflowInstance(t.Context(), e))
	wi := r.turn(t, end(completed))
	require.Equal(t, string(big), wi.NewEvents[0].GetExecutionStarted().GetInput().GetValue())
	m, err := r.GetWorkflowMetadata(t.Context(), "x")
	require.NoError(t, err)
	require.Equal(t, string(big), m.GetInput().GetValue())
	require.WithinDuration(t, time.Now(), m.GetCreatedAt().AsTime(), time.Minute)
	require.WithinDuration(t, time.Now(), m.GetLastUpdatedAt().AsTime(), time.Minute)
}
