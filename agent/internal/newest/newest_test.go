package newest_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/newest"
)

func TestWatchersGetTheNewestOnce(t *testing.T) {
	t.Parallel()
	var v newest.Value[string]
	wake, take, cancel := v.Watch()
	require.Empty(t, wake, "there is nothing yet")
	_, fresh := take()
	require.False(t, fresh)
	v.Set("a")
	v.Set("b")
	<-wake
	got, fresh := take()
	require.True(t, fresh)
	require.Equal(t, "b", got)
	_, fresh = take()
	require.False(t, fresh)

	late, takeLate, cancelLate := v.Watch()
	defer cancelLate()
	<-late
	got, fresh = takeLate()
	require.True(t, fresh)
	require.Equal(t, "b", got)

	cancel()
	v.Set("c")
	require.Empty(t, wake, "who left is not woken")
	<-late
}
