//go:build cgo && linux

package nvml

import (
	"encoding/binary"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxa100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxb200"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh100"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/dgxh200"
	"github.com/NVIDIA/go-nvml/pkg/nvml/mock/server"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/gpu"
	"github.com/budecosystem/budcluster/agent/internal/gpu/gputest"
)

// TestMocks runs the suite on go-nvml's mocks of NVIDIA's DGX machines. They know
// names, handles, versions and total memory; what they lack, and would panic for,
// is set here.
func TestMocks(t *testing.T) {
	t.Parallel()
	for name, dgx := range map[string]struct {
		server       func() *server.Server
		architecture string
		capability   string
	}{
		"A100": {dgxa100.New, "Ampere", "8.0"},
		"H100": {dgxh100.New, "Hopper", "9.0"},
		"H200": {dgxh200.New, "Hopper", "9.0"},
		"B200": {dgxb200.New, "Blackwell", "10.0"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			like := dgx.server()
			gputest.Exercise(t, mockInventory(like, dgx.architecture, dgx.capability), gputest.Samples(), func(*testing.T) gputest.Machine {
				return newMockMachine(dgx.server(), like)
			})
		})
	}
}

// mockInventory is what the mock shows, with what is set beside it.
func mockInventory(s *server.Server, architecture, capability string) gpu.Inventory {
	inv := gputest.Inventory()
	inv.System = gpu.System{DriverVersion: "550.54.15", LibraryVersion: "12.550.54.15", CUDAVersion: "12.4"}
	if s.DriverVersion != inv.System.DriverVersion {
		major, minor := s.CudaDriverVersion/1000, s.CudaDriverVersion%1000/10
		inv.System = gpu.System{DriverVersion: s.DriverVersion, LibraryVersion: s.NvmlVersion, CUDAVersion: decimal(major) + "." + decimal(minor)}
	}
	for i := range inv.Devices {
		d := &inv.Devices[i]
		own := s.Devices[i].(*server.Device)
		d.ID, d.UUID, d.Model, d.Architecture, d.ComputeCapability = own.UUID, own.UUID, own.Config.Name, architecture, capability
		d.PCIBusID = "" // the mock has none
	}
	return inv
}

func decimal(n int) string {
	if n < 10 {
		return string(rune('0' + n))
	}
	return decimal(n/10) + decimal(n%10)
}

// mockMachine is a mock that shows the machine of package gputest.
type mockMachine struct {
	*server.Server
	events chan nvml.EventData

	mu      sync.Mutex // guards the rest
	count   int
	devices []*mockDevice
}

// mockDevice is what one device answers.
type mockDevice struct {
	machine *mockMachine
	device  gpu.Device
	sample  gpu.Sample
	sampled uint64 // the time of its samples of utilization
	fails   string
	lost    bool
	hangs   chan struct{}
}

// newMockMachine has the mock s show UUIDs of another, so that all of a suite have
// the same.
func newMockMachine(s, like *server.Server) *mockMachine {
	m := &mockMachine{Server: s, events: make(chan nvml.EventData, 16), count: len(s.Devices)}
	samples := gputest.Samples()
	for i, d := range s.Devices {
		own := d.(*server.Device)
		own.UUID = like.Devices[i].(*server.Device).UUID
		dev := &mockDevice{machine: m, device: gputest.Device(i), sample: samples[i], sampled: 1}
		dev.static(own)
		dev.dynamic(&own.Device)
		m.devices = append(m.devices, dev)
	}
	s.DeviceGetCountFunc = func() (int, nvml.Return) {
		m.mu.Lock()
		defer m.mu.Unlock()
		return m.count, nvml.SUCCESS
	}
	s.DeviceGetHandleByIndexFunc = func(i int) (nvml.Device, nvml.Return) {
		m.mu.Lock()
		defer m.mu.Unlock()
		if m.devices[i].lost {
			return nil, nvml.ERROR_GPU_IS_LOST
		}
		return s.Devices[i], nvml.SUCCESS
	}
	s.EventSetCreateFunc = func() (nvml.EventSet, nvml.Return) {
		return &mock.EventSet{
			FreeFunc: func() nvml.Return { return nvml.SUCCESS },
			WaitFunc: func(ms uint32) (nvml.EventData, nvml.Return) {
				timer := time.NewTimer(time.Duration(ms) * time.Millisecond)
				defer timer.Stop()
				select {
				case e := <-m.events:
					return e, nvml.SUCCESS
				case <-timer.C:
					return nvml.EventData{}, nvml.ERROR_TIMEOUT
				}
			},
		}, nvml.SUCCESS
	}
	return m
}

