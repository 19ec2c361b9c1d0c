package flow

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestHands(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		h := make(hands, 1)
		first, err := h.take(t.Context())
		require.NoError(t, err)
		began := time.Now()
		second, err := h.take(t.Context())
		require.NoError(t, err)
		require.Equal(t, patience, time.Since(began), "a look that takes long keeps nobody from work")
		first()
		require.Len(t, h, 1, "a hand that was freed before is not freed again")
		second()
		require.Empty(t, h)

		third, err := h.take(t.Context())
		require.NoError(t, err)
		defer third()
		stopped := errors.New("the hub stops")
		ctx, stop := context.WithCancelCause(t.Context())
		stop(stopped)
		_, err = h.take(ctx)
		require.ErrorIs(t, err, stopped)
	})
}
