package facts

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

// The annotations with which HAMi's device plugin tells the scheduler of its
// node's GPUs, and whether it still does.
const (
	hamiRegister  = "hami.io/node-nvidia-register"
	hamiHandshake = "hami.io/node-handshake"
)

const (
	// maxHAMiText bounds the names that HAMi gives.
	maxHAMiText = 128
	// maxHAMiCores is more than HAMi counts of any device: an AMD GPU has
	// hundreds of compute units, and deviceCoreScaling multiplies them.
	maxHAMiCores = 1 << 16
)

func isHAMiUUID(id string) bool {
	return id != "" && len(id) <= maxHAMiText && clean(id) == id && !strings.ContainsFunc(id, unicode.IsControl)
}

// NodeAnnotations are those of a node's annotations that tell of devices.
func NodeAnnotations(all map[string]string) map[string]string {
	var kept map[string]string
	for _, key := range []string{hamiRegister, hamiHandshake} {
		if value, ok := all[key]; ok {
			if kept == nil {
				kept = map[string]string{}
			}
			kept[key] = value
		}
	}
	return kept
}

// hamiDevice is one GPU as HAMi registers it.
type hamiDevice struct {
	ID    string `json:"id"`
	Index int32  `json:"index"`
	// Devmem is in MiB, and more than there is where HAMi is told to overcommit.
	Devmem int64 `json:"devmem"`
	// Devcore is 100 for a whole GPU, more where HAMi is told to overcommit, and
	// 0 where it does not limit cores.
	Devcore int64  `json:"devcore"`
	Type    string `json:"type"`
	Mode    string `json:"mode"`
	Health  bool   `json:"health"`
}

// HAMiDevice is one GPU as HAMi's device plugin registers it at its node.
type HAMiDevice struct {
	UUID  string
	Index int32
	// MemoryBytes is nil when the annotation's is absurd.
	MemoryBytes *int64
	// Cores is what HAMi gives away of the GPU's cores, in its own unit: 100 is a
	// whole GPU, and 0 says that cores are not limited.
	Cores int64
	// Type is HAMi's name of the model, e.g. NVIDIA-NVIDIA L40S.
	Type string
	// Mode is hami-core, mig or mps; HAMi of before 2.5 does not tell.
	Mode    string
	Healthy bool
}

// HAMiDevices reads what HAMi's device plugin has registered in a node's
// annotations. A register that cannot be read is none, and a sentence says so.
// Nodes whose plugin is gone have none.
func HAMiDevices(annotations map[string]string) ([]HAMiDevice, []string) {
	r := &reader{src: NodeSource{Annotations: annotations}}
	value, ok := annotations[hamiRegister]
	if !ok || hamiGone(annotations) {
		return nil, nil
	}
	registered, err := parseHAMi(value)
	if err != nil {
		r.problem("annotation %s cannot be read: %v", hamiRegister, err)
		return nil, r.problems
	}
	devices := make([]HAMiDevice, 0, len(registered))
	seen := make(map[string]bool, len(registered))
	for _, one := range registered {
		if seen[one.ID] {
			r.problem("HAMi has registered GPU %s twice; the first counts", quoted(one.ID))
			continue
		}
		seen[one.ID] = true
		devices = append(devices, HAMiDevice{
			UUID: one.ID, Index: one.Index, MemoryBytes: r.hamiMemory(one), Cores: one.Devcore,
			Type: clipTo(clean(one.Type), maxHAMiText), Mode: clipTo(clean(one.Mode), maxHAMiText), Healthy: one.Health,
		})
	}
	return devices, r.problems
}

// hamiGone reports whether HAMi's scheduler has given the node up.
func hamiGone(annotations map[string]string) bool {
	return strings.HasPrefix(annotations[hamiHandshake], "Deleted")
}

