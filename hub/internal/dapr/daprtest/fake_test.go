package daprtest_test

import (
	"encoding/json"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/dapr/daprtest"
)

func TestFake(t *testing.T) {
	t.Parallel()
	app := daprtest.NewApp()
	server := httptest.NewServer(app)
	t.Cleanup(server.Close)
	fake := daprtest.NewFake(t, strings.TrimPrefix(server.URL, "http://"))
	fake.SetSecret(daprtest.SecretName, daprtest.SecretValue)
	t.Cleanup(func() { require.Empty(t, app.Unexpected()) })
	daprtest.Exercise(t, &daprtest.Harness{
		Client: fake.Client(t),
		SetConfiguration: func(t *testing.T, key, value string) {
			t.Helper()
			require.NoError(t, fake.SetConfiguration(t.Context(), key, value))
		},
		Updates: app.Updates(),
		Delivered: func(t *testing.T, topic string) []byte {
			t.Helper()
			for _, p := range fake.Published() {
				if p.Topic == topic {
					raw, err := json.Marshal(p.Event)
					require.NoError(t, err)
					return raw
				}
			}
			t.Fatalf("nothing was published to %s", topic)
			return nil
		},
	})
}
