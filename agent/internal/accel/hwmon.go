package accel

import (
	"cmp"
	"slices"
	"strings"
)

// Temperature is one sensor's.
type Temperature struct {
	// Sensor is the driver's label, such as edge, junction or mem, else the
	// sensor's name, such as temp1.
	Sensor  string  `json:"sensor"`
	Celsius float64 `json:"celsius"`
}

// sensors is what a device's hwmon chip tells.
type sensors struct {
	temperatures    []Temperature
	watts, capWatts *float64
}

const (
	// Beyond these a sensor is broken, in thousandths of a degree.
	coldest, hottest = -100_000, 250_000
	// maxMicrowatts is above any card: 10 kW.
	maxMicrowatts = 10_000_000_000
)

// hwmon reads the first chip below a device, in the units that
// Documentation/hwmon/sysfs-interface.rst gives all drivers: temperatures in
// thousandths of a degree, power in microwatts. Which power an AMD GPU tells,
// averaged or of now, depends on its generation
// (Documentation/gpu/amdgpu/thermal.rst).
func (r *reader) hwmon(device string) sensors {
	var s sensors
	chips := r.Numbered(device+"/hwmon", "hwmon")
	if len(chips) == 0 {
		return s
	}
	dir := device + "/hwmon/" + chips[0]
	for _, sensor := range r.thermometers(dir) {
		if milli := r.Int(dir+"/"+sensor+"_input", coldest, hottest); milli != nil {
			s.temperatures = append(s.temperatures, Temperature{
				Sensor: cmp.Or(r.Text(dir+"/"+sensor+"_label"), sensor), Celsius: float64(*milli) / 1000,
			})
		}
	}
	s.watts = cmp.Or(r.watts(dir+"/power1_average"), r.watts(dir+"/power1_input"))
	s.capWatts = r.watts(dir + "/power1_cap")
	return s
}

// thermometers lists temp1 and so on, by number.
func (r *reader) thermometers(dir string) []string {
	var found []string
	for _, file := range r.Names(dir) {
		if sensor, ok := strings.CutSuffix(file, "_input"); ok && strings.HasPrefix(sensor, "temp") {
			found = append(found, sensor)
		}
	}
	slices.SortFunc(found, func(a, b string) int { return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b)) })
	return found
}

func (r *reader) watts(file string) *float64 {
	micro := r.Int(file, 0, maxMicrowatts)
	if micro == nil {
		return nil
	}
	return new(float64(*micro) / 1e6)
}
