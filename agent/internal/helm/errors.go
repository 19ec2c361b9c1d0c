package helm

import (
	"errors"
	"regexp"
	"strings"
)

// maxSentence bounds what travels to people; Helm may quote whole manifests.
const maxSentence = 600

// Error is why an operation failed.
type Error struct {
	// Sentence is Helm's reason without its noise.
	Sentence string
	// Permanent: neither time nor the cluster can change it, only the spec.
	Permanent bool
	cause     error
}

func (e *Error) Error() string { return e.Sentence }

// Unwrap returns what Helm said.
func (e *Error) Unwrap() error { return e.cause }

// IsPermanent reports whether trying again cannot help.
func IsPermanent(err error) bool {
	e, ok := errors.AsType[*Error](err)
	return ok && e.Permanent
}

func permanent(err error) error {
	return &Error{Sentence: Sentence(err), Permanent: true, cause: err}
}

func failed(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := errors.AsType[*Error](err); ok {
		return err
	}
	return &Error{Sentence: Sentence(err), Permanent: schemaHead.MatchString(err.Error()), cause: err}
}

// noise is what Helm puts before the reason.
var noise = []string{ //nolint:gochecknoglobals // a constant list
	"failed to create resource: ",
	"Unable to continue with install: ",
	"Unable to continue with update: ",
	"unable to build kubernetes objects from release manifest: ",
	"unable to build kubernetes objects from new release manifest: ",
	"unable to build kubernetes objects from current release manifest: ",
	"failed to replace object: ",
	"error while running post render on files: ",
	"warning: ",
	"create: failed to create: ",
	"update: failed to update: ",
	`error validating "": `,
	"error validating data: ",
	"error when creating \"\": ",
	"cannot load values.yaml: ",
	"; ensure CRDs are installed first",
	`resource mapping not found for `,
	` from ""`,
}

var (
	countLine    = regexp.MustCompile(`(?m)^\d+ errors? occurred:\s*`)
	executionAt  = regexp.MustCompile(`execution error at \(([^):]+:\d+):?\d*\): `)
	templateAt   = regexp.MustCompile(`template: [^:\s]+:\d+:\d+:\s+executing "[^"]+" at (<[^>]*>): (error calling \w+: )?`)
	templateLast = regexp.MustCompile(`template: ([^:\s]+:\d+):\d+:\s+executing "[^"]+" at (<[^>]*>): `)
	hookFailed   = regexp.MustCompile(`failed ((?:pre|post)-install): |((?:pre|post)-upgrade) hooks failed: `)
	releaseWrap  = regexp.MustCompile(`(Release|Upgrade|Rollback) "[^"]*" failed: `)
	schemaHead   = regexp.MustCompile(`values don't meet the specifications of the schema\(s\) in the following chart\(s\):\s*`)
	schemaAt     = regexp.MustCompile(`at '([^']*)': `)
	bullets      = regexp.MustCompile(`\s*\n\s*(?:[*-]\s*)?`)
)

// Sentence makes one sentence of an error of Helm: without its prefixes,
// without line breaks, and with the place in the chart where it names one.
func Sentence(err error) string {
	if err == nil {
		return ""
	}
	s := strings.TrimSpace(err.Error())
	s = countLine.ReplaceAllString(s, "")
	s = executionAt.ReplaceAllString(s, "$1: ")
	s = innermostTemplate(s)
	s = releaseWrap.ReplaceAllString(s, "")
	s = hookFailed.ReplaceAllString(s, "$1$2 hook: ")
	s = schemaHead.ReplaceAllString(s, "values do not fit the chart's schema: ")
	s = schemaAt.ReplaceAllString(s, "at $1: ")
	for range 3 {
		for _, n := range noise {
			s = strings.ReplaceAll(s, n, "")
		}
	}
	s = bullets.ReplaceAllString(strings.Trim(s, " \n\t*-"), "; ")
	s = strings.ReplaceAll(s, ":; ", ": ")
	if runes := []rune(s); len(runes) > maxSentence {
		s = string(runes[:maxSentence-1]) + "…"
	}
	return s
}

// innermostTemplate keeps the last of nested template positions: that is
// where the mistake is, the others only include it.
func innermostTemplate(s string) string {
	all := templateLast.FindAllStringIndex(s, -1)
	if len(all) == 0 {
		return s
	}
	last := all[len(all)-1]
	head := templateAt.ReplaceAllString(s[:last[0]], "")
	return head + templateLast.ReplaceAllString(s[last[0]:], "$1: $2: ")
}
