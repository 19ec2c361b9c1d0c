package component

import (
	"errors"
	"regexp"
	"slices"
	"strings"

	"github.com/budecosystem/budcluster/hub/internal/invalid"
)

// The forms of what a wish may name.
var (
	versionPattern = regexp.MustCompile(`^v?[0-9][0-9A-Za-z.+-]{0,62}$`)
	digestPattern  = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)
)

// Check names everything that no cluster can wish for, as invalid.Errors of
// fields below the one given, which is empty for the whole request.
func (w Wish) Check(field string) error {
	at := func(name string) string { return strings.TrimPrefix(field+"."+name, ".") }
	var errs []error
	if !slices.Contains([]Wanted{"", WantAuto, WantYes, WantNo}, w.Wanted) {
		errs = append(errs, invalid.New(at("wanted"), "%q is not known; use one of auto, yes, no", invalid.Clip(string(w.Wanted))))
	}
	if w.Version != "" && !versionPattern.MatchString(w.Version) {
		errs = append(errs, invalid.New(at("version"), "%q is not a version; use one such as 1.2.3, as the chart has it", invalid.Clip(w.Version)))
	}
	if w.Digest != "" && !digestPattern.MatchString(w.Digest) {
		errs = append(errs, invalid.New(at("digest"), "%q is not a digest; use \"sha256:\" and 64 hex digits", invalid.Clip(w.Digest)))
	}
	if hasNUL(w.Values) {
		errs = append(errs, invalid.New(at("values"), "a text in it holds the character NUL, which neither the database nor Kubernetes takes; remove it"))
	}
	return errors.Join(errs...)
}

// hasNUL looks through JSON that was read.
func hasNUL(v any) bool {
	switch v := v.(type) {
	case string:
		return strings.Contains(v, "\x00")
	case []any:
		return slices.ContainsFunc(v, hasNUL)
	case map[string]any:
		for key, one := range v {
			if hasNUL(key) || hasNUL(one) {
				return true
			}
		}
	}
	return false
}
