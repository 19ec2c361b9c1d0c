package run_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/internal/run"
)

// A crew goes on while one of its tasks is stuck, and turns panics into errors.
func TestCrew(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c := run.NewCrew(2)
		stuck := make(chan struct{})
		c.Go(t.Context(), func(context.Context) error {
			<-stuck
			return nil
		})
		require.Equal(t, 1, c.Free())
		for range 3 {
			c.Go(t.Context(), func(context.Context) error { return nil })
			<-c.Done()
		}
		require.False(t, c.Idle())
		require.NoError(t, c.Errors())

		broken := errors.New("broken")
		c.Go(t.Context(), func(context.Context) error { return broken })
		<-c.Done()
		require.ErrorIs(t, c.Errors(), broken)
		require.NoError(t, c.Errors(), "once")
		c.Go(t.Context(), func(context.Context) error { panic("a bug") })
		close(stuck)
		require.ErrorContains(t, c.Wait(), "a bug")
		require.True(t, c.Idle())
		require.Equal(t, 2, c.Free())
	})
}