func (m *mockMachine) Open() (gpu.Driver, gpu.Absence, error) {
	d, absence, err := open(m.Server)
	return d, absence, err
}

func (m *mockMachine) change(i int, f func(*mockDevice)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f(m.devices[i])
}

func (m *mockMachine) Set(i int, s gpu.Sample) {
	m.change(i, func(d *mockDevice) { d.sample, d.sampled = s, d.sampled+10 })
}

func (m *mockMachine) Fail(i int, field string) {
	m.change(i, func(d *mockDevice) { d.fails = field })
}
func (m *mockMachine) Lose(i int)    { m.change(i, func(d *mockDevice) { d.lost = true }) }
func (m *mockMachine) Recover(i int) { m.change(i, func(d *mockDevice) { d.lost = false }) }

func (m *mockMachine) Remove() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.count--
}

func (m *mockMachine) Emit(e gpu.Event) {
	i := slices.IndexFunc(m.Devices, func(d nvml.Device) bool { return d.(*server.Device).UUID == e.Device })
	data := nvml.EventData{Device: m.Devices[i], EventType: nvml.EventTypeXidCriticalError, EventData: e.XID, GpuInstanceId: 1<<32 - 1, ComputeInstanceId: 1<<32 - 1}
	if e.Kind == gpu.EventDoubleBitECC {
		data.EventType = nvml.EventTypeDoubleBitEccError
	}
	if e.GPUInstance.Known {
		data.GpuInstanceId, data.ComputeInstanceId = e.GPUInstance.V, e.ComputeInstance.V
	}
	m.events <- data
}

func (m *mockMachine) Hang(i int) (release func()) {
	hangs := make(chan struct{})
	m.change(i, func(d *mockDevice) { d.hangs = hangs })
	return func() {
		m.change(i, func(d *mockDevice) { d.hangs = nil })
		close(hangs)
	}
}

// show makes the answer of one function: what pick finds in the sample.
func show[T, V any](d *mockDevice, pick func(gpu.Sample) gpu.Value[V], as func(V) T) func() (T, nvml.Return) {
	return func() (T, nvml.Return) {
		d.machine.mu.Lock()
		defer d.machine.mu.Unlock()
		var none T
		if d.lost {
			return none, nvml.ERROR_GPU_IS_LOST
		}
		v := pick(d.sample)
		if !v.Known {
			return none, nvml.ERROR_NOT_SUPPORTED
		}
		return as(v.V), nvml.SUCCESS
	}
}

func same[T any](v T) T { return v }

func (d *mockDevice) static(own *server.Device) {
	of := d.device
	ok := func(n uint32) (uint32, nvml.Return) { return n, nvml.SUCCESS }
	number := func(n uint32) func() (int, nvml.Return) {
		return func() (int, nvml.Return) { return int(n), nvml.SUCCESS }
	}
	own.GetSerialFunc = func() (string, nvml.Return) { return of.Serial, nvml.SUCCESS }
	own.GetMemoryAffinityFunc = func(n int, _ nvml.AffinityScope) ([]uint, nvml.Return) {
		return append([]uint{1 << of.NUMANode.V}, make([]uint, n/8)...), nvml.SUCCESS
	}
	own.GetPowerManagementLimitConstraintsFunc = func() (uint32, uint32, nvml.Return) {
		return of.PowerLimits.MinMilliwatts.V, of.PowerLimits.MaxMilliwatts.V, nvml.SUCCESS
	}
	own.GetPowerManagementDefaultLimitFunc = func() (uint32, nvml.Return) { return ok(of.PowerLimits.DefaultMilliwatts.V) }
	own.GetMaxClockInfoFunc = func(kind nvml.ClockType) (uint32, nvml.Return) { return ok(pickClock(of.MaxClocks, kind).V) }
	own.GetTemperatureThresholdFunc = func(kind nvml.TemperatureThresholds) (uint32, nvml.Return) {
		l := of.TemperatureLimits
		return ok([]uint32{l.Shutdown.V, l.Slowdown.V, l.MemoryMax.V}[kind])
	}
	own.GetMaxPcieLinkGenerationFunc = number(of.MaxPCIe.Generation.V)
	own.GetMaxPcieLinkWidthFunc = number(of.MaxPCIe.Width.V)
	own.GetMaxMigDeviceCountFunc = number(of.MaxInstances.V)
	own.GetNvLinkVersionFunc = func(i int) (uint32, nvml.Return) { return ok(of.Links[i].Version.V) }
	own.GetNvLinkRemoteDeviceTypeFunc = func(int) (nvml.IntNvLinkDeviceType, nvml.Return) {
		return nvml.NVLINK_DEVICE_TYPE_SWITCH, nvml.SUCCESS
	}
	own.GetNvLinkRemotePciInfoFunc = func(i int) (info nvml.PciInfo, ret nvml.Return) {
		for j, c := range []byte(of.Links[i].PeerPCIBusID) {
			info.BusId[j] = int8(c)
		}
		return info, nvml.SUCCESS
	}
	own.GetSupportedEventTypesFunc = func() (uint64, nvml.Return) { return nvml.EventTypeAll, nvml.SUCCESS }
	own.RegisterEventsFunc = func(uint64, nvml.EventSet) nvml.Return { return nvml.SUCCESS }
}

