package retire_test

import (
	"context"
	"errors"
	"log/slog"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	"github.com/budecosystem/budcluster/agent/internal/retire"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// fleet is what the hub wanted, and what the rehearsal finds.
type fleet struct {
	calls int
	gone  chan struct{} // closed when the releases are gone
	left  []string
	err   error
	stays []string
}

func (f *fleet) Retire(ctx context.Context) ([]string, error) {
	f.calls++
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-f.gone:
		return f.left, f.err
	}
}

func (f *fleet) Rehearse(context.Context) []string { return f.stays }

func start(t *testing.T, f *fleet) (r *retire.Retirer, ended chan error, said func() *agentv1.Retired) {
	t.Helper()
	r = retire.New(f, f, slog.New(slog.DiscardHandler))
	ended = make(chan error, 1)
	go func() { ended <- r.Run(t.Context()) }()
	_, take, cancel := r.Watch()
	t.Cleanup(cancel)
	return r, ended, func() *agentv1.Retired {
		m, fresh := take()
		if !fresh {
			return nil
		}
		return m
	}
}

func TestLeavesWhenTheHubHasRecordedIt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{gone: make(chan struct{}), left: []string{"a"}, stays: []string{"b"}}
		r, ended, said := start(t, f)
		r.Retire(&agentv1.Retire{Generation: 2})
		synctest.Wait()
		require.Nil(t, said(), "the releases are not gone yet")
		close(f.gone)
		synctest.Wait()
		require.True(t, proto.Equal(&agentv1.Retired{Generation: 2, Left: []string{"a", "b"}}, said()))
		require.Empty(t, ended)
		r.Retire(&agentv1.Retire{Generation: 2}) // another stream says it again
		synctest.Wait()
		require.Nil(t, said())
		r.Retire(&agentv1.Retire{Generation: 2, Recorded: true})
		require.ErrorIs(t, <-ended, retire.ErrRecorded)
		require.Equal(t, 1, f.calls)
	})
}

// Another decision meanwhile, as by force, is answered too; an agent that died
// before it left looks again before it does.
func TestLaterDecisions(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		f := &fleet{gone: make(chan struct{})}
		close(f.gone)
		r, ended, said := start(t, f)
		r.Retire(&agentv1.Retire{Generation: 1})
		synctest.Wait()
		require.Equal(t, int64(1), said().GetGeneration())
		r.Retire(&agentv1.Retire{Generation: 2})
		synctest.Wait()
		require.Equal(t, int64(2), said().GetGeneration())
		r.Retire(&agentv1.Retire{Generation: 3, Recorded: true})
		require.ErrorIs(t, <-ended, retire.ErrRecorded)
		require.Equal(t, 3, f.calls)
	})
}

func TestFailureEndsTheWork(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		f := &fleet{gone: make(chan struct{}), err: broken}
		close(f.gone)
		r, ended, said := start(t, f)
		r.Retire(&agentv1.Retire{Generation: 1})
		require.ErrorIs(t, <-ended, broken)
		require.Nil(t, said())
	})
}
