package dapr_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/dapr"
	"github.com/budecosystem/budcluster/hub/internal/dapr/daprtest"
	"github.com/budecosystem/budcluster/internal/secret"
)

// An app finds its stores by their kinds, and takes those that it was given.
func TestAppFindsItsStores(t *testing.T) {
	t.Parallel()
	fake := daprtest.NewFake(t, "")
	fake.SetSecret("s", "hush")
	require.NoError(t, fake.SetConfiguration(t.Context(), "k", "v"))
	a := &dapr.App{Client: fake.Client(t)}
	value, err := a.Read(t.Context(), "key")
	require.NoError(t, err)
	require.Nil(t, value)
	require.NoError(t, a.Update(t.Context(), "key", func(json.RawMessage) (json.RawMessage, error) { return json.RawMessage(`7`), nil }))
	value, err = a.Read(t.Context(), "key")
	require.NoError(t, err)
	require.Equal(t, "7", string(value))
	settings, err := a.Settings(t.Context(), "k")
	require.NoError(t, err)
	require.Equal(t, map[string]string{"k": "v"}, settings)
	values, err := a.Secret(t.Context(), "s")
	require.NoError(t, err)
	require.Equal(t, "hush", values["s"].Reveal())
	values, err = a.Named(t.Context(), "", "s", "none")
	require.NoError(t, err)
	require.Equal(t, map[string]secret.String{"s": secret.New("hush")}, values)
	values, err = a.Named(t.Context(), "s", "none", "s")
	require.NoError(t, err)
	require.Equal(t, map[string]secret.String{"s": secret.New("hush")}, values, "both in one secret")
	values, err = a.Named(t.Context(), "other", "s")
	require.NoError(t, err)
	require.Empty(t, values)
	names, err := a.Names(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[string]string{
		"statestore": daprtest.StateStore, "configstore": daprtest.ConfigurationStore, "secretstore": daprtest.SecretStore, "pubsub": daprtest.PubSub,
	}, names)

	other := &dapr.App{Client: fake.Client(t), State: "no-such-store"}
	_, err = other.Read(t.Context(), "key")
	require.ErrorContains(t, err, "no-such-store")
	names, err = other.Names(t.Context())
	require.NoError(t, err)
	require.Equal(t, "no-such-store", names["statestore"])
}