func pickClock(c gpu.Clocks, kind nvml.ClockType) gpu.Value[uint32] {
	return []gpu.Value[uint32]{c.Graphics, c.SM, c.Memory, c.Video}[kind]
}

func (d *mockDevice) dynamic(m *mock.Device) {
	type sample = gpu.Sample
	m.GetMemoryInfo_v2Func = showMemory(d, func(s sample) gpu.Memory { return s.Memory })
	m.GetMemoryInfoFunc = func() (nvml.Memory, nvml.Return) { return nvml.Memory{}, nvml.ERROR_NOT_SUPPORTED }
	m.GetBAR1MemoryInfoFunc = show(d, func(s sample) gpu.Value[uint64] { return s.BAR1.Total }, func(total uint64) nvml.BAR1Memory {
		return nvml.BAR1Memory{Bar1Total: total, Bar1Free: d.sample.BAR1.Free.V, Bar1Used: d.sample.BAR1.Used.V}
	})
	m.GetPowerUsageFunc = d.power
	m.GetEnforcedPowerLimitFunc = show(d, func(s sample) gpu.Value[uint32] { return s.PowerLimitMilliwatts }, same)
	m.GetTemperatureFunc = func(nvml.TemperatureSensors) (uint32, nvml.Return) {
		return show(d, func(s sample) gpu.Value[uint32] { return s.Temperature.GPU }, same)()
	}
	m.GetClockInfoFunc = func(kind nvml.ClockType) (uint32, nvml.Return) {
		return show(d, func(s sample) gpu.Value[uint32] { return pickClock(s.Clocks, kind) }, same)()
	}
	m.GetPerformanceStateFunc = show(d, func(s sample) gpu.Value[uint32] { return s.PerformanceState }, func(v uint32) nvml.Pstates { return nvml.Pstates(v) })
	m.GetCurrentClocksEventReasonsFunc = show(d, func(s sample) gpu.Value[gpu.Throttle] { return s.Throttle }, func(v gpu.Throttle) uint64 { return uint64(v) })
	m.GetUtilizationRatesFunc = show(d, func(s sample) gpu.Value[uint32] { return s.Utilization.GPU }, func(v uint32) nvml.Utilization {
		return nvml.Utilization{Gpu: v, Memory: d.sample.Utilization.Memory.V}
	})
	coder := func(pick func(sample) gpu.Value[uint32]) func() (uint32, uint32, nvml.Return) {
		return func() (uint32, uint32, nvml.Return) {
			v, ret := show(d, pick, same)()
			return v, 200_000, ret
		}
	}
	m.GetEncoderUtilizationFunc = coder(func(s sample) gpu.Value[uint32] { return s.Utilization.Encoder })
	m.GetDecoderUtilizationFunc = coder(func(s sample) gpu.Value[uint32] { return s.Utilization.Decoder })
	m.GetSamplesFunc = d.samples
	asInt := func(v uint32) int { return int(v) }
	m.GetCurrPcieLinkGenerationFunc = show(d, func(s sample) gpu.Value[uint32] { return s.PCIe.Generation }, asInt)
	m.GetCurrPcieLinkWidthFunc = show(d, func(s sample) gpu.Value[uint32] { return s.PCIe.Width }, asInt)
	m.GetPcieThroughputFunc = func(of nvml.PcieUtilCounter) (uint32, nvml.Return) {
		return show(d, func(s sample) gpu.Value[uint64] {
			return []gpu.Value[uint64]{s.PCIe.SentPerSecond, s.PCIe.ReceivedPerSecond}[of]
		}, func(rate uint64) uint32 { return uint32(rate / 1000) })()
	}
	m.GetMigModeFunc = func() (int, int, nvml.Return) {
		now, ret := show(d, func(s sample) gpu.Value[bool] { return s.MIG.Enabled }, flag)()
		return now, now, ret
	}
	m.GetMigDeviceHandleByIndexFunc = d.instance
	m.GetFieldValuesFunc = d.fields
	d.lists(m, func(gpu.Process) bool { return true })
}

