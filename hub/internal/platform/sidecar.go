package platform

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"reflect"
	"time"

	"github.com/budecosystem/budcluster/internal/backoff"
	"github.com/budecosystem/budcluster/internal/logkey"
	"github.com/budecosystem/budcluster/internal/secret"
)

// Sidecar is what is needed of the Dapr sidecar, over the stores that it has
// for this app; dapr.App.
type Sidecar interface {
	// Read gives the value of a key of the state store, nil if there is none.
	Read(ctx context.Context, key string) (json.RawMessage, error)
	// Update replaces a value by what change makes of it, whole and unless
	// somebody else was faster; then it begins anew.
	Update(ctx context.Context, key string, change func(old json.RawMessage) (json.RawMessage, error)) error
	// Names says what the sidecar has for this app, by the names that registration
	// has for it.
	Names(ctx context.Context) (map[string]string, error)
	// Named reads secrets, each out of the secret called in, or out of one of its
	// own name.
	Named(ctx context.Context, in string, names ...string) (map[string]secret.String, error)
	Settings
}

// Settings is the sidecar's configuration store.
type Settings interface {
	// Settings reads settings.
	Settings(ctx context.Context, keys ...string) (map[string]string, error)
	// FollowSettings has the sidecar call the route of changed settings, until it
	// is started anew.
	FollowSettings(ctx context.Context, keys ...string) error
}

// metadataKey is where a service says what it uses.
func metadataKey(app string) string { return "__metadata__" + app }

// registration is what other services read of us.
type registration struct {
	AppName     string  `json:"app_name"`
	ConfigStore *string `json:"configstore"`
	SecretStore *string `json:"secretstore"`
	StateStore  *string `json:"statestore"`
	PubSub      *string `json:"pubsub"`
	Topic       *string `json:"topic"`
	DeadLetter  *string `json:"deadletter"`
	Crypto      *string `json:"crypto"`
}

// same reports whether two values say the same; the sidecar orders members anew.
func same(a, b json.RawMessage) bool {
	var x, y any
	return json.Unmarshal(a, &x) == nil && json.Unmarshal(b, &y) == nil && reflect.DeepEqual(x, y)
}

func optional(text string) *string {
	if text == "" {
		return nil
	}
	return &text
}

// announce tells the other services where this one is.
func (s *Server) announce(ctx context.Context) error {
	have, err := s.cfg.Sidecar.Names(ctx)
	if err != nil {
		return fmt.Errorf("ask the sidecar what it has: %w", err)
	}
	said, err := json.Marshal(registration{
		AppName: s.cfg.AppID, ConfigStore: optional(have["configstore"]), SecretStore: optional(have["secretstore"]), StateStore: optional(have["statestore"]),
		PubSub: optional(cmp.Or(have["pubsub"], s.cfg.PubSub)), Topic: optional(cmp.Or(have["topic"], s.cfg.OwnTopic)), // it may not know of the subscription yet
		DeadLetter: optional(cmp.Or(have["deadletter"], s.cfg.DeadLetter)), Crypto: optional(have["crypto"]),
	})
	if err != nil {
		return fmt.Errorf("encode what the other services are told: %w", err)
	}
	return s.cfg.Sidecar.Update(ctx, metadataKey(s.cfg.AppID), func(old json.RawMessage) (json.RawMessage, error) {
		if same(old, said) {
			return old, nil
		}
		return said, nil
	})
}

// syncInterval is how often settings and secrets are read though nobody said that
// they changed.
const syncInterval = 12 * time.Hour

// secretsAgain is when secrets are read again that could not be read.
const secretsAgain = 30 * time.Second

// Run does what is done in the background: it tells the other services where
// this one is, and keeps settings and secrets fresh. It returns when ctx ends.
func (s *Server) Run(ctx context.Context) error {
	if s.cfg.Sidecar == nil {
		<-ctx.Done()
		return nil
	}
	s.untilDone(ctx, "the other services cannot be told of this one yet", s.announce)
	if len(s.cfg.Settings)+len(s.cfg.Secrets) == 0 {
		<-ctx.Done()
		return nil
	}
	s.follow(ctx)
	return nil
}

// follow keeps settings and secrets fresh. Of settings the sidecar says when one
// changes, which only makes that faster: it forgets whom to tell when it is started anew, and a
// change right after it was asked may go unsaid.
func (s *Server) follow(ctx context.Context) {
	tick := time.NewTicker(syncInterval)
	defer tick.Stop()
	again := time.NewTimer(syncInterval)
	defer again.Stop()
	asked := len(s.cfg.Settings) == 0
	for {
		if !asked {
			err := s.cfg.Sidecar.FollowSettings(ctx, s.cfg.Settings...)
			if asked = err == nil; err != nil {
				s.log.WarnContext(ctx, "the sidecar will not say when settings change; they are read now and then", slog.Any(logkey.Error, err))
			}
		}
		s.untilDone(ctx, "settings cannot be read; the last ones stay", func(ctx context.Context) error {
			_, err := s.readSettings(ctx)
			return err
		})
		if _, err := s.readSecrets(ctx); err != nil && ctx.Err() == nil { // settings do not wait for it
			s.log.WarnContext(ctx, "secrets cannot be read; the last ones stay, and it is tried again", slog.Any(logkey.Error, err))
			again.Reset(secretsAgain)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		case <-again.C:
		case <-s.settings:
		case <-s.started:
			asked = len(s.cfg.Settings) == 0
		}
	}
}

