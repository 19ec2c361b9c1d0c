package hub_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime/multipart"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/hubtest"
	"github.com/budecosystem/budcluster/hub/internal/dapr/daprtest"
	"github.com/budecosystem/budcluster/hub/internal/pg/pgtest"
)

// face is one of the hub's two faces, as it describes itself.
type face struct {
	name, url string
	header    http.Header
	// problem requires that a refusal is in the face's envelope, with a sentence.
	problem func(t *testing.T, name string, status int, header http.Header, body []byte)
	doc     openapi
}

// openapi is what is needed of a face's description.
type openapi struct {
	Paths      map[string]map[string]operation `json:"paths"`
	Components struct {
		Schemas map[string]schema `json:"schemas"`
	} `json:"components"`
}

type operation struct {
	Parameters  []parameter `json:"parameters"`
	RequestBody *struct {
		Content map[string]struct {
			Schema schema `json:"schema"`
		} `json:"content"`
	} `json:"requestBody"`
}

// parameter is one of a path or query.
type parameter struct {
	Name   string `json:"name"`
	In     string `json:"in"`
	Schema schema `json:"schema"`
}

// schema is what is needed of JSON schema.
type schema struct {
	Ref        string            `json:"$ref"`
	Type       any               `json:"type"`
	Properties map[string]schema `json:"properties"`
	Required   []string          `json:"required"`
}

// takes is the media type of the body that an operation takes.
func (o operation) takes() string {
	if o.RequestBody == nil {
		return ""
	}
	for kind := range o.RequestBody.Content {
		return kind
	}
	return ""
}

// body is the schema of that.
func (f *face) body(o operation) schema {
	s := o.RequestBody.Content[o.takes()].Schema
	if name, is := strings.CutPrefix(s.Ref, "#/components/schemas/"); is {
		return f.doc.Components.Schemas[name]
	}
	return s
}

// faces reads what a hub says of itself.
func faces(t *testing.T, h *hubtest.Hub) []*face {
	t.Helper()
	both := []*face{
		{name: "v1", url: h.URL, header: http.Header{"Authorization": {"Bearer " + h.AdminKey.Reveal()}}, problem: requireProblem},
		{name: "platform", url: h.PlatformURL, header: http.Header{"Dapr-Api-Token": {daprtest.Token}}, problem: requireEnvelope},
	}
	for _, f := range both {
		status, _, raw := f.send(t, badRequest{method: http.MethodGet, path: "/openapi.json"})
		require.Equal(t, http.StatusOK, status)
		require.NoError(t, json.Unmarshal(raw, &f.doc))
	}
	return both
}

// badRequest is one request of the matrix.
type badRequest struct {
	method, path, kind string
	body               []byte
}

// send sends a request. A server that answers before it has read a large body
// may close the connection while that is written, so the answer counts.
func (f *face) send(t *testing.T, b badRequest) (status int, header http.Header, body []byte) {
	t.Helper()
	var reader io.Reader
	if b.body != nil {
		reader = bytes.NewReader(b.body)
	}
	r, err := http.NewRequestWithContext(t.Context(), b.method, f.url, reader)
	require.NoError(t, err)
	r.URL, err = url.Parse(f.url + b.path)
	require.NoError(t, err)
	maps.Copy(r.Header, f.header)
	if b.kind != "" {
		r.Header.Set("Content-Type", b.kind)
	}
	response, err := http.DefaultTransport.RoundTrip(r)
	require.NoError(t, err, "%s %s", b.method, b.path)
	defer func() { require.NoError(t, response.Body.Close()) }()
	body, err = io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, response.Header, body
}

// requireProblem: RFC 9457, with a code and a sentence.
func requireProblem(t *testing.T, name string, status int, header http.Header, body []byte) {
	t.Helper()
	require.Equal(t, "application/problem+json", header.Get("Content-Type"), "%s: %s", name, body)
	var p struct {
		Type, Title, Code, Detail, RequestID string
		Status                               int
		Errors                               []struct{ Field, Message string }
	}
	require.NoError(t, json.Unmarshal(body, &p), name)
	require.Equal(t, status, p.Status, name)
	require.NotEmpty(t, p.Code, name)
	require.Equal(t, "urn:budcluster:problem:"+p.Code, p.Type, name)
	require.NotEmpty(t, p.RequestID, name)
	requireSentence(t, name, p.Detail)
	for _, e := range p.Errors {
		requireSentence(t, name, e.Message)
	}
}

