//go:build cgo && linux

package nvml_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/gpu"
	"github.com/budecosystem/budcluster/agent/internal/gpu/gputest"
	"github.com/budecosystem/budcluster/agent/internal/gpu/nvml"
	"github.com/budecosystem/budcluster/agent/internal/gpu/nvml/nvmltest"
)

// There is one stand-in in this process, since a function that was called once is
// bound to the library that it was found in. So these tests are not parallel.
var standIn string

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "read" {
		os.Exit(read())
	}
	dir, err := os.MkdirTemp("", "nvml")
	if err == nil {
		err = nvmltest.Build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	standIn = dir
	code := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(code)
}

// read is a program that reads all devices once and prints what it got.
func read() int {
	ctx := context.Background()
	source, absence, err := gpu.NewOpener(nvml.Open("")).Open(ctx)
	if err != nil || absence != "" {
		fmt.Printf("absence %q, error %v\n", absence, err)
		return 0
	}
	inv, err := source.Enumerate(ctx)
	fmt.Printf("%d devices, driver %s, error %v\n", len(inv.Devices), inv.System.DriverVersion, err)
	for _, d := range inv.Devices[:min(1, len(inv.Devices))] {
		s, err := source.Sample(ctx, d.ID)
		fmt.Printf("%s: memory %v used %v reserved %v, throttle %v, processes %v, MIG %v, problems %v %v, error %v\n",
			d.Model, s.Memory.Total, s.Memory.Used, s.Memory.Reserved, s.Throttle, s.ProcessesKnown, s.MIG.Enabled, d.Problems, s.Problems, err)
	}
	return 0
}

func machine(t testing.TB) *nvmltest.Machine {
	t.Helper()
	return nvmltest.NewMachine(t, standIn, gputest.Inventory(), gputest.Samples(), nvml.Open(filepath.Join(standIn, nvmltest.Library)))
}

func open(t testing.TB, m *nvmltest.Machine) *gpu.Source {
	t.Helper()
	source, absence, err := gpu.NewOpener(m.Open).Open(t.Context())
	require.NoError(t, err)
	require.Empty(t, absence)
	t.Cleanup(func() { require.NoError(t, source.Close(context.Background())) })
	return source
}

func TestStandIn(t *testing.T) { //nolint:paralleltest // there is one stand-in in this process
	gputest.Exercise(t, gputest.Inventory(), gputest.Samples(), func(t *testing.T) gputest.Machine { return machine(t) })
}

// TestEveryCodeIsSurvived: whatever code a function answers with, the device stays,
// and what it costs is said or was never there.
func TestEveryCodeIsSurvived(t *testing.T) { //nolint:paralleltest // there is one stand-in in this process
	m := machine(t)
	source := open(t, m)
	inv, err := source.Enumerate(t.Context())
	require.NoError(t, err)
	id := inv.Devices[0].ID
	quiet := []int{3, 13, 21, 25, 26}
	for _, code := range append(slices.Collect(sequence(2, 31)), 999, -5) {
		for _, function := range []string{
			"nvmlDeviceGetPowerUsage", "nvmlDeviceGetTemperature.0", "nvmlDeviceGetFieldValues", "nvmlDeviceGetFieldValues.83",
			"nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetMigMode",
		} {
			if code == 7 && strings.Contains(function, "Processes") || code == 9 || code == 18 {
				continue // asks for more room until there is none; the driver is gone
			}
			m.Set(0, gputest.Idle())
			m.Say("0", function, fmt.Sprintf("!%d", code))
			s, err := source.Sample(t.Context(), id)
			require.NoError(t, err, "%s answered with %d", function, code)
			switch {
			case code == 15:
				require.True(t, s.Lost)
			case slices.Contains(quiet, code), code == 2 && strings.HasSuffix(function, ".83"):
				require.Empty(t, s.Problems, "%s answered with %d", function, code)
			default:
				require.Len(t, s.Problems, 1, "%s answered with %d", function, code)
			}
			require.False(t, s.Lost && code != 15)
		}
	}
}

func sequence(from, to int) func(func(int) bool) {
	return func(yield func(int) bool) {
		for i := from; i < to; i++ {
			if !yield(i) {
				return
			}
		}
	}
}