// untilDone tries until it succeeds or ctx ends.
func (s *Server) untilDone(ctx context.Context, what string, try func(context.Context) error) {
	wait := backoff.New(time.Second, time.Minute)
	for {
		err := try(ctx)
		if err == nil || ctx.Err() != nil {
			return
		}
		s.log.WarnContext(ctx, "sidecar call failed", slog.String(logkey.Action, what), slog.Any(logkey.Error, err))
		timer := time.NewTimer(wait.Next())
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-timer.C:
		}
	}
}

func (s *Server) readSettings(ctx context.Context) (int, error) {
	if len(s.cfg.Settings) == 0 {
		return 0, nil
	}
	values, err := s.cfg.Sidecar.Settings(ctx, s.cfg.Settings...)
	if err != nil {
		return 0, fmt.Errorf("read settings: %w", err)
	}
	if s.cfg.Changed != nil {
		s.cfg.Changed(ctx, values)
	}
	return len(values), nil
}

// readSecrets reads only those that are named, never all that the store has.
func (s *Server) readSecrets(ctx context.Context) (int, error) {
	if len(s.cfg.Secrets) == 0 {
		return 0, nil
	}
	values, err := s.cfg.Sidecar.Named(ctx, s.cfg.SecretName, s.cfg.Secrets...)
	if err != nil {
		return 0, fmt.Errorf("read secrets: %w", err)
	}
	if s.cfg.Rotated != nil {
		s.cfg.Rotated(ctx, values)
	}
	return len(values), nil
}

// noSidecar is the answer of routes that need one.
func noSidecar(store string) answer {
	return failed(http.StatusServiceUnavailable, "%s is not configured: the hub has no sidecar; set dapr.enabled.", store)
}

// syncSettings is GET /sync/configurations.
func (s *Server) syncSettings(r *http.Request) answer {
	if s.cfg.Sidecar == nil {
		return noSidecar("Config store")
	}
	found, err := s.readSettings(r.Context())
	if err != nil {
		s.log.WarnContext(r.Context(), "settings cannot be read", slog.Any(logkey.Error, err))
		return failed(http.StatusServiceUnavailable, "The config store cannot be read; the last settings stay.")
	}
	return ok(fmt.Sprintf("%d/%d configuration(s) synced.", found, len(s.cfg.Settings)), nil)
}

// syncSecrets is GET /sync/secrets.
func (s *Server) syncSecrets(r *http.Request) answer {
	if s.cfg.Sidecar == nil {
		return noSidecar("Secret store")
	}
	found, err := s.readSecrets(r.Context())
	if err != nil {
		s.log.WarnContext(r.Context(), "secrets cannot be read", slog.Any(logkey.Error, err))
		return failed(http.StatusServiceUnavailable, "The secret store cannot be read; the last secrets stay.")
	}
	return ok(fmt.Sprintf("%d/%d secret(s) synced.", found, len(s.cfg.Secrets)), nil)
}

// register is GET /register.
func (s *Server) register(r *http.Request) answer {
	if s.cfg.Sidecar == nil {
		return noSidecar("State store")
	}
	if err := s.announce(r.Context()); err != nil {
		s.log.WarnContext(r.Context(), "the other services cannot be told of this one", slog.Any(logkey.Error, err))
		return failed(http.StatusInternalServerError, "Service registration failed.")
	}
	return ok("Service registration successful.", nil)
}

// subscription is how the sidecar reads what an app subscribes to.
type subscription struct {
	PubSub     string `json:"pubsubname"`
	Topic      string `json:"topic"`
	Route      string `json:"route"`
	DeadLetter string `json:"deadLetterTopic"`
}

// subscriptions is GET /dapr/subscribe: the first that a sidecar asks when it
// starts.
func (s *Server) subscriptions(*http.Request) answer {
	wake(s.started)
	list := []subscription{}
	if s.cfg.PubSub != "" {
		list = append(list, subscription{PubSub: s.cfg.PubSub, Topic: s.cfg.OwnTopic, Route: "/notifications", DeadLetter: s.cfg.DeadLetter})
	}
	return answer{http.StatusOK, list}
}

// daprConfig is GET /dapr/config: the workflows' actors are the engine's, which
// has its own connection.
func (s *Server) daprConfig(*http.Request) answer {
	return answer{http.StatusOK, map[string]any{"entities": []string{}}}
}

// notifications takes what is sent to our topic: other services answer our own
// messages there, and nothing is to be done with that. Not to take it filled the
// dead letters.
func (s *Server) notifications(w http.ResponseWriter, r *http.Request) answer {
	status := "SUCCESS"
	if raw, err := readAll(r.Body, 8*maxJSON); err != nil || !json.Valid(raw) {
		drain(w, r)
		status = "DROP"
	}
	return answer{http.StatusOK, map[string]string{"status": status}}
}

// settingChanged is what the sidecar calls when a setting changed.
func (s *Server) settingChanged(w http.ResponseWriter, r *http.Request) answer {
	drain(w, r) // all of them are read again
	wake(s.settings)
	return answer{http.StatusOK, empty{}}
}

// wake sends to a channel of size one, unless it is full.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}