func flag(on bool) int {
	if on {
		return 1
	}
	return 0
}

func showMemory(d *mockDevice, pick func(gpu.Sample) gpu.Memory) func() (nvml.Memory_v2, nvml.Return) {
	return show(d, func(s gpu.Sample) gpu.Value[gpu.Memory] {
		m := pick(s)
		return gpu.Value[gpu.Memory]{V: m, Known: m.Total.Known}
	}, func(m gpu.Memory) nvml.Memory_v2 {
		return nvml.Memory_v2{Total: m.Total.V, Reserved: m.Reserved.V, Free: m.Free.V, Used: m.Used.V}
	})
}

func (d *mockDevice) power() (uint32, nvml.Return) {
	d.machine.mu.Lock()
	hangs, fails := d.hangs, d.fails
	d.machine.mu.Unlock()
	if hangs != nil {
		<-hangs
	}
	if fails == "power" {
		return 0, nvml.ERROR_UNKNOWN
	}
	return show(d, func(s gpu.Sample) gpu.Value[uint32] { return s.PowerMilliwatts }, same)()
}

func (d *mockDevice) samples(_ nvml.SamplingType, since uint64) (nvml.ValueType, []nvml.Sample, nvml.Return) {
	u, ret := show(d, func(s gpu.Sample) gpu.Value[gpu.Utilization] {
		return gpu.Value[gpu.Utilization]{V: s.Utilization, Known: s.Utilization.Mean.Known}
	}, same)()
	if ret != nvml.SUCCESS {
		return 0, nil, ret
	}
	if since > d.sampled {
		return 0, nil, nvml.ERROR_NOT_FOUND
	}
	return nvml.VALUE_TYPE_UNSIGNED_INT, []nvml.Sample{
		{TimeStamp: d.sampled, SampleValue: raw(uint64(u.Peak.V))},
		{TimeStamp: d.sampled + 1, SampleValue: raw(uint64(2*u.Mean.V - u.Peak.V))},
	}, nvml.SUCCESS
}

func raw(n uint64) (b [8]byte) {
	binary.NativeEndian.PutUint64(b[:], n)
	return b
}

// instance is one MIG device, with a gap after each.
func (d *mockDevice) instance(index int) (nvml.Device, nvml.Return) {
	all, ret := show(d, func(s gpu.Sample) gpu.Value[[]gpu.Instance] { return gpu.Known(s.MIG.Instances) }, same)()
	if ret != nvml.SUCCESS {
		return nil, ret
	}
	if index%2 != 0 || index/2 >= len(all) {
		return nil, nvml.ERROR_NOT_FOUND
	}
	i := all[index/2]
	m := &mock.Device{
		GetUUIDFunc:              func() (string, nvml.Return) { return i.UUID, nvml.SUCCESS },
		GetNameFunc:              func() (string, nvml.Return) { return d.device.Model + " MIG " + i.Profile, nvml.SUCCESS },
		GetGpuInstanceIdFunc:     func() (int, nvml.Return) { return int(i.GPUInstance.V), nvml.SUCCESS },
		GetComputeInstanceIdFunc: func() (int, nvml.Return) { return int(i.ComputeInstance.V), nvml.SUCCESS },
		GetMemoryInfo_v2Func:     showMemory(d, func(gpu.Sample) gpu.Memory { return i.Memory }),
	}
	d.lists(m, func(p gpu.Process) bool { return p.GPUInstance == i.GPUInstance })
	return m, nvml.SUCCESS
}

