package hub_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub"
	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/hubtest"
	"github.com/budecosystem/budcluster/hub/internal/dapr/daprtest"
	"github.com/budecosystem/budcluster/hub/internal/pg/pgtest"
	"github.com/budecosystem/budcluster/internal/pki"
	"github.com/budecosystem/budcluster/internal/secret"
)

// secrecy is a hub that is offered secrets wherever it takes or might be given
// one, and what can be read of it afterwards.
type secrecy struct {
	t        *testing.T
	h        *hubtest.Hub
	fake     *daprtest.Fake
	canaries canaries
	seen     haystack

	mu   sync.Mutex // guards told
	told strings.Builder
}

// TestSecretsShowNowhere offers a secret of its own at every place where one may
// be offered, in good requests and in bad ones, lets the work that some of them
// begin run to its end, and looks for each in every table, the log, the answers,
// what was published, shared and sent to webhooks, and the metrics.
func TestSecretsShowNowhere(t *testing.T) {
	t.Parallel()
	s := &secrecy{t: t, canaries: canaries{}, seen: haystack{}}
	token := s.canaries.at("the password in databaseURL")
	s.h, s.fake = platformHub(t, func(c *hub.Config) {
		c.Dev = true // webhooks and charts of this machine
		c.DatabaseURL = secret.New(c.DatabaseURL.Reveal() + "&password=" + token)
		c.Dapr.ConfigStore, c.Dapr.SecretStore = daprtest.ConfigurationStore, daprtest.SecretStore
	})
	s.canaries["the sidecar's tokens"] = daprtest.Token
	s.canaries["the administrator's key"] = keySecret(s.h.AdminKey.Reveal())
	s.fake.SetSecret("PSQL_PASSWORD", s.canaries.at("a secret of the secret store"))
	require.NoError(t, s.fake.SetConfiguration(t.Context(), "budcluster_DEBUG", s.canaries.at("a setting of the configuration store")))
	receiver := httptest.NewServer(http.HandlerFunc(s.take))
	t.Cleanup(receiver.Close)
	s.webhooks(receiver.URL)
	cluster, agent := s.registration()
	s.platformCalls(cluster)
	s.v1Calls()
	s.releases(cluster, agent)
	s.charts(cluster)
	s.doors()
	s.settings()
	s.removal(cluster)

	s.gather()
	require.Empty(t, s.seen.shows(s.canaries))
	t.Logf("%d secrets, looked for in %d places", len(s.canaries), len(s.seen))
	require.GreaterOrEqual(t, len(s.canaries), 50)
}

// keySecret is the part of a key or token that is not its id.
func keySecret(text string) string { return text[strings.LastIndexAny(text, "._")+1:] }

// take is a webhook's receiver.
func (s *secrecy) take(_ http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body) // the hub's own
	s.mu.Lock()
	defer s.mu.Unlock()
	s.told.Write(raw)
}

// offer sends a request with secrets in it and keeps the answer.
func (s *secrecy) offer(what string, f face, b badRequest) (status int, body []byte) {
	s.t.Helper()
	status, header, body := f.send(s.t, b)
	require.NotEqual(s.t, http.StatusInternalServerError, status, "%s: %s", what, body)
	s.seen["the answer to "+what] = fmt.Sprint(status, header, string(body))
	return status, body
}

func (s *secrecy) v1() face {
	return face{name: "v1", url: s.h.URL, header: http.Header{"Authorization": {"Bearer " + s.h.AdminKey.Reveal()}}}
}

func (s *secrecy) platform() face {
	return face{name: "platform", url: s.h.PlatformURL, header: http.Header{"Dapr-Api-Token": {daprtest.Token}}}
}

func post(path, body string) badRequest {
	return badRequest{http.MethodPost, path, "application/json", []byte(body)}
}

// created keeps a secret that the hub made, and requires that it is shown in
// the answer that made it.
func (s *secrecy) created(what, text string) {
	s.t.Helper()
	require.NotEmpty(s.t, text, what)
	s.canaries[what] = keySecret(text)
}

