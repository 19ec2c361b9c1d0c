package metric

import (
	"fmt"
	"regexp"
	"strings"
)

// Type is what may be done with the values of a family.
type Type string

// The types. A counter's name ends in _total, but for names that are somebody
// else's.
const (
	Gauge   Type = "gauge"
	Counter Type = "counter"
)

// Desc describes a family of series.
type Desc struct {
	Name string
	Help string
	Type Type
	// Unit is the base unit that ends the name (bytes, seconds, celsius, watts,
	// joules, hertz, ratio), and empty where there is none.
	Unit string
	// Labels are the names that each series has, in their order. A label that is
	// empty is left out of the line.
	Labels []string
	// Foreign is a name that dashboards know from another exporter: the rules for
	// our own do not hold for it.
	Foreign bool
}

// The forms of names, from Prometheus's data model.
var (
	metricName = regexp.MustCompile(`^[a-zA-Z_:][a-zA-Z0-9_:]*$`)
	labelName  = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)
	ownName    = regexp.MustCompile(`^budcluster_[a-z0-9]+(_[a-z0-9]+)*$`)
)

// Check reports what is wrong with a description, naming the family.
func (d Desc) Check() error {
	switch {
	case !metricName.MatchString(d.Name):
		return fmt.Errorf("metric %q: a name has letters, digits, underscores and colons", d.Name)
	case d.Help == "" || strings.ContainsAny(d.Help, "\n\\"):
		return fmt.Errorf("metric %s: help is one line of plain text", d.Name)
	case d.Type != Gauge && d.Type != Counter:
		return fmt.Errorf("metric %s: type %q is neither gauge nor counter", d.Name, d.Type)
	}
	seen := map[string]bool{}
	for _, l := range d.Labels {
		if !labelName.MatchString(l) || strings.HasPrefix(l, "__") || seen[l] {
			return fmt.Errorf("metric %s: label %q is no name, or there twice", d.Name, l)
		}
		seen[l] = true
	}
	if d.Foreign {
		return nil
	}
	base := strings.TrimSuffix(d.Name, "_total")
	switch {
	case !ownName.MatchString(d.Name):
		return fmt.Errorf("metric %s: an own name begins with budcluster_ and has small letters", d.Name)
	case (d.Type == Counter) != (base != d.Name):
		return fmt.Errorf("metric %s: counters end in _total, and nothing else does", d.Name)
	case d.Unit != "" && !strings.HasSuffix(base, "_"+d.Unit):
		return fmt.Errorf("metric %s: the name does not end in its unit, %s", d.Name, d.Unit)
	}
	return nil
}

// openName is the family's name in OpenMetrics, where _total belongs to the
// sample. A foreign counter without it is no counter there.
func (d Desc) openName() (name string, t Type) {
	if d.Type != Counter {
		return d.Name, d.Type
	}
	if base, ok := strings.CutSuffix(d.Name, "_total"); ok {
		return base, Counter
	}
	return d.Name, "unknown"
}
