package dapr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"
)

var (
	// ErrConflict is that an entry of a state store is not, or no longer, what
	// the write wanted to replace.
	ErrConflict = errors.New("somebody else has changed the entry meanwhile")
	// ErrUnreachable is that no answer came from the sidecar: whether it did what
	// was asked is not known.
	ErrUnreachable = errors.New("the sidecar cannot be reached")
)

// maxMessage bounds how much of a sidecar's words goes into an error.
const maxMessage = 400

// Error is an answer of the sidecar that is not a success.
type Error struct {
	Status int
	// Code is Dapr's own, such as ERR_PUBSUB_NOT_FOUND; may be empty.
	Code string
	// Message is what the sidecar said, bounded and without our token.
	Message string
}

// Error is a sentence without what was being done: that is the caller's part.
func (e *Error) Error() string {
	text := fmt.Sprintf("the sidecar answered %d %s", e.Status, http.StatusText(e.Status))
	if e.Code != "" {
		text += " (" + e.Code + ")"
	}
	if e.Message != "" {
		text += ": " + e.Message
	}
	if remedy := e.remedy(); remedy != "" {
		text += "; " + remedy
	}
	return text
}

func (e *Error) remedy() string {
	switch e.Status {
	case http.StatusUnauthorized:
		return "dapr.apiTokenFile must hold the token that the sidecar has as DAPR_API_TOKEN"
	case http.StatusForbidden:
		return "the component's scopes must name this app"
	case http.StatusRequestEntityTooLarge:
		return "start the sidecar with a larger --max-body-size"
	default:
		return ""
	}
}

// Is makes a refused ETag an ErrConflict.
func (e *Error) Is(target error) bool {
	return target == ErrConflict && e.Status == http.StatusConflict
}

// refusal reads an answer that is not a success.
func (c *Client) refusal(got answer) *Error {
	said := struct {
		Code    string `json:"errorCode"`
		Message string `json:"message"`
	}{}
	if err := json.Unmarshal(got.body, &said); err != nil || said.Code == "" && said.Message == "" {
		said.Message = string(got.body)
	}
	return &Error{Status: got.status, Code: c.printable(said.Code), Message: c.printable(said.Message)}
}

// printable bounds foreign words to one line, and takes our token out of them.
func (c *Client) printable(text string) string {
	if token := c.token.Reveal(); token != "" {
		text = strings.ReplaceAll(text, token, "[redacted]")
	}
	text = strings.Join(strings.Fields(strings.ToValidUTF8(text, "�")), " ")
	if len(text) <= maxMessage {
		return text
	}
	end := maxMessage
	for !utf8.RuneStart(text[end]) {
		end--
	}
	return text[:end] + "…"
}

// unreachable says why there was no answer. The address is in it, the path,
// which the caller names in words, is not.
func (c *Client) unreachable(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		if errors.Is(cause, context.Canceled) {
			return cause // the caller gave up
		}
		return fmt.Errorf("%w at %s: %w", ErrUnreachable, c.address, cause)
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		err = wrapped.Err
	}
	return fmt.Errorf("%w at %s: %w", ErrUnreachable, c.address, err)
}
