package api_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/apitest"
	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/internal/access"
	"github.com/budecosystem/budcluster/hub/internal/chart"
	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/internal/install"
	"github.com/budecosystem/budcluster/internal/testutil"
)

// call sends one request; headers are "Name: value".
func call(t *testing.T, h *apitest.Hub, method, path, body string, headers ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, h.URL+path, strings.NewReader(body))
	require.NoError(t, err)
	for _, line := range headers {
		name, value, _ := strings.Cut(line, ":")
		req.Header.Add(name, strings.TrimPrefix(value, " "))
	}
	resp, err := http.DefaultClient.Do(req)
	require.NoError(t, err)
	t.Cleanup(func() { _ = resp.Body.Close() })
	return resp
}

func asAdmin(more ...string) []string {
	return append([]string{"Authorization: Bearer " + apitest.AdminKey, "Content-Type: application/json"}, more...)
}

func read(t *testing.T, resp *http.Response) string {
	t.Helper()
	b, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(b)
}

func problem(t *testing.T, resp *http.Response) hubapi.Problem {
	t.Helper()
	require.Equal(t, "application/problem+json", resp.Header.Get("Content-Type"))
	var p hubapi.Problem
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&p))
	require.Equal(t, resp.StatusCode, p.Status)
	require.Equal(t, resp.Header.Get("X-Request-Id"), p.RequestID)
	return p
}

// described is one operation of the OpenAPI document.
type described struct {
	ID        string         `json:"operationId"`
	Role      access.Role    `json:"x-role"`
	Responses map[string]any `json:"responses"`
}

func operations(t *testing.T, h *apitest.Hub) map[string]map[string]described {
	t.Helper()
	var doc struct {
		OpenAPI string                          `json:"openapi"`
		Paths   map[string]map[string]described `json:"paths"`
	}
	require.NoError(t, json.Unmarshal([]byte(read(t, call(t, h, "GET", "/openapi.json", ""))), &doc))
	require.Equal(t, "3.1.0", doc.OpenAPI)
	return doc.Paths
}

var placeholder = regexp.MustCompile(`\{\w+\}`)

// Every route of the table, with every kind of key that must not do.
func TestEveryRouteAsksForAKeyOfItsRole(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	n := 0
	for path, methods := range operations(t, h) {
		require.True(t, strings.HasPrefix(path, "/v1/"), path)
		for method, op := range methods {
			n++
			require.Contains(t, access.Roles(), op.Role, "%s %s", method, path)
			t.Run(op.ID, func(t *testing.T) {
				t.Parallel()
				checkRoute(t, h, strings.ToUpper(method), placeholder.ReplaceAllString(path, "x"), op.Role)
			})
		}
	}
	require.GreaterOrEqual(t, n, 27)
}

func checkRoute(t *testing.T, h *apitest.Hub, method, path string, role access.Role) {
	t.Helper()
	for name, headers := range map[string][]string{
		"none":         nil,
		"empty":        {"Authorization:"},
		"blank":        {"Authorization:  "},
		"only Bearer":  {"Authorization: Bearer"},
		"blank key":    {"Authorization: Bearer   "},
		"other scheme": {"Authorization: Basic " + apitest.AdminKey},
		"no scheme":    {"Authorization: " + apitest.AdminKey},
		"unknown":      {"Authorization: Bearer budk_admin_secreT"},
		"cut":          {"Authorization: Bearer " + apitest.AdminKey[:10]},
		"longer":       {"Authorization: Bearer " + apitest.AdminKey + "x"},
		"two words":    {"Authorization: Bearer " + apitest.AdminKey + " x"},
		"huge":         {"Authorization: Bearer " + strings.Repeat("x", 5000)},
		"twice":        {"Authorization: Bearer " + apitest.AdminKey, "Authorization: Bearer x"},
	} {
		resp := call(t, h, method, path, "{}", headers...)
		require.Equal(t, http.StatusUnauthorized, resp.StatusCode, name)
		require.Equal(t, `Bearer realm="budcluster"`, resp.Header.Get("WWW-Authenticate"))
		require.Equal(t, hubapi.CodeUnauthenticated, problem(t, resp).Code)
	}
	for _, have := range access.Roles() {
		resp := call(t, h, method, path, "{}", "Authorization: Bearer "+apitest.Key(have))
		if have.Allows(role) {
			require.NotContains(t, []int{http.StatusUnauthorized, http.StatusForbidden}, resp.StatusCode, have)
			continue
		}
		require.Equal(t, http.StatusForbidden, resp.StatusCode, have)
		require.Equal(t, hubapi.CodeForbidden, problem(t, resp).Code)
	}
}

