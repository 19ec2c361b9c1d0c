package release

import (
	"cmp"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/internal/facts"
)

// The defaults and bounds of a spec.
const (
	DefaultTimeout     = 5 * time.Minute
	MinTimeout         = 10 * time.Second
	MaxTimeout         = 24 * time.Hour
	DefaultMaxAttempts = 5
	MaxMaxAttempts     = 100
	// MaxValues bounds values and secret values together: both have to fit
	// into one Secret, and into Helm's own record (ADR 3).
	MaxValues  = 512 << 10
	maxOutputs = 32
	maxName    = 53 // Helm's own limit
)

var (
	labelPattern  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	digestPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
	objectPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9.:-]*[a-z0-9])?$`)
	outputPattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)
	apiPattern    = regexp.MustCompile(`^([a-z0-9]([a-z0-9.-]*[a-z0-9])?/)?v[0-9][a-z0-9]*$`)
	wildPattern   = regexp.MustCompile(`^[a-z0-9.:*-]+$`)
	// selectorPattern: equalities, joined by commas.
	selectorPattern = regexp.MustCompile(`^[A-Za-z0-9./_-]+={1,2}[A-Za-z0-9._-]*(,[A-Za-z0-9./_-]+={1,2}[A-Za-z0-9._-]*)*$`)
	kindPattern     = regexp.MustCompile(`^[A-Z][A-Za-z0-9]{0,62}$`)
)

// Remediations lists the remediations.
func Remediations() []Remediation {
	return []Remediation{RemediationKeep, RemediationRollback, RemediationUninstall}
}

// DriftPolicies lists the drift policies.
func DriftPolicies() []DriftPolicy { return []DriftPolicy{DriftCorrect, DriftReport, DriftIgnore} }

// AdoptionPolicies lists the adoption policies.
func AdoptionPolicies() []AdoptionPolicy { return []AdoptionPolicy{AdoptionObserve, AdoptionTakeOver} }

// WithDefaults fills what was left out. CreateNamespace has no default here: a
// boolean that is false may have been meant.
func (s Spec) WithDefaults() Spec {
	s.Timeout = cmp.Or(s.Timeout, DefaultTimeout)
	s.Remediation = cmp.Or(s.Remediation, RemediationRollback)
	s.MaxAttempts = cmp.Or(s.MaxAttempts, DefaultMaxAttempts)
	s.Drift = cmp.Or(s.Drift, DriftCorrect)
	s.Adoption = cmp.Or(s.Adoption, AdoptionObserve)
	return s
}

// Validate names everything that is wrong with s, as invalid.Errors. What only
// the release's namespace can tell, validateLeftovers does.
func (s Spec) Validate() error {
	errs := append(s.Chart.validate(), s.validateValues()...)
	if s.Timeout < MinTimeout || s.Timeout > MaxTimeout {
		errs = append(errs, invalid.New("timeout", "%s is out of range; use a duration from %s to %s", s.Timeout, MinTimeout, MaxTimeout))
	}
	if s.MaxAttempts < 1 || s.MaxAttempts > MaxMaxAttempts {
		errs = append(errs, invalid.New("maxAttempts", "%d is out of range; use a number from 1 to %d", s.MaxAttempts, MaxMaxAttempts))
	}
	errs = append(errs, oneOf("remediation", s.Remediation, Remediations())...)
	errs = append(errs, oneOf("drift", s.Drift, DriftPolicies())...)
	errs = append(errs, oneOf("adoption", s.Adoption, AdoptionPolicies())...)
	return errors.Join(append(errs, validateOutputs(s.Outputs)...)...)
}

// validateValues judges the size first: what is too large is not read.
func (s Spec) validateValues() []error {
	if size := len(s.Values) + len(s.SecretValues); size > MaxValues {
		return []error{invalid.New("values",
			"values and secretValues together are %d bytes; keep them to %d, and put large files into the chart", size, MaxValues)}
	}
	var errs []error
	if _, err := canonical(s.Values); err != nil {
		errs = append(errs, invalid.New("values", "%v; give a JSON object, such as {\"replicas\": 2}", err))
	}
	if _, err := canonical(s.SecretValues); err != nil {
		// The cause may quote what it could not read, and that is secret.
		errs = append(errs, invalid.New("secretValues", "it is not a JSON object that Helm can take; give one such as {\"password\": \"…\"}"))
	}
	return errs
}

func (c Chart) validate() []error {
	var errs []error
	if !digestPattern.MatchString(c.Digest) {
		errs = append(errs, invalid.New("chart.digest", "%q is not a digest; use \"sha256:\" and 64 hex digits, as the hub shows when a chart is pushed", invalid.Clip(c.Digest)))
	}
	if c.Name == "" || len(c.Name) > 253 {
		errs = append(errs, invalid.New("chart.name", "%q is not a chart's name; use the name that the chart has in its Chart.yaml", invalid.Clip(c.Name)))
	}
	if c.Version == "" || len(c.Version) > 253 {
		errs = append(errs, invalid.New("chart.version", "%q is not a chart's version; use the version that the chart has in its Chart.yaml", invalid.Clip(c.Version)))
	}
	return errs
}

func oneOf[T ~string](field string, value T, known []T) []error {
	if slices.Contains(known, value) {
		return nil
	}
	names := make([]string, 0, len(known))
	for _, k := range known {
		names = append(names, string(k))
	}
	return []error{invalid.New(field, "%q is not known; use one of %s", invalid.Clip(string(value)), strings.Join(names, ", "))}
}

func validateOutputs(outputs []Output) []error {
	if len(outputs) > maxOutputs {
		return []error{invalid.New("outputs", "there are %d; use at most %d", len(outputs), maxOutputs)}
	}
	var errs []error
	seen := make(map[string]bool, len(outputs))
	for i, o := range outputs {
		errs = append(errs, o.validate(fmt.Sprintf("outputs[%d]", i), seen[o.Name])...)
		seen[o.Name] = true
	}
	return errs
}

func (o Output) validate(field string, twice bool) []error {
	var errs []error
	if !outputPattern.MatchString(o.Name) || len(o.Name) > 63 {
		errs = append(errs, invalid.New(field+".name", "%q is not a name; use at most 63 letters, digits, dots, dashes and underscores", invalid.Clip(o.Name)))
	} else if twice {
		errs = append(errs, invalid.New(field+".name", "%q names an earlier output too; give each output its own name", o.Name))
	}
	if !apiPattern.MatchString(o.APIVersion) || len(o.APIVersion) > 253 {
		errs = append(errs, invalid.New(field+".apiVersion", "%q is not an API version; use one such as v1 or apps/v1", invalid.Clip(o.APIVersion)))
	}
	switch {
	case strings.EqualFold(o.Kind, "Secret"):
		errs = append(errs, invalid.New(field+".kind", "outputs are shown to everybody who may see the release, so a Secret cannot be one; point at another object"))
	case !kindPattern.MatchString(o.Kind):
		errs = append(errs, invalid.New(field+".kind", "%q is not a kind; use one such as Service", invalid.Clip(o.Kind)))
	}
	if !objectPattern.MatchString(o.Object) || len(o.Object) > 253 {
		errs = append(errs, invalid.New(field+".object", "%q is not the name of an object; use its metadata.name", invalid.Clip(o.Object)))
	}
	if !strings.HasPrefix(o.JSONPath, "{") || !strings.HasSuffix(o.JSONPath, "}") || len(o.JSONPath) > 512 {
		errs = append(errs, invalid.New(field+".jsonPath", "%q is not a JSONPath; use one such as {.spec.clusterIP}", invalid.Clip(o.JSONPath)))
	}
	return errs
}

// validateLeftovers judges what a release in the namespace may leave behind.
func (s Spec) validateLeftovers(namespace string) []error {
	if len(s.Leftovers) > facts.MaxLeftovers {
		return []error{invalid.New("leftovers", "there are %d; use at most %d", len(s.Leftovers), facts.MaxLeftovers)}
	}
	var errs []error
	for i, l := range s.Leftovers {
		errs = append(errs, validateLeftover(fmt.Sprintf("leftovers[%d]", i), l, namespace)...)
	}
	if n := len(s.NodeMarks.Labels) + len(s.NodeMarks.Annotations); n > facts.MaxLeftovers {
		errs = append(errs, invalid.New("nodeMarks", "there are %d; use at most %d", n, facts.MaxLeftovers))
	} else if err := s.NodeMarks.Check(); err != nil {
		errs = append(errs, invalid.New("nodeMarks", "%v", err))
	}
	return errs
}

func validateLeftover(field string, l facts.Leftover, namespace string) []error {
	var errs []error
	if !apiPattern.MatchString(l.APIVersion) || len(l.APIVersion) > 253 {
		errs = append(errs, invalid.New(field+".apiVersion", "%q is not an API version; use one such as v1 or apps/v1", invalid.Clip(l.APIVersion)))
	}
	if !kindPattern.MatchString(l.Kind) {
		errs = append(errs, invalid.New(field+".kind", "%q is not a kind; use one such as Lease", invalid.Clip(l.Kind)))
	}
	if l.Namespace != "" && (len(l.Namespace) > 63 || !labelPattern.MatchString(l.Namespace)) {
		errs = append(errs, invalid.New(field+".namespace", "%q is not a namespace", invalid.Clip(l.Namespace)))
	}
	if l.Object != "" && (len(l.Object) > 253 || !wildPattern.MatchString(l.Object)) {
		errs = append(errs, invalid.New(field+".object", "%q is not the name of an object, in which * may stand for any text", invalid.Clip(l.Object)))
	}
	if len(l.Selector) > 512 || l.Selector != "" && !selectorPattern.MatchString(l.Selector) {
		errs = append(errs, invalid.New(field+".selector", "%q is not a label selector; use one such as app=operator", invalid.Clip(l.Selector)))
	}
	if len(errs) > 0 {
		return errs
	}
	if err := l.Check(namespace); err != nil {
		return []error{invalid.New(field, "%v", err)}
	}
	return nil
}

func validName(name string) bool { return len(name) <= maxName && labelPattern.MatchString(name) }

func validatePlace(name, namespace string) []error {
	var errs []error
	if !validName(name) {
		errs = append(errs, invalid.New("name", "%q is not a release name; use at most %d lower-case letters, digits and dashes, with a letter or digit at both ends", invalid.Clip(name), maxName))
	}
	if len(namespace) > 63 || !labelPattern.MatchString(namespace) {
		errs = append(errs, invalid.New("namespace", "%q is not a namespace; use at most 63 lower-case letters, digits and dashes, with a letter or digit at both ends", invalid.Clip(namespace)))
	}
	return errs
}

// normalise puts a valid spec into the one form that is stored and hashed.
// SecretValues that are nil stay nil.
func (s Spec) normalise() (Spec, error) {
	var err error
	if s.Values, err = canonical(s.Values); err != nil {
		return s, fmt.Errorf("normalise values: %w", err)
	}
	if s.SecretValues != nil {
		if s.SecretValues, err = canonical(s.SecretValues); err != nil {
			return s, errors.New("normalise secret values")
		}
	}
	if len(s.Outputs) == 0 {
		s.Outputs = nil
	}
	if len(s.Leftovers) == 0 {
		s.Leftovers = nil
	}
	if s.NodeMarks.Empty() {
		s.NodeMarks = facts.NodeMarks{}
	}
	return s, nil
}
