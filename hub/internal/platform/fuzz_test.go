package platform_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/hub/internal/operation"
	"github.com/budecosystem/budcluster/hub/internal/page"
	"github.com/budecosystem/budcluster/hub/internal/platform"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/facts"
)

// nothing is a hub without clusters, in which every registration begins.
type nothing struct{}

func (nothing) Get(_ context.Context, ref string) (*cluster.Cluster, error) {
	return nil, &cluster.NotFoundError{Ref: ref}
}

func (nothing) List(context.Context, page.Page) ([]*cluster.Cluster, string, error) {
	return nil, "", nil
}

func (nothing) SetIngressURL(context.Context, string, string, string) (*cluster.Cluster, error) {
	return nil, cluster.ErrNotFound
}

type noWork struct{}

func (noWork) Get(_ context.Context, ref string) (*workflow.Workflow, error) {
	return nil, &workflow.NotFoundError{ID: ref}
}

func (noWork) Cancel(_ context.Context, _, ref string) (*workflow.Workflow, error) {
	return nil, &workflow.NotFoundError{ID: ref}
}

func (noWork) List(context.Context, workflow.Filter, page.Page) ([]*workflow.Workflow, string, error) {
	return nil, "", nil
}

func (noWork) Remove(context.Context, string, operation.Remove) (*workflow.Workflow, error) {
	return nil, cluster.ErrNotFound
}

func (noWork) Status(context.Context, string, string, json.RawMessage) (*workflow.Workflow, error) {
	return nil, cluster.ErrNotFound
}

func (noWork) Retry(_ context.Context, _, ref string) (*workflow.Workflow, error) {
	return nil, &workflow.NotFoundError{ID: ref}
}

func (nothing) Presence(context.Context, uuid.UUID) (cluster.Presence, error) {
	return cluster.Presence{}, cluster.ErrNotFound
}

type noNodes struct{}

func (noNodes) Nodes(context.Context, inventory.Filter, page.Page) ([]inventory.Node, string, error) {
	return nil, "", nil
}

func (noNodes) Node(context.Context, uuid.UUID, string) (*inventory.Node, error) {
	return nil, inventory.ErrNotFound
}

func (noNodes) NodeEvents(context.Context, uuid.UUID, string) ([]facts.NodeEvent, error) {
	return nil, nil
}

func (noNodes) NodeEventCounts(context.Context, uuid.UUID) (map[string]int64, error) {
	return map[string]int64{}, nil
}

func hollow(tb testing.TB, register func(platform.Registration)) *platform.Server {
	tb.Helper()
	s, err := platform.New(platform.Config{
		Logger: slog.New(slog.DiscardHandler), Clusters: nothing{}, Inventory: noNodes{}, Workflows: noWork{}, Operations: noWork{},
		Register: func(_ context.Context, _ string, r platform.Registration) (*workflow.Workflow, error) {
			register(r)
			return &workflow.Workflow{ID: uuid.New(), Kind: workflow.RegisterCluster}, nil
		},
		Watch: func(string) (<-chan struct{}, func()) { return nil, func() {} },
	})
	require.NoError(tb, err)
	return s
}

// Whatever is sent: one of the contract's statuses and envelopes, and what is
// registered has a name that the register takes.
func FuzzRequests(f *testing.F) {
	f.Add("/cluster/delete", `{"cluster_id": "018f0000-0000-7000-8000-000000000000", "source_topic": ["a", "b"]}`)
	f.Add("/cluster/delete", `{"topic": "t", "pubsubname": "p", "data": {"cluster_id": 4}}`)
	f.Add("/cluster", asked("Zürich – Main"))
	f.Add("/cluster", asked("edge"))
	f.Add("/cluster", `{"name": "\u0000", "enable_master_node": true}`)
	f.Add("/notifications", `{"id": null}`)
	f.Add("/configuration/s/k", `{`)
	f.Fuzz(func(t *testing.T, path, body string) {
		face := hollow(t, func(r platform.Registration) {
			require.Regexp(t, `^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`, r.Name)
			require.True(t, json.Valid(r.Reply))
		})
		r := httptest.NewRequest(http.MethodPost, "/", bytes.NewReader([]byte(body)))
		r.URL.Path = path
		if path == "/cluster" {
			var buf bytes.Buffer
			w := multipart.NewWriter(&buf)
			require.NoError(t, w.WriteField("cluster_create_request", body))
			require.NoError(t, w.WriteField("configuration", body))
			require.NoError(t, w.Close())
			r = httptest.NewRequest(http.MethodPost, path, &buf)
			r.Header.Set("Content-Type", w.FormDataContentType())
		}
		w := httptest.NewRecorder()
		face.Handler().ServeHTTP(w, r)
		if w.Code >= 300 && w.Code < 400 { // the router tidies paths
			return
		}
		require.Contains(t, []int{200, 400, 404, 405, 409, 413, 422, 501, 503}, w.Code, w.Body.String())
		require.True(t, json.Valid(w.Body.Bytes()))
		if w.Code != http.StatusOK {
			requireEnvelope(t, path, w.Code, w.Body.String())
		}
	})
}

// Names that differ stay different, and a made name is the same each time.
func TestNamesOfTheRegister(t *testing.T) {
	t.Parallel()
	names := map[string]string{}
	var made string
	face := hollow(t, func(r platform.Registration) { made = r.Name })
	for _, display := range []string{
		"edge", "Edge", "EDGE", " edge", "edge ", "my cluster", "my-cluster", "my--cluster", "München", "munchen", "数据中心", "数据", "---", "018f0000-0000-7000-8000-000000000000",
		"edge-0123abcd", "a" + string(bytes.Repeat([]byte("b"), 80)), "a" + string(bytes.Repeat([]byte("b"), 81)), "v1.2",
	} {
		for range 2 {
			w := httptest.NewRecorder()
			face.Handler().ServeHTTP(w, form(t, asked(display), goodKubeconfig()))
			require.Equal(t, http.StatusOK, w.Code, w.Body.String())
			require.Regexp(t, `^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`, made, display)
			require.Error(t, uuid.Validate(made), display)
			if other, taken := names[made]; taken {
				require.Equal(t, other, display)
			}
			names[made] = display
		}
	}
	require.Equal(t, "edge", names["edge"])
	require.Equal(t, "my-cluster", names["my-cluster"])
	require.Len(t, names, 18)
}
