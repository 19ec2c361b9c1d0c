package health_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/health"
)

func TestBoard(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := health.New(time.Now)
		start := time.Now()
		changed := b.Changed()
		b.Set(health.HubUnreachable, "dial: refused")
		<-changed

		time.Sleep(time.Minute)
		b.Set(health.HubUnreachable, "dial: timeout")
		b.Set(health.APIServerUnreachable, "gone")
		lines := b.List()
		require.Len(t, lines, 2)
		require.Equal(t, health.APIServerUnreachable, lines[0].Reason)
		require.Equal(t, health.Degradation{Reason: health.HubUnreachable, Message: "dial: timeout", Since: start}, lines[1])

		quiet := b.Changed()
		b.Set(health.HubUnreachable, "dial: timeout") // the same again wakes nobody
		b.Clear(health.Revoked)
		select {
		case <-quiet:
			require.Fail(t, "woken without a change")
		default:
		}
		b.Clear(health.HubUnreachable, health.APIServerUnreachable)
		<-quiet
		require.Empty(t, b.List())
	})
}
