package release

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Shorter values are no secrets that could be kept, and their removal would
// make sentences unreadable.
const (
	minSecret     = 4
	minSecretLine = 8
	redacted      = "[redacted]"
	ellipsis      = "…"
)

// redactor hides secret values in what is said about a release. Helm quotes
// the values that its errors are about ("at /password: 'hunter2' does not
// match pattern …"), the API server does so with fields, and both come from
// charts that we do not know. The zero value hides nothing.
type redactor struct {
	secrets *strings.Replacer
	found   []string // longest first
}

// newRedactor knows every text and number in a JSON object, in the forms in
// which they may be quoted.
func newRedactor(secret json.RawMessage) redactor {
	tree, err := object(secret)
	if err != nil || len(tree) == 0 {
		return redactor{}
	}
	var found []string
	collect(tree, func(s string) {
		if len(s) < minSecret {
			return
		}
		quoted := strconv.Quote(s)
		found = append(found, s, quoted[1:len(quoted)-1], base64.StdEncoding.EncodeToString([]byte(s)))
		for line := range strings.Lines(s) {
			if line = strings.TrimSpace(line); len(line) >= minSecretLine {
				found = append(found, line)
			}
		}
	})
	// The first that fits at a place wins, so the longest come first.
	slices.SortFunc(found, func(a, b string) int { return len(b) - len(a) })
	found = slices.Compact(found)
	pairs := make([]string, 0, 2*len(found))
	for _, s := range found {
		pairs = append(pairs, s, redacted)
	}
	return redactor{secrets: strings.NewReplacer(pairs...), found: found}
}

// collect gives every leaf that may be secret. Truth values are none.
func collect(v any, leaf func(string)) {
	switch v := v.(type) {
	case map[string]any:
		for _, below := range v {
			collect(below, leaf)
		}
	case []any:
		for _, below := range v {
			collect(below, leaf)
		}
	case string:
		leaf(v)
	case nil, bool:
	default:
		leaf(fmt.Sprint(v))
	}
}

func (r redactor) text(s string) string {
	if r.secrets == nil {
		return s
	}
	s = r.secrets.Replace(s)
	if kept, cut := strings.CutSuffix(s, ellipsis); cut {
		return r.end(kept) + ellipsis
	}
	return s
}

// end hides the beginning of a secret at the end of a text that was cut there.
func (r redactor) end(s string) string {
	for _, secret := range r.found {
		for n := len(secret) - 1; n >= minSecret; n-- {
			if kept, ok := strings.CutSuffix(s, secret[:n]); ok {
				return kept + redacted
			}
		}
	}
	return s
}

// observation hides secrets in every sentence that goes into a status.
func (r redactor) observation(o *observation) {
	o.Memory.Failure.Message = r.text(o.Memory.Failure.Message)
	o.Readiness.Failed = r.text(o.Readiness.Failed)
	o.Readiness.WaitingFor = r.text(o.Readiness.WaitingFor)
}

// error hides secrets in what an error says; what it is stays.
func (r redactor) error(err error) error {
	if err == nil {
		return nil
	}
	said := err.Error()
	if hidden := r.text(said); hidden != said {
		return &redactedError{said: hidden, cause: err}
	}
	return err
}

type redactedError struct {
	said  string
	cause error
}

func (e *redactedError) Error() string { return e.said }

func (e *redactedError) Unwrap() error { return e.cause }
