package mirror

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"reflect"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/internal/logkey"
)

// shareTimeout bounds how long a state store that is away holds up the messages.
const shareTimeout = 5 * time.Second

// share writes the entries of clusters into the key that the services share.
// The database is read after the key, so that what is written is never older
// than what was there.
func (f *Follower) share(ctx context.Context, ids []uuid.UUID) error {
	if f.state == nil {
		return nil
	}
	ctx, cancel := context.WithTimeoutCause(ctx, shareTimeout, fmt.Errorf("the shared key could not be written in %s", shareTimeout))
	defer cancel()
	var gone []uuid.UUID
	err := f.state.Update(ctx, f.key, func(old json.RawMessage) (json.RawMessage, error) {
		gone = nil
		entries := f.open(ctx, old)
		for _, id := range ids {
			entry, left, err := f.entryNow(ctx, id)
			if err != nil {
				return nil, err
			}
			if left {
				gone = append(gone, id)
			}
			entries.put(id.String(), entry)
		}
		return entries.close(old)
	})
	if err != nil {
		return fmt.Errorf("write %s: %w", f.key, err)
	}
	for _, id := range gone { // nobody has to remember it any more
		if err := f.cfg.Store.MirrorDelete(ctx, id); err != nil {
			return fmt.Errorf("forget cluster %s: %w", id, err)
		}
	}
	return nil
}

// list is the value of the shared key.
type list struct {
	entries []json.RawMessage
	ids     []string
}

// open reads the key. A value that is no list is replaced: nobody could read it.
func (f *Follower) open(ctx context.Context, old json.RawMessage) *list {
	l := &list{}
	if len(bytes.TrimSpace(old)) == 0 {
		return l
	}
	if err := json.Unmarshal(old, &l.entries); err != nil {
		f.log.WarnContext(ctx, "the shared key holds no list; it is written anew", slog.String(logkey.Key, f.key))
		return l
	}
	for _, raw := range l.entries {
		var e struct {
			ID string `json:"id"`
		}
		_ = json.Unmarshal(raw, &e) // one without an id is nobody's, and stays
		l.ids = append(l.ids, e.ID)
	}
	return l
}

// put replaces, adds or, with nil, removes an entry.
func (l *list) put(id string, entry json.RawMessage) {
	for i := 0; i < len(l.ids); i++ {
		if l.ids[i] != id {
			continue
		}
		if entry != nil {
			l.entries[i], entry = entry, nil
			continue
		}
		l.entries = append(l.entries[:i], l.entries[i+1:]...) // also one that is there twice
		l.ids = append(l.ids[:i], l.ids[i+1:]...)
		i--
	}
	if entry != nil {
		l.entries, l.ids = append(l.entries, entry), append(l.ids, id)
	}
}

// close gives the new value, or the old one if it says the same.
func (l *list) close(old json.RawMessage) (json.RawMessage, error) {
	if l.entries == nil {
		l.entries = []json.RawMessage{}
	}
	next, err := json.Marshal(l.entries)
	if err != nil {
		return nil, fmt.Errorf("encode entries: %w", err)
	}
	var a, b any
	if json.Unmarshal(old, &a) == nil && json.Unmarshal(next, &b) == nil && reflect.DeepEqual(a, b) {
		return old, nil
	}
	return next, nil
}
