package daprtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/dapr"
)

// Soon is a deadline for what should take no time, on a loaded machine.
const Soon = 60 * time.Second

// The secret that every sidecar of the suite has.
const (
	SecretName  = "GREETING"
	SecretValue = "hello"
)

// Harness is one sidecar with a program beside it.
type Harness struct {
	Client *dapr.Client
	// SetConfiguration changes a setting behind the sidecar's back.
	SetConfiguration func(t *testing.T, key, value string)
	// Updates are what the sidecar posted to the program after changes of
	// settings that it subscribed to.
	Updates <-chan []byte
	// Delivered waits for the next event that a subscriber of the topic gets, the
	// whole of it.
	Delivered func(t *testing.T, topic string) []byte
}

// The topics that a harness must be able to receive from.
const (
	TopicPeers = "budAppMessages"
	TopicOwn   = "budClusterMessages"
)

// Exercise runs the suite on one sidecar.
func Exercise(t *testing.T, h *Harness) {
	t.Helper()
	for name, test := range map[string]func(*testing.T, *Harness){
		"Metadata":             metadata,
		"Publish":              publish,
		"PublishAddsWhatLacks": publishAddsWhatLacks,
		"PublishToNoPubSub":    publishToNoPubSub,
		"State":                state,
		"StateETag":            stateETag,
		"StateCreate":          stateCreate,
		"StateUpdate":          stateUpdate,
		"StateOfNoStore":       stateOfNoStore,
		"Secrets":              secrets,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, h)
		})
	}
	t.Run("Configuration", func(t *testing.T) {
		t.Parallel()
		configuration(t, h)
	})
}

func metadata(t *testing.T, h *Harness) {
	m, err := h.Client.Metadata(t.Context())
	require.NoError(t, err)
	require.Equal(t, AppID, m.AppID)
	require.NotEmpty(t, m.Version)
	kinds := map[string]string{}
	for _, c := range m.Components {
		kinds[c.Name] = c.Kind()
	}
	for name, kind := range map[string]string{StateStore: "state", PubSub: "pubsub", ConfigurationStore: "configuration", SecretStore: "secretstores"} {
		require.Equal(t, kind, kinds[name], name)
	}
}

// publish: the platform's own envelope comes out as it went in.
func publish(t *testing.T, h *Harness) {
	const event = `{"notification_type":"event","name":"bud-internal","subscriber_ids":null,"payload":{"event":"results","content":{"eta":3,"title":"Größe < 2 & gut"}},` +
		`"source":"budcluster","source_topic":["budClusterMessages","budpipelineEvents"],"type":"register_cluster"}`
	require.NoError(t, h.Client.Publish(t.Context(), dapr.Message{
		PubSub: PubSub, Topic: TopicPeers, Event: json.RawMessage(event), ID: "42", Source: "budcluster", Type: "register_cluster",
	}))
	got := h.Delivered(t, TopicPeers)
	members := map[string]json.RawMessage{}
	require.NoError(t, json.Unmarshal(got, &members))
	want := map[string]json.RawMessage{}
	require.NoError(t, json.Unmarshal([]byte(event), &want))
	for name, value := range want {
		require.JSONEq(t, string(value), string(members[name]), name)
	}
	require.NotContains(t, members, "id", "the platform's receivers refuse an id")
	require.NotContains(t, members, "datacontenttype")
	require.NotContains(t, members, "data")
	read, err := dapr.ParseEvent(got)
	require.NoError(t, err)
	require.Equal(t, TopicPeers, read.Topic)
	require.Equal(t, PubSub, read.PubSub)
	require.Equal(t, "register_cluster", read.Type)
	require.Equal(t, []string{"budClusterMessages", "budpipelineEvents"}, read.SourceTopic)
	require.Contains(t, read.Fields, "payload")
}

func publishAddsWhatLacks(t *testing.T, h *Harness) {
	require.NoError(t, h.Client.Publish(t.Context(), dapr.Message{PubSub: PubSub, Topic: TopicOwn, Event: json.RawMessage(`{"data":{"a":1}}`)}))
	e, err := dapr.ParseEvent(h.Delivered(t, TopicOwn))
	require.NoError(t, err)
	require.Equal(t, "1.0", e.SpecVersion)
	require.NotEmpty(t, e.Type)
	require.NotEmpty(t, e.Source)
	require.JSONEq(t, `1`, string(e.Fields["a"]))
}

func publishToNoPubSub(t *testing.T, h *Harness) {
	err := h.Client.Publish(t.Context(), dapr.Message{PubSub: "none", Topic: "t", Event: json.RawMessage(`{}`)})
	requireRefused(t, err, "ERR_PUBSUB_NOT_FOUND")
}