// requireEnvelope: an ErrorResponse, or what the platform's framework answers.
func requireEnvelope(t *testing.T, name string, status int, header http.Header, body []byte) {
	t.Helper()
	require.Equal(t, "application/json", header.Get("Content-Type"), "%s: %s", name, body)
	var a answer
	require.NoError(t, json.Unmarshal(body, &a), "%s: %s", name, body)
	switch detail := a["detail"].(type) {
	case string:
		if words := []string{"Invalid JSON in cluster_create_request", "Invalid configuration file"}; slices.Contains(words, detail) {
			require.Len(t, a, 2, name)
			requireSentence(t, name, a.at(t, "message").(string))
			return
		}
		require.Len(t, a, 1, name)
		require.NotEmpty(t, detail, name)
	case []any:
		require.Len(t, a, 1, name)
		require.NotEmpty(t, detail, name)
		for i := range detail {
			a.has(t, []any{"detail", i}, "type", "loc", "msg", "input")
			requireSentence(t, name, a.at(t, "detail", i, "msg").(string))
		}
	default:
		require.Equal(t, "error", a.at(t, "object"), name)
		require.InDelta(t, status, a.at(t, "code"), 0, name)
		require.Regexp(t, `^[A-Z][A-Za-z]+Error$`, a.at(t, "type"), name)
		a.has(t, nil, "param")
		requireSentence(t, name, a.at(t, "message").(string))
	}
}

// requireSentence: more than the words of a status.
func requireSentence(t *testing.T, name, text string) {
	t.Helper()
	require.Greater(t, len(strings.Fields(text)), 3, "%s: %q helps nobody", name, text)
}

var pathParameter = regexp.MustCompile(`\{(\w+)\}`)

// fill puts values into a path. What there is none for is a UUID of nothing.
func fill(path string, values map[string]string) string {
	return pathParameter.ReplaceAllStringFunc(path, func(p string) string {
		if value, is := values[strings.Trim(p, "{}")]; is {
			return value
		}
		return nothing
	})
}

// nothing is the id of nothing.
const nothing = "018f0000-0000-7000-8000-00000000dead"

// TestBadInputEverywhere sends every kind of bad input to every route that the
// hub's two faces say they have: none is a fault of the hub, each is refused in
// the face's envelope with a sentence, and nothing is made by it.
func TestBadInputEverywhere(t *testing.T) {
	t.Parallel()
	h, _ := platformHub(t)
	play(t, "uid-edge", h.Joined("edge").MustConnect())
	edge, err := h.Client.Cluster(t.Context(), "edge")
	require.NoError(t, err)
	pool := pgtest.Pool(t, h.DatabaseURL)
	known := map[string]string{"cluster": "edge", "cluster_id": edge.ID, "component": "nfd", "release": "app", "node_hostname": "gpu-1", "node": "gpu-1"}
	before := rows(t, pool)
	sent := 0
	for _, f := range faces(t, h) {
		for _, path := range slices.Sorted(maps.Keys(f.doc.Paths)) {
			for _, method := range slices.Sorted(maps.Keys(f.doc.Paths[path])) {
				o := f.doc.Paths[path][method]
				for _, b := range f.matrix(strings.ToUpper(method), path, o, known) {
					f.refuses(t, b)
					sent++
				}
			}
		}
	}
	for _, f := range faces(t, h) {
		f.refuses(t, f.twin(t, "uid-edge"))
	}
	require.Greater(t, sent, 500)
	t.Logf("%d bad requests", sent)
	require.Equal(t, before, rows(t, pool), "nothing was made")
	require.NotContains(t, h.Log.String(), "panicked")
	require.NotContains(t, h.Log.String(), "level=ERROR")
}

// bad is one request and what may come of it.
type bad struct {
	badRequest
	name string
	// want are statuses; none allows every refusal.
	want []int
	// may is that it need not be refused.
	may bool
}

// twin is the upload of a kubeconfig, good in itself, of a cluster that is in the
// register under another name.
func (f *face) twin(t *testing.T, uid string) bad {
	t.Helper()
	b := bad{badRequest{method: http.MethodPost, path: "/v1/registrations", kind: "application/json"}, "cluster UID that is registered", []int{http.StatusConflict}, false}
	finds := script{Dir: t.TempDir(), UID: uid}
	var err error
	if f.name == "platform" {
		kind, form := platformForm(t, "twin", uuid.NewString(), finds)
		b.path, b.kind = "/cluster", kind
		b.body, err = io.ReadAll(form)
	} else {
		b.body, err = json.Marshal(hubapi.RegisterRequest{Name: "twin", Kubeconfig: scripted(t, finds)})
	}
	require.NoError(t, err)
	return b
}