func (d *mockDevice) lists(m *mock.Device, own func(gpu.Process) bool) {
	list := func(kind gpu.ProcessKind) func() ([]nvml.ProcessInfo, nvml.Return) {
		return show(d, func(s gpu.Sample) gpu.Value[[]gpu.Process] {
			return gpu.Value[[]gpu.Process]{V: s.Processes, Known: s.ProcessesKnown}
		}, func(all []gpu.Process) (infos []nvml.ProcessInfo) {
			for _, p := range all {
				if p.Kind != kind || !own(p) {
					continue
				}
				info := nvml.ProcessInfo{Pid: p.PID, UsedGpuMemory: notAvailable, GpuInstanceId: 1<<32 - 1, ComputeInstanceId: 1<<32 - 1}
				if p.UsedMemory.Known {
					info.UsedGpuMemory = p.UsedMemory.V
				}
				infos = append(infos, info)
			}
			return infos
		})
	}
	m.GetComputeRunningProcessesFunc = list(gpu.ProcessCompute)
	m.GetGraphicsRunningProcessesFunc = list(gpu.ProcessGraphics)
	m.GetMPSComputeRunningProcessesFunc = list(gpu.ProcessMPS)
	m.GetProcessUtilizationFunc = func(uint64) ([]nvml.ProcessUtilizationSample, nvml.Return) {
		var shares []nvml.ProcessUtilizationSample
		for _, p := range d.sample.Processes {
			if p.SMUtilization.Known {
				shares = append(shares, nvml.ProcessUtilizationSample{Pid: p.PID, SmUtil: p.SMUtilization.V})
			}
		}
		return shares, nvml.SUCCESS
	}
}

// fields answers nvmlDeviceGetFieldValues by looking where package nvml would put
// each value, which the stand-in does by numbers of its own.
func (d *mockDevice) fields(fields []nvml.FieldValue) nvml.Return {
	s, ret := show(d, func(s gpu.Sample) gpu.Value[gpu.Sample] { return gpu.Known(s) }, same)()
	if ret != nvml.SUCCESS {
		return ret
	}
	for i := range fields {
		v := d.field(s, fields[i])
		fields[i].NvmlReturn, fields[i].ValueType = uint32(nvml.ERROR_NOT_SUPPORTED), uint32(nvml.VALUE_TYPE_UNSIGNED_LONG_LONG)
		if v.Known {
			fields[i].NvmlReturn, fields[i].Value = uint32(nvml.SUCCESS), raw(v.V)
		}
	}
	return nvml.SUCCESS
}

