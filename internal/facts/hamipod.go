package facts

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
)

// The annotations with which HAMi's scheduler tells what it gave a pod
// (docs/develop/protocol.md of HAMi 2.10). Each kind of device has one whose
// name ends in hamiAllocated; that of NVIDIA is
// hami.io/vgpu-devices-allocated.
const (
	hamiPrefix    = "hami.io/"
	hamiAllocated = "-devices-allocated"
	hamiNode      = "hami.io/vgpu-node"
	hamiPhase     = "hami.io/bind-phase"

	hamiPhaseFailed = "failed"
)

// maxHAMiSlices is more than one pod gets; a longer list is a mistake.
const maxHAMiSlices = 1024

// HAMiPod is what of a pod says which slices it holds.
type HAMiPod struct {
	Namespace, Name string
	// Node is where the pod runs; empty until it is bound.
	Node string
	// Ended pods, whose phase is Succeeded or Failed, hold nothing.
	Ended bool
	// InitEnded says that every init container has ended, so that what they held
	// is free again.
	InitEnded bool
	// Annotations of the pod, as PodAnnotations chooses them.
	Annotations map[string]string
	// InitContainers and Containers are the names in the order of the pod's spec.
	InitContainers, Containers []string
}

// HAMiSlice is a part of a device that HAMi's scheduler has given a container.
type HAMiSlice struct {
	Namespace, Pod, Node string
	// Container is empty when the annotation lists other containers than the pod
	// has; ContainerIndex is its place in the annotation.
	Container      string
	ContainerIndex int32
	// Init says that it is a container that runs before the others: what it
	// holds, it holds instead of them, not beside them.
	Init bool
	// DeviceUUID is the GPU's. Part is what HAMi of before 2.10 puts behind it
	// for a MIG slice, e.g. 0-1.
	DeviceUUID, Part string
	// VDevice counts the container's devices.
	VDevice int32
	// MemoryBytes and Cores are the container's share; Cores is in the unit of
	// HAMiDevice.Cores, and 0 says that the container's cores are not limited.
	MemoryBytes, Cores int64
}

// PodAnnotations are those of a pod's annotations that tell of HAMi's slices;
// nil for a pod that HAMi has given nothing.
func PodAnnotations(all map[string]string) map[string]string {
	var kept map[string]string
	for key, value := range all {
		if !isHAMiAllocated(key) {
			continue
		}
		if kept == nil {
			kept = map[string]string{}
			for _, also := range []string{hamiNode, hamiPhase} {
				if value, ok := all[also]; ok {
					kept[also] = value
				}
			}
		}
		kept[key] = value
	}
	return kept
}

func isHAMiAllocated(key string) bool {
	return strings.HasPrefix(key, hamiPrefix) && strings.HasSuffix(key, hamiAllocated)
}

// HAMiSlices reads what a pod holds. An annotation that cannot be read counts
// for nothing, and a sentence says so.
func HAMiSlices(pod HAMiPod) ([]HAMiSlice, []string) {
	if pod.Ended || pod.Annotations[hamiPhase] == hamiPhaseFailed {
		return nil, nil
	}
	r := &reader{}
	node := cmp.Or(pod.Node, clipTo(clean(pod.Annotations[hamiNode]), maxHAMiText*2))
	var held []HAMiSlice
	for _, key := range slices.Sorted(maps.Keys(pod.Annotations)) {
		if !isHAMiAllocated(key) {
			continue
		}
		if planned := pod.Annotations[hamiNode]; planned != "" && planned != node {
			r.problem("pod %s/%s runs on node %s, but HAMi gave it devices of node %s; they are not counted",
				clip(pod.Namespace), clip(pod.Name), quoted(node), quoted(planned))
			return nil, r.problems
		}
		found, err := parseHAMiPod(pod.Annotations[key])
		if err != nil {
			r.problem("annotation %s of pod %s/%s cannot be read (%v), so what it holds is not counted", clip(key), clip(pod.Namespace), clip(pod.Name), err)
			continue
		}
		for i, part := range found {
			container, before := pod.container(i, len(found))
			if before && pod.InitEnded {
				continue
			}
			for _, s := range part {
				s.Namespace, s.Pod, s.Node = pod.Namespace, pod.Name, node
				s.Container, s.ContainerIndex, s.Init = container, int32(i), before
				held = append(held, s)
			}
		}
		if len(found) != len(pod.Containers) && len(found) != len(pod.InitContainers)+len(pod.Containers) {
			r.problem("annotation %s of pod %s/%s lists %d containers and the pod has %d, so it is unknown which holds what",
				clip(key), clip(pod.Namespace), clip(pod.Name), len(found), len(pod.InitContainers)+len(pod.Containers))
		}
	}
	return held, r.problems
}