// webhooks: one is told of all that happens; others are refused.
func (s *secrecy) webhooks(receiver string) {
	made, err := s.h.Client.CreateWebhook(s.t.Context(), hubapi.CreateWebhookRequest{Name: "all", URL: receiver})
	require.NoError(s.t, err)
	s.created("the key of a webhook's signatures", made.Secret)
	for name, u := range map[string]string{
		"a password in a webhook's url":           "https://user:%s@hooks.example.com/x",
		"a password in a webhook's broken url":    "https://user:%%zz%s@hooks.example.com/x",
		"a password in a webhook's url of ftp":    "ftp://user:%s@hooks.example.com",
		"a fragment in a webhook's url":           "https://hooks.example.com/#%s",
		"a token in the path of a webhook's http": "http://hooks.example.com/%s",
	} {
		status, _ := s.offer(name, s.v1(), post("/v1/webhooks", fmt.Sprintf(`{"name": "bad", "url": %q}`, fmt.Sprintf(u, s.canaries.at(name)))))
		require.Equal(s.t, http.StatusUnprocessableEntity, status, name)
	}
}

// kubeconfig is one that can be used, with secrets wherever it may have some.
func (s *secrecy) kubeconfig(place string, sc script) string {
	raw, err := json.Marshal(sc)
	require.NoError(s.t, err)
	at := func(what string) string { return s.canaries.at(what + " of a kubeconfig " + place) }
	return fmt.Sprintf(`{"script": %s, "apiVersion": "v1", "kind": "Config", "current-context": "m", "contexts": [{"name": "m", "context": {"cluster": "c", "user": "u"}}],
		"clusters": [{"name": "c", "cluster": {"server": "https://203.0.113.7:6443"}}], "extensions": [{"name": "x", "extension": {"token": %q}}],
		"users": [{"name": "u", "user": {"token": %q}}, {"name": "other", "user": {"password": %q}}]}`, raw, at("an extension"), at("the token"), at("the password of another user"))
}

// user is a kubeconfig with another user in it.
func (s *secrecy) user(place, user string) string {
	file := s.kubeconfig(place, script{Dir: s.t.TempDir(), Unreachable: true})
	return strings.Replace(file, `"users": [{"name": "u", "user": {`, `"users": [{"name": "u", "user": {`+user+`, `, 1)
}

// request is what the main service asks when it onboards a cluster, with
// credentials in the fields that it may fill.
func (s *secrecy) request(name, place string) string {
	raw, err := json.Marshal(map[string]any{
		"name": name, "enable_master_node": true, "cluster_type": "ON_PREM", "ingress_url": "https://models.example.com",
		"configuration":         `{"token": "` + s.canaries.at("configuration "+place) + `"}`,
		"credentials":           map[string]any{"client_secret": s.canaries.at("credentials " + place)},
		"source_topic":          []string{"budAppMessages", "budpipelineEvents"},
		"notification_metadata": map[string]any{"name": "bud-internal", "subscriber_ids": "7d5e", "workflow_id": uuid.NewString()},
	})
	require.NoError(s.t, err)
	return string(raw)
}

func (s *secrecy) onboard(what, request, file string) (status int, body []byte) {
	r := call{method: http.MethodPost, path: "cluster", payload: request, file: file}.form(s.t)
	raw, err := io.ReadAll(r.Body)
	require.NoError(s.t, err)
	return s.offer(what, s.platform(), badRequest{http.MethodPost, "/cluster", r.Header.Get("Content-Type"), raw})
}