// refuses sends a bad request.
func (f *face) refuses(t *testing.T, b bad) {
	t.Helper()
	name := fmt.Sprintf("%s %s %s: %s", f.name, b.method, b.path, b.name)
	status, header, body := f.send(t, b.badRequest)
	refusal := status >= 400 && status < 500 || status == http.StatusNotImplemented && f.name == "platform"
	if b.may && status < 300 || status >= 300 && status < 400 { // the router tidies paths
		return
	}
	require.True(t, refusal, "%s: %d %s", name, status, body)
	if len(b.want) > 0 && status != http.StatusNotImplemented {
		require.Contains(t, b.want, status, "%s: %s", name, body)
	}
	f.problem(t, name, status, header, body)
}

// matrix is all that is sent to a route. known are things that there are.
func (f *face) matrix(method, path string, o operation, known map[string]string) (all []bad) {
	add := func(name, path, kind string, body []byte, may bool, want ...int) {
		all = append(all, bad{badRequest{method, path, kind, body}, name, want, may})
	}
	unknown := map[string]string{"component": "none", "release": "none", "node": "none", "node_hostname": "none"}
	for _, p := range o.Parameters {
		if p.In == "path" && p.Schema.Type == "integer" {
			unknown[p.Name] = "7"
		}
	}
	ours, foreign := fill(path, known), fill(path, unknown)
	posted := strings.HasPrefix(path, "/configuration/") // by the sidecar, about settings that nobody need know
	if ours != path && !posted {
		body, kind := f.valid(o)
		want := []int{http.StatusNotFound}
		if o.takes() != "" { // what is left out is said before
			want = append(want, http.StatusUnprocessableEntity, http.StatusBadRequest)
		}
		add("unknown ids", foreign, kind, body, false, want...)
		add("a body that is cut off", foreign, "application/json", []byte(`{"a": `), false)
	}
	for _, name := range []string{"%00", "%ff%fe", "%2e%2e%2f%2e%2e", strings.Repeat("x", 5000), "';%20DROP%20TABLE%20clusters;%20--"} {
		if ours != path {
			add("strange names", pathParameter.ReplaceAllString(path, name), "", nil, posted)
		}
	}
	if f.name == "v1" && method == http.MethodGet {
		add("unknown parameter", ours+"?colour=red", "", nil, false, http.StatusUnprocessableEntity)
		for _, p := range o.Parameters {
			if p.In == "query" {
				add("bad "+p.Name, ours+"?"+p.Name+"=%00", "", nil, false)
				add("strange "+p.Name, ours+"?"+p.Name+"=-no-", "", nil, !slices.Contains([]string{"limit", "cursor", "ready", "retired", "active", "after"}, p.Name))
			}
		}
	}
	if o.takes() == "" {
		return all
	}
	for name, body := range badBodies() {
		add(name, ours, o.takes(), body, o.takes() == "application/cloudevents+json")
	}
	add("20 MB", ours, o.takes(), huge(), o.takes() == "application/cloudevents+json", http.StatusRequestEntityTooLarge, http.StatusBadRequest, http.StatusUnprocessableEntity)
	add("no body", ours, o.takes(), nil, o.takes() == "application/cloudevents+json")
	if o.takes() == "application/json" {
		add("another type", ours, "application/xml", []byte("<a/>"), false)
		for name, body := range f.wrongTypes(o) {
			add(name, ours, o.takes(), body, name == "bell in message", http.StatusUnprocessableEntity) // that one is given back
		}
		if len(f.body(o).Required) > 0 {
			add("nothing in it", ours, o.takes(), []byte(`{}`), false, http.StatusUnprocessableEntity)
		}
	}
	if o.takes() == "multipart/form-data" {
		for name, b := range badForms() {
			add(name, ours, b.kind, b.body, false, http.StatusUnprocessableEntity, http.StatusBadRequest, http.StatusRequestEntityTooLarge)
		}
	}
	return all
}

// badBodies are what no route takes.
func badBodies() map[string][]byte {
	return map[string][]byte{
		"cut off":      []byte(`{"name": "a", `),
		"not JSON":     []byte(`name: a`),
		"bytes":        {0xff, 0xfe, 0x00, 0x01},
		"a list":       []byte(`[1, 2]`),
		"a text":       []byte(`"hello"`),
		"a number":     []byte(`7`),
		"null":         []byte(`null`),
		"two objects":  []byte(`{} {}`),
		"unknown name": []byte(`{"colour": "red"}`),
		"deep":         []byte(strings.Repeat(`{"a":`, 20_000) + `1` + strings.Repeat(`}`, 20_000)),
	}
}