func (d *mockDevice) field(s gpu.Sample, f nvml.FieldValue) gpu.Value[uint64] {
	bit := func(v gpu.Value[bool]) gpu.Value[uint64] {
		return gpu.Value[uint64]{V: uint64(flag(v.V)), Known: v.Known}
	}
	kib := func(v gpu.Value[uint64]) gpu.Value[uint64] {
		return gpu.Value[uint64]{V: v.V / 1024, Known: v.Known}
	}
	if f.FieldId == nvml.FI_DEV_NVLINK_GET_STATE {
		if int(f.ScopeId) >= len(s.NVLink.Links) {
			return gpu.Value[uint64]{}
		}
		return gpu.Known(uint64(slices.Index([]gpu.LinkState{gpu.LinkInactive, gpu.LinkActive}, s.NVLink.Links[f.ScopeId])))
	}
	return map[uint32]gpu.Value[uint64]{
		nvml.FI_DEV_NVLINK_LINK_COUNT:                 gpu.Known(uint64(len(d.device.Links))),
		nvml.FI_DEV_MEMORY_TEMP:                       {V: uint64(s.Temperature.Memory.V), Known: s.Temperature.Memory.Known},
		nvml.FI_DEV_TOTAL_ENERGY_CONSUMPTION:          s.EnergyMillijoules,
		nvml.FI_DEV_ECC_SBE_VOL_TOTAL:                 s.ECC.Volatile.Corrected,
		nvml.FI_DEV_ECC_DBE_VOL_TOTAL:                 s.ECC.Volatile.Uncorrected,
		nvml.FI_DEV_ECC_SBE_AGG_TOTAL:                 s.ECC.Aggregate.Corrected,
		nvml.FI_DEV_ECC_DBE_AGG_TOTAL:                 s.ECC.Aggregate.Uncorrected,
		nvml.FI_DEV_RETIRED_SBE:                       s.RetiredPages.SingleBit,
		nvml.FI_DEV_RETIRED_DBE:                       s.RetiredPages.DoubleBit,
		nvml.FI_DEV_RETIRED_PENDING:                   bit(s.RetiredPages.Pending),
		nvml.FI_DEV_REMAPPED_COR:                      s.RemappedRows.Corrected,
		nvml.FI_DEV_REMAPPED_UNC:                      s.RemappedRows.Uncorrected,
		nvml.FI_DEV_REMAPPED_PENDING:                  bit(s.RemappedRows.Pending),
		nvml.FI_DEV_REMAPPED_FAILURE:                  bit(s.RemappedRows.Failed),
		nvml.FI_DEV_PCIE_REPLAY_COUNTER:               s.PCIe.Replays,
		nvml.FI_DEV_PCIE_COUNT_TX_BYTES:               s.PCIe.SentBytes,
		nvml.FI_DEV_PCIE_COUNT_RX_BYTES:               s.PCIe.ReceivedBytes,
		nvml.FI_DEV_GET_GPU_RECOVERY_ACTION:           {V: uint64(s.RecoveryAction.V), Known: s.RecoveryAction.Known},
		nvml.FI_DEV_NVLINK_THROUGHPUT_DATA_TX:         kib(s.NVLink.SentBytes),
		nvml.FI_DEV_NVLINK_THROUGHPUT_DATA_RX:         kib(s.NVLink.ReceivedBytes),
		nvml.FI_DEV_NVLINK_CRC_FLIT_ERROR_COUNT_TOTAL: s.NVLink.CRCErrors,
		nvml.FI_DEV_NVLINK_REPLAY_ERROR_COUNT_TOTAL:   s.NVLink.ReplayErrors,
		nvml.FI_DEV_NVLINK_RECOVERY_ERROR_COUNT_TOTAL: s.NVLink.Recovered,
	}[f.FieldId]
}

// TestANewHandle: a reset gives a device another handle. It is the same device, all
// of it is read, and its events are heard.
func TestANewHandle(t *testing.T) {
	t.Parallel()
	like := dgxh100.New()
	m := newMockMachine(dgxh100.New(), like)
	source, _, err := gpu.NewOpener(m.Open).Open(t.Context())
	require.NoError(t, err)
	inv, err := source.Enumerate(t.Context())
	require.NoError(t, err)
	after := dgxh100.NewDevice(0)
	after.UUID = inv.Devices[0].UUID
	m.devices[0].static(after)
	m.devices[0].dynamic(&after.Device)
	registered := 0
	after.RegisterEventsFunc = func(uint64, nvml.EventSet) nvml.Return { registered++; return nvml.SUCCESS }
	m.Devices[0] = after
	again, err := source.Enumerate(t.Context())
	require.NoError(t, err)
	require.Equal(t, inv, again)
	for range 2 {
		s, err := source.Sample(t.Context(), inv.Devices[0].ID)
		require.NoError(t, err)
		require.True(t, s.EnergyMillijoules.Known)
		require.Len(t, s.NVLink.Links, 18)
	}
	require.Equal(t, 1, registered)
	require.NoError(t, source.Close(t.Context()))
}

func TestMeanAndPeak(t *testing.T) {
	t.Parallel()
	mean, peak := meanAndPeak(nvml.VALUE_TYPE_UNSIGNED_INT, []nvml.Sample{{SampleValue: raw(0)}, {SampleValue: raw(99)}, {SampleValue: raw(100)}, {SampleValue: raw(101)}})
	require.Equal(t, "66", mean.String())
	require.Equal(t, "100", peak.String())
	mean, peak = meanAndPeak(nvml.VALUE_TYPE_UNSIGNED_INT, nil)
	require.False(t, mean.Known || peak.Known)
}