func requireRefused(t *testing.T, err error, code string) {
	t.Helper()
	var refused *dapr.Error
	require.ErrorAs(t, err, &refused)
	require.Equal(t, code, refused.Code)
	require.NotErrorIs(t, err, dapr.ErrUnreachable)
}

func state(t *testing.T, h *Harness) {
	const key = "the clusters/of: tenant ü"
	got, err := h.Client.Get(t.Context(), StateStore, key)
	require.NoError(t, err)
	require.Equal(t, dapr.State{}, got)
	for _, value := range []string{`{"b":[1,2.5,"x"],"a":null}`, `"text"`, `[]`, `9007199254740992`, `"9007199254740993"`, `""`} {
		require.NoError(t, h.Client.Put(t.Context(), StateStore, dapr.Write{Key: key, Value: json.RawMessage(value)}))
		got, err = h.Client.Get(t.Context(), StateStore, key)
		require.NoError(t, err)
		require.JSONEq(t, value, string(got.Value))
		require.NotEmpty(t, got.ETag)
	}
	require.NoError(t, h.Client.Put(t.Context(), StateStore, dapr.Write{Key: key}))
	got, err = h.Client.Get(t.Context(), StateStore, key)
	require.NoError(t, err)
	require.Equal(t, dapr.State{}, got)
	require.NoError(t, h.Client.Put(t.Context(), StateStore, dapr.Write{Key: key}), "to remove what is not there is no error")
}

func stateETag(t *testing.T, h *Harness) {
	put := func(value, etag string) error {
		w := dapr.Write{Key: "etag", ETag: etag}
		if value != "" {
			w.Value = json.RawMessage(value)
		}
		return h.Client.Put(t.Context(), StateStore, w)
	}
	require.NoError(t, put("1", ""))
	first, err := h.Client.Get(t.Context(), StateStore, "etag")
	require.NoError(t, err)
	require.NoError(t, put("2", first.ETag))
	require.ErrorIs(t, put("3", first.ETag), dapr.ErrConflict)
	require.ErrorIs(t, put("", first.ETag), dapr.ErrConflict)
	second, err := h.Client.Get(t.Context(), StateStore, "etag")
	require.NoError(t, err)
	require.JSONEq(t, "2", string(second.Value))
	require.NotEqual(t, first.ETag, second.ETag)
	require.NoError(t, put("4", ""), "who gives no ETag wins")
	third, err := h.Client.Get(t.Context(), StateStore, "etag")
	require.NoError(t, err)
	require.NoError(t, put("", third.ETag))
}

func stateCreate(t *testing.T, h *Harness) {
	create := func(value string) error {
		return h.Client.Put(t.Context(), StateStore, dapr.Write{Key: "create", Value: json.RawMessage(value), Create: true})
	}
	require.NoError(t, create("1"))
	require.ErrorIs(t, create("2"), dapr.ErrConflict)
	got, err := h.Client.Get(t.Context(), StateStore, "create")
	require.NoError(t, err)
	require.JSONEq(t, "1", string(got.Value))
	require.NoError(t, h.Client.Put(t.Context(), StateStore, dapr.Write{Key: "create", Value: json.RawMessage("3"), ETag: got.ETag}))
	require.ErrorIs(t, create("4"), dapr.ErrConflict)
}

// stateUpdate: many who change one entry at once, one of whom is the first to
// make it, lose nothing.
func stateUpdate(t *testing.T, h *Harness) {
	const who, times = 8, 5
	ctx, cancel := context.WithTimeoutCause(t.Context(), Soon, errors.New("no progress"))
	defer cancel()
	var wait sync.WaitGroup
	for range who {
		wait.Go(func() {
			for range times {
				err := h.Client.Update(ctx, StateStore, "update", func(old json.RawMessage) (json.RawMessage, error) {
					n := 0
					if old != nil {
						if err := json.Unmarshal(old, &n); err != nil {
							return nil, err
						}
					}
					return json.RawMessage(strconv.Itoa(n + 1)), nil
				})
				if err != nil {
					t.Error(err)
				}
			}
		})
	}
	wait.Wait()
	got, err := h.Client.Get(t.Context(), StateStore, "update")
	require.NoError(t, err)
	require.JSONEq(t, strconv.Itoa(who*times), string(got.Value))

	same := func(old json.RawMessage) (json.RawMessage, error) { return old, nil }
	require.NoError(t, h.Client.Update(ctx, StateStore, "update", same))
	after, err := h.Client.Get(t.Context(), StateStore, "update")
	require.NoError(t, err)
	require.Equal(t, got.ETag, after.ETag, "nothing was written")
	no := errors.New("no")
	require.ErrorIs(t, h.Client.Update(ctx, StateStore, "update", func(json.RawMessage) (json.RawMessage, error) { return nil, no }), no)
	require.NoError(t, h.Client.Update(ctx, StateStore, "update", func(json.RawMessage) (json.RawMessage, error) { return nil, nil }))
	got, err = h.Client.Get(t.Context(), StateStore, "update")
	require.NoError(t, err)
	require.Nil(t, got.Value)
}

