//go:build !cgo || !linux

package nvml

import "github.com/budecosystem/budcluster/agent/internal/gpu"

// Open says that NVML was not built into this program.
func Open(string) func() (gpu.Driver, gpu.Absence, error) {
	return func() (gpu.Driver, gpu.Absence, error) { return nil, gpu.NotBuilt, nil }
}
