package notify

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/page"
)

// Letter is a message as people see it: all but its body, which is for its
// receivers.
type Letter struct {
	// Row is its number in the outbox.
	Row int64
	// Stream is the workflow or the cluster that it is about.
	Stream uuid.UUID
	Topic  string
	// Key is what it says, unique in its stream and topic.
	Key string
	// EventID is that of the CloudEvent, the same on each topic.
	EventID uuid.UUID
	Type    string
	// Size is that of the body in bytes.
	Size      int
	WrittenAt time.Time
	Status    LetterStatus
	// Attempts counts since it was written, or retried by hand.
	Attempts int
	// NextAt is when a pending one is attempted at the earliest, EndedAt when it
	// was sent or given up.
	NextAt, EndedAt *time.Time
	// Error is that of the last attempt that failed.
	Error string
}

// LetterStatus is where a message stands.
type LetterStatus string

// The statuses.
const (
	// LetterPending: it is to be delivered, or tried again.
	LetterPending LetterStatus = "Pending"
	// LetterSent: the broker has it.
	LetterSent LetterStatus = "Sent"
	// LetterDead: given up; it is kept, and can be tried again by hand.
	LetterDead LetterStatus = "Dead"
)

// LetterStatuses lists the statuses.
func LetterStatuses() []LetterStatus { return []LetterStatus{LetterPending, LetterSent, LetterDead} }

// ErrNoLetter is that there is no dead letter of a number.
var ErrNoLetter = errors.New("no such dead letter")

// NoLetterError says which dead letter there is not. It is ErrNoLetter.
type NoLetterError struct{ Row int64 }

// Error names the number and the remedy.
func (e *NoLetterError) Error() string {
	return fmt.Sprintf("message %d is no dead letter: it was sent, is still tried, or is not kept; `budcluster message list --status Dead` shows those that there are", e.Row)
}

// Is makes it ErrNoLetter.
func (e *NoLetterError) Is(target error) bool { return target == ErrNoLetter }

// Archive keeps messages. InTx runs fn in one transaction, which travels in the
// context that fn is given.
type Archive interface {
	InTx(ctx context.Context, fn func(ctx context.Context) error) error
	AppendEvents(ctx context.Context, events ...event.Event) error
	// OutboxList returns messages, the newest first; of all statuses when status
	// is empty.
	OutboxList(ctx context.Context, status LetterStatus, before int64, limit int) ([]Letter, error)
	// OutboxRevive makes a dead letter one that is due now; OutboxDiscard deletes
	// it. Both fail with ErrNoLetter.
	OutboxRevive(ctx context.Context, row int64, now time.Time) (Letter, error)
	OutboxDiscard(ctx context.Context, row int64) (Letter, error)
}

// Letters lets people see what topics are told, and decide on what could not be
// delivered.
type Letters struct {
	archive Archive
	now     func() time.Time
}

// NewLetters makes Letters; now is time.Now when nil.
func NewLetters(archive Archive, now func() time.Time) (*Letters, error) {
	if archive == nil {
		return nil, errors.New("notify letters: an archive is needed")
	}
	if now == nil {
		now = time.Now
	}
	return &Letters{archive: archive, now: now}, nil
}

// List returns one page of messages, the newest first.
func (l *Letters) List(ctx context.Context, status LetterStatus, p page.Page) (found []Letter, next string, err error) {
	if status != "" && !slices.Contains(LetterStatuses(), status) {
		return nil, "", invalid.New("status", "%q is not a status; use one of %v", invalid.Clip(string(status)), LetterStatuses())
	}
	parts, err := p.Key(1)
	if err != nil {
		return nil, "", err
	}
	before := int64(math.MaxInt64)
	if parts[0] != "" {
		if before, err = strconv.ParseInt(parts[0], 10, 64); err != nil {
			return nil, "", invalid.New("cursor", "%q is not one that this list gave out; leave it away to start at the first page", invalid.Clip(p.Cursor))
		}
	}
	found, err = l.archive.OutboxList(ctx, status, before, p.Size()+1)
	if err != nil {
		return nil, "", fmt.Errorf("list messages: %w", err)
	}
	found, next = page.Cut(found, p, func(one Letter) []string { return []string{strconv.FormatInt(one.Row, 10)} })
	return found, next, nil
}

// Retry has a dead letter tried again, under the id that it had, with as many
// attempts as a new one. What came after it in its stream has overtaken it.
func (l *Letters) Retry(ctx context.Context, actor string, row int64) (Letter, error) {
	return l.decide(ctx, actor, row, event.MessageRetried, "is tried again", func(ctx context.Context) (Letter, error) {
		return l.archive.OutboxRevive(ctx, row, l.now().UTC())
	})
}

// Discard deletes a dead letter: its receivers never hear of it.
func (l *Letters) Discard(ctx context.Context, actor string, row int64) error {
	_, err := l.decide(ctx, actor, row, event.MessageDiscarded, "was discarded", func(ctx context.Context) (Letter, error) {
		return l.archive.OutboxDiscard(ctx, row)
	})
	return err
}

// decide carries a decision out and records it, in one transaction.
func (l *Letters) decide(ctx context.Context, actor string, row int64, kind event.Type, what string, do func(ctx context.Context) (Letter, error)) (one Letter, err error) {
	err = l.archive.InTx(ctx, func(ctx context.Context) error {
		if one, err = do(ctx); err != nil {
			return err
		}
		e, err := event.Record(l.now(), kind, actor, struct {
			Topic  string    `json:"topic"`
			Key    string    `json:"key"`
			Stream uuid.UUID `json:"stream"`
		}{one.Topic, one.Key, one.Stream})
		if err != nil {
			return err
		}
		e.Subject, e.Message = strconv.FormatInt(row, 10), fmt.Sprintf("message %d (%s) to topic %s %s", row, one.Key, one.Topic, what)
		return l.archive.AppendEvents(ctx, e)
	})
	if errors.Is(err, ErrNoLetter) {
		return Letter{}, &NoLetterError{Row: row}
	}
	if err != nil {
		return Letter{}, fmt.Errorf("message %d: %w", row, err)
	}
	return one, nil
}