func huge() []byte { return []byte(`{"name": "` + strings.Repeat("x", 20<<20) + `"}`) }

// wrongTypes are bodies in which one property has a type that it cannot have.
func (f *face) wrongTypes(o operation) map[string][]byte {
	all := map[string][]byte{}
	s := f.body(o)
	if len(s.Properties) == 0 { // the platform's face describes no fields: these are those of its requests
		s.Properties = map[string]schema{"cluster_id": {Type: "string"}, "ingress_url": {Type: "string"}, "message": {Type: "string"}}
	}
	for name, p := range s.Properties {
		wrong := `{"a": [7]}`
		if p.Type == "object" || p.Type == nil {
			wrong = `"text"`
		}
		all["wrong type of "+name] = []byte(`{"` + name + `": ` + wrong + `}`)
		all["bell in "+name] = []byte(`{"` + name + `": "\u0000\u0007"}`)
	}
	return all
}

// valid is a body that has all that a route needs.
func (f *face) valid(o operation) (body []byte, kind string) {
	switch o.takes() {
	case "":
		return nil, ""
	case "application/json":
	default:
		return []byte("x"), o.takes()
	}
	members := map[string]any{}
	s := f.body(o)
	for _, name := range s.Required {
		switch p := s.Properties[name]; p.Type {
		case "integer":
			members[name] = 1
		case "boolean":
			members[name] = true
		case "string":
			members[name] = "x1"
		default:
			members[name] = map[string]any{}
			if types, is := p.Type.([]any); is && slices.Contains(types, any("array")) || p.Type == "array" {
				members[name] = []string{"x1"}
			}
		}
	}
	if f.name == "platform" {
		members = map[string]any{"cluster_id": uuid.NewString(), "ingress_url": "https://x.example.com"}
	}
	raw, _ := json.Marshal(members) // of plain values
	return raw, o.takes()
}

// badForms are forms that lack something.
func badForms() map[string]badRequest {
	form := func(parts map[string]string) badRequest {
		var b bytes.Buffer
		w := multipart.NewWriter(&b)
		for name, text := range parts {
			_ = w.WriteField(name, text) // a buffer
		}
		_ = w.Close()
		return badRequest{kind: w.FormDataContentType(), body: b.Bytes()}
	}
	const request = `{"name": "bad", "enable_master_node": true}`
	return map[string]badRequest{
		"form without parts":      form(nil),
		"form without request":    form(map[string]string{"configuration": "a: b"}),
		"form without file":       form(map[string]string{"cluster_create_request": request}),
		"form with bad JSON":      form(map[string]string{"cluster_create_request": `{"name": `, "configuration": "a: b"}),
		"form with bad YAML":      form(map[string]string{"cluster_create_request": request, "configuration": "a: [: b"}),
		"form with an empty file": form(map[string]string{"cluster_create_request": request, "configuration": ""}),
		"form of 20 MB":           form(map[string]string{"cluster_create_request": request, "configuration": strings.Repeat("x", 20<<20)}),
		"form without boundary":   {kind: "multipart/form-data", body: []byte("x")},
	}
}

// rows counts the rows of every table.
func rows(t *testing.T, pool *pgxpool.Pool) map[string]int {
	t.Helper()
	counts := map[string]int{}
	for _, table := range tables(t, pool) {
		query := "SELECT count(*) FROM " + table
		switch table { // the agent may fall silent meanwhile, and come back: that is no request's doing
		case "public.agent_sessions":
			continue
		case "public.events":
			query += " WHERE type NOT IN ('cluster.connected', 'cluster.disconnected')"
		}
		var n int
		require.NoError(t, pool.QueryRow(t.Context(), query).Scan(&n))
		counts[table] = n
	}
	return counts
}

// tables are those of every schema, by their quoted names.
func tables(t *testing.T, pool *pgxpool.Pool) []string {
	t.Helper()
	found, err := pool.Query(t.Context(), `SELECT quote_ident(table_schema) || '.' || quote_ident(table_name) FROM information_schema.tables
		WHERE table_type = 'BASE TABLE' AND table_schema NOT IN ('pg_catalog', 'information_schema') ORDER BY 1`)
	require.NoError(t, err)
	names, err := pgx.CollectRows(found, pgx.RowTo[string])
	require.NoError(t, err)
	require.NotEmpty(t, names)
	return names
}