// container names the container that part i of n of an annotation is for: a HAMi
// that knows of init containers lists them first, others leave them out.
func (p HAMiPod) container(i, n int) (name string, before bool) {
	inits := len(p.InitContainers)
	switch {
	case n == inits+len(p.Containers) && i < inits:
		return p.InitContainers[i], true
	case n == inits+len(p.Containers):
		return p.Containers[i-inits], false
	case n == len(p.Containers):
		return p.Containers[i], false
	default:
		return "", false
	}
}

// parseHAMiPod reads a pod's annotation: each container's part ends in a
// semicolon and may be empty, each device in it in a colon, and a device is
// UUID, kind, MiB and cores.
func parseHAMiPod(value string) ([][]HAMiSlice, error) {
	if !strings.Contains(value, ";") {
		return nil, errors.New("it has no container")
	}
	var containers [][]HAMiSlice
	total := 0
	for part := range strings.SplitSeq(strings.TrimSuffix(value, ";"), ";") {
		var held []HAMiSlice
		for entry := range strings.SplitSeq(part, ":") {
			if entry == "" {
				continue
			}
			s, err := parseHAMiSlice(entry)
			if err != nil {
				return nil, err
			}
			s.VDevice = int32(len(held)) //nolint:gosec // bounded by maxHAMiSlices
			held = append(held, s)
			total++
		}
		containers = append(containers, held)
		if total > maxHAMiSlices || len(containers) > maxHAMiSlices {
			return nil, fmt.Errorf("it has more than %d devices or containers", maxHAMiSlices)
		}
	}
	return containers, nil
}

func parseHAMiSlice(entry string) (HAMiSlice, error) {
	fields := strings.Split(entry, ",")
	if len(fields) < 4 {
		return HAMiSlice{}, fmt.Errorf("%s has %d fields, not 4", quoted(entry), len(fields))
	}
	memory, errMemory := strconv.ParseInt(fields[2], 10, 64)
	cores, errCores := strconv.ParseInt(fields[3], 10, 64)
	if errors.Join(errMemory, errCores) != nil {
		return HAMiSlice{}, fmt.Errorf("%s has a field that is not what it should be", quoted(entry))
	}
	s := HAMiSlice{MemoryBytes: memory << 20, Cores: cores}
	s.DeviceUUID, s.Part = CutHAMiPart(fields[0])
	switch {
	case !isHAMiUUID(s.DeviceUUID) || !isHAMiUUID(s.Part+"-"):
		return HAMiSlice{}, fmt.Errorf("%s is no device", quoted(fields[0]))
	case memory < 0 || memory > maxDeviceMemory>>20:
		return HAMiSlice{}, fmt.Errorf("%s cannot have %d MiB", quoted(fields[0]), memory)
	case cores < 0 || cores > maxHAMiCores:
		return HAMiSlice{}, fmt.Errorf("%s cannot have %d percent of cores", quoted(fields[0]), cores)
	}
	return s, nil
}

// CutHAMiPart takes from a device's UUID what HAMi of before 2.10 puts behind it
// for a MIG slice: GPU-a[0-1] is part 0-1 of GPU-a.
func CutHAMiPart(uuid string) (device, part string) {
	if device, rest, ok := strings.Cut(uuid, "["); ok {
		if part, ok := strings.CutSuffix(rest, "]"); ok {
			return device, part
		}
	}
	return uuid, ""
}
