package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"
)

// Webhook is one program that is told.
type Webhook struct {
	ID   uuid.UUID
	Name string
	URL  string
	// Types are those that it asked for; empty asks for all.
	Types []string
	// ClusterID is the cluster that it asked for; uuid.Nil asks for all.
	ClusterID uuid.UUID
	CreatedAt time.Time
	CreatedBy string
	Position
}

// Position is how far a webhook is.
type Position struct {
	// After is the last event that is done with.
	After int64
	// Attempts is how often the event after that has failed, Failures how often
	// anything has in a row.
	Attempts, Failures int
	DueAt              time.Time
	LastSentAt         *time.Time
	// Error is why it fails, empty when it does not.
	Error string
}

// Delivery is an event that a webhook was sent, or was to be sent.
type Delivery struct {
	WebhookID uuid.UUID
	EventID   int64
	Type      string
	Status    Status
	Attempts  int
	FirstAt   time.Time
	LastAt    time.Time
	// Response is the HTTP status of the last answer; 0 when there was none.
	Response int
	Took     time.Duration
	Error    string
	Body     json.RawMessage
}

// Status is where a delivery stands.
type Status string

// The statuses.
const (
	StatusSent Status = "Sent"
	// StatusFailing: it is tried again, and later events wait for it.
	StatusFailing Status = "Failing"
	// StatusDead: given up; it can be sent again by hand.
	StatusDead Status = "Dead"
)

// Statuses lists the statuses.
func Statuses() []Status { return []Status{StatusSent, StatusFailing, StatusDead} }

// The errors that callers tell apart.
var (
	ErrNotFound = errors.New("no such webhook")
	ErrExists   = errors.New("webhook exists")
	// ErrNoDelivery: the webhook was never sent this event, or that was too long
	// ago.
	ErrNoDelivery = errors.New("no such delivery")
)

// NotFoundError says which webhook there is not. It is ErrNotFound.
type NotFoundError struct{ Ref string }

// Error names the webhook and the remedy.
func (e *NotFoundError) Error() string {
	return fmt.Sprintf("there is no webhook %q; `budcluster webhook list` shows those that there are", e.Ref)
}

// Is makes it ErrNotFound.
func (e *NotFoundError) Is(target error) bool { return target == ErrNotFound }

// ExistsError says that a name is taken. It is ErrExists.
type ExistsError struct{ Name string }

// Error names the webhook and the remedy.
func (e *ExistsError) Error() string {
	return fmt.Sprintf("a webhook named %q exists already; choose another name, or delete that one first", e.Name)
}

// Is makes it ErrExists.
func (e *ExistsError) Is(target error) bool { return target == ErrExists }

// NoDeliveryError says which delivery there is not. It is ErrNoDelivery.
type NoDeliveryError struct {
	Webhook string
	EventID int64
}

// Error names both and the remedy.
func (e *NoDeliveryError) Error() string {
	return fmt.Sprintf("webhook %s has no delivery of event %d; `budcluster webhook deliveries %s` shows those that are kept", e.Webhook, e.EventID, e.Webhook)
}

// Is makes it ErrNoDelivery.
func (e *NoDeliveryError) Is(target error) bool { return target == ErrNoDelivery }
