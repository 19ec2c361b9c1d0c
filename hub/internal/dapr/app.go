package dapr

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/budecosystem/budcluster/internal/secret"
)

// ErrNoStore is that the sidecar has no component of the kind that is needed.
var ErrNoStore = errors.New("the sidecar has no such component")

// App is the sidecar as one app uses it: the stores have names there, and the
// app need not know them.
type App struct {
	// Client is needed.
	Client *Client
	// State, Configuration and Secrets are the names of components. Where one is
	// empty the sidecar's first of that kind is taken.
	State, Configuration, Secrets string

	mu    sync.Mutex        // guards found
	found map[string]string // by kind
}

// The kinds of components, as the sidecar writes them.
const (
	kindState         = "state"
	kindConfiguration = "configuration"
	kindSecrets       = "secretstores"
	kindCrypto        = "crypto"
	kindPubSub        = "pubsub"
)

// store gives the name of a component.
func (a *App) store(ctx context.Context, kind, given string) (string, error) {
	if given != "" {
		return given, nil
	}
	a.mu.Lock()
	name := a.found[kind]
	a.mu.Unlock()
	if name != "" {
		return name, nil
	}
	m, err := a.Client.Metadata(ctx)
	if err != nil {
		return "", err
	}
	found := map[string]string{}
	for _, c := range m.Components {
		if found[c.Kind()] == "" {
			found[c.Kind()] = c.Name
		}
	}
	a.mu.Lock()
	a.found = found
	a.mu.Unlock()
	if found[kind] == "" {
		return "", fmt.Errorf("find a component of kind %s: %w; give the sidecar one whose scopes name this app", kind, ErrNoStore)
	}
	return found[kind], nil
}

// Read gives the value of a key of the state store, nil if there is none.
func (a *App) Read(ctx context.Context, key string) (json.RawMessage, error) {
	store, err := a.store(ctx, kindState, a.State)
	if err != nil {
		return nil, err
	}
	s, err := a.Client.Get(ctx, store, key)
	return s.Value, err
}

// Update is Client.Update in the state store.
func (a *App) Update(ctx context.Context, key string, change func(old json.RawMessage) (json.RawMessage, error)) error {
	store, err := a.store(ctx, kindState, a.State)
	if err != nil {
		return err
	}
	return a.Client.Update(ctx, store, key, change)
}

// Settings reads settings of the configuration store.
func (a *App) Settings(ctx context.Context, keys ...string) (map[string]string, error) {
	store, err := a.store(ctx, kindConfiguration, a.Configuration)
	if err != nil {
		return nil, err
	}
	return a.Client.Configuration(ctx, store, keys...)
}

// FollowSettings has the sidecar post changes of settings to this program, as
// Client.SubscribeConfiguration does.
func (a *App) FollowSettings(ctx context.Context, keys ...string) error {
	store, err := a.store(ctx, kindConfiguration, a.Configuration)
	if err != nil {
		return err
	}
	_, err = a.Client.SubscribeConfiguration(ctx, store, keys...)
	return err
}

// Secret reads one secret of the secret store, nil if there is none of the name.
func (a *App) Secret(ctx context.Context, name string) (map[string]secret.String, error) {
	store, err := a.store(ctx, kindSecrets, a.Secrets)
	if err != nil {
		return nil, err
	}
	return a.Client.Secret(ctx, store, name)
}

// Named reads secrets of the secret store by their names: each is the value of
// that name in the secret called in, or, where that is empty, in a secret of its
// own. Those that there are none of are left out.
func (a *App) Named(ctx context.Context, in string, names ...string) (map[string]secret.String, error) {
	found := map[string]secret.String{}
	for _, name := range names {
		values, err := a.Secret(ctx, cmp.Or(in, name))
		if err != nil {
			return nil, err
		}
		if value := values[name]; !value.IsZero() {
			found[name] = value
		}
	}
	return found, nil
}

// Names says what the app has, under the names by which the platform's services
// tell it to each other: configstore, secretstore, statestore, crypto, pubsub,
// topic and deadletter. What there is none of is left out.
func (a *App) Names(ctx context.Context) (map[string]string, error) {
	m, err := a.Client.Metadata(ctx)
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	put := func(name, value string) {
		if value != "" && names[name] == "" {
			names[name] = value
		}
	}
	put("statestore", a.State)
	put("configstore", a.Configuration)
	put("secretstore", a.Secrets)
	for _, s := range m.Subscriptions {
		put("pubsub", s.PubSub)
		put("topic", s.Topic)
		put("deadletter", s.DeadLetter)
	}
	as := map[string]string{kindState: "statestore", kindConfiguration: "configstore", kindSecrets: "secretstore", kindCrypto: "crypto", kindPubSub: "pubsub"}
	for _, c := range m.Components {
		if name, is := as[c.Kind()]; is {
			put(name, c.Name)
		}
	}
	return names, nil
}
