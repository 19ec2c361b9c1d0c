//go:build !cgo || !linux

package nvml_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/gpu"
	"github.com/budecosystem/budcluster/agent/internal/gpu/nvml"
)

func TestWithoutCgoThereIsNoNVML(t *testing.T) {
	t.Parallel()
	source, absence, err := gpu.NewOpener(nvml.Open("")).Open(t.Context())
	require.NoError(t, err)
	require.Equal(t, gpu.NotBuilt, absence)
	require.Nil(t, source)
}