// registration: one from an uploaded kubeconfig runs to its end, others are
// refused or fail.
func (s *secrecy) registration() (id string, agent *played) {
	t := s.t
	lab := script{Dir: t.TempDir(), UID: "uid-of-lab"}
	status, body := s.onboard("a registration", s.request("Lab", "of a registration"), s.kubeconfig("that is used", lab))
	require.Equal(t, http.StatusOK, status, "%s", body)
	var began began
	require.NoError(t, json.Unmarshal(body, &began))
	token := lab.appears(t, "token")
	s.created("the join token of an installation", token)
	a := s.h.Agent(lab.UID)
	require.NoError(t, a.Enroll(t.Context(), token))
	agent = play(t, lab.UID, a.MustConnect())
	require.NoError(t, os.WriteFile(filepath.Join(lab.Dir, "connected"), nil, 0o600))
	w := ended(t, s.h, began.WorkflowID)

	for what, sc := range map[string]script{"that leads nowhere": {Dir: t.TempDir(), Unreachable: true}, "that may not install": {Dir: t.TempDir(), UID: "uid-x", Refused: true}} {
		status, body := s.onboard("a kubeconfig "+what, s.request("Lab "+what, what), s.kubeconfig(what, sc))
		if sc.Refused {
			require.Equal(t, http.StatusOK, status, "%s", body)
			sc.appears(t, "undone")
		}
	}
	pem := func(what string) string {
		return base64.StdEncoding.EncodeToString([]byte("-----BEGIN EC PRIVATE KEY-----\n" + s.canaries.at(what) + "\n-----END EC PRIVATE KEY-----\n"))
	}
	for what, user := range map[string]string{
		"with a password":         `"username": "admin", "password": "` + s.canaries.at("a password of a kubeconfig") + `"`,
		"with a key":              `"client-key-data": "` + pem("a key of a kubeconfig") + `"`,
		"with a broken key":       `"client-key-data": "%%` + s.canaries.at("a broken key of a kubeconfig") + `"`,
		"with a key as authority": `"client-certificate-data": "` + pem("a key as certificate") + `"`,
		"that runs a program":     `"exec": {"command": "x", "args": ["` + s.canaries.at("an argument of exec") + `"], "env": [{"name": "SECRET", "value": "` + s.canaries.at("a variable of exec") + `"}]}`,
		"with a provider":         `"auth-provider": {"name": "oidc", "config": {"refresh-token": "` + s.canaries.at("a refresh token") + `"}}`,
		"with a file of a token":  `"tokenFile": "/run/` + s.canaries.at("a token's file") + `"`,
	} {
		status, body := s.onboard("a kubeconfig "+what, s.request("Lab user", "beside one "+what), s.user(what, user))
		require.NotEqual(t, http.StatusOK, status, "%s: %s", what, body)
		s.upload("a kubeconfig "+what+" at v1", s.user(what+" at v1", user))
	}
	for what, file := range map[string]string{
		"that is no YAML":    "a: [: %s",
		"that is cut off":    `{"apiVersion": "v1", "users": [{"user": {"token": "%s"`,
		"that is a text":     "%s",
		"of another kind":    `{"kind": "Secret", "data": {"token": "%s"}}`,
		"with a wrong type":  `{"apiVersion": "v1", "kind": "Config", "users": {"token": "%s"}}`,
		"with a url for two": `{"script": {"Unreachable": true}, "clusters": [{"name": "c", "cluster": {"server": "https://user:%s@203.0.113.7"}}]}`,
	} {
		s.onboard("a file "+what, s.request("Lab file", "beside a file "+what), fmt.Sprintf(file, s.canaries.at("a file "+what)))
		s.upload("a file "+what+" at v1", fmt.Sprintf(file, s.canaries.at("a file "+what+" at v1")))
	}
	s.upload("a kubeconfig that leads nowhere at v1", s.kubeconfig("that leads nowhere at v1", script{Dir: t.TempDir(), Unreachable: true}))
	return w.ClusterID, agent
}

// upload is a registration at /v1 that is refused.
func (s *secrecy) upload(what, file string) {
	s.t.Helper()
	raw, err := json.Marshal(hubapi.RegisterRequest{Name: "uploaded", Kubeconfig: file})
	require.NoError(s.t, err)
	status, body := s.offer(what, s.v1(), post("/v1/registrations", string(raw)))
	require.GreaterOrEqual(s.t, status, http.StatusBadRequest, "%s: %s", what, body)
}

