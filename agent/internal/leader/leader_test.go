package leader_test

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"

	"github.com/budecosystem/budcluster/agent/internal/health"
	"github.com/budecosystem/budcluster/agent/internal/leader"
)

// agent is one elector whose work only notes that it runs.
type agent struct {
	elector *leader.Elector
	board   *health.Board
	working atomic.Bool
	starts  atomic.Int64
	stop    context.CancelFunc
	done    chan struct{}
}

func start(t *testing.T, client kubernetes.Interface, name string) *agent {
	t.Helper()
	a := &agent{board: health.New(time.Now), done: make(chan struct{})}
	var err error
	a.elector, err = leader.New(leader.Config{
		Client: client, Namespace: "ns", Name: "lease", Identity: name, Board: a.board, Logger: slog.New(slog.DiscardHandler),
	})
	require.NoError(t, err)
	var ctx context.Context
	ctx, a.stop = context.WithCancel(context.Background())
	go func() {
		defer close(a.done)
		_ = a.elector.Run(ctx, func(ctx context.Context) error {
			a.working.Store(true)
			a.starts.Add(1)
			<-ctx.Done()
			a.working.Store(false)
			return nil
		})
	}()
	t.Cleanup(func() {
		a.stop()
		<-a.done
	})
	return a
}

func holder(t *testing.T, client kubernetes.Interface) string {
	t.Helper()
	lease, err := client.CoordinationV1().Leases("ns").Get(t.Context(), "lease", metav1.GetOptions{})
	require.NoError(t, err)
	return *lease.Spec.HolderIdentity
}

func TestStandbyTakesOverAtOnceAfterAnOrderlyStop(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		a := start(t, client, "a")
		time.Sleep(time.Second)
		b := start(t, client, "b")
		time.Sleep(time.Minute)
		require.True(t, a.working.Load())
		require.False(t, b.working.Load())

		a.stop()
		<-a.done
		require.Empty(t, holder(t, client), "released after the work had stopped")
		time.Sleep(5 * time.Second) // less than a lease
		require.True(t, b.working.Load())
		b.stop()
		<-b.done
	})
}

// TestLeaderOutlivesTheAPIServer: the work goes on while the lease cannot be
// renewed, and is not started a second time when it can be again.
func TestLeaderOutlivesTheAPIServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		var away atomic.Bool
		client.PrependReactor("*", "leases", func(clienttesting.Action) (bool, runtime.Object, error) {
			return away.Load(), nil, errors.New("connection refused")
		})
		a := start(t, client, "a")
		time.Sleep(time.Minute)
		require.True(t, a.working.Load())

		away.Store(true)
		time.Sleep(10 * time.Minute)
		require.True(t, a.working.Load())
		require.Len(t, a.board.List(), 1)
		require.Equal(t, health.LeaseUnconfirmed, a.board.List()[0].Reason)
		confirmed := make(chan error, 1)
		go func() { confirmed <- a.elector.Confirmed(t.Context()) }()
		synctest.Wait()
		require.Empty(t, confirmed)

		away.Store(false)
		require.NoError(t, <-confirmed)
		synctest.Wait()
		require.Empty(t, a.board.List())
		require.True(t, a.working.Load())
		require.EqualValues(t, 1, a.starts.Load())
		a.stop()
		<-a.done
	})
}

// TestLeaderYieldsToAnother: only our way to the API server was cut, and the
// standby took the lease meanwhile.
func TestLeaderYieldsToAnother(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		shared := fake.NewClientset()
		var away atomic.Bool
		mine := fake.NewClientset()
		forward := func(action clienttesting.Action) (bool, runtime.Object, error) {
			if away.Load() {
				return true, nil, errors.New("connection refused")
			}
			obj, err := shared.Invokes(action, nil)
			return true, obj, err
		}
		mine.PrependReactor("*", "leases", forward)
		a := start(t, mine, "a")
		time.Sleep(time.Second)
		b := start(t, shared, "b")
		time.Sleep(time.Minute)
		require.True(t, a.working.Load())

		away.Store(true)
		time.Sleep(time.Minute)
		require.True(t, a.working.Load(), "it cannot see the other")
		require.True(t, b.working.Load(), "its lease had expired")
		away.Store(false)
		time.Sleep(10 * time.Second)
		require.False(t, a.working.Load())
		require.False(t, a.elector.Leads())
		require.True(t, b.working.Load())

		b.stop()
		<-b.done
		time.Sleep(10 * time.Second)
		require.True(t, a.working.Load())
		require.EqualValues(t, 2, a.starts.Load())
		a.stop()
		<-a.done
	})
}

// TestStandAside: the other one gets the lease once the work has stopped, and
// keeps it when this one may try again.
func TestStandAside(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		client := fake.NewClientset()
		a := start(t, client, "a")
		time.Sleep(5 * time.Second)
		require.True(t, a.working.Load())
		b := start(t, client, "b")
		time.Sleep(5 * time.Second)
		a.elector.StandAside(true)
		time.Sleep(5 * time.Second)
		require.False(t, a.working.Load())
		require.True(t, a.elector.Aside())
		require.False(t, a.elector.Leads())
		require.Equal(t, "b", holder(t, client))
		require.True(t, b.working.Load())
		require.Empty(t, a.board.List(), "nothing is wrong with it")
		a.elector.StandAside(false)
		time.Sleep(time.Minute)
		require.Equal(t, "b", holder(t, client))
		require.Equal(t, "b", a.elector.Other())

		// With nobody else it takes the lease again as soon as it may.
		b.elector.StandAside(true)
		time.Sleep(5 * time.Second)
		require.True(t, a.working.Load())
		a.elector.StandAside(true)
		time.Sleep(time.Minute)
		require.False(t, a.working.Load() || b.working.Load())
		a.elector.StandAside(false)
		time.Sleep(5 * time.Second)
		require.True(t, a.working.Load())
		b.elector.StandAside(false)
	})
}
