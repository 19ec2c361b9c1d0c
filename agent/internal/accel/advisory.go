package accel

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"sigs.k8s.io/yaml"
)

// Component is a part of NVIDIA's software on a node.
type Component string

// The components that advisories are about.
const (
	ComponentDriver  Component = "driver"
	ComponentToolkit Component = "toolkit"
)

// Severity is that of CVSS.
type Severity string

// The severities.
const (
	SeverityLow      Severity = "low"
	SeverityMedium   Severity = "medium"
	SeverityHigh     Severity = "high"
	SeverityCritical Severity = "critical"
)

// Advisory says that a version is vulnerable.
type Advisory struct {
	// ID is the number of NVIDIA's security bulletin.
	ID        string    `json:"id"`
	Component Component `json:"component"`
	// Version is what the node has, and Fixed the least that is not affected.
	Version  string   `json:"version"`
	Fixed    string   `json:"fixed"`
	Severity Severity `json:"severity"`
	CVEs     []string `json:"cves"`
	// Partial is true when the bulletin has more CVEs than these, none of them
	// more severe.
	Partial bool `json:"partial,omitempty"`
	// Confirmed is false for a branch of the driver that the bulletin does not
	// name and that is older than one that it names. NVIDIA says of such that
	// they may be affected, and fixes them no more.
	Confirmed bool   `json:"confirmed"`
	Summary   string `json:"summary"`
	Source    string `json:"source"`
	// Published is a day, e.g. 2026-09-30.
	Published string `json:"published"`
}

// bulletin is an entry of advisories.yaml.
type bulletin struct {
	ID        string    `json:"id"`
	Component Component `json:"component"`
	Published string    `json:"published"`
	Summary   string    `json:"summary"`
	Source    string    `json:"source"`
	Partial   bool      `json:"partial"`
	Updates   []update  `json:"updates"`
}

// update is what fixes one branch, or, without a branch, all.
type update struct {
	Branch   uint64   `json:"branch"`
	Fixed    string   `json:"fixed"`
	Severity Severity `json:"severity"`
	CVEs     []string `json:"cves"`
	fixed    version
}

// Advisories lists what is known against the versions of NVIDIA's Linux driver
// and container toolkit, the most severe first, and of equal ones the newest.
// An empty version is none. A version that cannot be read is told of in a
// sentence, since it must not pass for a safe one.
func Advisories(driver, toolkit string) ([]Advisory, []string) {
	var found []Advisory
	var problems []string
	for component, text := range map[Component]string{ComponentDriver: driver, ComponentToolkit: toolkit} {
		if text == "" {
			continue
		}
		v, ok := parseVersion(text)
		if !ok {
			problems = append(problems, fmt.Sprintf("the version %.64q of NVIDIA's %s cannot be read, so whether it is vulnerable is unknown", text, component))
			continue
		}
		for _, b := range table() {
			if b.Component == component {
				found = b.judge(found, text, v)
			}
		}
	}
	slices.Sort(problems)
	slices.SortFunc(found, func(a, b Advisory) int {
		return cmp.Or(cmp.Compare(b.Severity.rank(), a.Severity.rank()), strings.Compare(b.Published, a.Published), strings.Compare(b.ID, a.ID))
	})
	return found, problems
}

func (s Severity) rank() int {
	return slices.Index([]Severity{SeverityLow, SeverityMedium, SeverityHigh, SeverityCritical}, s)
}

// judge adds an advisory if a version is affected.
func (b bulletin) judge(found []Advisory, text string, v version) []Advisory {
	at := slices.IndexFunc(b.Updates, func(u update) bool { return u.Branch == 0 || u.Branch >= v.number[0] })
	if at < 0 {
		return found // a newer branch than NVIDIA counts among the affected
	}
	u := b.Updates[at]
	named := u.Branch == 0 || u.Branch == v.number[0]
	if named && !v.less(u.fixed) {
		return found
	}
	return append(found, Advisory{
		ID: b.ID, Component: b.Component, Version: text, Fixed: u.Fixed, Severity: u.Severity, CVEs: slices.Clone(u.CVEs),
		Partial: b.Partial, Confirmed: named, Summary: b.Summary, Source: b.Source, Published: b.Published,
	})
}

// version is up to four numbers, and whether they are only being prepared.
type version struct {
	number  [4]uint64
	preview bool
}

// parseVersion reads 580.95.05 or v1.17.8, and what packages put behind it:
// 1.17.8-1 is that release, 1.17.0-rc.1 and 1.17.0~rc.1 come before it.
func parseVersion(text string) (version, bool) {
	numbers, suffix := text, ""
	if at := strings.IndexAny(text, "-~+"); at >= 0 {
		numbers, suffix = text[:at], text[at+1:]
	}
	var v version
	parts := strings.Split(strings.TrimPrefix(numbers, "v"), ".")
	if len(parts) < 2 || len(parts) > len(v.number) {
		return version{}, false
	}
	for i, part := range parts {
		n, err := strconv.ParseUint(part, 10, 32)
		if err != nil {
			return version{}, false
		}
		v.number[i] = n
	}
	for _, word := range []string{"rc", "alpha", "beta"} {
		v.preview = v.preview || strings.HasPrefix(suffix, word)
	}
	return v, true
}

func (v version) less(other version) bool {
	if order := slices.Compare(v.number[:], other.number[:]); order != 0 {
		return order < 0
	}
	return v.preview && !other.preview
}

// parseBulletins reads the table. Keys that no entry has are errors, and so is
// an order of branches that judge could not rely on.
func parseBulletins(data []byte) ([]bulletin, error) {
	var file struct {
		Advisories []bulletin `json:"advisories"`
	}
	if err := yaml.UnmarshalStrict(data, &file); err != nil {
		return nil, err
	}
	for i := range file.Advisories {
		if err := file.Advisories[i].check(); err != nil {
			return nil, fmt.Errorf("bulletin %q: %w", file.Advisories[i].ID, err)
		}
	}
	return file.Advisories, nil
}

// check reads the versions of a bulletin.
func (b *bulletin) check() error {
	if len(b.Updates) == 0 {
		return errors.New("it has no updates")
	}
	var last uint64
	for i := range b.Updates {
		u := &b.Updates[i]
		fixed, ok := parseVersion(u.Fixed)
		switch branches := b.Component == ComponentDriver; {
		case !ok:
			return fmt.Errorf("fixed: %q is not a version", u.Fixed)
		case branches && u.Branch != fixed.number[0]:
			return fmt.Errorf("fixed: %s is not of branch %d", u.Fixed, u.Branch)
		case branches && u.Branch <= last:
			return fmt.Errorf("branch %d does not follow %d; sort them", u.Branch, last)
		case !branches && (u.Branch != 0 || len(b.Updates) > 1):
			return errors.New("only a driver has branches; give one update without")
		case u.Severity.rank() < 0:
			return fmt.Errorf("severity: %q is none of low, medium, high, critical", u.Severity)
		}
		u.fixed, last = fixed, u.Branch
	}
	return nil
}