func TestOpenAPI(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	resp := call(t, h, "GET", "/openapi.json", "")
	require.Equal(t, "application/openapi+json", resp.Header.Get("Content-Type"))
	doc := read(t, resp)
	testutil.Golden(t, "openapi.json", []byte(doc+"\n"))
	for _, own := range []string{"ErrorModel", "127.0.0.1", "$schema"} {
		require.NotContains(t, doc, own)
	}
	for _, ref := range regexp.MustCompile(`#/components/schemas/(\w+)`).FindAllStringSubmatch(doc, -1) {
		require.Contains(t, doc, `"`+ref[1]+`": {`, "a reference to nothing")
	}
	require.Contains(t, read(t, call(t, h, "GET", "/openapi.yaml", "")), "openapi: 3.1.0")
}

// The page has to work where nothing of the internet can be reached.
func TestDocsLoadsNothingFromElsewhere(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	resp := call(t, h, "GET", "/docs", "")
	page := read(t, resp)
	require.Contains(t, resp.Header.Get("Content-Security-Policy"), "default-src 'none'")
	require.NotRegexp(t, `(?i)https?://|src=|@import|url\(`, page)
	require.Contains(t, page, `fetch("openapi.json")`)
	require.Less(t, len(page), 32<<10)
	require.Equal(t, "/docs", call(t, h, "GET", "/", "").Request.URL.Path)
}

func TestHealthReadyMetrics(t *testing.T) {
	t.Parallel()
	var down error
	h := apitest.New(t, apitest.Options{Ready: map[string]func(context.Context) error{
		"database": func(context.Context) error { return down },
	}})
	require.Equal(t, "ok\n", read(t, call(t, h, "GET", "/healthz", "")))
	require.JSONEq(t, `{"ready":true,"checks":{"database":"ok"}}`, read(t, call(t, h, "GET", "/readyz", "")))
	down = errors.New("connection refused")
	resp := call(t, h, "GET", "/readyz", "")
	require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)
	require.JSONEq(t, `{"ready":false,"checks":{"database":"connection refused"}}`, read(t, resp))

	for _, path := range []string{"/v1/clusters/a", "/v1/clusters/b", "/nowhere/1", "/nowhere/2"} {
		call(t, h, "GET", path, "", asAdmin()...)
	}
	call(t, h, "BREW", "/v1/clusters", "")
	families, err := h.Metrics.Gather()
	require.NoError(t, err)
	var names []string
	for _, f := range families {
		if !strings.HasPrefix(f.GetName(), "budcluster_") {
			continue
		}
		names = append(names, f.GetName())
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				require.NotRegexp(t, `clusters/[ab]$|nowhere|BREW`, l.GetValue(), "a label value that callers choose")
			}
		}
	}
	testutil.Golden(t, "metrics", []byte(strings.Join(names, "\n")+"\n"))
	require.Contains(t, read(t, call(t, h, "GET", "/metrics", "")), `budcluster_api_requests_total{method="GET",route="/v1/clusters/{cluster}",status="404"} 2`)
}

func TestAgentChart(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	resp := call(t, h, "GET", "/charts/budcluster-agent-0.1.0.tgz", "")
	require.Equal(t, "application/gzip", resp.Header.Get("Content-Type"))
	m, err := chart.Inspect([]byte(read(t, resp)))
	require.NoError(t, err)
	require.Equal(t, "budcluster-agent", m.Name)
	for _, other := range []string{"budcluster-agent-0.0.1.tgz", "budcluster-agent.tgz", "%2e%2e%2fsecret", "x"} {
		require.Equal(t, hubapi.CodeNotFound, problem(t, call(t, h, "GET", "/charts/"+other, "")).Code)
	}
}