// platformCalls: secrets in what the platform's services send.
func (s *secrecy) platformCalls(cluster string) {
	at := s.canaries.at
	for what, b := range map[string]badRequest{
		"cluster_config of a deletion": post("/cluster/delete", `{"cluster_id": "`+uuid.NewString()+`", "cluster_config": {"token": "`+at("cluster_config")+`"}}`),
		"a deletion with a new field":  post("/cluster/delete", `{"cluster_id": "`+cluster+`", "password": "`+at("a new field of a deletion")+`"}`),
		"a deletion that is cut off":   post("/cluster/delete", `{"cluster_config": {"token": "`+at("a deletion that is cut off")),
		"a deletion of a wrong type":   post("/cluster/delete", `{"cluster_id": {"token": "`+at("a deletion of a wrong type")+`"}}`),
		"hf_token of a deployment":     post("/deployment", `{"cluster_id": "`+cluster+`", "hf_token": "`+at("hf_token of a deployment")+`"}`),
		"hf_token of a quantization":   post("/deployment/deploy-quantization", `{"hf_token": "`+at("hf_token of a quantization")+`"}`),
		"a message of a peer":          post("/notifications", `{"data": {"token": "`+at("a message of a peer")+`"}}`),
		"a changed setting":            post("/configuration/s/k", `{"items": {"k": {"value": "`+at("a changed setting")+`"}}}`),
		"a query of the platform":      {http.MethodGet, "/cluster/" + cluster + "/nodes?token=" + at("a query of the platform"), "", nil},
		"an unknown route":             post("/nowhere", `{"token": "`+at("an unknown route of the platform")+`"}`),
		"a password in ingress_url":    {http.MethodPatch, "/cluster/" + cluster, "application/json", []byte(`{"ingress_url": "https://user:` + at("a password in ingress_url") + `@models.example.com"}`)},
	} {
		s.offer(what, s.platform(), b)
	}
	s.onboard("a password in the ingress_url of a registration", strings.Replace(s.request("Lab 9", "beside a bad ingress_url"), "https://", "https://user:"+at("ingress_url of a registration")+"@", 1),
		s.kubeconfig("beside a bad ingress_url", script{Dir: s.t.TempDir(), Unreachable: true}))
	s.onboard("a registration that is cut off", `{"name": "x", "credentials": {"client_secret": "`+at("a registration that is cut off"), "a: b")
	s.onboard("a registration in a cloud", strings.Replace(s.request("Cloudy", "in a cloud"), "ON_PREM", "CLOUD", 1), "name: dummy-cluster")
}

// v1Calls: secrets where /v1 takes some, and where people put them by mistake.
func (s *secrecy) v1Calls() {
	t, at := s.t, s.canaries.at
	key, err := s.h.Client.CreateKey(t.Context(), hubapi.CreateKeyRequest{Name: "other", Role: "viewer"})
	require.NoError(t, err)
	s.created("an API key", key.Secret)
	joined, err := s.h.Client.CreateToken(t.Context(), s.labName(), hubapi.CreateTokenRequest{})
	require.NoError(t, err)
	s.created("a join token", joined.JoinToken.Token)
	for what, b := range map[string]badRequest{
		"a password in ingressURL":        post("/v1/registrations", `{"name": "x1", "ingressURL": "https://user:`+at("a password in ingressURL")+`@models.example.com"}`),
		"a password in a broken address":  post("/v1/registrations", `{"name": "x1", "ingressURL": "https://user:%zz`+at("a password in a broken address")+`@models.example.com"}`),
		"a query with a key":              {http.MethodGet, "/v1/clusters?access_token=" + at("a query with a key"), "", nil},
		"a query with a key as a limit":   {http.MethodGet, "/v1/clusters?limit=5&api_key=" + at("a query with a key as a limit"), "", nil},
		"a new field":                     post("/v1/clusters", `{"name": "x1", "password": "`+at("a new field")+`"}`),
		"a new object":                    post("/v1/clusters", `{"name": "x1", "credentials": {"password": "`+at("a new object")+`"}}`),
		"a kubeconfig beside a new field": post("/v1/registrations", `{"name": "x1", "kubeconfig": "token: `+at("a kubeconfig beside a new field")+`", "colour": "red"}`),
		"a kubeconfig as an object":       post("/v1/registrations", `{"name": "x1", "kubeconfig": {"token": "`+at("a kubeconfig as an object")+`"}}`),
		"a kubeconfig as a list":          post("/v1/registrations", `{"name": "x1", "kubeconfig": ["`+at("a kubeconfig as a list")+`"]}`),
		"a kubeconfig without a name":     post("/v1/registrations", `{"kubeconfig": "token: `+at("a kubeconfig without a name")+`"}`),
		"a body that is a kubeconfig":     post("/v1/registrations", `"token: `+at("a body that is a kubeconfig")+`"`),
		"a request that is cut off":       post("/v1/registrations", `{"name": "x1", "kubeconfig": "token: `+at("a request that is cut off")),
		"a request with a bad escape":     post("/v1/registrations", `{"name": "x1", "token": "\q`+at("a request with a bad escape")+`"}`),
		"a form":                          {http.MethodPost, "/v1/registrations", "application/x-www-form-urlencoded", []byte("token=" + at("a form"))},
		"an unknown route of v1":          post("/v1/nowhere", `{"token": "`+at("an unknown route of v1")+`"}`),
		"a chart that is none":            {http.MethodPost, "/v1/charts", "application/gzip", []byte(at("a chart that is none"))},
	} {
		status, body := s.offer(what, s.v1(), b)
		require.GreaterOrEqual(t, status, http.StatusBadRequest, "%s: %s", what, body)
	}
}

