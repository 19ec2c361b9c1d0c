//go:build cgo && linux

package nvml

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/budecosystem/budcluster/agent/internal/gpu"
)

// reader makes the calls for one device and keeps what they say beside values.
type reader struct {
	has      map[function]bool
	device   nvml.Device
	lost     bool // fallen off the bus: no more calls
	replaced bool // the driver is gone: no more calls
	problems []gpu.Problem
}

// of is a reader for a MIG device of the same GPU. What it finds out must be given
// back by join.
func (r *reader) of(device nvml.Device) reader { return reader{has: r.has, device: device} }

func (r *reader) join(other reader) {
	r.lost, r.replaced = r.lost || other.lost, r.replaced || other.replaced
	r.problems = append(r.problems, other.problems...)
}

// may reports whether a function can be called.
func (r *reader) may(f function) bool { return !r.lost && !r.replaced && r.has[f] }

// ok judges an answer. That a device does not have something is no problem.
func (r *reader) ok(field string, ret nvml.Return) bool {
	switch ret {
	case nvml.SUCCESS:
		return true
	case nvml.ERROR_NOT_SUPPORTED, nvml.ERROR_FUNCTION_NOT_FOUND, nvml.ERROR_ARGUMENT_VERSION_MISMATCH,
		nvml.ERROR_DEPRECATED, nvml.ERROR_NO_DATA:
		return false
	case nvml.ERROR_GPU_IS_LOST:
		r.lost = true
	case nvml.ERROR_UNINITIALIZED, nvml.ERROR_DRIVER_NOT_LOADED, nvml.ERROR_LIB_RM_VERSION_MISMATCH:
		r.replaced = true
	default:
	}
	r.problem(field, "%s", reason(ret))
	return false
}

func (r *reader) problem(field, format string, args ...any) {
	r.problems = append(r.problems, gpu.Problem{Field: field, Reason: fmt.Sprintf(format, args...)})
}

// get makes one call that has one result.
func get[T any](r *reader, field string, f function, call func(nvml.Device) (T, nvml.Return)) (v gpu.Value[T]) {
	if !r.may(f) {
		return v
	}
	got, ret := call(r.device)
	if !r.ok(field, ret) {
		return v
	}
	return gpu.Known(got)
}

// count is get for what go-nvml gives as an int.
func count(r *reader, field string, f function, call func(nvml.Device) (int, nvml.Return)) (v gpu.Value[uint32]) {
	n := get(r, field, f, call)
	if n.Known && uint64(n.V) <= 1<<32-2 { // the greatest stands for "none" in NVML
		return gpu.Known(uint32(n.V)) //nolint:gosec // bounded above
	}
	return v
}

// text is get for a text, without what cannot be printed.
func text(r *reader, field string, f function, call func(nvml.Device) (string, nvml.Return)) string {
	return clean(get(r, field, f, call).V)
}

const longestText = 256

func clean(s string) string {
	s = strings.TrimSpace(strings.Map(func(c rune) rune {
		if !unicode.IsPrint(c) || c == unicode.ReplacementChar {
			return -1
		}
		return c
	}, s))
	return strings.ToValidUTF8(s[:min(len(s), longestText)], "")
}

// reason is a return code in words, with NVML's name for it. The library's own
// words are not asked for, since that is a call as well.
func reason(ret nvml.Return) string {
	switch ret {
	case nvml.ERROR_UNINITIALIZED:
		return "the library is not initialised (NVML_ERROR_UNINITIALIZED)"
	case nvml.ERROR_INVALID_ARGUMENT:
		return "the driver does not take the argument (NVML_ERROR_INVALID_ARGUMENT)"
	case nvml.ERROR_NO_PERMISSION:
		return "this process may not ask for it (NVML_ERROR_NO_PERMISSION)"
	case nvml.ERROR_NOT_FOUND:
		return "it was not found (NVML_ERROR_NOT_FOUND)"
	case nvml.ERROR_INSUFFICIENT_POWER:
		return "the power cables are not attached properly (NVML_ERROR_INSUFFICIENT_POWER)"
	case nvml.ERROR_DRIVER_NOT_LOADED:
		return "the kernel driver is not loaded (NVML_ERROR_DRIVER_NOT_LOADED)"
	case nvml.ERROR_TIMEOUT:
		return "the driver gave up waiting (NVML_ERROR_TIMEOUT)"
	case nvml.ERROR_IRQ_ISSUE:
		return "the kernel has trouble with the GPU's interrupts (NVML_ERROR_IRQ_ISSUE)"
	case nvml.ERROR_CORRUPTED_INFOROM:
		return "the infoROM of the GPU is corrupted (NVML_ERROR_CORRUPTED_INFOROM)"
	case nvml.ERROR_GPU_IS_LOST:
		return "the GPU has fallen off the bus (NVML_ERROR_GPU_IS_LOST)"
	case nvml.ERROR_RESET_REQUIRED:
		return "the GPU must be reset first (NVML_ERROR_RESET_REQUIRED)"
	case nvml.ERROR_OPERATING_SYSTEM:
		return "the operating system or a cgroup blocks the GPU (NVML_ERROR_OPERATING_SYSTEM)"
	case nvml.ERROR_LIB_RM_VERSION_MISMATCH:
		return "library and kernel driver are of different versions (NVML_ERROR_LIB_RM_VERSION_MISMATCH)"
	case nvml.ERROR_IN_USE:
		return "the GPU is in use (NVML_ERROR_IN_USE)"
	case nvml.ERROR_MEMORY:
		return "the driver has no memory for it (NVML_ERROR_MEMORY)"
	case nvml.ERROR_UNKNOWN:
		return "an internal error of the driver (NVML_ERROR_UNKNOWN)"
	default:
		return fmt.Sprintf("the driver answered with code %d", int(ret))
	}
}
