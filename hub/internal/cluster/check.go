package cluster

import (
	"errors"
	"maps"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/invalid"
)

// The bounds of what a caller may enter and an agent may report.
const (
	maxName     = 63
	maxLabels   = 64
	maxLabelKey = 317 // a DNS name, a slash, and 63 characters
	maxLabel    = 63
	maxDegraded = 32
	maxReason   = 128
	maxMessage  = 2048
	maxURL      = 2048
)

var (
	namePattern  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	labelPattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`)
)

// validName reports whether name is an RFC 1123 label.
func validName(name string) bool { return len(name) <= maxName && namePattern.MatchString(name) }

func validLabelPart(part string) bool { return len(part) <= maxLabel && labelPattern.MatchString(part) }

func checkNew(name string, labels map[string]string) error {
	var errs []error
	if !validName(name) {
		errs = append(errs, invalid.New("name",
			"%q is not a cluster name; use at most 63 lower-case letters, digits and dashes, with a letter or digit at both ends", invalid.Clip(name)))
	} else if _, err := uuid.Parse(name); err == nil {
		errs = append(errs, invalid.New("name", "%q would be taken for an id; use a name that is not a UUID", name))
	}
	return errors.Join(append(errs, checkLabels(labels)...)...)
}

func checkLabels(labels map[string]string) []error {
	var errs []error
	if len(labels) > maxLabels {
		errs = append(errs, invalid.New("labels", "there are %d; use at most %d", len(labels), maxLabels))
		return errs
	}
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		prefix, rest, found := strings.Cut(key, "/")
		if !found {
			prefix, rest = "", key
		}
		if !validLabelPart(rest) || len(key) > maxLabelKey || (found && !validPrefix(prefix)) {
			errs = append(errs, invalid.New("labels", "%q is not a label key; use [dns-name/]name with letters, digits, dots, dashes and underscores", invalid.Clip(key)))
		}
		if value := labels[key]; value != "" && !validLabelPart(value) {
			errs = append(errs, invalid.New("labels."+invalid.Clip(key),
				"%q is not a label value; use at most 63 letters, digits, dots, dashes and underscores", invalid.Clip(value)))
		}
	}
	return errs
}

func validPrefix(prefix string) bool {
	if prefix == "" || len(prefix) > 253 {
		return false
	}
	for part := range strings.SplitSeq(prefix, ".") {
		if !validName(part) {
			return false
		}
	}
	return true
}

// cleanDegraded bounds what an agent reports and puts it in one order.
func cleanDegraded(in []Degradation, now time.Time) []Degradation {
	out := make([]Degradation, 0, min(len(in), maxDegraded))
	for _, d := range in[:min(len(in), maxDegraded)] {
		d.Reason, d.Message = clip(d.Reason, maxReason), clip(d.Message, maxMessage)
		if d.Since.IsZero() {
			d.Since = now
		}
		d.Since = d.Since.UTC().Truncate(time.Millisecond)
		out = append(out, d)
	}
	slices.SortStableFunc(out, func(a, b Degradation) int { return strings.Compare(a.Reason, b.Reason) })
	return out
}

func clip(text string, most int) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "�"), "\x00", "")
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "")
}

// sameDegraded ignores when a degradation began: a restarted agent begins to
// count anew.
func sameDegraded(a, b []Degradation) bool {
	return slices.EqualFunc(a, b, func(x, y Degradation) bool { return x.Reason == y.Reason && x.Message == y.Message })
}

func degradedMessage(degraded []Degradation) string {
	parts := make([]string, 0, len(degraded))
	for _, d := range degraded {
		parts = append(parts, d.Reason+": "+d.Message)
	}
	return strings.Join(parts, "; ")
}

// checkIngressURL accepts what a browser would, without credentials.
func checkIngressURL(text string) error {
	if text == "" {
		return nil
	}
	u, err := url.Parse(text)
	if err != nil || len(text) > maxURL || (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" || u.User != nil {
		return invalid.New("ingressURL", "%q is not a URL of the form https://host/path, without user and password", invalid.ClipURL(text))
	}
	return nil
}
