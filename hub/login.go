package hub

import (
	"context"
	"log/slog"
	"net/url"
	"sync"
	"time"

	"github.com/budecosystem/budcluster/hub/internal/dapr"
	"github.com/budecosystem/budcluster/internal/backoff"
	"github.com/budecosystem/budcluster/internal/logkey"
	"github.com/budecosystem/budcluster/internal/run"
	"github.com/budecosystem/budcluster/internal/secret"
)

// The names that the database's user and password have in the platform's secret
// store.
const (
	secretUser     = "PSQL_USER" //nolint:gosec // names, no secrets
	secretPassword = "PSQL_PASSWORD"
)

// login is the database's user and password as the secret store last had them. Who
// is empty is as the URL says.
type login struct {
	mu             sync.Mutex // guards user, password
	user, password secret.String
}

// current is for the next connection.
func (l *login) current() (user, password secret.String) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.user, l.password
}

// take takes what the secret store has now. What it has no more stays.
func (l *login) take(_ context.Context, values map[string]secret.String) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if user := values[secretUser]; !user.IsZero() {
		l.user = user
	}
	if password := values[secretPassword]; !password.IsZero() {
		l.password = password
	}
}

// firstLogin is the login with which the database is opened. The secret store is
// waited for only if the URL holds no password: a hub that can do without its
// sidecar starts without it.
func firstLogin(ctx context.Context, cfg Config, databaseURL string, log *slog.Logger) (*login, error) {
	l := &login{}
	if !cfg.Dapr.Enabled || cfg.Dapr.SecretStore == "" || hasPassword(databaseURL) {
		return l, nil
	}
	token, err := readToken("dapr.apiTokenFile", cfg.Dapr.APITokenFile)
	if err != nil {
		return nil, err
	}
	client, err := dapr.New(dapr.Config{Address: cfg.Dapr.HTTPAddress, Token: token, Log: log})
	if err != nil {
		return nil, err //nolint:wrapcheck // a sentence already
	}
	defer client.Close()
	app := &dapr.App{Client: client, Secrets: cfg.Dapr.SecretStore}
	for wait := backoff.New(time.Second, 10*time.Second); ; {
		values, err := app.Named(ctx, cfg.Dapr.SecretName, secretUser, secretPassword)
		if err == nil {
			l.take(ctx, values)
			return l, nil
		}
		log.WarnContext(ctx, "the database's password is in the secret store, which cannot be read yet; it is tried again", slog.Any(logkey.Error, err))
		if !run.Sleep(ctx, wait.Next()) {
			return nil, context.Cause(ctx)
		}
	}
}

// hasPassword reports whether a database's URL holds a password.
func hasPassword(databaseURL string) bool {
	u, err := url.Parse(databaseURL)
	if err != nil {
		return true // nothing of ours; what is wrong is said where it is opened
	}
	_, has := u.User.Password()
	return has || u.Query().Has("password")
}
