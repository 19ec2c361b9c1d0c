package facts

import (
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// ClusterFromProto reads what a peer sent. It accepts anything: what has no
// meaning becomes unknown.
func ClusterFromProto(p *agentv1.ClusterFacts) Cluster {
	return Cluster{
		UID:            clean(p.GetUid()),
		Version:        clean(p.GetVersion()),
		Platform:       Platform(clean(p.GetPlatform())),
		Distribution:   clean(p.GetDistribution()),
		StorageClasses: convert(p.GetStorageClasses(), storageClassFromProto),
		IngressClasses: convert(p.GetIngressClasses(), func(c *agentv1.IngressClass) IngressClass {
			return IngressClass{Name: clean(c.GetName()), Controller: clean(c.GetController()), Default: c.GetIsDefault()}
		}),
		Claims: claimsFromProto(p.GetClaims()),
		DNS:    dnsFromProto(p.GetDns()),
	}
}

// maxClaims is beyond what any cluster can hold, and sums of it are numbers
// still.
const maxClaims = 1 << 40

func claimsFromProto(p *agentv1.Claims) *Claims {
	if p == nil {
		return nil
	}
	names := func(in []string) []string { return convert(in[:min(len(in), MaxClaimNames)], cleanName) }
	number := func(n int64) int64 { return min(max(n, 0), maxClaims) }
	return &Claims{
		Bound: number(p.GetBound()), Pending: number(p.GetPending()), Lost: number(p.GetLost()),
		PendingNames: names(p.GetPendingNames()), LostNames: names(p.GetLostNames()),
	}
}

func dnsFromProto(p *agentv1.Dns) *DNS {
	if p == nil {
		return nil
	}
	d := &DNS{Service: cleanName(p.GetService()), Ready: clone(p.Ready)}
	if d.Ready != nil {
		*d.Ready = max(*d.Ready, 0)
	}
	return d
}

// cleanName bounds a namespace and a name: Kubernetes's own bound is 253 bytes
// each.
func cleanName(s string) string { return clipTo(clean(s), 2*253+1) }

func storageClassFromProto(c *agentv1.StorageClass) StorageClass {
	return StorageClass{
		Name: clean(c.GetName()), Provisioner: clean(c.GetProvisioner()), Default: c.GetIsDefault(),
		AccessMode: clean(c.GetAccessMode()), ReclaimPolicy: clean(c.GetReclaimPolicy()),
		Expandable: c.GetExpandable(), BindingMode: clean(c.GetBindingMode()), Parameters: StorageParameters(c.GetParameters()),
	}
}

// ToProto is the wire form.
func (c Cluster) ToProto() *agentv1.ClusterFacts {
	out := &agentv1.ClusterFacts{
		Uid: c.UID, Version: c.Version, Platform: string(c.Platform), Distribution: c.Distribution,
		StorageClasses: convert(c.StorageClasses, func(s StorageClass) *agentv1.StorageClass {
			return &agentv1.StorageClass{
				Name: s.Name, Provisioner: s.Provisioner, IsDefault: s.Default, AccessMode: s.AccessMode,
				ReclaimPolicy: s.ReclaimPolicy, Expandable: s.Expandable, BindingMode: s.BindingMode, Parameters: s.Parameters,
			}
		}),
		IngressClasses: convert(c.IngressClasses, func(i IngressClass) *agentv1.IngressClass {
			return &agentv1.IngressClass{Name: i.Name, Controller: i.Controller, IsDefault: i.Default}
		}),
	}
	if c.Claims != nil {
		out.Claims = &agentv1.Claims{
			Bound: c.Claims.Bound, Pending: c.Claims.Pending, Lost: c.Claims.Lost,
			PendingNames: c.Claims.PendingNames, LostNames: c.Claims.LostNames,
		}
	}
	if c.DNS != nil {
		out.Dns = &agentv1.Dns{Service: c.DNS.Service, Ready: clone(c.DNS.Ready)}
	}
	return out
}

// NodeFromProto reads what a peer sent. It accepts anything: what has no
// meaning becomes unknown.
func NodeFromProto(p *agentv1.NodeFacts) Node {
	return Node{
		Name: clean(p.GetName()), UID: clean(p.GetUid()),
		Ready: p.GetReady(), ReadyReason: clean(p.GetReadyReason()), ReadyMessage: clean(p.GetReadyMessage()),
		Schedulable: p.GetSchedulable(),
		Taints: convert(p.GetTaints(), func(t *agentv1.Taint) Taint {
			return Taint{Key: clean(t.GetKey()), Value: clean(t.GetValue()), Effect: clean(t.GetEffect())}
		}),
		Roles: convert(p.GetRoles(), clean),
		Addresses: convert(p.GetAddresses(), func(a *agentv1.Address) Address {
			return Address{Type: clean(a.GetType()), Address: clean(a.GetAddress())}
		}),
		Labels:       cleanMap(p.GetLabels(), clean),
		Pressures:    convert(p.GetPressures(), clean),
		Architecture: clean(p.GetArchitecture()), OperatingSystem: clean(p.GetOperatingSystem()),
		OSImage: clean(p.GetOsImage()), Kernel: clean(p.GetKernel()),
		KubeletVersion: clean(p.GetKubeletVersion()), ContainerRuntime: clean(p.GetContainerRuntime()),
		Capacity:    resourcesFromProto(p.GetCapacity()),
		Allocatable: resourcesFromProto(p.GetAllocatable()),
		Requested:   resourcesFromProto(p.GetRequested()),
		Devices:     convert(p.GetDevices(), deviceFromProto),
		CreatedAt:   timeFromProto(p.GetCreatedAt()),
		Problems:    convert(p.GetProblems(), clean),
	}
}

// ToProto is the wire form.
func (n Node) ToProto() *agentv1.NodeFacts {
	return &agentv1.NodeFacts{
		Name: n.Name, Uid: n.UID, Ready: n.Ready, ReadyReason: n.ReadyReason, ReadyMessage: n.ReadyMessage,
		Schedulable: n.Schedulable,
		Taints: convert(n.Taints, func(t Taint) *agentv1.Taint {
			return &agentv1.Taint{Key: t.Key, Value: t.Value, Effect: t.Effect}
		}),
		Roles: n.Roles,
		Addresses: convert(n.Addresses, func(a Address) *agentv1.Address {
			return &agentv1.Address{Type: a.Type, Address: a.Address}
		}),
		Labels: n.Labels, Pressures: n.Pressures, Architecture: n.Architecture, OperatingSystem: n.OperatingSystem,
		OsImage: n.OSImage, Kernel: n.Kernel, KubeletVersion: n.KubeletVersion, ContainerRuntime: n.ContainerRuntime,
		Capacity: n.Capacity.toProto(), Allocatable: n.Allocatable.toProto(), Requested: n.Requested.toProto(),
		Devices: convert(n.Devices, Device.toProto), CreatedAt: timeToProto(n.CreatedAt), Problems: n.Problems,
	}
}

func resourcesFromProto(p *agentv1.Resources) Resources {
	return Resources{
		CPUMillis: p.GetCpuMillis(), MemoryBytes: p.GetMemoryBytes(), EphemeralBytes: p.GetEphemeralBytes(), Pods: p.GetPods(),
		Extended: cleanMap(p.GetExtended(), func(v int64) int64 { return v }),
	}
}

func (r Resources) toProto() *agentv1.Resources {
	return &agentv1.Resources{
		CpuMillis: r.CPUMillis, MemoryBytes: r.MemoryBytes, EphemeralBytes: r.EphemeralBytes, Pods: r.Pods, Extended: r.Extended,
	}
}

func deviceFromProto(p *agentv1.Device) Device {
	d := Device{
		ID: clean(p.GetId()), Vendor: clean(p.GetVendor()), Kind: Kind(clean(p.GetKind())), Model: clean(p.GetModel()), UUID: clean(p.GetUuid()),
		Health: Health(clean(p.GetHealth())), Sharing: Sharing(clean(p.GetSharing())),
		DriverVersion: clean(p.GetDriverVersion()), CUDAVersion: clean(p.GetCudaVersion()), ComputeCapability: clean(p.GetComputeCapability()),
		InstructionSets: convert(p.GetInstructionSets(), clean), Resource: clean(p.GetResource()), Source: Source(clean(p.GetSource())),
	}
	if p != nil {
		d.Index, d.MemoryBytes, d.Cores, d.Threads = clone(p.Index), clone(p.MemoryBytes), clone(p.Cores), clone(p.Threads)
	}
	if t := timeFromProto(p.GetSuspectSince()); !t.IsZero() {
		d.SuspectSince = &t
	}
	return d
}

func (d Device) toProto() *agentv1.Device {
	p := &agentv1.Device{
		Id: d.ID, Vendor: d.Vendor, Kind: string(d.Kind), Model: d.Model, Uuid: d.UUID,
		Index: clone(d.Index), MemoryBytes: clone(d.MemoryBytes), Cores: clone(d.Cores), Threads: clone(d.Threads),
		Health: string(d.Health), Sharing: string(d.Sharing),
		DriverVersion: d.DriverVersion, CudaVersion: d.CUDAVersion, ComputeCapability: d.ComputeCapability,
		InstructionSets: d.InstructionSets, Resource: d.Resource, Source: string(d.Source),
	}
	if d.SuspectSince != nil {
		p.SuspectSince = timeToProto(*d.SuspectSince)
	}
	return p
}

// convert maps a list; an empty one is nil.
func convert[From, To any](in []From, f func(From) To) []To {
	if len(in) == 0 {
		return nil
	}
	out := make([]To, len(in))
	for i, v := range in {
		out[i] = f(v)
	}
	return out
}

func cleanMap[V any](in map[string]V, f func(V) V) map[string]V {
	if len(in) == 0 {
		return nil
	}
	out := make(map[string]V, len(in))
	for k, v := range in {
		out[clean(k)] = f(v)
	}
	return out
}

func clone[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}

// clean drops what neither JSON nor Postgres can hold.
func clean(s string) string {
	return strings.ReplaceAll(strings.ToValidUTF8(s, "�"), "\x00", "")
}

// timeFromProto keeps what RFC 3339 can write; other times are unknown. The
// precision is that of the database.
func timeFromProto(t *timestamppb.Timestamp) time.Time {
	if t == nil || !t.IsValid() {
		return time.Time{}
	}
	return normalTime(t.AsTime())
}

func timeToProto(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

func normalTime(t time.Time) time.Time {
	if t.IsZero() || t.Year() < 1 || t.Year() > 9999 {
		return time.Time{}
	}
	return t.UTC().Truncate(time.Microsecond)
}
