package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/uuid"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/budecosystem/budcluster/charts"
	"github.com/budecosystem/budcluster/hub/apitest"
	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/internal/access"
	"github.com/budecosystem/budcluster/hub/internal/api"
	"github.com/budecosystem/budcluster/hub/internal/chart"
	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/component"
	"github.com/budecosystem/budcluster/hub/internal/courier"
	"github.com/budecosystem/budcluster/hub/internal/enroll"
	"github.com/budecosystem/budcluster/hub/internal/equip"
	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/hub/internal/notify"
	"github.com/budecosystem/budcluster/hub/internal/operation"
	"github.com/budecosystem/budcluster/hub/internal/pg"
	"github.com/budecosystem/budcluster/hub/internal/release"
	"github.com/budecosystem/budcluster/hub/internal/store"
	"github.com/budecosystem/budcluster/hub/internal/store/storetest"
	"github.com/budecosystem/budcluster/hub/internal/webhook"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/facts"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// real is the API over the real rules and a real Postgres; only the agents are
// not there.
type real struct {
	url, key  string
	client    *hubapi.Client
	releases  *release.Service
	inventory *inventory.Service
	webhooks  *webhook.Runner
}

type noAgents struct{}

func (noAgents) Conn(uuid.UUID) (*grpc.ClientConn, error) { return nil, errors.New("no tunnel") }

func newReal(t *testing.T) *real {
	t.Helper()
	st, pool := storetest.NewWithPool(t)
	log := slog.New(slog.DiscardHandler)
	keys := storetest.Keyring(t)
	cl, err := cluster.New(cluster.Config{Store: st, Logger: log})
	require.NoError(t, err)
	en, err := enroll.New(enroll.Config{Store: st, Sealer: keys, Logger: log})
	require.NoError(t, err)
	rel, err := release.New(release.Config{Store: st, Sealer: keys, Logger: log})
	require.NoError(t, err)
	inv, err := inventory.New(inventory.Config{Store: st, Logger: log})
	require.NoError(t, err)
	ch, err := chart.New(chart.Config{Store: st, Logger: log})
	require.NoError(t, err)
	ac, err := access.New(access.Config{Store: st, Logger: log})
	require.NoError(t, err)
	ev, err := event.New(event.Config{Store: st, Logger: log, Poll: time.Hour})
	require.NoError(t, err)
	guard, err := webhook.NewGuard(nil, true)
	require.NoError(t, err)
	poster, err := courier.New(courier.Config{Allow: guard.Allow, UserAgent: "hub"})
	require.NoError(t, err)
	wh, err := webhook.New(webhook.Config{Store: st, Feed: ev, Sealer: keys, Guard: guard, Poster: poster, Logger: log})
	require.NoError(t, err)
	runner, err := webhook.NewRunner(webhook.RunnerConfig{Queue: st, Feed: ev, Sealer: keys, Poster: poster, Logger: log, Metrics: prometheus.NewRegistry()})
	require.NoError(t, err)
	wf, err := workflow.New(workflow.Config{Store: st, Logger: log})
	require.NoError(t, err)
	catalogue, err := component.Load(nil)
	require.NoError(t, err)
	eq, err := equip.New(equip.Config{
		Catalogue: catalogue, Store: st, Clusters: cl, Inventory: inv, Releases: rel, Charts: ch, Builtin: charts.Chart, Logger: log,
		Presence: func(ctx context.Context, id uuid.UUID) ([]facts.Presence, error) {
			p, err := cl.Presence(ctx, id)
			return p.Answers, err
		},
	})
	require.NoError(t, err)
	op, err := operation.New(operation.Config{
		Store: st, Workflows: wf, Clusters: cl, Equipment: eq, Releases: rel, Inventory: inv, Logger: log, JoinWithin: time.Hour,
		AgentChart: func(context.Context, string, string) (chart.Meta, error) {
			return chart.Meta{Digest: storetest.Chart(t, st, "budcluster-agent", "1.1.0"), Name: "budcluster-agent", Version: "1.1.0", AppVersion: "1.1.0"}, nil
		},
	})
	require.NoError(t, err)
	wakes := pg.NewListener(pool, log)
	go func() { _ = wakes.Run(t.Context()) }()
	letters, err := notify.NewLetters(st, nil)
	require.NoError(t, err)
	s, err := api.New(api.Config{
		Logger: log, Metrics: prometheus.NewRegistry(), Clusters: cl, Tokens: en, Releases: rel, Inventory: inv, Charts: ch, Access: ac, Events: ev, Webhooks: wh, Messages: letters,
		Agents: noAgents{}, AgentChart: apitest.AgentChart(), PublicURL: "https://hub.example.com", TunnelAddress: ":8443",
		Workflows: wf, Operations: op, Equipment: eq,
		Upload: func(context.Context, string, operation.Register, []byte) (*workflow.Workflow, error) {
			return nil, invalid.New("kubeconfig", "this hub dials nobody")
		},
		Watch: func(id string) (<-chan struct{}, func()) { return wakes.Subscribe(store.ChannelEvents, id) },
	})
	require.NoError(t, err)
	srv := httptest.NewServer(s.Handler())
	t.Cleanup(srv.Close)
	t.Cleanup(srv.CloseClientConnections)
	_, key, err := ac.CreateKey(t.Context(), "test", "admin", access.RoleAdmin)
	require.NoError(t, err)
	c, err := hubapi.New(srv.URL, key.Reveal(), hubapi.Options{PollInterval: time.Hour})
	require.NoError(t, err)
	return &real{url: srv.URL, key: key.Reveal(), client: c, releases: rel, inventory: inv, webhooks: runner}
}

