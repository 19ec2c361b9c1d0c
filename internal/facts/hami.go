package facts

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// The annotations with which HAMi's device plugin tells the scheduler of its
// node's GPUs, and whether it still does.
const (
	hamiRegister  = "hami.io/node-nvidia-register"
	hamiHandshake = "hami.io/node-handshake"
)

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
	Devmem int64  `json:"devmem"`
	Type   string `json:"type"`
	Mode   string `json:"mode"`
	Health bool   `json:"health"`
}

// hami are the GPUs that HAMi's device plugin has registered, each by its UUID.
// like is what labels say of all of them. The resource of HAMi counts shares, so
// with HAMi there it says nothing of how many GPUs there are.
func (r *reader) hami(like Device) []Device {
	value, ok := r.src.Annotations[hamiRegister]
	if !ok || strings.HasPrefix(r.src.Annotations[hamiHandshake], "Deleted") {
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
		if d.ID == "" || len(d.ID) > 128 || clean(d.ID) != d.ID || d.Index < 0 {
			return nil, fmt.Errorf("%s with index %d is no device", quoted(d.ID), d.Index)
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
	healthy, errHealth := strconv.ParseBool(fields[6])
	d := hamiDevice{ID: fields[0], Index: int32(position), Devmem: memory, Type: fields[4], Health: healthy} //nolint:gosec // bounded by maxDevices
	var errIndex error
	if len(fields) == 9 {
		var index int64
		index, errIndex = strconv.ParseInt(fields[7], 10, 32)
		d.Index, d.Mode = int32(index), fields[8]
	}
	if errors.Join(errMemory, errHealth, errIndex) != nil {
		return hamiDevice{}, fmt.Errorf("%s has a field that is not what it should be", quoted(entry))
	}
	return d, nil
}