// TestReplacedDriver: the driver was upgraded or unloaded while the library is
// loaded.
func TestReplacedDriver(t *testing.T) { //nolint:paralleltest // there is one stand-in in this process
	m := machine(t)
	source := open(t, m)
	inv, err := source.Enumerate(t.Context())
	require.NoError(t, err)
	m.Say("0", "nvmlDeviceGetPowerUsage", "!18")
	_, err = source.Sample(t.Context(), inv.Devices[0].ID)
	require.ErrorIs(t, err, gpu.ErrReplaced)
	m.Say("-", "nvmlDeviceGetCount_v2", "!9")
	again, err := source.Enumerate(t.Context())
	require.ErrorIs(t, err, gpu.ErrReplaced)
	require.Equal(t, inv.Devices, again.Devices, "unknown is not gone")
	m.Say("-", "nvmlEventSetWait_v2", "!1")
	_, err = source.Wait(t.Context())
	require.ErrorIs(t, err, gpu.ErrReplaced)
}

func TestOpenSaysWhyNot(t *testing.T) { //nolint:paralleltest // there is one stand-in in this process
	m := machine(t)
	for answer, want := range map[string]gpu.Absence{"!12": gpu.NoLibrary, "!9": gpu.NoDriver} {
		m.Say("-", "nvmlInit_v2", answer)
		source, absence, err := gpu.NewOpener(m.Open).Open(t.Context())
		require.NoError(t, err)
		require.Equal(t, want, absence)
		require.Nil(t, source)
	}
	for answer, want := range map[string]string{"!4": "may not ask", "!18": "must be restarted", "!999": "internal error"} {
		m.Say("-", "nvmlInit_v2", answer)
		_, _, err := gpu.NewOpener(m.Open).Open(t.Context())
		require.ErrorContains(t, err, want)
	}
	none := t.TempDir()
	_, absence, err := gpu.NewOpener(nvml.Open(filepath.Join(none, nvmltest.Library))).Open(t.Context())
	require.NoError(t, err)
	require.Equal(t, gpu.NoLibrary, absence)
	text := filepath.Join(none, "text.so")
	require.NoError(t, os.WriteFile(text, []byte("not a library"), 0o600))
	_, _, err = gpu.NewOpener(nvml.Open(text)).Open(t.Context())
	require.ErrorContains(t, err, "load the NVIDIA driver library")
}

func TestDuplicateAndNamelessDevices(t *testing.T) { //nolint:paralleltest // there is one stand-in in this process
	m := machine(t)
	source := open(t, m)
	m.Say("1", "nvmlDeviceGetUUID", gputest.Device(0).UUID)
	m.Say("2", "nvmlDeviceGetUUID", "!4")
	inv, err := source.Enumerate(t.Context())
	require.NoError(t, err)
	require.Len(t, inv.Devices, 7)
	require.Len(t, inv.Problems, 1)
	require.Contains(t, inv.Problems[0].Reason, "GPU 1 has the UUID of another")
	require.Equal(t, "index-2", inv.Devices[1].ID)
	require.False(t, inv.Devices[1].Lost)
	require.Contains(t, inv.Devices[1].Problems[0].Reason, "may not ask")
	_, err = source.Sample(t.Context(), "index-2")
	require.ErrorContains(t, err, "may not ask")
	require.Equal(t, gpu.Unknown, gpu.Judge(inv.Devices[1], gpu.Sample{}, err, nil).Health)
}

// TestLostWhileItIsDescribed: half of a description is none.
func TestLostWhileItIsDescribed(t *testing.T) { //nolint:paralleltest // there is one stand-in in this process
	m := machine(t)
	source := open(t, m)
	m.Say("0", "nvmlDeviceGetSerial", "!15")
	inv, err := source.Enumerate(t.Context())
	require.NoError(t, err)
	require.True(t, inv.Devices[0].Lost)
	require.Equal(t, gputest.Inventory().Devices[1:], inv.Devices[1:])
	m.Set(0, gputest.Idle())
	inv, err = source.Enumerate(t.Context())
	require.NoError(t, err)
	require.Equal(t, gputest.Inventory(), inv)
}

