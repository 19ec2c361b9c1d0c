//go:build cgo && linux

package nvml

import (
	"encoding/binary"
	"math"

	"github.com/NVIDIA/go-nvml/pkg/nvml"

	"github.com/budecosystem/budcluster/agent/internal/gpu"
)

// allLinks is the scope of an NVLink counter that adds up all links.
const allLinks = 1<<32 - 1

// kibibyte: NVLink's counters are in KiB.
const kibibyte = 1 << 10

// query lists what one nvmlDeviceGetFieldValues asks of a device: the counters,
// then the states of its links.
func query(links []gpu.Link) []nvml.FieldValue {
	var fields []nvml.FieldValue
	for _, id := range []uint32{
		nvml.FI_DEV_MEMORY_TEMP, nvml.FI_DEV_TOTAL_ENERGY_CONSUMPTION,
		nvml.FI_DEV_ECC_SBE_VOL_TOTAL, nvml.FI_DEV_ECC_DBE_VOL_TOTAL, nvml.FI_DEV_ECC_SBE_AGG_TOTAL, nvml.FI_DEV_ECC_DBE_AGG_TOTAL,
		nvml.FI_DEV_RETIRED_SBE, nvml.FI_DEV_RETIRED_DBE, nvml.FI_DEV_RETIRED_PENDING,
		nvml.FI_DEV_REMAPPED_COR, nvml.FI_DEV_REMAPPED_UNC, nvml.FI_DEV_REMAPPED_PENDING, nvml.FI_DEV_REMAPPED_FAILURE,
		nvml.FI_DEV_PCIE_REPLAY_COUNTER, nvml.FI_DEV_PCIE_COUNT_TX_BYTES, nvml.FI_DEV_PCIE_COUNT_RX_BYTES,
		nvml.FI_DEV_GET_GPU_RECOVERY_ACTION,
	} {
		fields = append(fields, nvml.FieldValue{FieldId: id})
	}
	if len(links) == 0 {
		return fields
	}
	for _, id := range []uint32{
		nvml.FI_DEV_NVLINK_THROUGHPUT_DATA_TX, nvml.FI_DEV_NVLINK_THROUGHPUT_DATA_RX,
		nvml.FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL, nvml.FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL,
		nvml.FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL,
	} {
		fields = append(fields, nvml.FieldValue{FieldId: id, ScopeId: allLinks})
	}
	for _, link := range links {
		fields = append(fields, nvml.FieldValue{FieldId: nvml.FI_DEV_NVLINK_GET_STATE, ScopeId: uint32(link.Number)}) //nolint:gosec // at most NVLINK_MAX_LINKS
	}
	return fields
}

// fieldValues asks for all fields at once and puts each where it belongs.
func (r *reader) fieldValues(s *gpu.Sample, fields []nvml.FieldValue) {
	if !r.may("nvmlDeviceGetFieldValues") || !r.ok("counters", r.device.GetFieldValues(fields)) {
		return
	}
	for _, f := range fields {
		if v, ok := r.field(f); ok {
			place(s, f.FieldId, v)
		} else if f.FieldId == nvml.FI_DEV_NVLINK_GET_STATE {
			s.NVLink.Links = append(s.NVLink.Links, "") // in the order of the links
		}
	}
}

// field is the value of one, if it has one. A driver does not take the numbers of
// fields that are newer than itself.
func (r *reader) field(f nvml.FieldValue) (uint64, bool) {
	name := fieldName(f.FieldId)
	if ret := nvml.Return(f.NvmlReturn); ret == nvml.ERROR_INVALID_ARGUMENT || !r.ok(name, ret) { //nolint:gosec // a return code
		return 0, false
	}
	v, ok := decode(nvml.ValueType(f.ValueType), f.Value) //nolint:gosec // an enumeration
	if !ok {
		r.problem(name, "the driver answered with type %d and the bytes %x, which is no count", f.ValueType, f.Value)
	}
	return v, ok
}

// decode reads NVML's union of numbers, as a count.
func decode(kind nvml.ValueType, raw [8]byte) (uint64, bool) {
	long := binary.NativeEndian.Uint64(raw[:])
	switch kind {
	case nvml.VALUE_TYPE_UNSIGNED_LONG, nvml.VALUE_TYPE_UNSIGNED_LONG_LONG: // a long has 64 bits on Linux
		return long, true
	case nvml.VALUE_TYPE_SIGNED_LONG_LONG:
		return long, long <= math.MaxInt64
	case nvml.VALUE_TYPE_UNSIGNED_INT:
		return uint64(binary.NativeEndian.Uint32(raw[:])), true
	case nvml.VALUE_TYPE_SIGNED_INT:
		short := binary.NativeEndian.Uint32(raw[:])
		return uint64(short), short <= math.MaxInt32
	case nvml.VALUE_TYPE_UNSIGNED_SHORT:
		return uint64(binary.NativeEndian.Uint16(raw[:])), true
	case nvml.VALUE_TYPE_DOUBLE:
		f := math.Float64frombits(long)
		if f >= 0 && f < 1<<63 {
			return uint64(f), true
		}
		return 0, false
	default:
		return 0, false
	}
}

