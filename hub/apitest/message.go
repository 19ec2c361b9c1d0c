package apitest

import (
	"context"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/notify"
)

// Tell is that a topic is told something, and what has become of that: with an
// error it was given up.
func (h *Hub) Tell(topic, key, failure string) {
	defer h.lock()()
	at := Now()
	l := notify.Letter{
		Row: int64(len(h.letters) + 1), Stream: uuid.NewSHA1(uuid.Nil, []byte("workflow")), Topic: topic, Key: key, EventID: uuid.NewSHA1(uuid.Nil, []byte(key)),
		Type: "notification", Size: 512, WrittenAt: at.Add(-time.Hour), Status: notify.LetterSent, Attempts: 1, EndedAt: &at,
	}
	if failure != "" {
		l.Status, l.Attempts, l.Error = notify.LetterDead, 10, failure
	}
	h.letters = append(h.letters, l)
}

// letterStore is notify.Archive.
type letterStore struct{ webhookStore }

func (h letterStore) OutboxList(_ context.Context, status notify.LetterStatus, before int64, limit int) ([]notify.Letter, error) {
	defer h.lock()()
	var found []notify.Letter
	for _, l := range slices.Backward(h.letters) {
		if l.Row < before && (status == "" || status == l.Status) && len(found) < limit {
			found = append(found, l)
		}
	}
	return found, h.fault
}

// dead finds a dead letter.
func (h letterStore) dead(row int64) (int, error) {
	i := slices.IndexFunc(h.letters, func(l notify.Letter) bool { return l.Row == row && l.Status == notify.LetterDead })
	if i < 0 {
		return 0, notify.ErrNoLetter
	}
	return i, nil
}

func (h letterStore) OutboxRevive(_ context.Context, row int64, now time.Time) (notify.Letter, error) {
	defer h.lock()()
	i, err := h.dead(row)
	if err != nil {
		return notify.Letter{}, err
	}
	l := &h.letters[i]
	l.Status, l.Attempts, l.NextAt, l.EndedAt = notify.LetterPending, 0, &now, nil
	return *l, nil
}

func (h letterStore) OutboxDiscard(_ context.Context, row int64) (notify.Letter, error) {
	defer h.lock()()
	i, err := h.dead(row)
	if err != nil {
		return notify.Letter{}, err
	}
	l := h.letters[i]
	h.letters = slices.Delete(h.letters, i, i+1)
	return l, nil
}