// What a cluster's owner pastes into a shell holds nothing that the shell
// reads, whatever Host header made it.
func TestInstallCommand(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	c := h.Client(t, access.RoleAdmin)
	made, err := c.CreateCluster(t.Context(), hubapi.CreateClusterRequest{Name: "edge"})
	require.NoError(t, err)
	require.Equal(t, "helm install budcluster-agent http://hub.example.com:8080/charts/budcluster-agent-0.1.0.tgz"+
		" --namespace budcluster-system --create-namespace --set 'hub.addresses={hub.example.com:8443}' --set joinToken=bud1.tok1.secret.pin",
		made.InstallCommand)
	require.Equal(t, hubapi.ClusterPending, made.Cluster.State)
	require.Equal(t, "bud1.tok1.secret.pin", made.JoinToken.Token)
	tokens, err := c.Tokens(t.Context(), "edge")
	require.NoError(t, err)
	require.Empty(t, tokens.Items[0].Token, "shown once")
}

// A cluster that cannot get its token must not stay behind and keep the name.
func TestCreateClusterLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	c := h.Client(t, access.RoleAdmin)
	_, err := c.CreateCluster(t.Context(), hubapi.CreateClusterRequest{Name: "edge", TokenTTL: "9000h"})
	require.ErrorContains(t, err, "tokenTTL: 9000h0m0s is out of range")
	_, err = c.Cluster(t.Context(), "edge")
	require.True(t, hubapi.IsNotFound(err))
}

func TestBodyLimits(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	h.AddCluster("edge")
	values := func(size int) string {
		head, tail := `{"namespace":"x","chart":{"path":"y"},"values":{"a":"`, `"}}`
		return head + strings.Repeat("v", size-len(head)-len(tail)) + tail
	}
	for size, status := range map[int]int{1 << 20: http.StatusUnprocessableEntity, 1<<20 + 1: http.StatusRequestEntityTooLarge, 5 << 20: http.StatusRequestEntityTooLarge} {
		resp := call(t, h, "PUT", "/v1/clusters/edge/releases/r", values(size), asAdmin()...)
		require.Equal(t, status, resp.StatusCode, size)
		if p := problem(t, resp); status == http.StatusRequestEntityTooLarge {
			require.Equal(t, hubapi.CodeTooLarge, p.Code)
			require.Equal(t, int64(1<<20), p.MaxBytes)
		}
	}
	resp := call(t, h, "POST", "/v1/charts", strings.Repeat("x", chart.MaxSize+1), asAdmin("Content-Type: application/gzip")...)
	require.Equal(t, int64(chart.MaxSize), problem(t, resp).MaxBytes)
}

// The deadline for reading a body must not end the work that comes after it,
// which may be to fetch a chart from a slow repository.
func TestASlowHandlerOutlivesTheBodysDeadline(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{BodyTimeout: 50 * time.Millisecond})
	h.AddCluster("edge")
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		timer := time.NewTimer(300 * time.Millisecond)
		defer timer.Stop()
		select {
		case <-timer.C:
		case <-r.Context().Done():
		}
		_, _ = w.Write([]byte("entries: {}"))
	}))
	t.Cleanup(slow.Close)
	body := `{"namespace":"x","chart":{"name":"app","repository":"` + slow.URL + `"}}`
	p := problem(t, call(t, h, "PUT", "/v1/clusters/edge/releases/r", body, asAdmin()...))
	require.Equal(t, hubapi.CodeInvalid, p.Code, p.Detail)
	require.Contains(t, p.Detail, `chart.name: "app" is not in repository`)
}

