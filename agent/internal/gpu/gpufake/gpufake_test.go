package gpufake_test

import (
	"testing"

	"github.com/budecosystem/budcluster/agent/internal/gpu/gpufake"
	"github.com/budecosystem/budcluster/agent/internal/gpu/gputest"
)

func TestFake(t *testing.T) {
	t.Parallel()
	gputest.Exercise(t, gputest.Inventory(), gputest.Samples(), func(*testing.T) gputest.Machine {
		return gpufake.New(gputest.Inventory(), gputest.Samples()...)
	})
}
