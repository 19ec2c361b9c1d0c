package hub

import (
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/dapr/daprtest"
	"github.com/budecosystem/budcluster/internal/secret"
)

// hears calls back for each record.
type hears struct {
	slog.Handler
	call func()
}

func (h hears) Enabled(context.Context, slog.Level) bool { return true }

func (h hears) Handle(context.Context, slog.Record) error {
	h.call()
	return nil
}

// A sidecar that comes later is waited for, and only where nothing goes without
// it.
func TestFirstLoginWaitsForTheStore(t *testing.T) {
	t.Parallel()
	fake := daprtest.NewFake(t, "")
	fake.SetSecret(secretPassword, "canary-9f0b")
	fake.SetDown(true)
	cfg := Defaults()
	cfg.Dapr.Enabled, cfg.Dapr.HTTPAddress, cfg.Dapr.SecretStore = true, fake.Address(), daprtest.SecretStore
	cfg.Dapr.APITokenFile = filepath.Join(t.TempDir(), "token")
	require.NoError(t, os.WriteFile(cfg.Dapr.APITokenFile, []byte(daprtest.Token), 0o600))
	for _, url := range []string{"postgres://bud:hunter2@db/bud", "postgres://bud@db/bud?password=hunter2"} {
		l, err := firstLogin(t.Context(), cfg, url, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		require.Equal(t, &login{}, l)
	}

	l, err := firstLogin(t.Context(), cfg, "postgres://bud@db/bud", slog.New(hears{slog.DiscardHandler, func() { fake.SetDown(false) }}))
	require.NoError(t, err)
	user, password := l.current()
	require.True(t, user.IsZero(), "the store has none: it is as the URL says")
	require.Equal(t, "canary-9f0b", password.Reveal())
	l.take(t.Context(), map[string]secret.String{secretUser: secret.New("bud2")})
	user, password = l.current()
	require.Equal(t, "bud2", user.Reveal())
	require.Equal(t, "canary-9f0b", password.Reveal(), "what the store has no more stays")

	ctx, stop := context.WithCancel(t.Context())
	fake.SetDown(true)
	_, err = firstLogin(ctx, cfg, "postgres://bud@db/bud", slog.New(hears{slog.DiscardHandler, stop}))
	require.ErrorIs(t, err, context.Canceled)
}
