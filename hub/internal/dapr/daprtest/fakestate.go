package daprtest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
)

// entry is one of the state store.
type entry struct {
	value json.RawMessage
	etag  string
}

// change is a write as it comes over the wire.
type change struct {
	Key     string          `json:"key"`
	Value   json.RawMessage `json:"value"`
	ETag    string          `json:"etag"`
	Options struct {
		Concurrency string `json:"concurrency"`
	} `json:"options"`
	remove bool
}

// State is what an entry of the state store is now, nil if there is none.
func (f *Fake) State(key string) json.RawMessage {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.state[key].value
}

func hasStore(w http.ResponseWriter, r *http.Request) bool {
	return knows(w, r.PathValue("store"), StateStore, http.StatusBadRequest, "ERR_STATE_STORE_NOT_FOUND")
}

func (f *Fake) read(w http.ResponseWriter, r *http.Request) {
	if !hasStore(w, r) {
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	found, ok := f.state[r.PathValue("key")]
	if !ok {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("ETag", found.etag)
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(found.value)
}

func (f *Fake) write(w http.ResponseWriter, r *http.Request) {
	var changes []change
	if hasStore(w, r) && take(w, r, &changes) {
		f.apply(w, "ERR_STATE_SAVE", changes)
	}
}

func (f *Fake) remove(w http.ResponseWriter, r *http.Request) {
	if hasStore(w, r) {
		f.apply(w, "ERR_STATE_DELETE", []change{{Key: r.PathValue("key"), ETag: r.Header.Get("If-Match"), remove: true}})
	}
}

// apply makes all changes, or none if one must not be.
func (f *Fake) apply(w http.ResponseWriter, code string, changes []change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, c := range changes {
		now, found := f.state[c.Key]
		if c.ETag != "" && c.ETag != now.etag || c.ETag == "" && c.Options.Concurrency == "first-write" && found {
			refuse(w, http.StatusConflict, code, "possible etag mismatch. error from state store")
			return
		}
	}
	for _, c := range changes {
		if c.remove {
			delete(f.state, c.Key)
			continue
		}
		f.writes++
		f.state[c.Key] = entry{value: bytes.Clone(c.Value), etag: strconv.Itoa(f.writes)}
	}
	w.WriteHeader(http.StatusNoContent)
}

// subscriptions are those of a program to settings.
type subscriptions struct {
	app  string
	lock sync.Mutex // guards made, keys
	made int
	keys map[string][]string // by the subscription's id; none means all
}

func (s *subscriptions) subscribe(w http.ResponseWriter, r *http.Request) {
	s.lock.Lock()
	defer s.lock.Unlock()
	s.made++
	id := fmt.Sprint("subscription-", s.made)
	s.keys[id] = r.URL.Query()["key"]
	give(w, map[string]string{"id": id})
}

func (s *subscriptions) unsubscribe(w http.ResponseWriter, r *http.Request) {
	s.lock.Lock()
	defer s.lock.Unlock()
	delete(s.keys, r.PathValue("id"))
	give(w, map[string]bool{"ok": true})
}

// tell posts a change to the program, once for each subscription to it.
func (s *subscriptions) tell(ctx context.Context, key, value string) error {
	s.lock.Lock()
	defer s.lock.Unlock()
	if s.app == "" {
		return nil
	}
	for id, keys := range s.keys {
		if len(keys) > 0 && !slices.Contains(keys, key) {
			continue
		}
		body := fmt.Appendf(nil, `{"id":%q,"items":{%q:{"value":%q}}}`, id, key, value)
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+s.app+"/configuration/"+ConfigurationStore+"/"+key, bytes.NewReader(body))
		if err != nil {
			return err
		}
		request.Header.Set("Content-Type", "application/json")
		request.Header.Set("dapr-api-token", Token)
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			return err
		}
		if err := answer.Body.Close(); err != nil {
			return err
		}
	}
	return nil
}

// Restart makes it forget whom to tell of changes, as a sidecar does that is
// started anew.
func (s *subscriptions) Restart() {
	s.lock.Lock()
	defer s.lock.Unlock()
	clear(s.keys)
}
