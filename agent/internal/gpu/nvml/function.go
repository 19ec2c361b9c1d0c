//go:build cgo && linux

package nvml

import "github.com/NVIDIA/go-nvml/pkg/nvml"

// function is one of NVML, without the version in its name.
type function string

// symbols lists the functions that are used, each with the names that it has in
// the libraries of different ages. go-nvml calls the newest that is there.
func symbols() map[function][]string {
	all := map[function][]string{}
	for _, name := range []function{
		"nvmlShutdown", "nvmlSystemGetDriverVersion", "nvmlSystemGetNVMLVersion", "nvmlSystemGetCudaDriverVersion",
		"nvmlDeviceGetUUID", "nvmlDeviceGetSerial", "nvmlDeviceGetName", "nvmlDeviceGetArchitecture",
		"nvmlDeviceGetCudaComputeCapability", "nvmlDeviceGetMinorNumber", "nvmlDeviceGetMemoryAffinity",
		"nvmlDeviceGetPowerManagementLimitConstraints", "nvmlDeviceGetPowerManagementDefaultLimit",
		"nvmlDeviceGetMaxClockInfo", "nvmlDeviceGetTemperatureThreshold", "nvmlDeviceGetMaxPcieLinkGeneration",
		"nvmlDeviceGetMaxPcieLinkWidth", "nvmlDeviceGetNvLinkVersion", "nvmlDeviceGetNvLinkRemoteDeviceType",
		"nvmlDeviceGetMaxMigDeviceCount", "nvmlDeviceGetSupportedEventTypes", "nvmlDeviceRegisterEvents",
		"nvmlEventSetCreate", "nvmlEventSetFree",
		"nvmlDeviceGetMemoryInfo", "nvmlDeviceGetMemoryInfo_v2", "nvmlDeviceGetBAR1MemoryInfo", "nvmlDeviceGetPowerUsage",
		"nvmlDeviceGetEnforcedPowerLimit", "nvmlDeviceGetTemperature", "nvmlDeviceGetClockInfo",
		"nvmlDeviceGetPerformanceState", "nvmlDeviceGetCurrentClocksEventReasons",
		"nvmlDeviceGetCurrentClocksThrottleReasons", "nvmlDeviceGetUtilizationRates", "nvmlDeviceGetEncoderUtilization",
		"nvmlDeviceGetDecoderUtilization", "nvmlDeviceGetSamples", "nvmlDeviceGetFieldValues",
		"nvmlDeviceGetCurrPcieLinkGeneration", "nvmlDeviceGetCurrPcieLinkWidth", "nvmlDeviceGetPcieThroughput", "nvmlDeviceGetMigMode",
		"nvmlDeviceGetMigDeviceHandleByIndex", "nvmlDeviceGetGpuInstanceId", "nvmlDeviceGetComputeInstanceId",
		"nvmlDeviceGetProcessUtilization",
	} {
		all[name] = []string{string(name)}
	}
	for name, versions := range map[function][]string{
		"nvmlDeviceGetCount":                      {"_v2", ""},
		"nvmlDeviceGetHandleByIndex":              {"_v2", ""},
		"nvmlDeviceGetPciInfo":                    {"_v3", "_v2", ""},
		"nvmlDeviceGetNvLinkRemotePciInfo":        {"_v2", ""},
		"nvmlEventSetWait":                        {"_v2", ""},
		"nvmlDeviceGetComputeRunningProcesses":    {"_v3", "_v2", ""},
		"nvmlDeviceGetGraphicsRunningProcesses":   {"_v3", "_v2", ""},
		"nvmlDeviceGetMPSComputeRunningProcesses": {"_v3", "_v2", ""},
	} {
		for _, v := range versions {
			all[name] = append(all[name], string(name)+v)
		}
	}
	return all
}

// present looks up which of the functions the loaded library has.
func present(lib nvml.ExtendedInterface) map[function]bool {
	has := map[function]bool{}
	for name, versions := range symbols() {
		for _, symbol := range versions {
			has[name] = has[name] || lib.LookupSymbol(symbol) == nil
		}
	}
	return has
}