// labName is the register's name of the cluster that was registered.
func (s *secrecy) labName() string {
	list, err := s.h.Client.Clusters(s.t.Context(), hubapi.PageOptions{})
	require.NoError(s.t, err)
	require.NotEmpty(s.t, list.Items)
	return list.Items[0].Name
}

// releases: secret values are sealed, come to the agent, and show nowhere else.
func (s *secrecy) releases(cluster string, agent *played) {
	t, at := s.t, s.canaries.at
	pushed, _ := pushChart(t, s.h)
	put := func(what, body string) (int, []byte) {
		return s.offer(what, s.v1(), badRequest{http.MethodPut, "/v1/clusters/" + cluster + "/releases/app", "application/json", []byte(body)})
	}
	release := func(values string) string {
		return fmt.Sprintf(`{"namespace": "app", "chart": {"digest": %q}, "secretValues": %s}`, pushed.Digest, values)
	}
	sealed := at("secretValues")
	status, body := put("secretValues", release(`{"password": "`+sealed+`"}`))
	require.Equal(t, http.StatusCreated, status, "%s", body)
	require.Contains(t, <-agent.secrets, sealed, "what is sealed comes to the agent whole")
	var size int
	require.NoError(t, pgtest.Pool(t, s.h.DatabaseURL).QueryRow(t.Context(), "SELECT length(secret_values) FROM releases WHERE name = 'app'").Scan(&size))
	require.Greater(t, size, len(sealed), "it is kept, sealed")
	for what, values := range map[string]string{
		"secretValues as a text":         `"%s"`,
		"secretValues as a list":         `["%s"]`,
		"secretValues with a bad escape": `{"password": "\q%s"}`,
		"secretValues twice":             `{"password": "%[1]s", "password": "%[1]s"}`,
		"secretValues that are large":    `{"password": "%s", "more": "` + strings.Repeat("x", 600<<10) + `"}`,
		"secretValues with a NUL":        `{"password": "\u0000%s"}`,
	} {
		put(what, release(fmt.Sprintf(values, at(what))))
	}
	put("secretValues beside an unknown chart", fmt.Sprintf(`{"namespace": "app", "chart": {"digest": "sha256:%064d"}, "secretValues": {"password": %q}}`, 7, at("secretValues beside an unknown chart")))
	put("secret_values, misspelled", fmt.Sprintf(`{"namespace": "app", "chart": {"digest": %q}, "secret_values": {"password": %q}}`, pushed.Digest, at("secret_values, misspelled")))
	put("secretValues of another namespace", strings.Replace(release(`{"password": "`+at("secretValues of another namespace")+`"}`), `"app"`, `"b"`, 1))
}

