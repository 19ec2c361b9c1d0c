package platform_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/operation"
	"github.com/budecosystem/budcluster/hub/internal/platform"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/secret"
	"github.com/budecosystem/budcluster/internal/testutil"
)

func operationRegister(name string) operation.Register {
	return operation.Register{Name: name, Existing: true}
}

// with changes the platform's request by one member.
func with(member string) string {
	return strings.TrimSuffix(asked("bad"), "}") + "," + member + "}"
}

// What is wrong with a request is answered in the contract's envelope, with the
// right status and a sentence, and nothing is begun. The golden file is the list
// of all that callers may see.
func TestBadInput(t *testing.T) {
	t.Parallel()
	b := setup(t)
	c := b.joined("edge")
	id, unknown := c.ID.String(), "018f0000-0000-7000-8000-000000000000"
	big := `"` + strings.Repeat("x", 20<<20) + `"`
	file := goodKubeconfig()
	var report strings.Builder
	try := func(name string, want int, r *http.Request) {
		status, text := b.do(r)
		require.Equal(t, want, status, name+": "+text)
		requireEnvelope(t, name, status, text)
		require.NotContains(t, text, canary.Reveal(), name)
		fmt.Fprintf(&report, "%-34s %d %s\n", name, status, text)
	}
	req := func(method, path, body string) *http.Request {
		return httptest.NewRequest(method, path, strings.NewReader(body))
	}
	before := b.count("workflows")

	try("create: no form", 422, req("POST", "/cluster", asked("bad")))
	try("create: empty", 422, req("POST", "/cluster", ""))
	noBoundary := req("POST", "/cluster", "x")
	noBoundary.Header.Set("Content-Type", "multipart/form-data")
	try("create: no boundary", 400, noBoundary)
	broken := req("POST", "/cluster", "--b\r\nContent-Disposition: form-data; name=\"configuration\"\r\n\r\nabc")
	broken.Header.Set("Content-Type", "multipart/form-data; boundary=b")
	try("create: form that ends", 400, broken)
	try("create: no parts", 422, form(t, "", ""))
	try("create: no file", 422, form(t, asked("bad"), ""))
	try("create: no request", 422, form(t, "", file))
	try("create: not JSON", 400, form(t, `{"name": `, file))
	try("create: a list", 400, form(t, `[1]`, file))
	try("create: nothing in it", 422, form(t, `{}`, file))
	try("create: wrong types", 422, form(t, `{"name": 7, "enable_master_node": "yes", "ingress_url": [], "cluster_type": null}`, file))
	try("create: unknown field", 422, form(t, with(`"colour": "red"`), file))
	try("create: unknown type", 422, form(t, strings.Replace(asked("bad"), "ON_PREM", "ON_MARS", 1), file))
	try("create: in a cloud", 501, form(t, strings.Replace(asked("bad"), "ON_PREM", "CLOUD", 1), file))
	try("create: empty name", 422, form(t, asked("  "), file))
	try("create: long name", 422, form(t, asked(strings.Repeat("n", 300)), file))
	try("create: bell in name", 422, form(t, asked("ding\a"), file))
	try("create: bad ingress", 422, form(t, strings.Replace(asked("bad"), "https://models.example.com", "models.example.com", 1), file))
	try("create: bad reply", 422, form(t, with(`"notification_metadata": {"name": "", "category": "loud"}`), file))
	try("create: bad topic", 422, form(t, with(`"source_topic": {"a": 1}`), file))
	try("create: bad time", 422, form(t, with(`"time": "tomorrow"`), file))
	try("create: taken name", 409, form(t, asked("edge"), file))
	try("create: file is not YAML", 400, form(t, asked("bad"), "a: [: "+canary.Reveal()))
	try("create: file without server", 400, form(t, asked("bad"), strings.Replace(file, "server:", "servant:", 1)))
	try("create: file with exec", 400, form(t, asked("bad"), strings.Replace(file, "token: ", "exec: {apiVersion: client.authentication.k8s.io/v1, command: /bin/sh}, password: ", 1)))
	try("create: big file", 413, form(t, asked("bad"), big))
	try("create: big request", 413, form(t, `{"name": `+big+`}`, file))

	for _, one := range []struct{ method, path string }{
		{"PATCH", "/cluster/" + id}, {"POST", "/cluster/update-node-status"}, {"POST", "/cluster/delete"}, {"POST", "/job/test-job"},
	} {
		name := strings.ReplaceAll(one.method+" "+strings.TrimPrefix(one.path, "/cluster/"), id, "{id}")
		try(name+": empty", 422, req(one.method, one.path, ""))
		try(name+": not JSON", 422, req(one.method, one.path, `{"cluster_id": `))
		try(name+": a text", 422, req(one.method, one.path, `"hello"`))
		try(name+": null", 422, req(one.method, one.path, `null`))
		try(name+": nothing in it", 422, req(one.method, one.path, `{}`))
		try(name+": wrong type", 422, req(one.method, one.path, `{"cluster_id": 4, "ingress_url": 4, "message": {}}`))
		try(name+": null member", 422, req(one.method, one.path, `{"cluster_id": null, "ingress_url": null, "message": null}`))
		try(name+": big", 413, req(one.method, one.path, big))
	}
	try("PATCH: bad URL", 422, req("PATCH", "/cluster/"+id, `{"ingress_url": "ftp://x"}`))
	try("PATCH: unknown cluster", 404, req("PATCH", "/cluster/"+unknown, `{"ingress_url": "https://x"}`))
	try("PATCH: no id", 422, req("PATCH", "/cluster/7", `{"ingress_url": "https://x"}`))
	try("update: no id", 422, req("POST", "/cluster/update-node-status", `{"cluster_id": "seven"}`))
	try("update: unknown cluster", 404, req("POST", "/cluster/update-node-status", `{"cluster_id": "`+unknown+`"}`))
	try("delete: no id", 422, req("POST", "/cluster/delete", `{"cluster_id": "seven"}`))
	try("delete: unknown cluster", 404, req("POST", "/cluster/delete", `{"cluster_id": "`+unknown+`"}`))
	try("delete: unknown in a cloud", 404, req("POST", "/cluster/delete", `{"cluster_id": "`+unknown+`", "cluster_type": "CLOUD"}`))
	try("delete: unknown field", 422, req("POST", "/cluster/delete", `{"cluster_id": "`+id+`", "id": "x"}`))
	try("delete: bad force", 422, req("POST", "/cluster/delete", `{"cluster_id": "`+id+`", "force": "please"}`))
	try("cancel: no id", 422, req("POST", "/cluster/cancel/7", ""))
	try("cancel: unknown workflow", 404, req("POST", "/cluster/cancel/"+unknown, ""))
	for _, what := range []string{"events-count-by-node", "node-wise-events/gpu-1", "nodes", "device-info", "get-config", "storage-classes", "health"} {
		try(what+": no id", 422, req("GET", "/cluster/7/"+what, ""))
		try(what+": unknown cluster", 404, req("GET", "/cluster/"+unknown+"/"+what, ""))
	}
	try("node-wise-events: unknown node", 404, req("GET", "/cluster/"+id+"/node-wise-events/gpu-9", ""))
	try("health: unknown check", 422, req("GET", "/cluster/"+id+"/health?checks=nodes,weather", ""))
	for _, what := range []string{"status", "stop", "pause", "resume", "restart"} {
		method := map[string]string{"status": "GET", "stop": "DELETE"}[what]
		if method == "" {
			method = "POST"
		}
		try("workflow "+what+": no id", 422, req(method, "/workflow/7/"+what, ""))
		try("workflow "+what+": unknown", 404, req(method, "/workflow/"+unknown+"/"+what, ""))
	}
	for _, what := range []string{"/register", "/sync/configurations", "/sync/secrets"} {
		try(what+": no sidecar", 503, req("GET", what, ""))
	}
	try("no such route", 404, req("GET", "/nowhere", ""))
	try("no such method", 405, req("PUT", "/cluster", ""))
	pending, err := b.clusters.Create(t.Context(), "ann", "new", nil)
	require.NoError(t, err)
	try("storage-classes: not there yet", 400, req("GET", "/cluster/"+pending.ID.String()+"/storage-classes", ""))

	require.Equal(t, before, b.count("workflows"), "nothing was begun")
	require.Equal(t, 2, b.count("clusters"), "nothing was made")
	require.NotContains(t, b.log.String(), canary.Reveal())
	testutil.Golden(t, "bad-input", testutil.Normalise([]byte(strings.ReplaceAll(report.String(), pending.ID.String(), "{pending}"))))
}