// One cluster from its creation to its end, on the real rules and store. The
// client never polls: what wakes it is Postgres.
func TestTheWholeStoryOnPostgres(t *testing.T) {
	t.Parallel()
	ctx, r := t.Context(), newReal(t)
	c := r.client
	me, err := c.WhoAmI(ctx)
	require.NoError(t, err)
	require.Equal(t, hubapi.RoleAdmin, me.Role)

	made, err := c.CreateCluster(ctx, hubapi.CreateClusterRequest{Name: "edge", Labels: map[string]string{"site": "a"}})
	require.NoError(t, err)
	require.Contains(t, made.InstallCommand, "--set 'hub.addresses={hub.example.com:8443}' --set joinToken=bud1.")
	_, err = c.CreateCluster(ctx, hubapi.CreateClusterRequest{Name: "edge"})
	require.True(t, hubapi.IsConflict(err))
	token, err := c.CreateToken(ctx, "edge", hubapi.CreateTokenRequest{TTL: "1h", Uses: 3})
	require.NoError(t, err)
	require.Equal(t, 3, token.JoinToken.UsesLeft)
	require.NoError(t, c.RevokeToken(ctx, "edge", token.JoinToken.ID))
	tokens, err := c.Tokens(ctx, "edge")
	require.NoError(t, err)
	require.Equal(t, hubapi.TokenRevoked, tokens.Items[1].State)

	clusterID := uuid.MustParse(made.Cluster.ID)
	require.NoError(t, r.inventory.Apply(ctx, clusterID, inventory.Delta{Nodes: nodesOf("n1", "n2"), ObservedAt: time.Now()}))
	nodes, err := hubapi.Collect(c.AllNodes(ctx, hubapi.NodeQuery{PageOptions: hubapi.PageOptions{Limit: 1}}))
	require.NoError(t, err)
	require.Len(t, nodes, 2)
	devices, err := hubapi.Collect(c.AllDevices(ctx, hubapi.DeviceQuery{Cluster: "edge", Kind: "cuda", PageOptions: hubapi.PageOptions{Limit: 1}}))
	require.NoError(t, err)
	require.Len(t, devices, 2)

	walkRelease(t, r, clusterID)

	events, err := c.Events(ctx, hubapi.EventQuery{Cluster: "edge", Types: []string{"release.status"}})
	require.NoError(t, err)
	require.NotEmpty(t, events.Items)
	walkRetirement(t, r)
	revoked, err := c.RevokeCluster(ctx, "edge")
	require.NoError(t, err)
	require.Equal(t, hubapi.ClusterRevoked, revoked.State)
	require.NoError(t, c.DeleteCluster(ctx, "edge", true))
	_, err = c.Cluster(ctx, "edge")
	require.True(t, hubapi.IsNotFound(err))
	events, err = c.Events(ctx, hubapi.EventQuery{Cluster: made.Cluster.ID})
	require.NoError(t, err)
	require.Equal(t, "cluster.deleted", events.Items[len(events.Items)-1].Type, "history outlives the cluster")
}