// charts: credentials in the addresses of repositories and registries.
func (s *secrecy) charts(cluster string) {
	repository := httptest.NewServer(http.NotFoundHandler())
	s.t.Cleanup(repository.Close)
	host := strings.TrimPrefix(repository.URL, "http://")
	for what, source := range map[string]string{
		"a password of a repository":          `"repository": "https://user:%s@charts.example.com", "name": "app"`,
		"a password of a broken repository":   `"repository": "https://user:%%zz%s@charts.example.com", "name": "app"`,
		"a password of a repository, no host": `"repository": "https://user:%s@", "name": "app"`,
		"a password of a repository by ssh":   `"repository": "ssh://user:%s@charts.example.com", "name": "app"`,
		"a token in a repository's query":     `"repository": "` + repository.URL + `/?token=%s", "name": "app"`,
		"a password of a registry":            `"oci": "oci://user:%s@` + host + `/charts/app", "version": "1.0.0"`,
		"a password of a registry by digest":  `"oci": "oci://user:%s@` + host + `/charts/app@sha256:` + strings.Repeat("0", 64) + `"`,
		"a password of a registry by https":   `"oci": "https://user:%s@` + host + `/charts/app", "version": "1.0.0"`,
		"a token in a registry's query":       `"oci": "oci://` + host + `/charts/app?token=%s", "version": "1.0.0"`,
	} {
		body := `{"namespace": "app", "chart": {` + fmt.Sprintf(source, s.canaries.at(what)) + `}}`
		status, _ := s.offer(what, s.v1(), badRequest{http.MethodPut, "/v1/clusters/" + cluster + "/releases/other", "application/json", []byte(body)})
		require.GreaterOrEqual(s.t, status, http.StatusBadRequest, what)
	}
}

