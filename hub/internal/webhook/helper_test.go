package webhook_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/courier"
	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/store"
	"github.com/budecosystem/budcluster/hub/internal/store/storetest"
	"github.com/budecosystem/budcluster/hub/internal/webhook"
	"github.com/budecosystem/budcluster/internal/secret"
)

type bundle struct {
	*webhook.Service
	store  *store.Store
	pool   *pgxpool.Pool
	events *event.Service
	keys   *secret.Keyring
	post   webhook.Poster
	clock  atomic.Int64
	log    *slog.Logger
}

func (b *bundle) now() time.Time       { return time.Unix(0, b.clock.Load()) }
func (b *bundle) pass(d time.Duration) { b.clock.Add(int64(d)) }

func setup(tb testing.TB) *bundle {
	tb.Helper()
	b := &bundle{keys: storetest.Keyring(tb), log: slog.New(slog.DiscardHandler)}
	b.clock.Store(time.Date(2026, 11, 25, 22, 0, 0, 0, time.UTC).UnixNano())
	b.store, b.pool = storetest.NewWithPool(tb)
	guard, err := webhook.NewGuard(nil, true)
	require.NoError(tb, err)
	b.post, err = courier.New(courier.Config{Allow: guard.Allow, UserAgent: "budcluster-hub/test"})
	require.NoError(tb, err)
	b.events, err = event.New(event.Config{Store: b.store})
	require.NoError(tb, err)
	b.Service, err = webhook.New(webhook.Config{
		Store: b.store, Feed: b.events, Sealer: b.keys, Guard: guard, Poster: b.post, Logger: b.log, Now: b.now,
	})
	require.NoError(tb, err)
	return b
}

func (b *bundle) runner(tb testing.TB, change func(*webhook.RunnerConfig)) *webhook.Runner {
	tb.Helper()
	cfg := webhook.RunnerConfig{
		Queue: b.store, Feed: b.events, Sealer: b.keys, Poster: b.post, Logger: b.log, Metrics: prometheus.NewRegistry(), Now: b.now,
	}
	if change != nil {
		change(&cfg)
	}
	r, err := webhook.NewRunner(cfg)
	require.NoError(tb, err)
	return r
}

// happen writes events whose subjects are given.
func (b *bundle) happen(tb testing.TB, kind event.Type, cluster uuid.UUID, subjects ...string) {
	tb.Helper()
	for _, subject := range subjects {
		e := event.Event{At: b.now(), Type: kind, ClusterID: cluster, Subject: subject, Actor: "test", Message: "it happened", Transient: subject == "transient"}
		require.NoError(tb, b.store.AppendEvents(tb.Context(), e))
	}
}

// receiver is a program that is told: it believes only what is signed.
type receiver struct {
	*httptest.Server
	mu     sync.Mutex // guards all
	key    string
	took   []string // subjects
	ids    []string
	forged int
	answer func(subject string) int // nil is 204
}

func newReceiver(tb testing.TB) *receiver {
	tb.Helper()
	r := &receiver{}
	r.Server = httptest.NewServer(r)
	tb.Cleanup(r.Close)
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return
	}
	var m struct {
		Type string
		Data struct {
			ID            int64
			Type, Subject string
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.genuine(req.Header, body) || json.Unmarshal(body, &m) != nil || m.Type != m.Data.Type || req.Header.Get("Content-Type") != "application/json" {
		r.forged++
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	status := http.StatusNoContent
	if r.answer != nil {
		status = r.answer(m.Data.Subject)
	}
	if status == http.StatusFound {
		w.Header().Set("Location", "/elsewhere")
	}
	w.WriteHeader(status)
	r.ids = append(r.ids, req.Header.Get("webhook-id"))
	if status == http.StatusNoContent {
		r.took = append(r.took, m.Data.Subject)
	}
}

// genuine is the check of Standard Webhooks, written from its text.
func (r *receiver) genuine(h http.Header, body []byte) bool {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(r.key, "whsec_"))
	if err != nil {
		return false
	}
	mac := hmac.New(sha256.New, raw)
	mac.Write([]byte(h.Get("webhook-id") + "." + h.Get("webhook-timestamp") + "." + string(body)))
	want := "v1," + base64.StdEncoding.EncodeToString(mac.Sum(nil))
	return hmac.Equal([]byte(want), []byte(h.Get("webhook-signature")))
}

func (r *receiver) answering(fn func(subject string) int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.answer = fn
}

func (r *receiver) subjects() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]string{}, r.took...)
}

// hook makes a webhook that leads to the receiver, behind its own creation.
func (b *bundle) hook(tb testing.TB, name string, to *receiver, change func(*webhook.Request)) *webhook.Webhook {
	tb.Helper()
	r := webhook.Request{Name: name, URL: to.URL + "/in", Types: []string{"node.added", "node.removed"}}
	if change != nil {
		change(&r)
	}
	w, key, err := b.Create(tb.Context(), "ann", r)
	require.NoError(tb, err)
	to.mu.Lock()
	defer to.mu.Unlock()
	to.key = key.Reveal()
	return w
}

func always(status int) func(string) int { return func(string) int { return status } }

func numbered(n int) (subjects []string) {
	for i := range n {
		subjects = append(subjects, fmt.Sprintf("node-%d", i))
	}
	return subjects
}

// posterFunc is a Poster.
type posterFunc func(ctx context.Context, p webhook.Post) (int, error)

func (f posterFunc) Post(ctx context.Context, p webhook.Post) (int, error) { return f(ctx, p) }
