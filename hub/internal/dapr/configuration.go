package dapr

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"time"

	"github.com/budecosystem/budcluster/internal/logkey"
)

// DefaultFollowInterval is how often Follow looks without having been woken.
const DefaultFollowInterval = 5 * time.Minute

// Configuration reads settings from a configuration store: those of the keys
// that are there, or all that the store has when no key is given.
func (c *Client) Configuration(ctx context.Context, store string, keys ...string) (map[string]string, error) {
	r := call{
		doing: "read configuration store " + store, method: http.MethodGet,
		path: []string{"configuration", store}, query: url.Values{"key": keys},
	}
	got, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	items := map[string]configurationItem{}
	if err := decode(r, got, &items); err != nil {
		return nil, err
	}
	return valuesOf(items), nil
}

type configurationItem struct {
	Value string `json:"value"`
}

func valuesOf(items map[string]configurationItem) map[string]string {
	values := make(map[string]string, len(items))
	for key, item := range items {
		values[key] = item.Value
	}
	return values
}

// FollowConfig says what Follow follows.
type FollowConfig struct {
	Store string
	Keys  []string
	// Interval between looks that nobody asked for. Default:
	// DefaultFollowInterval.
	Interval time.Duration
	// Wake makes Follow look at once: the route that the sidecar calls after
	// SubscribeConfiguration sends here. May be nil.
	Wake <-chan struct{}
	// Changed hears all settings at the first look and whenever they are others
	// than before.
	Changed func(ctx context.Context, values map[string]string)
}

// Follow tells Changed what the settings are, until ctx ends. A store that
// cannot be read changes nothing: the last settings stay.
func (c *Client) Follow(ctx context.Context, cfg FollowConfig) error {
	tick := time.NewTicker(cmp.Or(cfg.Interval, DefaultFollowInterval))
	defer tick.Stop()
	var last map[string]string
	for {
		values, err := c.Configuration(ctx, cfg.Store, cfg.Keys...)
		switch {
		case ctx.Err() != nil:
			return nil // this is how it is stopped
		case err != nil:
			c.log.WarnContext(ctx, "settings cannot be read; the last ones stay", slog.Any(logkey.Error, err))
		case last == nil || !maps.Equal(last, values):
			last = values
			cfg.Changed(ctx, maps.Clone(values))
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		case <-cfg.Wake:
		}
	}
}

// SubscribeConfiguration asks the sidecar to POST changes of the keys (all, if
// none is given) to /configuration/STORE/KEY of this program, and returns the
// subscription's id. A change right after that may not be heard, and the sidecar
// forgets the subscription when it restarts, so it only makes Follow faster.
func (c *Client) SubscribeConfiguration(ctx context.Context, store string, keys ...string) (string, error) {
	r := call{
		doing: "subscribe to configuration store " + store, method: http.MethodGet,
		path: []string{"configuration", store, "subscribe"}, query: url.Values{"key": keys},
	}
	got, err := c.do(ctx, r)
	if err != nil {
		return "", err
	}
	var made struct {
		ID string `json:"id"`
	}
	if err := decode(r, got, &made); err != nil {
		return "", err
	}
	if made.ID == "" {
		return "", fmt.Errorf("%s: the sidecar gave no id", r.doing)
	}
	return made.ID, nil
}

// UnsubscribeConfiguration ends a subscription.
func (c *Client) UnsubscribeConfiguration(ctx context.Context, store, id string) error {
	_, err := c.do(ctx, call{
		doing: "unsubscribe from configuration store " + store, method: http.MethodGet,
		path: []string{"configuration", store, id, "unsubscribe"},
	})
	return err
}

// ParseConfigurationUpdate reads what the sidecar posts after a change: the
// settings that changed.
func ParseConfigurationUpdate(body []byte) (map[string]string, error) {
	var update struct {
		Items map[string]configurationItem `json:"items"`
	}
	if err := json.Unmarshal(body, &update); err != nil {
		return nil, fmt.Errorf("configuration update: %w", shapeOf(err))
	}
	if len(update.Items) == 0 {
		return nil, errors.New("configuration update: it names no setting")
	}
	return valuesOf(update.Items), nil
}