func TestReleaseGenerations(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	h.AddCluster("edge")
	c := h.Client(t, access.RoleOperator)
	tgz, _, err := chart.Pack(fstest.MapFS{"Chart.yaml": {Data: []byte("apiVersion: v2\nname: app\nversion: 1.0.0\n")}})
	require.NoError(t, err)
	pushed, err := c.PushChart(t.Context(), bytes.NewReader(tgz))
	require.NoError(t, err)
	req := hubapi.ReleaseRequest{
		Namespace: "apps", Chart: hubapi.ChartSource{Digest: pushed.Digest},
		Values: json.RawMessage(`{"replicas":2}`), SecretValues: json.RawMessage(`{"password":"hunter2"}`), Timeout: "90s",
	}
	zero, one, seven := int64(0), int64(1), int64(7)
	r, created, err := c.ApplyRelease(t.Context(), "edge", "app", req, &zero)
	require.NoError(t, err)
	require.True(t, created)
	require.Equal(t, int64(1), r.Generation)
	require.Equal(t, "1m30s", r.Spec.Timeout)
	require.Equal(t, hubapi.ChartRef{Digest: pushed.Digest, Name: "app", Version: "1.0.0"}, r.Spec.Chart)
	require.Equal(t, hubapi.PhasePending, r.Status.Phase)

	resp := call(t, h, "GET", "/v1/clusters/edge/releases/app", "", asAdmin()...)
	require.Equal(t, `"1"`, resp.Header.Get("ETag"))
	require.NotContains(t, read(t, resp), "hunter2")

	_, created, err = c.ApplyRelease(t.Context(), "edge", "app", req, &one)
	require.NoError(t, err)
	require.False(t, created)
	var p *hubapi.Problem
	for _, wrong := range []*int64{&zero, &seven} {
		_, _, err = c.ApplyRelease(t.Context(), "edge", "app", req, wrong)
		require.ErrorAs(t, err, &p)
		require.Equal(t, hubapi.CodePreconditionFailed, p.Code)
		require.Equal(t, int64(1), p.Generation)
	}
	for header, status := range map[string]int{
		"If-None-Match: *": http.StatusPreconditionFailed, `If-None-Match: "1"`: http.StatusUnprocessableEntity,
		`If-Match: W/"1"`: http.StatusOK, "If-Match: 1": http.StatusOK, "If-Match: *": http.StatusUnprocessableEntity, `If-Match: "-1"`: http.StatusUnprocessableEntity,
	} {
		body, err := json.Marshal(req)
		require.NoError(t, err)
		require.Equal(t, status, call(t, h, "PUT", "/v1/clusters/edge/releases/app", string(body), asAdmin(header)...).StatusCode, header)
	}
	gone, err := c.DeleteRelease(t.Context(), "edge", "app", false)
	require.NoError(t, err)
	require.NotNil(t, gone.DeletedAt)
}

func TestPages(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	var want []string
	for i := range 25 {
		name := fmt.Sprintf("c%02d", i)
		id := h.AddCluster(name)
		h.SetNode(id, apitest.Node("n-"+name, 1))
		want = append(want, name)
	}
	c := h.Client(t, access.RoleViewer)
	l, err := c.Clusters(t.Context(), hubapi.PageOptions{Limit: 10})
	require.NoError(t, err)
	require.Len(t, l.Items, 10)
	l, err = c.Clusters(t.Context(), hubapi.PageOptions{Limit: 10, Cursor: l.Next})
	require.NoError(t, err)
	require.Equal(t, "c10", l.Items[0].Name)

	all, err := hubapi.Collect(c.AllClusters(t.Context()))
	require.NoError(t, err)
	require.Equal(t, want, names(all, func(c hubapi.Cluster) string { return c.Name }))
	nodes, err := hubapi.Collect(c.AllNodes(t.Context(), hubapi.NodeQuery{PageOptions: hubapi.PageOptions{Limit: 7}}))
	require.NoError(t, err)
	require.Len(t, nodes, 25)
	for _, n := range nodes {
		require.Equal(t, "n-"+n.Cluster.Name, n.Name)
		require.Equal(t, int64(3), *n.Cluster.AgeSeconds)
		require.Equal(t, int64(14000), n.Available.CPUMillis)
	}
	devices, err := hubapi.Collect(c.AllDevices(t.Context(), hubapi.DeviceQuery{PageOptions: hubapi.PageOptions{Limit: 9}, Kind: "cuda"}))
	require.NoError(t, err)
	require.Len(t, devices, 25)
	one, err := c.Devices(t.Context(), hubapi.DeviceQuery{Cluster: "c03", Node: "n-c03"})
	require.NoError(t, err)
	require.Len(t, one.Items, 2)
}

func names[T any](items []T, name func(T) string) []string {
	var out []string
	for _, i := range items {
		out = append(out, name(i))
	}
	return out
}