func walkRetirement(t *testing.T, r *real) {
	t.Helper()
	ctx, c := t.Context(), r.client
	made, err := c.CreateCluster(ctx, hubapi.CreateClusterRequest{Name: "leaving"})
	require.NoError(t, err)
	presence, err := c.Presence(ctx, "leaving")
	require.NoError(t, err)
	require.Nil(t, presence.ObservedAt)
	require.Empty(t, presence.Items)
	retired, err := c.RetireCluster(ctx, "leaving", false)
	require.NoError(t, err)
	require.Equal(t, hubapi.ClusterRetired, retired.State, "it had no agent to wait for")
	_, err = c.Cluster(ctx, "leaving")
	require.True(t, hubapi.IsNotFound(err))
	all, err := c.RetiredClusters(ctx, hubapi.PageOptions{})
	require.NoError(t, err)
	require.Len(t, all.Items, 1)
	require.Equal(t, made.Cluster.ID, all.Items[0].ID)
	_, err = c.CreateToken(ctx, made.Cluster.ID, hubapi.CreateTokenRequest{})
	require.True(t, hubapi.IsNotFound(err), "%v", err)
}

func walkRelease(t *testing.T, r *real, clusterID uuid.UUID) {
	t.Helper()
	ctx, c := t.Context(), r.client
	tgz, _, err := chart.Pack(fstest.MapFS{"Chart.yaml": {Data: []byte("apiVersion: v2\nname: app\nversion: 1.0.0\n")}})
	require.NoError(t, err)
	pushed, err := c.PushChart(ctx, bytes.NewReader(tgz))
	require.NoError(t, err)
	require.WithinDuration(t, time.Now(), pushed.CreatedAt, time.Minute)
	charts, err := hubapi.Collect(c.AllCharts(ctx))
	require.NoError(t, err)
	require.Equal(t, []hubapi.Chart{pushed}, charts)
	req := hubapi.ReleaseRequest{
		Namespace: "apps", Chart: hubapi.ChartSource{Digest: pushed.Digest}, Values: json.RawMessage(`{"a": 1}`), SecretValues: json.RawMessage(`{"p":"hunter2"}`),
	}
	got, created, err := c.ApplyRelease(ctx, "edge", "app", req, nil)
	require.NoError(t, err)
	require.True(t, created)
	again, created, err := c.ApplyRelease(ctx, "edge", "app", req, &got.Generation)
	require.NoError(t, err)
	require.False(t, created)
	require.Equal(t, got.Generation, again.Generation)
	id := uuid.MustParse(got.ID)
	phases := []agentv1.Phase{agentv1.PhaseInstalling, agentv1.PhaseReady}
	done, err := c.WaitRelease(ctx, "edge", "app", got.Generation, func(hubapi.Release) {
		if len(phases) > 0 {
			_, err := r.releases.Observe(ctx, clusterID, id, release.Status{ObservedGeneration: got.Generation, Phase: phases[0], Total: 2, Ready: 1})
			require.NoError(t, err)
			phases = phases[1:]
		}
	})
	require.NoError(t, err)
	require.Equal(t, hubapi.PhaseReady, done.Status.Phase)
	list, err := hubapi.Collect(c.AllReleases(ctx, hubapi.ReleaseQuery{Phase: hubapi.PhaseReady}))
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.True(t, hubapi.IsConflict(c.DeleteCluster(ctx, "edge", false)))
}

func nodesOf(names ...string) (out []facts.Node) {
	for _, n := range names {
		out = append(out, apitest.Node(n, 1))
	}
	return out
}