// place puts a value into the sample.
func place(s *gpu.Sample, id uint32, v uint64) {
	n, small, flag := gpu.Known(v), gpu.Known(uint32(min(v, 1<<32-1))), gpu.Known(v != 0) //nolint:gosec // bounded
	switch id {
	case nvml.FI_DEV_MEMORY_TEMP:
		s.Temperature.Memory = small
	case nvml.FI_DEV_TOTAL_ENERGY_CONSUMPTION:
		s.EnergyMillijoules = n
	case nvml.FI_DEV_ECC_SBE_VOL_TOTAL:
		s.ECC.Volatile.Corrected = n
	case nvml.FI_DEV_ECC_DBE_VOL_TOTAL:
		s.ECC.Volatile.Uncorrected = n
	case nvml.FI_DEV_ECC_SBE_AGG_TOTAL:
		s.ECC.Aggregate.Corrected = n
	case nvml.FI_DEV_ECC_DBE_AGG_TOTAL:
		s.ECC.Aggregate.Uncorrected = n
	case nvml.FI_DEV_RETIRED_SBE:
		s.RetiredPages.SingleBit = n
	case nvml.FI_DEV_RETIRED_DBE:
		s.RetiredPages.DoubleBit = n
	case nvml.FI_DEV_RETIRED_PENDING:
		s.RetiredPages.Pending = flag
	case nvml.FI_DEV_REMAPPED_COR:
		s.RemappedRows.Corrected = n
	case nvml.FI_DEV_REMAPPED_UNC:
		s.RemappedRows.Uncorrected = n
	case nvml.FI_DEV_REMAPPED_PENDING:
		s.RemappedRows.Pending = flag
	case nvml.FI_DEV_REMAPPED_FAILURE:
		s.RemappedRows.Failed = flag
	case nvml.FI_DEV_PCIE_REPLAY_COUNTER:
		s.PCIe.Replays = n
	case nvml.FI_DEV_PCIE_COUNT_TX_BYTES:
		s.PCIe.SentBytes = n
	case nvml.FI_DEV_PCIE_COUNT_RX_BYTES:
		s.PCIe.ReceivedBytes = n
	case nvml.FI_DEV_GET_GPU_RECOVERY_ACTION:
		s.RecoveryAction = gpu.Known(gpu.RecoveryAction(small.V))
	default:
		placeLink(&s.NVLink, id, v)
	}
}

func placeLink(l *gpu.NVLink, id uint32, v uint64) {
	switch id {
	case nvml.FI_DEV_NVLINK_THROUGHPUT_DATA_TX:
		l.SentBytes = gpu.Known(v * kibibyte)
	case nvml.FI_DEV_NVLINK_THROUGHPUT_DATA_RX:
		l.ReceivedBytes = gpu.Known(v * kibibyte)
	case nvml.FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL:
		l.CRCErrors = gpu.Known(v)
	case nvml.FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL:
		l.ReplayErrors = gpu.Known(v)
	case nvml.FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL:
		l.Recovered = gpu.Known(v)
	case nvml.FI_DEV_NVLINK_GET_STATE:
		l.Links = append(l.Links, linkState(v))
	}
}

// linkState reads NVML_NVLINK_STATE_*.
func linkState(v uint64) gpu.LinkState {
	switch v {
	case 0:
		return gpu.LinkInactive
	case 1:
		return gpu.LinkActive
	case 2:
		return gpu.LinkSleep
	case 3:
		return gpu.LinkBlocked
	default:
		return ""
	}
}

// fieldName is where a field goes, for problems.
func fieldName(id uint32) string {
	switch id {
	case nvml.FI_DEV_MEMORY_TEMP:
		return "temperature.memory"
	case nvml.FI_DEV_TOTAL_ENERGY_CONSUMPTION:
		return "energy"
	case nvml.FI_DEV_ECC_SBE_VOL_TOTAL, nvml.FI_DEV_ECC_DBE_VOL_TOTAL:
		return "ecc.volatile"
	case nvml.FI_DEV_ECC_SBE_AGG_TOTAL, nvml.FI_DEV_ECC_DBE_AGG_TOTAL:
		return "ecc.aggregate"
	case nvml.FI_DEV_RETIRED_SBE, nvml.FI_DEV_RETIRED_DBE, nvml.FI_DEV_RETIRED_PENDING:
		return "retired_pages"
	case nvml.FI_DEV_REMAPPED_COR, nvml.FI_DEV_REMAPPED_UNC, nvml.FI_DEV_REMAPPED_PENDING, nvml.FI_DEV_REMAPPED_FAILURE:
		return "remapped_rows"
	case nvml.FI_DEV_PCIE_REPLAY_COUNTER, nvml.FI_DEV_PCIE_COUNT_TX_BYTES, nvml.FI_DEV_PCIE_COUNT_RX_BYTES:
		return "pcie.counters"
	case nvml.FI_DEV_GET_GPU_RECOVERY_ACTION:
		return "recovery_action"
	default:
		return "nvlink"
	}
}
