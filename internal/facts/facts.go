// Package facts holds what is known about a cluster, its nodes and their
// devices: the types that the agent collects, the tunnel carries and the hub
// stores, with their digests, differences and wire form.
//
// A pointer that is nil, and an empty string, mean unknown. Nothing here is
// invented: a figure that no source gives stays unknown.
package facts

import "time"

// Cluster describes the cluster as a whole.
type Cluster struct {
	UID            string         `json:"uid"`
	Version        string         `json:"version"`
	Platform       Platform       `json:"platform"`
	Distribution   string         `json:"distribution"`
	StorageClasses []StorageClass `json:"storageClasses,omitempty"`
	IngressClasses []IngressClass `json:"ingressClasses,omitempty"`
	// Claims and DNS are nil when unknown: an older agent does not tell, and one
	// that may not look cannot.
	Claims *Claims `json:"claims,omitempty"`
	DNS    *DNS    `json:"dns,omitempty"`
}

// Claims counts the persistent volume claims by their phase.
type Claims struct {
	Bound   int64 `json:"bound"`
	Pending int64 `json:"pending"`
	Lost    int64 `json:"lost"`
	// PendingNames and LostNames are the first MaxClaimNames of them, as
	// namespace/name.
	PendingNames []string `json:"pendingNames,omitempty"`
	LostNames    []string `json:"lostNames,omitempty"`
}

// MaxClaimNames bounds each list of names in Claims.
const MaxClaimNames = 10

// DNS is the service by which pods find names. Service is namespace/name, and
// empty when there is none of those that are known. Ready counts its pods that
// are ready; it is nil for a service that selects no pods.
type DNS struct {
	Service string `json:"service"`
	Ready   *int32 `json:"ready,omitempty"`
}

// Platform is the kind of Kubernetes.
type Platform string

// The platforms.
const (
	PlatformKubernetes Platform = "kubernetes"
	PlatformOpenShift  Platform = "openshift"
)

// StorageClass is one way to get a volume. AccessMode is the widest mode that
// its provisioner is known to support, and empty when that is unknown.
// Parameters are the provisioner's, as StorageParameters keeps them.
type StorageClass struct {
	Name          string            `json:"name"`
	Provisioner   string            `json:"provisioner"`
	Default       bool              `json:"default,omitempty"`
	AccessMode    string            `json:"accessMode,omitempty"`
	ReclaimPolicy string            `json:"reclaimPolicy,omitempty"`
	Expandable    bool              `json:"expandable,omitempty"`
	BindingMode   string            `json:"bindingMode,omitempty"`
	Parameters    map[string]string `json:"parameters,omitempty"`
}

// IngressClass is one ingress controller's class.
type IngressClass struct {
	Name       string `json:"name"`
	Controller string `json:"controller"`
	Default    bool   `json:"default,omitempty"`
}

// Node is one machine. Labels omit NFD's feature labels, which are read into
// Devices instead, but for the few that NodeLabels keeps. Problems holds a
// sentence for each fact that was there and could not be read.
type Node struct {
	Name             string            `json:"name"`
	UID              string            `json:"uid"`
	Ready            bool              `json:"ready"`
	ReadyReason      string            `json:"readyReason,omitempty"`
	ReadyMessage     string            `json:"readyMessage,omitempty"`
	Schedulable      bool              `json:"schedulable"`
	Taints           []Taint           `json:"taints,omitempty"`
	Roles            []string          `json:"roles,omitempty"`
	Addresses        []Address         `json:"addresses,omitempty"`
	Labels           map[string]string `json:"labels,omitempty"`
	Pressures        []string          `json:"pressures,omitempty"`
	Architecture     string            `json:"architecture,omitempty"`
	OperatingSystem  string            `json:"operatingSystem,omitempty"`
	OSImage          string            `json:"osImage,omitempty"`
	Kernel           string            `json:"kernel,omitempty"`
	KubeletVersion   string            `json:"kubeletVersion,omitempty"`
	ContainerRuntime string            `json:"containerRuntime,omitempty"`
	Capacity         Resources         `json:"capacity"`
	Allocatable      Resources         `json:"allocatable"`
	Requested        Resources         `json:"requested"`
	Devices          []Device          `json:"devices,omitempty"`
	CreatedAt        time.Time         `json:"createdAt"`
	Problems         []string          `json:"problems,omitempty"`
}

