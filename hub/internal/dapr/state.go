package dapr

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// State is one entry of a state store.
type State struct {
	// Value is JSON, nil when there is no entry.
	Value json.RawMessage
	// ETag changes with every write; empty when there is no entry.
	ETag string
}

// Write is one change of an entry.
type Write struct {
	Key string
	// Value is JSON; nil removes the entry.
	Value json.RawMessage
	// ETag, if given, is the one that the entry must still have.
	ETag string
	// Create writes only where there is no entry. On Redis this holds among
	// those who use it: see the package's comment.
	Create bool
}

// Get reads an entry. That there is none is no error.
func (c *Client) Get(ctx context.Context, store, key string) (State, error) {
	r := call{
		doing: fmt.Sprintf("read %s from state store %s", key, store), method: http.MethodGet,
		path: []string{"state", store, key}, query: url.Values{"consistency": {"strong"}},
	}
	got, err := c.do(ctx, r)
	if err != nil || got.status == http.StatusNoContent {
		return State{}, err
	}
	return State{Value: got.body, ETag: got.header.Get("ETag")}, nil
}

// Put makes one change, in whole or, with ErrConflict or another error, not at
// all.
func (c *Client) Put(ctx context.Context, store string, w Write) error {
	if w.Key == "" || strings.Contains(w.Key, "||") {
		return fmt.Errorf("change state store %s: key %q: a key must not be empty nor hold ||, which stands between app and key", store, w.Key)
	}
	if w.Value == nil {
		return c.remove(ctx, store, w)
	}
	doing := fmt.Sprintf("write %s to state store %s", w.Key, store)
	entry, err := entryOf(w)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	body, err := json.Marshal([]stateEntry{entry})
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	_, err = c.do(ctx, call{
		doing: doing, method: http.MethodPost, path: []string{"state", store},
		header: http.Header{"Content-Type": {"application/json"}}, body: body,
	})
	if refused, ok := errors.AsType[*Error](err); ok && w.Create && !errors.Is(err, ErrConflict) {
		// PostgreSQL's answer to a second creator is a plain 500.
		if now, found := c.Get(ctx, store, w.Key); found == nil && now.Value != nil {
			return fmt.Errorf("%s: %w: %w", doing, ErrConflict, refused)
		}
	}
	return err
}

func (c *Client) remove(ctx context.Context, store string, w Write) error {
	r := call{doing: fmt.Sprintf("remove %s from state store %s", w.Key, store), method: http.MethodDelete, path: []string{"state", store, w.Key}}
	if w.ETag != "" {
		r.header = http.Header{"If-Match": {w.ETag}}
	}
	_, err := c.do(ctx, r)
	return err
}

// Update replaces an entry by what change makes of it, and starts over when
// somebody else was faster, until ctx ends. change gets nil when there is no
// entry, and may be called several times; returning nil removes the entry, and
// returning what it got changes nothing.
func (c *Client) Update(ctx context.Context, store, key string, change func(old json.RawMessage) (json.RawMessage, error)) error {
	const first, most = 5 * time.Millisecond, 500 * time.Millisecond
	for between := first; ; between = min(2*between, most) {
		was, err := c.Get(ctx, store, key)
		if err != nil {
			return err
		}
		value, err := change(was.Value)
		if err != nil {
			return fmt.Errorf("change %s of state store %s: %w", key, store, err)
		}
		if string(value) == string(was.Value) {
			return nil
		}
		err = c.Put(ctx, store, Write{Key: key, Value: value, ETag: was.ETag, Create: was.Value == nil})
		if !errors.Is(err, ErrConflict) {
			return err
		}
		pause := time.NewTimer(rand.N(between)) //nolint:gosec // spreads retries, guards nothing
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return errors.Join(context.Cause(ctx), err)
		}
	}
}

// stateEntry is an entry as the sidecar reads it.
type stateEntry struct {
	Key     string          `json:"key"`
	Value   json.RawMessage `json:"value,omitempty"`
	ETag    string          `json:"etag,omitempty"`
	Options *stateOptions   `json:"options,omitempty"`
}

type stateOptions struct {
	Concurrency string `json:"concurrency"`
}

func entryOf(w Write) (stateEntry, error) {
	e := stateEntry{Key: w.Key, Value: w.Value, ETag: w.ETag}
	switch {
	case w.Create && w.ETag != "":
		return stateEntry{}, errors.New("create and ETag exclude each other: what does not exist has no ETag")
	case w.Value != nil && !json.Valid(w.Value):
		return stateEntry{}, errors.New("the value is not JSON")
	}
	if rounded, ok := rounds(w.Value); ok {
		return stateEntry{}, fmt.Errorf("the value holds the number %s, which the sidecar would round; write it as text", rounded)
	}
	if w.Create {
		// Only for this: with an ETag alone both stores check it too, and Redis does
		// not mark the entry for good.
		e.Options = &stateOptions{Concurrency: "first-write"}
	}
	return e, nil
}

// rounds finds a whole number that a float64 cannot hold.
func rounds(value json.RawMessage) (number string, found bool) {
	decoder := json.NewDecoder(strings.NewReader(string(value)))
	decoder.UseNumber()
	for {
		token, err := decoder.Token()
		if err != nil {
			return "", false
		}
		n, ok := token.(json.Number)
		if !ok || strings.ContainsAny(n.String(), ".eE") {
			continue
		}
		f, err := n.Float64()
		if err != nil || strconv.FormatFloat(f, 'f', 0, 64) != n.String() && n.String() != "-0" {
			return n.String(), true
		}
	}
}
