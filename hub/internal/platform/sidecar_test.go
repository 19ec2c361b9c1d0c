package platform_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/dapr"
	"github.com/budecosystem/budcluster/hub/internal/dapr/daprtest"
	"github.com/budecosystem/budcluster/hub/internal/platform"
	"github.com/budecosystem/budcluster/internal/secret"
	"github.com/budecosystem/budcluster/internal/testutil"
)

// beside is a face with a sidecar in memory.
func beside(t *testing.T, change ...func(*platform.Config)) (*bundle, *daprtest.Fake) {
	t.Helper()
	var b *bundle
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { b.face.Handler().ServeHTTP(w, r) }))
	t.Cleanup(app.Close)
	fake := daprtest.NewFake(t, app.Listener.Addr().String())
	b = setup(t, func(c *platform.Config) {
		c.Sidecar, c.PubSub, c.Token = &dapr.App{Client: fake.Client(t)}, daprtest.PubSub, secret.New(daprtest.Token)
		for _, f := range change {
			f(c)
		}
	})
	return b, fake
}

// from is a request as the sidecar makes it.
func (b *bundle) from(method, path, body string) (status int, text string) {
	b.t.Helper()
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	r.Header.Set("dapr-api-token", daprtest.Token)
	return b.do(r)
}

// run runs the face for the time of the test.
func (b *bundle) run() {
	ctx, stop := context.WithCancel(b.t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = b.face.Run(ctx) })
	b.t.Cleanup(func() {
		stop()
		running.Wait()
	})
}

// The other services find this one by what it says in the state store.
func TestAnnouncement(t *testing.T) {
	t.Parallel()
	b, fake := beside(t)
	fake.SetDown(true)
	b.run()
	fake.SetDown(false)
	soon(t, func() bool { return fake.State("__metadata__budcluster") != nil })
	testutil.Golden(t, "metadata", normal(t, string(fake.State("__metadata__budcluster"))))
	status, text := b.from(http.MethodGet, "/register", "")
	taken(t, status, text)
	status, text = b.from(http.MethodGet, "/dapr/subscribe", "")
	require.Equal(t, http.StatusOK, status)
	testutil.Golden(t, "subscribe", normal(t, text))
}

// Settings are read at the start, when the sidecar says that one changed, which
// it is asked to again when it was started anew, and when somebody asks.
func TestSettings(t *testing.T) {
	t.Parallel()
	heard := make(chan map[string]string, 10)
	b, fake := beside(t, func(c *platform.Config) {
		c.Settings = []string{"budcluster_DEBUG", "budcluster_other"}
		c.Changed = func(_ context.Context, values map[string]string) { heard <- values }
	})
	set := func(key, value string) { require.NoError(t, fake.SetConfiguration(t.Context(), key, value)) }
	set("budcluster_DEBUG", "false")
	set("somebody_else", "x")
	b.run()
	require.Equal(t, map[string]string{"budcluster_DEBUG": "false"}, <-heard)
	set("budcluster_DEBUG", "true")
	require.Equal(t, map[string]string{"budcluster_DEBUG": "true"}, <-heard)

	fake.Restart()
	status, _ := b.from(http.MethodGet, "/dapr/subscribe", "")
	require.Equal(t, http.StatusOK, status)
	require.Equal(t, map[string]string{"budcluster_DEBUG": "true"}, <-heard)
	set("budcluster_other", "y")
	require.Equal(t, map[string]string{"budcluster_DEBUG": "true", "budcluster_other": "y"}, <-heard)

	status, text := b.from(http.MethodGet, "/sync/configurations", "")
	taken(t, status, text)
	require.Contains(t, text, "2/2 configuration(s) synced.")
}

// Of secrets only those are read that are named, and none is shown. They are told
// at the start, and again on each sync.
func TestSecrets(t *testing.T) {
	t.Parallel()
	heard := make(chan map[string]secret.String, 1)
	b, fake := beside(t, func(c *platform.Config) {
		c.Secrets, c.Rotated = []string{"ours", "missing"}, func(_ context.Context, now map[string]secret.String) { heard <- now }
	})
	fake.SetSecret("ours", canary.Reveal())
	fake.SetSecret("theirs", "theirs-"+canary.Reveal())
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = b.face.Run(ctx) })
	require.Equal(t, map[string]secret.String{"ours": canary}, <-heard)
	stop()
	running.Wait()

	fake.SetSecret("ours", "rotated-"+canary.Reveal())
	status, text := b.from(http.MethodGet, "/sync/secrets", "")
	taken(t, status, text)
	require.Contains(t, text, "1/2 secret(s) synced.")
	require.Equal(t, "rotated-"+canary.Reveal(), (<-heard)["ours"].Reveal())
	require.NotContains(t, text+b.log.String(), canary.Reveal())
}

// A caller that names its app and no topic is answered at the topic that it
// announced.
func TestCallerByItsApp(t *testing.T) {
	t.Parallel()
	b, fake := beside(t)
	c := b.joined("edge")
	require.NoError(t, fake.Client(t).Put(t.Context(), daprtest.StateStore, dapr.Write{Key: "__metadata__budapp", Value: []byte(`{"app_name": "budapp", "topic": "budAppMessages"}`)}))
	for app, want := range map[string]string{
		"budapp": `{"source_topic": ["budAppMessages"]}`, "nobody": ``, "bad||key": ``,
	} {
		status, text := b.from(http.MethodPost, "/cluster/delete", `{"cluster_id": "`+c.ID.String()+`", "source": "`+app+`"}`)
		taken(t, status, text)
		w, err := b.workflows.Get(t.Context(), read[metadata](t, text).WorkflowID.String())
		require.NoError(t, err)
		if want == "" {
			require.Empty(t, w.Reply)
		} else {
			require.JSONEq(t, want, string(w.Reply))
		}
		b.fail(w)
	}
}

// A sidecar that is away is an answer in the envelope, and nothing that was
// begun depends on it.
func TestSidecarAway(t *testing.T) {
	t.Parallel()
	b, fake := beside(t, func(c *platform.Config) { c.Settings, c.Secrets = []string{"a"}, []string{"b"} })
	status, text := b.from(http.MethodGet, "/register", "")
	taken(t, status, text)
	fake.SetDown(true)
	for path, want := range map[string]int{"/register": 500, "/sync/configurations": 503, "/sync/secrets": 503} {
		status, text := b.from(http.MethodGet, path, "")
		require.Equal(t, want, status, path)
		requireEnvelope(t, path, status, text)
	}
	c := b.joined("edge")
	status, text = b.from(http.MethodPost, "/cluster/delete", `{"cluster_id": "`+c.ID.String()+`", "source": "budapp"}`)
	taken(t, status, text)
}

// soon waits for another goroutine, which tells nobody.
func soon(t *testing.T, is func() bool) {
	t.Helper()
	deadline := time.NewTimer(30 * time.Second)
	defer deadline.Stop()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !is() {
		select {
		case <-deadline.C:
			t.Fatal("it did not happen")
		case <-tick.C:
		}
	}
}