// hami are the GPUs that HAMi's device plugin has registered, each by its UUID.
// like is what labels say of all of them. The resource of HAMi counts shares, so
// with HAMi there it says nothing of how many GPUs there are.
func (r *reader) hami(like Device) []Device {
	value, ok := r.src.Annotations[hamiRegister]
	if !ok || hamiGone(r.src.Annotations) {
		return nil
	}
	registered, err := parseHAMi(value)
	if err != nil {
		r.problem("annotation %s cannot be read (%v), so labels and resources tell of the GPUs", hamiRegister, err)
		return nil
	}
	devices := make([]Device, 0, len(registered))
	for _, one := range registered {
		d := like
		d.ID, d.UUID, d.Index = one.ID, one.ID, clone(&one.Index)
		d.Source, d.Sharing = SourceHAMi, hamiSharing(one.Mode)
		if d.Health = HealthUnhealthy; one.Health {
			d.Health = HealthHealthy
		}
		if d.Model == "" { // "NVIDIA-" and the name that the driver gives
			d.Model = strings.ReplaceAll(clean(strings.TrimPrefix(one.Type, "NVIDIA-")), " ", "-")
		}
		if d.MemoryBytes = clone(like.MemoryBytes); d.MemoryBytes == nil {
			d.MemoryBytes = r.hamiMemory(one)
		}
		if slices.ContainsFunc(devices, func(o Device) bool { return o.ID == d.ID }) {
			r.problem("HAMi has registered GPU %s twice; it is shown once", quoted(d.ID))
			continue
		}
		devices = append(devices, d)
	}
	if n, ok := r.count("nvidia.com/gpu.count", maxDevices); ok && n != int64(len(devices)) {
		r.problem("the labels say that the node has %d GPUs, and HAMi has registered %d; those of HAMi are shown", n, len(devices))
	}
	return devices
}

func (r *reader) hamiMemory(one hamiDevice) *int64 {
	if one.Devmem <= 0 || one.Devmem > maxDeviceMemory>>20 {
		r.problem("HAMi says that GPU %s has %d MiB, so its memory is unknown", quoted(one.ID), one.Devmem)
		return nil
	}
	amount := one.Devmem << 20
	return &amount
}

func hamiSharing(mode string) Sharing {
	switch mode {
	case "", "hami-core":
		return SharingHAMi
	case "mig":
		return SharingMIG
	case "mps":
		return SharingMPS
	default:
		return ""
	}
}

// parseHAMi reads what newer plugins write, JSON, and what older ones do:
// entries that end in a colon, of id, shares, MiB, percent of cores, type, NUMA
// node and health, and since 2.5 index and mode.
func parseHAMi(value string) ([]hamiDevice, error) {
	var devices []hamiDevice
	if strings.HasPrefix(strings.TrimSpace(value), "[") {
		if err := json.Unmarshal([]byte(value), &devices); err != nil {
			return nil, errors.New("it is no list of devices")
		}
	} else {
		for entry := range strings.SplitSeq(value, ":") {
			if entry == "" {
				continue
			}
			d, err := parseHAMiEntry(entry, len(devices))
			if err != nil {
				return nil, err
			}
			devices = append(devices, d)
			if len(devices) > maxDevices {
				break
			}
		}
	}
	if len(devices) == 0 || len(devices) > maxDevices {
		return nil, fmt.Errorf("it has %d devices", len(devices))
	}
	for _, d := range devices {
		if !isHAMiUUID(d.ID) || d.Index < 0 {
			return nil, fmt.Errorf("%s with index %d is no device", quoted(d.ID), d.Index)
		}
		if d.Devcore < 0 || d.Devcore > maxHAMiCores {
			return nil, fmt.Errorf("%s cannot have %d percent of cores", quoted(d.ID), d.Devcore)
		}
	}
	return devices, nil
}

func parseHAMiEntry(entry string, position int) (hamiDevice, error) {
	fields := strings.Split(entry, ",")
	if len(fields) != 7 && len(fields) != 9 {
		return hamiDevice{}, fmt.Errorf("%s has %d fields, not 7 or 9", quoted(entry), len(fields))
	}
	memory, errMemory := strconv.ParseInt(fields[2], 10, 64)
	cores, errCores := strconv.ParseInt(fields[3], 10, 64)
	healthy, errHealth := strconv.ParseBool(fields[6])
	d := hamiDevice{
		ID: fields[0], Index: int32(position), Devmem: memory, Devcore: cores, Type: fields[4], Health: healthy, //nolint:gosec // bounded by maxDevices
	}
	var errIndex error
	if len(fields) == 9 {
		var index int64
		index, errIndex = strconv.ParseInt(fields[7], 10, 32)
		d.Index, d.Mode = int32(index), fields[8]
	}
	if errors.Join(errMemory, errCores, errHealth, errIndex) != nil {
		return hamiDevice{}, fmt.Errorf("%s has a field that is not what it should be", quoted(entry))
	}
	return d, nil
}