// Taint keeps pods off a node.
type Taint struct {
	Key    string `json:"key"`
	Value  string `json:"value,omitempty"`
	Effect string `json:"effect"`
}

// Address is one address of a node; Type is Kubernetes's, e.g. InternalIP.
type Address struct {
	Type    string `json:"type"`
	Address string `json:"address"`
}

// Resources are amounts: CPU in thousandths of a core, the rest in bytes and
// pieces.
type Resources struct {
	CPUMillis      int64            `json:"cpuMillis"`
	MemoryBytes    int64            `json:"memoryBytes"`
	EphemeralBytes int64            `json:"ephemeralBytes,omitempty"`
	Pods           int64            `json:"pods,omitempty"`
	Extended       map[string]int64 `json:"extended,omitempty"`
}

// Device is one accelerator, or the CPU of a node taken as one device.
type Device struct {
	// ID is stable within the node: the UUID where known, else
	// vendor-kind-index.
	ID                string  `json:"id"`
	Vendor            string  `json:"vendor"`
	Kind              Kind    `json:"kind"`
	Model             string  `json:"model,omitempty"`
	UUID              string  `json:"uuid,omitempty"`
	Index             *int32  `json:"index,omitempty"`
	MemoryBytes       *int64  `json:"memoryBytes,omitempty"`
	Health            Health  `json:"health"`
	Sharing           Sharing `json:"sharing,omitempty"`
	DriverVersion     string  `json:"driverVersion,omitempty"`
	CUDAVersion       string  `json:"cudaVersion,omitempty"`
	ComputeCapability string  `json:"computeCapability,omitempty"`
	// Cores are those that pods can have, of a CPU.
	Cores *int32 `json:"cores,omitempty"`
	// Threads are those of the machine, of a CPU.
	Threads         *int32     `json:"threads,omitempty"`
	InstructionSets []string   `json:"instructionSets,omitempty"`
	Resource        string     `json:"resource,omitempty"`
	Source          Source     `json:"source"`
	SuspectSince    *time.Time `json:"suspectSince,omitempty"`
}

// Kind is the programming model of a device.
type Kind string

// The kinds of device.
const (
	KindCUDA Kind = "cuda"
	KindROCm Kind = "rocm"
	KindHPU  Kind = "hpu"
	KindCPU  Kind = "cpu"
)

// Health says whether work may be put on a device.
type Health string

// The states of health.
const (
	HealthHealthy   Health = "healthy"
	HealthUnhealthy Health = "unhealthy"
	HealthUnknown   Health = "unknown"
)

// Sharing is how one device serves several containers.
type Sharing string

// The ways of sharing; empty is unknown.
const (
	SharingNone        Sharing = "none"
	SharingTimeSlicing Sharing = "time-slicing"
	SharingMPS         Sharing = "mps"
	SharingMIG         Sharing = "mig"
	SharingHAMi        Sharing = "hami"
)

// Source says who told us about a device.
type Source string

// The sources, from weakest to strongest.
const (
	// SourceResource: an extended resource of the node, so a count only.
	SourceResource Source = "resource"
	// SourceLabel: labels set by NFD or GFD.
	SourceLabel Source = "label"
	// SourceHAMi: the annotation of HAMi's device plugin, by UUID.
	SourceHAMi Source = "hami"
	// SourceNode: the node's own status, for CPUs.
	SourceNode Source = "node"
	// SourceNVML: NVIDIA's management library, read on the node.
	SourceNVML Source = "nvml"
)