// Whatever is sent, it is the sender's fault and not the hub's: nothing here
// may be a 500. PostgreSQL takes no U+0000 in text or jsonb.
func TestHostileInputIsNeverAFault(t *testing.T) {
	t.Parallel()
	r := newReal(t)
	_, err := r.client.CreateCluster(t.Context(), hubapi.CreateClusterRequest{Name: "edge"})
	require.NoError(t, err)
	tgz, _, err := chart.Pack(fstest.MapFS{"Chart.yaml": {Data: []byte("apiVersion: v2\nname: app\nversion: 1.0.0\n")}})
	require.NoError(t, err)
	pushed, err := r.client.PushChart(t.Context(), bytes.NewReader(tgz))
	require.NoError(t, err)
	bad := []string{`\u0000`, `\ud800`, "\xff\xfe", strings.Repeat("x", 70000), `'; drop table clusters; --`, "🦊", `%00`, `{{.}}`}
	type try struct{ method, path, body string }
	tries := []try{
		{"GET", "/v1/clusters?cursor=" + strings.Repeat("A", 5000), ""},
		{"GET", "/v1/clusters?cursor=WyJcdTAwMDAiXQ", ""}, // ["\u0000"]
		{"GET", "/v1/nodes?cursor=WyJcdTAwMDAiLCJcdTAwMDAiXQ", ""},
		{"GET", "/v1/nodes?cursor=WyJ4IiwieCJd", ""}, // no uuid in it
		{"GET", "/v1/devices?cursor=WyJ4IiwieCIsIngiXQ", ""},
		{"GET", "/v1/releases?cursor=WyJ4IiwieCJd", ""},
		{"GET", "/v1/charts?cursor=WyJcdTAwMDAiLCIiLCIiXQ", ""},
		{"GET", "/v1/devices?model=%FF&vendor=%FE", ""},
		{"GET", "/v1/releases?phase=%FF", ""},
		{"GET", "/v1/events?after=9223372036854775807", ""},
		{"GET", "/v1/events?after=99999999999999999999", ""},
		{"GET", "/v1/clusters/%FF", ""},
		{"GET", "/v1/clusters/edge/nodes/%FF%FE", ""},
		{"DELETE", "/v1/clusters/edge/join-tokens/%27", ""},
		{"DELETE", "/v1/api-keys/%F0%9F%A6%8A", ""},
		{"GET", "/v1/webhooks/%FF", ""},
		{"DELETE", "/v1/webhooks/%27%F0%9F%A6%8A", ""},
		{"GET", "/v1/webhooks/w/deliveries?status=%FF", ""},
		{"GET", "/v1/webhooks/w/deliveries?cursor=WyJ4Il0", ""},
		{"POST", "/v1/webhooks/w/deliveries/99999999999999999999/redeliver", ""},
		{"POST", "/v1/webhooks/w/deliveries/9223372036854775807/redeliver", ""},
	}
	for _, b := range bad {
		tries = append(tries,
			try{"POST", "/v1/clusters", `{"name":"` + b + `"}`},
			try{"POST", "/v1/clusters", `{"name":"ok","labels":{"a":"` + b + `"}}`},
			try{"POST", "/v1/clusters", `{"name":"ok","labels":{"` + b + `":"x"}}`},
			try{"POST", "/v1/clusters/edge/join-tokens", `{"ttl":"` + b + `"}`},
			try{"POST", "/v1/api-keys", `{"name":"` + b + `","role":"viewer"}`},
			try{"POST", "/v1/api-keys", `{"name":"x","role":"` + b + `"}`},
			try{"POST", "/v1/charts", b},
			try{"POST", "/v1/registrations", `{"name":"x","kubeconfig":"` + b + `"}`},
			try{"POST", "/v1/webhooks", `{"name":"` + b + `","url":"` + b + `","types":["` + b + `"],"cluster":"` + b + `"}`},
			try{"POST", "/v1/webhooks", `{"name":"w","url":"https://example.com/` + b + `"}`},
			try{"PUT", "/v1/clusters/edge/releases/app", `{"namespace":"x","chart":{"digest":"` + pushed.Digest + `"},"values":{"` + b + `":"` + b + `"}}`},
			try{"PUT", "/v1/clusters/edge/releases/app", `{"namespace":"x","chart":{"digest":"` + pushed.Digest + `"},"secretValues":{"` + b + `":"` + b + `"}}`},
			try{"PUT", "/v1/clusters/edge/releases/app", `{"namespace":"` + b + `","chart":{"digest":"` + b + `","path":"` + b + `"},"timeout":"` + b + `"}`},
			try{"PUT", "/v1/clusters/edge/releases/app", `{"namespace":"x","chart":{"repository":"` + b + `","name":"` + b + `"}}`},
			try{"PUT", "/v1/clusters/edge/releases/app", `{"namespace":"x","chart":{"oci":"` + b + `"}}`},
			try{"PUT", "/v1/clusters/edge/releases/app", `{"namespace":"x","chart":{"digest":"` + pushed.Digest + `"},"outputs":[{"name":"` + b + `","apiVersion":"` + b + `","kind":"` + b + `","object":"` + b + `","jsonPath":"` + b + `"}]}`},
		)
	}
	for _, x := range tries {
		req, err := http.NewRequestWithContext(t.Context(), x.method, r.url+x.path, strings.NewReader(x.body))
		require.NoError(t, err)
		req.Header.Set("Authorization", "Bearer "+r.key)
		req.Header.Set("Content-Type", "application/json")
		resp, err := http.DefaultClient.Do(req)
		require.NoError(t, err)
		text := read(t, resp)
		_ = resp.Body.Close()
		assert.NotEqual(t, http.StatusInternalServerError, resp.StatusCode, "%s %s %.200s\n%s", x.method, x.path, x.body, text)
		if resp.StatusCode >= http.StatusBadRequest {
			require.Less(t, len(text), 20<<10, "%s %s: a problem much larger than what it says", x.method, x.path)
		}
	}
	_, err = r.client.Cluster(t.Context(), "edge")
	require.NoError(t, err)
}
