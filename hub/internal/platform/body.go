package platform

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/google/uuid"
)

// The bounds of bodies. No call of the platform has more than some KiB.
const (
	maxJSON = 1 << 20
	// maxDrained is how much of a body that is too large is read and dropped, so
	// that its sender gets to the answer.
	maxDrained = 64 << 20
	drainTime  = 10 * time.Second
)

// tooLargeError is a body over its bound.
type tooLargeError struct{ most int64 }

func (e *tooLargeError) Error() string { return fmt.Sprintf("larger than %d bytes", e.most) }

// readAll reads at most most bytes.
func readAll(r io.Reader, most int64) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(r, most+1))
	if err != nil {
		return nil, fmt.Errorf("read body: %w", err)
	}
	if int64(len(raw)) > most {
		return nil, &tooLargeError{most}
	}
	return raw, nil
}

// drain drops the rest of a body, within bounds.
func drain(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(drainTime)) // a recorder has none
	_, _ = io.CopyN(io.Discard, r.Body, maxDrained)
}

// unread is the answer to a body that could not be read.
func unread(w http.ResponseWriter, r *http.Request, err error) answer {
	if large, is := errors.AsType[*tooLargeError](err); is {
		drain(w, r)
		return failed(http.StatusRequestEntityTooLarge, "The request is larger than %d bytes, the most that is taken here; send less.", large.most)
	}
	return refused(http.StatusBadRequest, "The request could not be read to its end; send it again.")
}

// fields is a JSON object that is read field by field, so that all that is
// wrong is said at once.
type fields struct {
	at      []string
	members map[string]json.RawMessage
	known   []string
	faults  []fault
}

// open reads an object.
func open(raw []byte, at ...string) (*fields, *fault) {
	f := &fields{at: at}
	switch {
	case len(bytes.TrimSpace(raw)) == 0:
		return nil, &fault{Type: "missing", Loc: at, Msg: "The body is empty; send a JSON object."}
	case json.Unmarshal(raw, &f.members) == nil && f.members != nil:
		return f, nil
	case json.Valid(raw):
		return nil, &fault{Type: "model_attributes_type", Loc: at, Msg: "The body is JSON, but no object; send an object."}
	}
	return nil, &fault{Type: "json_invalid", Loc: at, Msg: "The body is not JSON (" + where(raw) + "); correct it."}
}

// where says at which byte JSON ends to be JSON.
func where(raw []byte) string {
	var value json.RawMessage
	if syntax, is := errors.AsType[*json.SyntaxError](json.Unmarshal(raw, &value)); is {
		return fmt.Sprintf("at byte %d", syntax.Offset)
	}
	return "it ends too early"
}

func (f *fields) refuse(kind, name, format string, args ...any) {
	f.faults = append(f.faults, fault{Type: kind, Loc: append(slices.Clone(f.at), name), Msg: name + ": " + fmt.Sprintf(format, args...)})
}

// take gives a member. One that is missing, or null where that is allowed, is
// nil.
func (f *fields) take(name string, required, nullable bool) json.RawMessage {
	f.known = append(f.known, name)
	raw, there := f.members[name]
	null := string(raw) == "null"
	switch {
	case !there && required:
		f.refuse("missing", name, "it is missing; give it")
	case null && !nullable:
		f.refuse("type_error", name, "it is null; give a value")
	case there && !null:
		return raw
	}
	return nil
}

func (f *fields) decode(raw json.RawMessage, name string, into any, kind, wanted string) bool {
	if raw == nil {
		return false
	}
	if json.Unmarshal(raw, into) != nil {
		f.refuse(kind, name, "it is %s; give %s", shape(raw), wanted)
		return false
	}
	return true
}

// shape names the kind of a JSON value, never the value.
func shape(raw json.RawMessage) string {
	switch raw[0] {
	case '"':
		return "a text"
	case '{':
		return "an object"
	case '[':
		return "a list"
	case 't', 'f':
		return "true or false"
	default:
		return "a number"
	}
}

// text is a member that is a text.
func (f *fields) text(name string) (value string) {
	f.decode(f.take(name, true, false), name, &value, "string_type", "a text")
	return value
}

// maybe is a text that may be missing or null.
func (f *fields) maybe(name string) (value string) {
	f.decode(f.take(name, false, true), name, &value, "string_type", "a text")
	return value
}

// flag is a member that is true or false.
func (f *fields) flag(name string, required bool) (value bool) {
	f.decode(f.take(name, required, false), name, &value, "bool_type", "true or false")
	return value
}

// id is a member that is a UUID.
func (f *fields) id(name string) (value uuid.UUID) {
	var text string
	if !f.decode(f.take(name, true, false), name, &text, "uuid_type", "a UUID") {
		return uuid.Nil
	}
	value, err := uuid.Parse(text)
	if err != nil {
		f.refuse("uuid_parsing", name, "%q is not a UUID; give the id that the registration's results had", clip(text))
	}
	return value
}

// ignore marks members that are known and not used.
func (f *fields) ignore(names ...string) { f.known = append(f.known, names...) }

// strict refuses members that nobody knows, as the platform's own requests do.
func (f *fields) strict() {
	var unknown []string
	for name := range f.members {
		if !slices.Contains(f.known, name) {
			unknown = append(unknown, name)
		}
	}
	slices.Sort(unknown)
	for _, name := range unknown {
		f.refuse("extra_forbidden", clip(name), "it is not a field of this request; remove it or correct its spelling")
	}
}

// clip shortens what a caller sent.
func clip(text string) string {
	const most = 80
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return text
}

// json reads the whole body as an object.
func (s *Server) json(w http.ResponseWriter, r *http.Request) (*fields, *answer) {
	raw, err := readAll(r.Body, maxJSON)
	if err != nil {
		a := unread(w, r, err)
		return nil, &a
	}
	f, bad := open(raw, "body")
	if bad != nil {
		a := unprocessable([]fault{*bad})
		return nil, &a
	}
	return f, nil
}