// Unknown is not gone: what a cluster had is shown with its age, and what needs
// the cluster itself says when to try again.
func TestClusterAway(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	id := h.AddCluster("edge")
	h.SetNode(id, apitest.Node("n1", 1))
	c := h.Client(t, access.RoleViewer)
	a, err := c.Agent(t.Context(), "edge")
	require.NoError(t, err)
	require.Equal(t, "budcluster-agent-0", a.Instance)

	h.Leave(id, 90*1e9)
	resp := call(t, h, "GET", "/v1/clusters/edge/agent", "", asAdmin()...)
	require.Equal(t, "10", resp.Header.Get("Retry-After"))
	p := problem(t, resp)
	require.Equal(t, hubapi.CodeClusterAway, p.Code)
	require.Equal(t, apitest.Now().Add(-90*1e9), *p.LastSeen)
	n, err := c.Node(t.Context(), "edge", "n1")
	require.NoError(t, err)
	require.Equal(t, hubapi.ClusterUnknown, n.Cluster.State)
	require.Equal(t, int64(90), *n.Cluster.AgeSeconds)
	require.True(t, n.Ready, "the last that was known")
}

func TestPanicIsAProblemAndALine(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	h := apitest.New(t, apitest.Options{Logger: slog.New(slog.NewJSONHandler(&log, nil))})
	h.AddCluster("edge")
	h.Fail(panicking{})
	resp := call(t, h, "GET", "/v1/clusters", "", append(asAdmin(), "X-Request-Id: my-request-7")...)
	require.Equal(t, http.StatusInternalServerError, resp.StatusCode)
	p := problem(t, resp)
	require.Equal(t, hubapi.CodeInternal, p.Code)
	require.Equal(t, "my-request-7", p.RequestID)
	require.NotContains(t, p.Detail, "secret cause")
	h.Fail(nil)
	require.Equal(t, http.StatusOK, call(t, h, "GET", "/v1/clusters", "", asAdmin()...).StatusCode)
	require.Contains(t, log.String(), "request panicked")
	require.Contains(t, log.String(), "secret cause")
}

// panicking panics when anybody looks at it.
type panicking struct{}

func (panicking) Error() string   { panic("secret cause") }
func (panicking) Is(error) bool   { panic("secret cause") }
func (panicking) As(any) bool     { panic("secret cause") }
func (panicking) Timeout() bool   { panic("secret cause") }
func (panicking) Temporary() bool { panic("secret cause") }

func TestRequestIDIsOursUnlessItIsFit(t *testing.T) {
	t.Parallel()
	h := apitest.New(t, apitest.Options{})
	require.Equal(t, "a.b-c_1", call(t, h, "GET", "/healthz", "", "X-Request-Id: a.b-c_1").Header.Get("X-Request-Id"))
	for _, bad := range []string{"", "a b", "a\"b", strings.Repeat("x", 65)} {
		got := call(t, h, "GET", "/healthz", "", "X-Request-Id: "+bad).Header.Get("X-Request-Id")
		require.Len(t, got, 36, bad)
	}
}

// shown is one line of the catalogue: what was asked, and the answer.
type shown struct {
	method, path, body string
	headers            []string
	before             func(h *apitest.Hub)
}