// TestEveryCallMayHang: each kind of call in turn does not come back, until it
// does.
func TestEveryCallMayHang(t *testing.T) { //nolint:paralleltest // there is one stand-in in this process
	soon := func(t *testing.T) context.Context {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		t.Cleanup(cancel)
		return ctx
	}
	t.Run("open", func(t *testing.T) { //nolint:paralleltest // there is one stand-in in this process
		m := machine(t)
		m.Say("-", "nvmlInit_v2", "hang")
		opener := gpu.NewOpener(m.Open)
		_, _, err := opener.Open(soon(t))
		require.ErrorIs(t, err, gpu.ErrNoAnswer)
		m.Say("-", "nvmlInit_v2", "")
		// The call comes back at once or a little later; until then it is not repeated.
		for err != nil {
			var source *gpu.Source
			if source, _, err = opener.Open(t.Context()); err == nil {
				require.NoError(t, source.Close(t.Context()))
			} else {
				require.ErrorIs(t, err, gpu.ErrNoAnswer)
				runtime.Gosched()
			}
		}
	})
	t.Run("list", func(t *testing.T) { //nolint:paralleltest // there is one stand-in in this process
		m := machine(t)
		source := open(t, m)
		inv, err := source.Enumerate(t.Context())
		require.NoError(t, err)
		m.Say("-", "nvmlDeviceGetCount_v2", "hang")
		again, err := source.Enumerate(soon(t))
		require.ErrorIs(t, err, gpu.ErrNoAnswer)
		require.Equal(t, inv.Devices, again.Devices)
		_, err = source.Sample(t.Context(), inv.Devices[0].ID)
		require.NoError(t, err)
		m.Say("-", "nvmlDeviceGetCount_v2", "8")
		answers(t, source, "")
		again, err = source.Enumerate(t.Context())
		require.NoError(t, err)
		require.Equal(t, inv, again)
	})
	t.Run("events", func(t *testing.T) { //nolint:paralleltest // there is one stand-in in this process
		m := machine(t)
		source := open(t, m)
		m.Say("-", "nvmlEventSetWait_v2", "hang")
		_, err := source.Wait(soon(t))
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, source.Close(soon(t)), gpu.ErrNoAnswer)
		m.Say("-", "nvmlEventSetWait_v2", "!3")
	})
	for _, function := range []string{"nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetFieldValues.83", "nvmlDeviceGetComputeRunningProcesses_v3"} {
		t.Run(function, func(t *testing.T) { //nolint:paralleltest // there is one stand-in in this process
			m := machine(t)
			source := open(t, m)
			inv, err := source.Enumerate(t.Context())
			require.NoError(t, err)
			m.Say("0", function, "hang")
			_, err = source.Sample(soon(t), inv.Devices[0].ID)
			require.ErrorIs(t, err, gpu.ErrNoAnswer)
			m.Set(0, gputest.Idle())
			answers(t, source, inv.Devices[0].ID)
			s, err := source.Sample(t.Context(), inv.Devices[0].ID)
			require.NoError(t, err)
			require.Empty(t, s.Problems)
		})
	}
}

// answers waits until a device does again.
func answers(t *testing.T, source *gpu.Source, id string) {
	t.Helper()
	e, err := source.Wait(t.Context())
	require.NoError(t, err)
	require.Equal(t, gpu.EventAnswers, e.Kind)
	require.Equal(t, id, e.Device)
}

// TestGarbage: what a driver says that cannot be costs the field, and not the
// device.
func TestGarbage(t *testing.T) { //nolint:paralleltest // there is one stand-in in this process
	m := machine(t)
	source := open(t, m)
	for function, answer := range map[string]string{
		"nvmlDeviceGetName":             "\x1b[31mH100\t{\"a\"}\xff" + strings.Repeat("x", 500),
		"nvmlDeviceGetArchitecture":     "4294967295",
		"nvmlDeviceGetMinorNumber":      "4294967295",
		"nvmlDeviceGetMemoryAffinity":   "3",
		"nvmlDeviceGetFieldValues.91":   "1 4000000000",
		"nvmlDeviceGetMemoryInfo_v2":    "10 0 0 11",
		"nvmlDeviceGetFieldValues.82":   "0 nan",
		"nvmlDeviceGetFieldValues.4":    "4 -1",
		"nvmlDeviceGetFieldValues.230":  "1 77",
		"nvmlDeviceGetSamples.1":        "1 200 2 300",
		"nvmlDeviceGetPerformanceState": "32",
	} {
		m.Say("0", function, answer)
	}
	inv, err := source.Enumerate(t.Context())
	require.NoError(t, err)
	d := inv.Devices[0]
	require.True(t, strings.HasPrefix(d.Model, `[31mH100{"a"}`), d.Model)
	require.Empty(t, d.Architecture)
	require.Equal(t, "? ?", d.Minor.String()+" "+d.NUMANode.String())
	require.Len(t, d.Links, 36)
	s, err := source.Sample(t.Context(), d.ID)
	require.NoError(t, err)
	require.Equal(t, "10 ?", s.Memory.Total.String()+" "+s.Memory.Used.String())
	require.Equal(t, "? ? ? ? ?", strings.Join([]string{
		s.Temperature.Memory.String(), s.ECC.Volatile.Uncorrected.String(), s.RecoveryAction.String(), s.Utilization.Peak.String(), s.PerformanceState.String(),
	}, " "))
	var fields []string
	for _, p := range s.Problems {
		fields = append(fields, p.Field)
	}
	require.Equal(t, []string{"temperature.memory", "ecc.volatile", "memory.used", "recovery_action"}, fields)
	require.Equal(t, inv.Devices[1], gputest.Device(1))
}

