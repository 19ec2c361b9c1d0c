// Package invalid is how the rules refuse what a caller wrote: each error
// names the field, shows the value and says what to write instead. The edges
// turn it into their own form, field by field.
package invalid

import (
	"errors"
	"fmt"
	"strings"
)

// Error refuses one field of a request.
type Error struct {
	// Field is the path of the field as the caller wrote it, e.g. spec.timeout.
	Field string
	// Message shows the value and the remedy, in one sentence that reads on
	// from the field's name.
	Message string
}

// New makes an Error whose message is formatted like fmt.Sprintf.
func New(field, format string, args ...any) *Error {
	return &Error{Field: field, Message: fmt.Sprintf(format, args...)}
}

// Error is the field and the message.
func (e *Error) Error() string { return e.Field + ": " + e.Message }

// Of lists every Error in err's tree, in order; it is empty for an error that
// is not the caller's fault.
func Of(err error) []*Error {
	if err == nil {
		return nil
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var found []*Error
		for _, one := range many.Unwrap() {
			found = append(found, Of(one)...)
		}
		return found
	}
	if one, ok := err.(*Error); ok { //nolint:errorlint // walks the tree itself
		return []*Error{one}
	}
	return Of(errors.Unwrap(err))
}

// Clip shortens a value for use in a message, so that a hostile or huge one
// does not fill the log.
func Clip(value string) string {
	const most = 80
	if runes := []rune(value); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return value
}

// ClipURL is Clip for an address, of which it hides what may be a secret: user
// and password, query and fragment. It reads no form into it, for it is about
// those that have none.
func ClipURL(value string) string {
	value, digest, _ := strings.Cut(value, "@sha256:") // of an image, and no secret
	scheme, rest, has := strings.Cut(value, "://")
	if !has {
		scheme, rest = "", value
	}
	if at := strings.LastIndex(rest, "@"); at >= 0 {
		rest = "…" + rest[at:]
	}
	if at := strings.IndexAny(rest, "?#"); at >= 0 {
		rest = rest[:at] + "…"
	}
	if has {
		rest = scheme + "://" + rest
	}
	if digest != "" {
		rest += "@sha256:…"
	}
	return Clip(rest)
}