func stateOfNoStore(t *testing.T, h *Harness) {
	_, err := h.Client.Get(t.Context(), "none", "k")
	requireRefused(t, err, "ERR_STATE_STORE_NOT_FOUND")
	err = h.Client.Put(t.Context(), "none", dapr.Write{Key: "k", Value: json.RawMessage("1")})
	requireRefused(t, err, "ERR_STATE_STORE_NOT_FOUND")
	err = h.Client.Put(t.Context(), "none", dapr.Write{Key: "k", Value: json.RawMessage("1"), Create: true})
	requireRefused(t, err, "ERR_STATE_STORE_NOT_FOUND")
}

func secrets(t *testing.T, h *Harness) {
	one, err := h.Client.Secret(t.Context(), SecretStore, SecretName)
	require.NoError(t, err)
	require.Equal(t, SecretValue, one[SecretName].Reveal())
	all, err := h.Client.Secrets(t.Context(), SecretStore)
	require.NoError(t, err)
	require.Equal(t, SecretValue, all[SecretName][SecretName].Reveal())
	require.NotContains(t, fmt.Sprintf("%v %+v", one, all), SecretValue)
	none, err := h.Client.Secret(t.Context(), SecretStore, "NONE")
	require.NoError(t, err)
	require.Empty(t, none["NONE"].Reveal())
	_, err = h.Client.Secret(t.Context(), "none", SecretName)
	requireRefused(t, err, "ERR_SECRET_STORE_NOT_FOUND")
}

// configuration is one test, since all settings are in one store.
func configuration(t *testing.T, h *Harness) {
	h.SetConfiguration(t, "budcluster_DEBUG", "false")
	h.SetConfiguration(t, "dapr_health_timeout", "30")
	all, err := h.Client.Configuration(t.Context(), ConfigurationStore)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"budcluster_DEBUG": "false", "dapr_health_timeout": "30"}, all)
	some, err := h.Client.Configuration(t.Context(), ConfigurationStore, "budcluster_DEBUG", "none")
	require.NoError(t, err)
	require.Equal(t, map[string]string{"budcluster_DEBUG": "false"}, some)
	_, err = h.Client.Configuration(t.Context(), "none")
	requireRefused(t, err, "ERR_CONFIGURATION_STORE_NOT_FOUND")

	follow(t, h)
}

// follow: a change is heard without waiting for the next look.
func follow(t *testing.T, h *Harness) {
	id, err := h.Client.SubscribeConfiguration(t.Context(), ConfigurationStore, "budcluster_DEBUG")
	require.NoError(t, err)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	wake, heard, ended := make(chan struct{}, 1), make(chan map[string]string, 10), make(chan error, 1)
	go func() {
		ended <- h.Client.Follow(ctx, dapr.FollowConfig{
			Store: ConfigurationStore, Keys: []string{"budcluster_DEBUG"}, Interval: time.Hour, Wake: wake,
			Changed: func(_ context.Context, values map[string]string) { heard <- values },
		})
	}()
	require.Equal(t, map[string]string{"budcluster_DEBUG": "false"}, Await(t, heard, "the first look"))
	changed, err := dapr.ParseConfigurationUpdate(setUntilHeard(t, h, "budcluster_DEBUG", "true"))
	require.NoError(t, err)
	require.Equal(t, map[string]string{"budcluster_DEBUG": "true"}, changed)
	wake <- struct{}{}
	require.Equal(t, map[string]string{"budcluster_DEBUG": "true"}, Await(t, heard, "the change"))
	require.NoError(t, h.Client.UnsubscribeConfiguration(t.Context(), ConfigurationStore, id))
	stop()
	require.NoError(t, Await(t, ended, "the end of Follow"))
}

// setUntilHeard changes a setting, again and again until the sidecar says so: it
// answers to a subscription before it has one.
func setUntilHeard(t *testing.T, h *Harness, key, value string) []byte {
	t.Helper()
	deadline := time.NewTimer(Soon)
	defer deadline.Stop()
	again := time.NewTicker(200 * time.Millisecond)
	defer again.Stop()
	for {
		h.SetConfiguration(t, key, value)
		select {
		case update := <-h.Updates:
			return update
		case <-again.C:
		case <-deadline.C:
			t.Fatalf("waited %s for an update of %s", Soon, key)
		}
	}
}

// Await gives the next value of a channel that has to have one soon.
func Await[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	timer := time.NewTimer(Soon)
	defer timer.Stop()
	select {
	case v := <-c:
		return v
	case <-timer.C:
		t.Fatalf("waited %s for %s", Soon, what)
		panic("unreachable")
	}
}