// The catalogue of what users see. Every sentence names what is wrong and what
// to do.
func TestProblemCatalogue(t *testing.T) {
	t.Parallel()
	const rel = "/v1/clusters/edge/releases/app"
	put := func(body string) shown { return shown{method: "PUT", path: rel, body: body} }
	fail := func(err error) func(*apitest.Hub) {
		return func(h *apitest.Hub) { h.Fail(err) }
	}
	register := func(body string) shown { return shown{method: "POST", path: "/v1/registrations", body: body} }
	kubeconfig := func(server string, user ...string) string {
		raw, err := json.Marshal(`{apiVersion: v1, kind: Config, current-context: oslo, contexts: [{name: oslo, context: {cluster: oslo, user: ann}}],
			clusters: [{name: oslo, cluster: {server: "` + server + `"}}], users: [{name: ann, user: {` + strings.Join(append(user, "token: hunter2"), ", ") + `}}]}`)
		require.NoError(t, err)
		return string(raw)
	}
	refused := func(reason install.Reason, message string) shown {
		s := register(`{"name":"oslo","kubeconfig":` + kubeconfig("https://oslo.example.com:6443") + `}`)
		s.before = func(h *apitest.Hub) { h.Refuse(reason, message) }
		return s
	}
	cases := map[string]shown{
		"no key":                    {method: "GET", path: "/v1/clusters", headers: []string{"X: y"}},
		"not a bearer":              {method: "GET", path: "/v1/clusters", headers: []string{"Authorization: Basic x"}},
		"unknown key":               {method: "GET", path: "/v1/clusters", headers: []string{"Authorization: Bearer x"}},
		"role":                      {method: "GET", path: "/v1/api-keys", headers: []string{"Authorization: Bearer " + apitest.Key(access.RoleViewer)}},
		"no route":                  {method: "GET", path: "/v2/clusters"},
		"method":                    {method: "PATCH", path: "/v1/clusters"},
		"bytes":                     {method: "GET", path: "/v1/clusters/a%00b"},
		"no cluster":                {method: "GET", path: "/v1/clusters/absent"},
		"no node":                   {method: "GET", path: "/v1/clusters/edge/nodes/absent"},
		"no release":                {method: "GET", path: "/v1/clusters/edge/releases/absent"},
		"no token":                  {method: "DELETE", path: "/v1/clusters/edge/join-tokens/absent"},
		"no api key":                {method: "DELETE", path: "/v1/api-keys/absent"},
		"no webhook":                {method: "GET", path: "/v1/webhooks/absent"},
		"no delivery":               {method: "POST", path: "/v1/webhooks/pager/deliveries/7/redeliver", before: withWebhook},
		"no dead letter":            {method: "POST", path: "/v1/messages/7/retry"},
		"message was sent":          {method: "DELETE", path: "/v1/messages/1", before: func(h *apitest.Hub) { h.Tell("budAppMessages", "results/COMPLETED", "") }},
		"message status":            {method: "GET", path: "/v1/messages?status=Lost"},
		"webhook exists":            {method: "POST", path: "/v1/webhooks", body: `{"name":"pager","url":"https://ops.example.com/in"}`, before: withWebhook},
		"webhook name and address":  {method: "POST", path: "/v1/webhooks", body: `{"name":"Pager!","url":"http://ops.example.com/in"}`},
		"webhook to the inside":     {method: "POST", path: "/v1/webhooks", body: `{"name":"meta","url":"https://169.254.169.254/latest"}`},
		"webhook type":              {method: "POST", path: "/v1/webhooks", body: `{"name":"pager","url":"https://ops.example.com/","types":["pod.created"]}`},
		"webhook cluster":           {method: "POST", path: "/v1/webhooks", body: `{"name":"pager","url":"https://ops.example.com/","cluster":"absent"}`},
		"delivery status":           {method: "GET", path: "/v1/webhooks/pager/deliveries?status=Lost", before: withWebhook},
		"no cluster of event":       {method: "GET", path: "/v1/events?cluster=absent"},
		"no chart file":             {method: "GET", path: "/charts/x.tgz"},
		"cluster exists":            {method: "POST", path: "/v1/clusters", body: `{"name":"edge"}`},
		"cluster has releases":      {method: "DELETE", path: "/v1/clusters/edge", before: withRelease},
		"cluster name":              {method: "POST", path: "/v1/clusters", body: `{"name":""}`},
		"token ttl":                 {method: "POST", path: "/v1/clusters/edge/join-tokens", body: `{"ttl":"tomorrow"}`},
		"token ttl range":           {method: "POST", path: "/v1/clusters/edge/join-tokens", body: `{"ttl":"9999h"}`},
		"key role":                  {method: "POST", path: "/v1/api-keys", body: `{"name":"x","role":"god"}`},
		"limit 0":                   {method: "GET", path: "/v1/clusters?limit=0"},
		"limit 5000":                {method: "GET", path: "/v1/clusters?limit=5000"},
		"limit text":                {method: "GET", path: "/v1/clusters?limit=many"},
		"cursor":                    {method: "GET", path: "/v1/clusters?cursor=x"},
		"parameter":                 {method: "DELETE", path: "/v1/clusters/edge?forcee=true"},
		"boolean":                   {method: "DELETE", path: "/v1/clusters/edge?force=perhaps"},
		"enum":                      {method: "GET", path: "/v1/nodes?ready=maybe"},
		"event type":                {method: "GET", path: "/v1/events?type=pod.created"},
		"event after":               {method: "GET", path: "/v1/events?after=-1"},
		"stream after":              {method: "GET", path: "/v1/events/stream?after=yesterday"},
		"stream last event":         {method: "GET", path: "/v1/events/stream", headers: asAdmin("Last-Event-ID: x")},
		"no body":                   put(""),
		"not json":                  put(`{"namespace": `),
		"not an object":             put(`["x"]`),
		"unknown field":             put(`{"namespace":"x","chart":{"path":"a"},"chartt":{}}`),
		"missing fields":            put(`{}`),
		"wrong type":                put(`{"namespace":7,"chart":{"path":"a"}}`),
		"several":                   put(`{"namespace":7,"chart":{"path":8},"maxAttempts":"x"}`),
		"secret is not shown":       put(`{"namespace":"x","chart":{"path":"a"},"secretValues":"hunter2","x":{"password":"hunter2"}}`),
		"secret is no object":       put(`{"namespace":"x","chart":{"path":"app"},"secretValues":"hunter2"}`),
		"values are no object":      put(`{"namespace":"x","chart":{"path":"app"},"values":[1]}`),
		"timeout":                   put(`{"namespace":"x","chart":{"path":"app"},"timeout":"5 minutes"}`),
		"timeout range":             put(`{"namespace":"x","chart":{"path":"app"},"timeout":"1s"}`),
		"policies":                  put(`{"namespace":"x","chart":{"path":"app"},"remediation":"pray","drift":"x","adoption":"y","maxAttempts":1000}`),
		"output of a secret":        put(`{"namespace":"x","chart":{"path":"app"},"outputs":[{"name":"a","apiVersion":"v1","kind":"Secret","object":"b","jsonPath":"{.data}"}]}`),
		"no chart source":           put(`{"namespace":"x","chart":{}}`),
		"kubeconfig without server": register(`{"name":"oslo","kubeconfig":` + kubeconfig("") + `}`),
		"kubeconfig with a program": register(`{"name":"oslo","kubeconfig":` + kubeconfig("https://oslo.example.com:6443", "exec: {command: aws}") + `}`),
		"kubeconfig is no YAML":     register(`{"name":"oslo","kubeconfig":"hunter2: ["}`),
		"kubeconfig is no text":     register(`{"name":"oslo","kubeconfig":{"token":"hunter2"}}`),
		"kubeconfig, server away":   refused(install.Unreachable, "the server https://oslo.example.com:6443 is not reachable: nothing listens there; check host and port"),
		"kubeconfig, no rights":     refused(install.Forbidden, "the kubeconfig's user may not create namespaces; installing the agent needs an administrator of the cluster"),
		"kubeconfig, registered already": {
			method: "POST", path: "/v1/registrations", body: `{"name":"oslo","kubeconfig":` + kubeconfig("https://oslo.example.com:6443") + `}`,
			before: fail(&cluster.RegisteredError{Name: "edge", ID: uuid.MustParse("00000000-0000-7000-8000-000000000001")}),
		},
		"kubeconfig too large":       register(`{"name":"oslo","kubeconfig":"` + strings.Repeat("x", 3<<20) + `"}`),
		"two chart sources":          put(`{"namespace":"x","chart":{"path":"a","oci":"oci://h/b"}}`),
		"chart path":                 put(`{"namespace":"x","chart":{"path":"../etc"}}`),
		"chart digest":               put(`{"namespace":"x","chart":{"digest":"sha256:12"}}`),
		"chart nobody pushed":        put(`{"namespace":"x","chart":{"digest":"sha256:` + strings.Repeat("0", 64) + `"}}`),
		"repository away":            put(`{"namespace":"x","chart":{"repository":"http://127.0.0.1:1/charts","name":"a"}}`),
		"content type":               {method: "PUT", path: rel, body: "a: b", headers: []string{"Authorization: Bearer " + apitest.AdminKey, "Content-Type: application/yaml"}},
		"stale":                      {method: "PUT", path: rel, body: `{"namespace":"x","chart":{"path":"app"}}`, headers: asAdmin(`If-Match: "7"`), before: withRelease},
		"not new":                    {method: "PUT", path: rel, body: `{"namespace":"x","chart":{"path":"app"}}`, headers: asAdmin(`If-None-Match: *`), before: withRelease},
		"if match":                   {method: "PUT", path: rel, body: `{"namespace":"x","chart":{"path":"app"}}`, headers: asAdmin("If-Match: *")},
		"not a chart":                {method: "POST", path: "/v1/charts", body: "hello"},
		"no chart":                   {method: "POST", path: "/v1/charts"},
		"too large":                  put(strings.Repeat("x", 2<<20)),
		"away":                       {method: "GET", path: "/v1/clusters/away/agent"},
		"never joined":               {method: "GET", path: "/v1/clusters/new/agent"},
		"revoked":                    {method: "GET", path: "/v1/clusters/revoked/agent"},
		"retire what cannot be told": {method: "POST", path: "/v1/clusters/revoked/retire"},
		"fault":                      {method: "GET", path: "/v1/clusters", before: fail(errors.New("secret cause"))},
		"database away":              {method: "GET", path: "/v1/clusters", before: fail(fmt.Errorf("list: %w", &net.OpError{Op: "dial", Err: errors.New("refused")}))},
		"database stops":             {method: "GET", path: "/v1/clusters", before: fail(fmt.Errorf("list: %w", sqlError("57P01")))},
		"database crashes":           {method: "GET", path: "/v1/clusters", before: fail(fmt.Errorf("list: %w", io.ErrUnexpectedEOF))},
		"database is gone":           {method: "GET", path: "/v1/clusters", before: fail(fmt.Errorf("list: %w", unsentError{}))},
		"deadline":                   {method: "GET", path: "/v1/clusters", before: fail(fmt.Errorf("list: %w", context.DeadlineExceeded))},
		"revoked cluster, by a rule": {method: "GET", path: "/v1/clusters/edge", before: fail(&cluster.RevokedError{Name: "edge"})},
	}
	charts := t.TempDir()
	writeChart(t, charts)
	var out strings.Builder
	seen := map[hubapi.Code]bool{}
	for _, name := range sortedKeys(cases) {
		c := cases[name]
		h := apitest.New(t, apitest.Options{ChartsDir: charts})
		seed(h)
		if c.before != nil {
			c.before(h)
		}
		if c.headers == nil {
			c.headers = asAdmin()
		}
		resp := call(t, h, c.method, c.path, c.body, c.headers...)
		p := problem(t, resp)
		seen[p.Code] = true
		require.NotContains(t, fmt.Sprintf("%+v", p), "hunter2", name)
		require.NotContains(t, fmt.Sprintf("%+v", p), "secret cause", name)
		require.Regexp(t, `[^.][.…]$`, p.Detail, name)
		if p.Code != hubapi.CodeInvalid { // which begins with the field's name
			require.Regexp(t, `^[A-Z]`, p.Detail, name)
		}
		p.RequestID = ""
		fmt.Fprintf(&out, "## %s\n%s %s\n", name, c.method, c.path)
		enc := json.NewEncoder(&out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		require.NoError(t, enc.Encode(p))
		out.WriteString("\n")
	}
	testutil.Golden(t, "problems", []byte(out.String()))
	for _, code := range []hubapi.Code{
		hubapi.CodeUnauthenticated, hubapi.CodeForbidden, hubapi.CodeNotFound, hubapi.CodeMethodNotAllowed, hubapi.CodeInvalid, hubapi.CodeMalformed,
		hubapi.CodeUnsupportedMediaType, hubapi.CodeTooLarge, hubapi.CodeConflict, hubapi.CodePreconditionFailed, hubapi.CodeClusterAway,
		hubapi.CodeUpstream, hubapi.CodeUnavailable, hubapi.CodeTimeout, hubapi.CodeInternal,
	} {
		require.True(t, seen[code], "no example of %s", code)
	}
}

type sqlError string

func (e sqlError) Error() string    { return "terminating connection" }
func (e sqlError) SQLState() string { return string(e) }

// unsentError is what the database's library says of a connection that it
// found closed.
type unsentError struct{}

func (unsentError) Error() string     { return "conn closed" }
func (unsentError) SafeToRetry() bool { return true }

func sortedKeys[V any](m map[string]V) []string {
	var out []string
	for k := range m {
		out = append(out, k)
	}
	slices.Sort(out)
	return out
}