// requireEnvelope: an ErrorResponse, or the framework's detail.
func requireEnvelope(t *testing.T, name string, status int, text string) {
	t.Helper()
	body := read[map[string]any](t, text)
	if sentence, is := body["detail"].(string); is {
		require.NotEmpty(t, sentence, name)
		if len(body) == 1 {
			return
		}
		require.Len(t, body, 2, name)
		require.Contains(t, []string{"Invalid JSON in cluster_create_request", "Invalid configuration file"}, sentence, name)
		require.NotEmpty(t, body["message"], name)
		return
	}
	if list, is := body["detail"].([]any); is {
		require.Len(t, body, 1, name)
		require.NotEmpty(t, list, name)
		for _, one := range list {
			f := one.(map[string]any)
			require.Len(t, f, 4, name)
			require.NotEmpty(t, f["type"], name)
			require.NotEmpty(t, f["loc"], name)
			require.NotEmpty(t, f["msg"], name)
		}
		return
	}
	require.Equal(t, "error", body["object"], name)
	require.InDelta(t, status, body["code"], 0, name)
	require.Regexp(t, `^[A-Z][A-Za-z]+Error$`, body["type"], name)
	require.NotEmpty(t, body["message"], name)
	require.Contains(t, body, "param", name)
}

func (b *bundle) count(table string) (n int) {
	b.t.Helper()
	require.NoError(b.t, b.pool.QueryRow(b.t.Context(), "SELECT count(*) FROM "+table).Scan(&n))
	return n
}