// doors: keys and tokens that do not fit.
func (s *secrecy) doors() {
	t, at := s.t, s.canaries.at
	for what, header := range map[string]http.Header{
		"a wrong API key":          {"Authorization": {"Bearer " + at("a wrong API key")}},
		"a wrong key of the form":  {"Authorization": {"Bearer budk_" + uuid.NewString() + "_" + at("a wrong key of the form")}},
		"a password at v1":         {"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+at("a password at v1")))}},
		"a cookie":                 {"Cookie": {"session=" + at("a cookie")}},
		"the sidecar's door of v1": {"Dapr-Api-Token": {at("the sidecar's door of v1")}},
	} {
		status, _ := s.offer(what, face{url: s.h.URL, header: header}, badRequest{http.MethodGet, "/v1/clusters", "", nil})
		require.Equal(t, http.StatusUnauthorized, status, what)
	}
	for what, header := range map[string]http.Header{
		"a wrong app token":          {"Dapr-Api-Token": {at("a wrong app token")}},
		"a bearer at the platform":   {"Authorization": {"Bearer " + at("a bearer at the platform")}},
		"a password at the platform": {"Authorization": {"Basic " + base64.StdEncoding.EncodeToString([]byte("admin:"+at("a password at the platform")))}},
	} {
		status, _ := s.offer(what, face{url: s.h.PlatformURL, header: header}, badRequest{http.MethodGet, "/health", "", nil})
		require.Equal(t, http.StatusUnauthorized, status, what)
	}
	made := s.h.Create("door")
	s.created("the join token of a new cluster", made.JoinToken.Token)
	parsed, err := pki.ParseJoinToken(made.JoinToken.Token)
	require.NoError(t, err)
	parts := strings.Split(made.JoinToken.Token, ".")
	for what, token := range map[string]string{
		"a join token that is none":       at("a join token that is none"),
		"a join token of a wrong secret":  strings.Join([]string{parts[0], parts[1], at("a join token of a wrong secret"), parts[3]}, "."),
		"a join token with a bell inside": strings.Join([]string{parts[0], parts[1], "\a" + at("a join token with a bell inside"), parts[3]}, "."),
	} {
		err := s.h.Agent("uid-door").EnrollPinned(t.Context(), token, parsed.Pin)
		require.Error(t, err, what)
		s.seen["the refusal of "+what] = err.Error()
	}
}

// settings: what a hub says of settings that cannot be used.
func (s *secrecy) settings() {
	for what, dsn := range map[string]string{
		"the password of a database that is away": "postgres://bud:%s@127.0.0.1:1/bud?connect_timeout=1",
		"the password in a url of another kind":   "mysql://bud:%s@127.0.0.1/bud",
		"the password in a broken url":            "postgres://bud:%%zz%s@127.0.0.1/bud",
		"the password in a list of words":         "host=127.0.0.1 password=%s",
	} {
		cfg := hub.Defaults()
		cfg.StateDir, cfg.DatabaseURL = s.t.TempDir(), secret.New(fmt.Sprintf(dsn, s.canaries.at(what)))
		log := &hubtest.Log{}
		err := hub.Migrate(s.t.Context(), cfg, hubtest.Logger(log))
		require.Error(s.t, err, what)
		s.seen["the error of "+what] = err.Error() + log.String() + fmt.Sprintf("%v %+v", cfg, cfg)
		raw, err := json.Marshal(cfg)
		require.NoError(s.t, err)
		s.seen["the settings with "+what] = string(raw)
		if err := cfg.Validate(); err != nil {
			s.seen["the check of "+what] = err.Error()
		}
	}
}

// removal ends with the cluster's last events.
func (s *secrecy) removal(cluster string) {
	status, body := s.offer("cloud_payload of a deletion", s.platform(),
		post("/cluster/delete", `{"cluster_id": "`+cluster+`", "cluster_type": "CLOUD", "cloud_payload": "{\"secret_access_key\": \"`+s.canaries.at("cloud_payload")+`\"}"}`))
	require.Equal(s.t, http.StatusOK, status, "%s", body)
	var began struct {
		WorkflowID string `json:"workflow_id"`
	}
	require.NoError(s.t, json.Unmarshal(body, &began))
	ended(s.t, s.h, began.WorkflowID)
}

// gather reads all that can be read.
func (s *secrecy) gather() {
	t := s.t
	f := s.v1()
	list := func(path string) { s.seen["GET "+path] = f.ask(t, path) }
	require.NoError(t, json.Unmarshal([]byte(f.ask(t, "/openapi.json")), &f.doc))
	for path, methods := range f.doc.Paths {
		if o, is := methods["get"]; is && !pathParameter.MatchString(path) && path != "/v1/events/stream" {
			if slices.ContainsFunc(o.Parameters, func(p parameter) bool { return p.Name == "limit" }) {
				path += "?limit=500"
			}
			list(path)
		}
	}
	list("/v1/clusters?retired=true")
	list("/v1/webhooks/all/deliveries?limit=500")
	list("/metrics")
	runs, err := s.h.Client.Workflows(t.Context(), hubapi.WorkflowQuery{})
	require.NoError(t, err)
	for _, w := range runs.Items {
		list("/v1/workflows/" + w.ID)
	}
	pool := pgtest.Pool(t, s.h.DatabaseURL)
	s.seen.tables(t, pool)
	require.Contains(t, s.seen, "table wf.history", "workflow histories are looked through")
	require.Contains(t, s.seen, "table public.outbox")
	require.Contains(t, s.seen, "table public.webhook_deliveries")
	s.seen["the log"] = s.h.Log.String()
	s.seen["what was published"] = fmt.Sprint(s.fake.Published())
	s.seen["what is shared"] = string(s.fake.State("cluster_info")) + string(s.fake.State("__metadata__budcluster"))
	s.mu.Lock()
	defer s.mu.Unlock()
	require.NotEmpty(t, s.told.String())
	s.seen["what webhooks were sent"] = s.told.String()
}

// ask is a GET that succeeds.
func (f *face) ask(t *testing.T, path string) string {
	t.Helper()
	status, _, body := f.send(t, badRequest{method: http.MethodGet, path: path})
	require.Equal(t, http.StatusOK, status, "%s: %s", path, body)
	return string(body)
}
