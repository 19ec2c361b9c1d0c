//go:build e2e

package suite_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/util/uuid"
)

// platform plays what a hub sees of the platform: a Dapr sidecar that keeps
// state and takes what is published, and the service that asks for clusters.
// It outlives the hub.
type platform struct {
	listener net.Listener
	app      string // where the hub listens for the platform

	mu        sync.Mutex // guards state, published
	state     map[string]stored
	published []publication
}

type stored struct {
	value json.RawMessage
	etag  int
}

// publication is one message as the broker took it.
type publication struct {
	id    string
	event struct {
		Payload struct {
			Event      string `json:"event"`
			WorkflowID string `json:"workflow_id"`
			Content    struct {
				Status string `json:"status"`
			} `json:"content"`
		} `json:"payload"`
	}
}

func newPlatform(t *testing.T) *platform {
	t.Helper()
	ports, err := freePorts(t.Context(), env.cluster.Address(), 1)
	require.NoError(t, err)
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	p := &platform{listener: listener, app: net.JoinHostPort(env.cluster.Address(), ports[0]), state: map[string]stored{}}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1.0/healthz/outbound", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("GET /v1.0/metadata", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, `{"id":"budcluster","components":[{"name":"statestore","type":"state.redis"},{"name":"pubsub","type":"pubsub.redis"}]}`)
	})
	mux.HandleFunc("POST /v1.0/publish/{pubsub}/{topic}", p.publish)
	mux.HandleFunc("GET /v1.0/state/{store}/{key}", p.get)
	mux.HandleFunc("POST /v1.0/state/{store}", p.put)
	mux.HandleFunc("DELETE /v1.0/state/{store}/{key}", p.remove)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return p
}

// flags make a hub speak to this platform.
func (p *platform) flags() []string {
	return []string{
		"--dapr-enabled", "--dapr-http-address", p.listener.Addr().String(), "--dapr-app-listen", p.app,
		"--dapr-pubsub", "pubsub", "--dapr-state-store", "statestore",
	}
}

func (p *platform) publish(w http.ResponseWriter, r *http.Request) {
	m := publication{id: r.URL.Query().Get("metadata.cloudevent.id")}
	if err := json.NewDecoder(r.Body).Decode(&m.event); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.published = append(p.published, m)
	w.WriteHeader(http.StatusNoContent)
}

func (p *platform) get(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s, ok := p.state[r.PathValue("key")]
	if !ok {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	w.Header().Set("ETag", strconv.Itoa(s.etag))
	_, _ = w.Write(s.value)
}

func (p *platform) put(w http.ResponseWriter, r *http.Request) {
	var entries []struct {
		Key, ETag string
		Value     json.RawMessage
	}
	if err := json.NewDecoder(r.Body).Decode(&entries); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range entries {
		have := p.state[e.Key]
		if e.ETag != "" && e.ETag != strconv.Itoa(have.etag) {
			http.Error(w, `{"errorCode":"ERR_STATE_SAVE","message":"etag mismatch"}`, http.StatusConflict)
			return
		}
		p.state[e.Key] = stored{value: e.Value, etag: have.etag + 1}
	}
	w.WriteHeader(http.StatusNoContent)
}

func (p *platform) remove(w http.ResponseWriter, r *http.Request) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.state, r.PathValue("key"))
	w.WriteHeader(http.StatusNoContent)
}

// told is what the platform heard of a workflow, as "event STATUS", in order.
// What was sent twice under the same id is one message: receivers know it by
// that.
func (p *platform) told(w asked) []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var all []string
	seen := map[string]bool{}
	for _, m := range p.published {
		if payload := m.event.Payload; payload.WorkflowID == w.reference && !seen[m.id] {
			seen[m.id] = true
			all = append(all, payload.Event+" "+payload.Content.Status)
		}
	}
	return all
}

// asked is a workflow of the hub, and the id under which the platform hears
// of it.
type asked struct{ workflow, reference string }

// register uploads the cluster's kubeconfig, as the platform's main service
// does.
func (p *platform) register(t *testing.T, name string) asked {
	t.Helper()
	kubeconfig, err := os.ReadFile(env.cluster.Kubeconfig())
	require.NoError(t, err)
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	reference := string(uuid.NewUUID())
	require.NoError(t, form.WriteField("cluster_create_request", fmt.Sprintf(
		`{"name":%q,"cluster_type":"ON_PREM","enable_master_node":true,"ingress_url":"https://models.example.com",%s}`, name, replyTo(reference))))
	part, err := form.CreateFormFile("configuration", "kubeconfig.yaml")
	require.NoError(t, err)
	_, err = part.Write(kubeconfig)
	require.NoError(t, err)
	require.NoError(t, form.Close())
	return asked{p.ask(t, "/cluster", form.FormDataContentType(), &body), reference}
}

// delete asks for the removal of a cluster.
func (p *platform) delete(t *testing.T, clusterID string) asked {
	t.Helper()
	reference := string(uuid.NewUUID())
	body := fmt.Sprintf(`{"cluster_id":%q,"cluster_type":"ON_PREM",%s}`, clusterID, replyTo(reference))
	return asked{p.ask(t, "/cluster/delete", "application/json", bytes.NewBufferString(body)), reference}
}

func replyTo(reference string) string {
	return fmt.Sprintf(`"source_topic":"budAppMessages","notification_metadata":{"name":"bud-internal","subscriber_ids":"7d5e","workflow_id":%q}`, reference)
}

func (p *platform) ask(t *testing.T, path, contentType string, body io.Reader) (workflow string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+p.app+path, body)
	require.NoError(t, err)
	request.Header.Set("Content-Type", contentType)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, response.StatusCode, "%s", answer)
	var began struct {
		WorkflowID string `json:"workflow_id"`
	}
	require.NoError(t, json.Unmarshal(answer, &began), "%s", answer)
	require.NotEmpty(t, began.WorkflowID, "%s", answer)
	return began.WorkflowID
}