// Every route asks for the token, those that are not there too.
func TestTokenIsAskedForEverywhere(t *testing.T) {
	t.Parallel()
	b := setup(t, func(c *platform.Config) { c.Token = secret.New("let-me-in") })
	c := b.joined("edge")
	_, text := func() (int, string) {
		r := httptest.NewRequest(http.MethodGet, "/openapi.json", nil)
		r.Header.Set("dapr-api-token", "let-me-in")
		return b.do(r)
	}()
	described := read[struct{ Paths map[string]map[string]any }](t, text).Paths
	require.Greater(t, len(described), 25)
	for path, methods := range described {
		for method := range methods {
			path = strings.NewReplacer("{cluster_id}", c.ID.String(), "{workflow_id}", uuid.NewString(), "{node_hostname}", "gpu-1").Replace(path)
			for _, wrong := range []string{"", "let-me-out", "let-me-in-please"} {
				r := httptest.NewRequest(strings.ToUpper(method), path, nil)
				if wrong != "" {
					r.Header.Set("dapr-api-token", wrong)
				}
				status, text := b.do(r)
				require.Equal(t, http.StatusUnauthorized, status, path)
				requireEnvelope(t, path, status, text)
			}
		}
	}
	status, _ := b.call(http.MethodGet, "/nowhere", nil)
	require.Equal(t, http.StatusUnauthorized, status)
}

// The file is used once: nothing of it is in the database, nor in memory that
// the face has.
func TestFileIsForgotten(t *testing.T) {
	t.Parallel()
	var seen []byte
	b := setup(t, func(c *platform.Config) {
		register := c.Register
		c.Register = func(ctx context.Context, actor string, r platform.Registration) (*workflow.Workflow, error) {
			seen = r.Kubeconfig
			return register(ctx, actor, r)
		}
	})
	status, text := b.onboard(with(`"configuration": "{\"token\": \"`+canary.Reveal()+`\"}", "credentials": {"key": "`+canary.Reveal()+`"}`), goodKubeconfig())
	taken(t, status, text)
	require.NotEmpty(t, seen)
	require.Equal(t, make([]byte, len(seen)), seen)
	for _, table := range []string{"workflows", "workflow_steps", "clusters", "events", "outbox"} {
		var n int
		require.NoError(t, b.pool.QueryRow(t.Context(), "SELECT count(*) FROM "+table+" x WHERE x::text LIKE '%"+canary.Reveal()+"%'").Scan(&n))
		require.Zero(t, n, table)
	}
	require.NotContains(t, b.log.String(), canary.Reveal())
}
