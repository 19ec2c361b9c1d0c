package access

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"time"

	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/internal/logkey"
	"github.com/budecosystem/budcluster/internal/secret"
)

// The errors that callers tell apart.
var (
	// ErrNotFound: there is no such key, or it was revoked already.
	ErrNotFound = errors.New("there is no such API key; list the keys to see those that are in force")
	// ErrDenied: the presented key is not a valid one. It does not say why, so
	// that nobody learns which half of a guess was right.
	ErrDenied = errors.New("the API key is not valid; ask an administrator for a new one")
	// ErrExists: the name is in use.
	ErrExists = errors.New("API key exists")
)

// ExistsError says that a key's name is taken. It is ErrExists.
type ExistsError struct{ Name string }

// Error names the key and the remedy.
func (e *ExistsError) Error() string {
	return fmt.Sprintf("an API key named %q exists already; choose another name, or revoke that key first", e.Name)
}

// Is makes it ErrExists.
func (e *ExistsError) Is(target error) bool { return target == ErrExists }

// usedEvery bounds how often a key's use is written down.
const usedEvery = time.Minute

var namePattern = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._@-]{0,61}[A-Za-z0-9])?$`)

// Store keeps keys.
type Store interface {
	InTx(ctx context.Context, fn func(ctx context.Context) error) error
	AppendEvents(ctx context.Context, events ...event.Event) error
	Keys
}

// Keys is the table of API keys.
type Keys interface {
	// KeyInsert fails with ErrExists when a key of that name is in force.
	KeyInsert(ctx context.Context, k Key, hash [32]byte) error
	// KeyByID fails with ErrNotFound.
	KeyByID(ctx context.Context, id string) (Key, [32]byte, error)
	KeyList(ctx context.Context) ([]Key, error)
	// KeyRevoke fails with ErrNotFound when no key of that id is in force.
	KeyRevoke(ctx context.Context, id string, at time.Time) (Key, error)
	KeyMarkUsed(ctx context.Context, id string, at time.Time) error
}

// Config makes a Service.
type Config struct {
	Store  Store
	Logger *slog.Logger
	// Now is time.Now when nil.
	Now func() time.Time
}

// Service is the rules of access.
type Service struct {
	store Store
	log   *slog.Logger
	now   func() time.Time
}

// New checks cfg and makes the Service.
func New(cfg Config) (*Service, error) {
	if cfg.Store == nil || cfg.Logger == nil {
		return nil, errors.New("access: a store and a logger are needed")
	}
	s := &Service{store: cfg.Store, log: cfg.Logger, now: cfg.Now}
	if s.now == nil {
		s.now = time.Now
	}
	return s, nil
}

// CreateKey makes an API key. Its text is returned once and kept nowhere.
func (s *Service) CreateKey(ctx context.Context, actor, name string, role Role) (Key, secret.String, error) {
	if err := checkKey(name, role); err != nil {
		return Key{}, secret.String{}, err
	}
	raw := make([]byte, idBytes+keyBytes)
	if _, err := rand.Read(raw); err != nil {
		return Key{}, secret.String{}, fmt.Errorf("make API key %s: %w", name, err)
	}
	text := encodeKeyPart(raw[idBytes:])
	k := Key{ID: encodeKeyPart(raw[:idBytes]), Name: name, Role: role, CreatedAt: s.now().UTC(), CreatedBy: actor}
	err := s.store.InTx(ctx, func(ctx context.Context) error {
		if err := s.store.KeyInsert(ctx, k, sha256.Sum256([]byte(text))); err != nil {
			return err
		}
		return s.store.AppendEvents(ctx, event.Event{
			At: k.CreatedAt, Type: event.KeyCreated, Subject: name, Actor: actor,
			Message: fmt.Sprintf("API key %s with role %s was created", name, role),
		})
	})
	if err != nil {
		return Key{}, secret.String{}, fmt.Errorf("create API key %s: %w", name, err)
	}
	return k, secret.New(keyPrefix + "_" + k.ID + "_" + text), nil
}

// Authenticate says who presented this key, or ErrDenied.
func (s *Service) Authenticate(ctx context.Context, presented string) (Principal, error) {
	id, text, ok := splitKey(presented)
	if !ok {
		return Principal{}, ErrDenied
	}
	k, want, err := s.store.KeyByID(ctx, id)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return Principal{}, fmt.Errorf("look up API key %s: %w", id, err)
	}
	got := sha256.Sum256([]byte(text))
	same := subtle.ConstantTimeCompare(got[:], want[:]) == 1
	if err != nil || !same || k.RevokedAt != nil {
		return Principal{}, ErrDenied
	}
	if now := s.now().UTC(); k.LastUsedAt == nil || now.Sub(*k.LastUsedAt) >= usedEvery {
		if err := s.store.KeyMarkUsed(ctx, k.ID, now); err != nil {
			s.log.WarnContext(ctx, "use of API key was not written down", slog.String(logkey.Key, k.Name), slog.Any(logkey.Error, err))
		}
	}
	return Principal{Name: k.Name, Role: k.Role}, nil
}

// Keys lists all keys, in order of creation, revoked ones included.
func (s *Service) Keys(ctx context.Context) ([]Key, error) {
	keys, err := s.store.KeyList(ctx)
	if err != nil {
		return nil, fmt.Errorf("list API keys: %w", err)
	}
	return keys, nil
}

// RevokeKey ends a key.
func (s *Service) RevokeKey(ctx context.Context, actor, id string) error {
	if _, _, ok := splitKey(keyPrefix + "_" + id + "_a"); !ok {
		return ErrNotFound
	}
	err := s.store.InTx(ctx, func(ctx context.Context) error {
		now := s.now().UTC()
		k, err := s.store.KeyRevoke(ctx, id, now)
		if err != nil {
			return err
		}
		return s.store.AppendEvents(ctx, event.Event{
			At: now, Type: event.KeyRevoked, Subject: k.Name, Actor: actor, Message: "API key " + k.Name + " was revoked",
		})
	})
	if err != nil {
		return fmt.Errorf("revoke API key %s: %w", id, err)
	}
	return nil
}

func checkKey(name string, role Role) error {
	var errs []error
	if !namePattern.MatchString(name) {
		errs = append(errs, invalid.New("name", "%q is not a key name; use at most 63 letters, digits and . _ @ - with a letter or digit at both ends", invalid.Clip(name)))
	}
	if role.rank() == 0 {
		errs = append(errs, invalid.New("role", "%q is not a role; use viewer, operator or admin", invalid.Clip(string(role))))
	}
	return errors.Join(errs...)
}