// TestStaticFactsAreReadOnce: a sample makes none of the calls that describe a
// device. The trace is also the list of the calls that a sample makes.
func TestStaticFactsAreReadOnce(t *testing.T) { //nolint:paralleltest // there is one stand-in in this process
	m := machine(t)
	source := open(t, m)
	inv, err := source.Enumerate(t.Context())
	require.NoError(t, err)
	calls := filepath.Join(t.TempDir(), "calls")
	m.Say("-", "trace", calls)
	_, err = source.Sample(t.Context(), inv.Devices[0].ID)
	require.NoError(t, err)
	_, err = source.Enumerate(t.Context())
	require.NoError(t, err)
	m.Say("-", "trace", os.DevNull)
	text, err := os.ReadFile(calls)
	require.NoError(t, err)
	var made []string
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "0 ") && !strings.Contains(line, "FieldValues.") { // one call
			made = append(made, strings.TrimSpace(line[2:]))
		}
	}
	require.Equal(t, []string{
		"nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetBAR1MemoryInfo", "nvmlDeviceGetPowerUsage", "nvmlDeviceGetEnforcedPowerLimit",
		"nvmlDeviceGetClockInfo.0", "nvmlDeviceGetClockInfo.1", "nvmlDeviceGetClockInfo.2", "nvmlDeviceGetClockInfo.3",
		"nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetEncoderUtilization",
		"nvmlDeviceGetDecoderUtilization", "nvmlDeviceGetSamples.1", "nvmlDeviceGetSamples.1", "nvmlDeviceGetMigMode",
		"nvmlDeviceGetTemperature.0", "nvmlDeviceGetPerformanceState", "nvmlDeviceGetCurrPcieLinkGeneration",
		"nvmlDeviceGetCurrPcieLinkWidth", "nvmlDeviceGetFieldValues", "nvmlDeviceGetComputeRunningProcesses_v3",
		"nvmlDeviceGetGraphicsRunningProcesses_v3", "nvmlDeviceGetMPSComputeRunningProcesses_v3",
		// of Enumerate
		"nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetUUID",
	}, made)
}

// TestLibraryByName: the dynamic linker finds the library by its plain name, in
// processes of their own: one with the stand-in, one with that of an older driver,
// which lacks functions that must not be called, and one without any.
func TestLibraryByName(t *testing.T) { //nolint:paralleltest // there is one stand-in in this process
	old := t.TempDir()
	require.NoError(t, nvmltest.Build(old, nvmltest.Old))
	current := t.TempDir()
	require.NoError(t, nvmltest.Build(current))
	for dir, want := range map[string]string{
		current: "8 devices, driver 570.86.15, error <nil>\nNVIDIA H100 80GB HBM3: memory 85899345920 used 0 reserved 536870912, throttle gpu_idle, processes true, MIG false, problems [] [], error <nil>\n",
		old:     "8 devices, driver 570.86.15, error <nil>\nNVIDIA H100 80GB HBM3: memory 85899345920 used 536870912 reserved ?, throttle gpu_idle, processes false, MIG ?, problems [] [], error <nil>\n",
		"":      "absence \"no NVIDIA driver library\", error <nil>\n",
	} {
		if dir != "" {
			nvmltest.NewMachine(t, dir, gputest.Inventory(), gputest.Samples(), nil)
		}
		cmd := exec.CommandContext(t.Context(), os.Args[0], "read")
		cmd.Env = []string{"LD_LIBRARY_PATH=" + dir}
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, "%s", out)
		require.Equal(t, want, string(out))
	}
}
