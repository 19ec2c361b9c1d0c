//go:build e2e

package suite_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"mime/multipart"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	authenticationv1 "k8s.io/api/authentication/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

// sidecar stands in for Dapr's: it takes what is published and put into the
// state store, and keeps the text of it. That a real one does as well, the tests
// with a real Dapr show.
type sidecar struct {
	address string

	mu   sync.Mutex // guards said
	said strings.Builder
}

func newSidecar(t *testing.T) *sidecar {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	s := &sidecar{address: listener.Addr().String()}
	server := &http.Server{Handler: s, ReadHeaderTimeout: 5 * time.Second}
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { _ = server.Close() })
	return s
}

// ServeHTTP takes everything, and has nothing.
func (s *sidecar) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	s.mu.Lock()
	s.said.WriteString(r.URL.Path + "\n" + string(body) + "\n")
	s.mu.Unlock()
	if strings.HasSuffix(r.URL.Path, "/metadata") {
		_, _ = io.WriteString(w, "{}")
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (s *sidecar) heard() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.said.String()
}

// uploads is a hub at which the platform uploads kubeconfigs of this cluster.
type uploads struct {
	*hub

	app     string // where the platform's calls arrive
	sidecar *sidecar
	// secrets are in no place but the kubeconfigs.
	secrets []string
}

// TestUploadedKubeconfig onboards the real cluster with uploaded kubeconfigs, by
// the platform's route and by the command line, and removes it again. It runs
// before the tests that share an agent: an uploaded kubeconfig's agent has the
// namespace that theirs has.
func TestUploadedKubeconfig(t *testing.T) {
	u := &uploads{sidecar: newSidecar(t)}
	ports, err := freePorts(t.Context(), env.cluster.Address(), 1)
	require.NoError(t, err)
	u.app = net.JoinHostPort(env.cluster.Address(), ports[0])
	overlay, _ := standIns(t)
	u.hub = newHub(t, "--components-dir", overlay, "--dapr-enabled", "--dapr-http-address", u.sidecar.address, "--dapr-app-listen", u.app)
	pretendGPUs(t)
	certificate := u.byCertificate(t)
	accounts := map[string]*api.Config{}
	for name, role := range map[string]string{"uploader": "cluster-admin", "viewer": "view", "nobody": ""} {
		accounts[name] = u.byToken(t, name, role)
	}
	before := undisturbed(t)

	t.Run("refused", func(t *testing.T) { u.refused(t, certificate, accounts["viewer"], accounts["nobody"], before) })
	t.Run("certificate", func(t *testing.T) { u.onboard(t, certificate, before) })
	t.Run("token", func(t *testing.T) { u.outliveHub(t, accounts["uploader"], before) })
	t.Run("secrecy", u.secretsStay)
}

// byCertificate is the administrator's own kubeconfig.
func (u *uploads) byCertificate(t *testing.T) *api.Config {
	t.Helper()
	config, err := clientcmd.LoadFromFile(env.cluster.Kubeconfig())
	require.NoError(t, err)
	u.keep(config)
	return config
}

// byToken makes an account, of a role if one is named, and its kubeconfig. It
// goes with the test.
func (u *uploads) byToken(t *testing.T, name, role string) *api.Config {
	t.Helper()
	accounts := env.cluster.Kube().CoreV1().ServiceAccounts(metav1.NamespaceDefault)
	_, err := accounts.Create(t.Context(), &corev1.ServiceAccount{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, accounts.Delete(context.WithoutCancel(t.Context()), name, metav1.DeleteOptions{}))
	})
	if role != "" {
		t.Cleanup(func() {
			require.NoError(t, env.cluster.Kube().RbacV1().ClusterRoleBindings().Delete(context.WithoutCancel(t.Context()), name, metav1.DeleteOptions{}))
		})
		_, err = env.cluster.Kube().RbacV1().ClusterRoleBindings().Create(t.Context(), &rbacv1.ClusterRoleBinding{
			ObjectMeta: metav1.ObjectMeta{Name: name}, RoleRef: rbacv1.RoleRef{APIGroup: rbacv1.GroupName, Kind: "ClusterRole", Name: role},
			Subjects: []rbacv1.Subject{{Kind: "ServiceAccount", Namespace: metav1.NamespaceDefault, Name: name}},
		}, metav1.CreateOptions{})
		require.NoError(t, err)
	}
	issued, err := accounts.CreateToken(t.Context(), name, &authenticationv1.TokenRequest{}, metav1.CreateOptions{})
	require.NoError(t, err)
	config := u.byCertificate(t)
	userOf(config).ClientCertificateData, userOf(config).ClientKeyData, userOf(config).Token = nil, nil, issued.Status.Token
	u.keep(config)
	return config
}

// userOf and clusterOf are those of a kubeconfig's current context.
func userOf(c *api.Config) *api.AuthInfo { return c.AuthInfos[c.Contexts[c.CurrentContext].AuthInfo] }

func clusterOf(c *api.Config) *api.Cluster { return c.Clusters[c.Contexts[c.CurrentContext].Cluster] }

func written(t *testing.T, c *api.Config) []byte {
	t.Helper()
	text, err := clientcmd.Write(*c)
	require.NoError(t, err)
	return text
}

// keep remembers what of a kubeconfig must be found nowhere: the token, and
// each line of the key, as they are and as tables and logs may encode them.
func (u *uploads) keep(c *api.Config) {
	add := func(secret string) {
		u.secrets = append(u.secrets, secret, hex.EncodeToString([]byte(secret)))
	}
	if token := userOf(c).Token; token != "" {
		add(token)
		u.secrets = append(u.secrets, token[strings.LastIndex(token, ".")+1:]) // its signature
	}
	if key := userOf(c).ClientKeyData; len(key) > 0 {
		add(base64.StdEncoding.EncodeToString(key))
		for line := range strings.Lines(string(key)) {
			if line = strings.TrimSpace(line); len(line) > 16 && !strings.HasPrefix(line, "-----") {
				add(line)
			}
		}
	}
}

// form is the platform's upload.
func form(t *testing.T, name string, file []byte) (kind string, body io.Reader) {
	t.Helper()
	request, err := json.Marshal(map[string]any{
		"enable_master_node": true, "name": name, "ingress_url": "https://models.example.com", "cluster_type": "ON_PREM", "source_topic": "budAppMessages",
		"notification_metadata": map[string]any{"name": "bud-internal", "subscriber_ids": "7d5e", "workflow_id": "0197f3a0-0000-7000-8000-000000000001"},
	})
	require.NoError(t, err)
	var buf bytes.Buffer
	w := multipart.NewWriter(&buf)
	require.NoError(t, w.WriteField("cluster_create_request", string(request)))
	part, err := w.CreateFormFile("configuration", "kubeconfig.yaml")
	require.NoError(t, err)
	_, err = part.Write(file)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	return w.FormDataContentType(), &buf
}

// call is one of the platform's, as its sidecar would bring it.
func (u *uploads) call(t *testing.T, path, kind string, body io.Reader) (status int, text string) {
	t.Helper()
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+u.app+path, body)
	require.NoError(t, err)
	request.Header.Set("Content-Type", kind)
	response, err := http.DefaultClient.Do(request)
	require.NoError(t, err)
	defer func() { _ = response.Body.Close() }()
	answer, err := io.ReadAll(response.Body)
	require.NoError(t, err)
	return response.StatusCode, string(answer)
}

// begun is the workflow that a call of the platform began.
func begun(t *testing.T, status int, text string) string {
	t.Helper()
	require.Equal(t, http.StatusOK, status, text)
	var out struct {
		ID string `json:"workflow_id"`
	}
	require.NoError(t, json.Unmarshal([]byte(text), &out))
	return out.ID
}

// refused uploads what cannot be used: each is answered with the contract's
// status and envelope and a sentence that helps, and nothing comes of it, here or
// there.
func (u *uploads) refused(t *testing.T, good, viewer, nobody *api.Config, before map[thing]string) {
	changed := func(change func(c *api.Config)) []byte {
		c := good.DeepCopy()
		change(c)
		u.keep(c)
		return written(t, c)
	}
	expired, key := selfSigned(t, time.Date(2020, 1, 1, 0, 0, 0, 0, time.UTC))
	foreign, _ := selfSigned(t, time.Now().AddDate(1, 0, 0))
	for _, bad := range []struct {
		name   string
		file   []byte
		status int
		says   []string
	}{
		{"no-server", changed(func(c *api.Config) { clusterOf(c).Server = "" }), http.StatusBadRequest, []string{"Invalid configuration file", "server", "give the URL of the API server"}},
		{"unreachable", changed(func(c *api.Config) { clusterOf(c).Server = "https://" + net.JoinHostPort(env.cluster.Address(), "1") }), http.StatusServiceUnavailable, []string{"nothing listens there; check host and port"}},
		{"expired", changed(func(c *api.Config) { userOf(c).ClientCertificateData, userOf(c).ClientKeyData = expired, key }), http.StatusBadRequest, []string{"client-certificate-data", "2020"}},
		{"exec", changed(func(c *api.Config) {
			userOf(c).Exec = &api.ExecConfig{APIVersion: "client.authentication.k8s.io/v1", Command: "aws", InteractiveMode: api.NeverExecInteractiveMode}
		}), http.StatusBadRequest, []string{"exec", "the hub runs no program of others"}},
		{"wrong-authority", changed(func(c *api.Config) { clusterOf(c).CertificateAuthorityData = foreign }), http.StatusBadRequest, []string{"an authority that the kubeconfig does not name"}},
		{"no-yaml", []byte("apiVersion: v1\nclusters: [\n"), http.StatusBadRequest, []string{"is not valid YAML", "kubectl config view"}},
		{"wrong-token", changed(func(c *api.Config) {
			userOf(c).ClientCertificateData, userOf(c).ClientKeyData, userOf(c).Token = nil, nil, userOf(nobody).Token+"x"
		}), http.StatusBadRequest, []string{"does not accept the kubeconfig's credential (401)"}},
		{"no-rights", written(t, nobody), http.StatusBadRequest, []string{"needs an administrator of the cluster"}},
		{"only-looks", written(t, viewer), http.StatusBadRequest, []string{"needs an administrator of the cluster"}},
	} {
		kind, body := form(t, bad.name, bad.file)
		status, text := u.call(t, "/cluster", kind, body)
		t.Logf("%s: %d %s", bad.name, status, text)
		require.Equal(t, bad.status, status, bad.name)
		for _, words := range bad.says {
			require.Contains(t, text, words, bad.name)
		}
		var envelope map[string]any
		require.NoError(t, json.Unmarshal([]byte(text), &envelope), bad.name)
		require.True(t, envelope["detail"] != nil || envelope["object"] == "error" && envelope["code"] == float64(status), "%s: %s", bad.name, text)
		u.nothingOf(t, "the answer to "+bad.name, text)
	}
	list, err := u.client.Clusters(t.Context(), hubapi.PageOptions{})
	require.NoError(t, err)
	require.Empty(t, list.Items, "nothing half made is in the register")
	runs, err := u.client.Workflows(t.Context(), hubapi.WorkflowQuery{})
	require.NoError(t, err)
	require.Empty(t, runs.Items)
	require.Empty(t, installers(t), "no installer is left")
	awaitAsBefore(t, before)
	proved(t, "9 kubeconfigs that cannot be used are refused with a sentence each, and nothing is left of them in the hub or the cluster")
}

// selfSigned is a certificate of no authority that anybody knows, and its key.
func selfSigned(t *testing.T, until time.Time) (certificate, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "ann", Organization: []string{"system:masters"}}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: until.AddDate(-5, 0, 0), NotAfter: until,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	require.NoError(t, err)
	keyDER, err := x509.MarshalECPrivateKey(private)
	require.NoError(t, err)
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: keyDER})
}

// onboard goes by the platform's routes, from the upload to the removal.
func (u *uploads) onboard(t *testing.T, config *api.Config, before map[thing]string) {
	s := &site{hub: u.hub, namespace: "budcluster-system"}
	t.Cleanup(func() {
		if t.Failed() {
			s.explain(t)
			s.leave(t)
		}
	})
	started := time.Now()
	kind, body := form(t, "Lab 7", written(t, config))
	status, text := u.call(t, "/cluster", kind, body)
	arguments := commandLines(t)
	require.Contains(t, arguments, "budcluster-agent\x00install", "the child is at work")
	u.nothingOf(t, "the arguments of processes while the child works", arguments)
	u.nothingOf(t, "the environments of processes while the child works", environments(t))
	w := finished(t, u.hub, begun(t, status, text))
	require.Equal(t, hubapi.WorkflowCompleted, w.Status, "%s: %s", w.Reason, w.Message)
	measured(t, "a kubeconfig uploaded by the platform's route, until the cluster was ready: %s", time.Since(started).Round(100*time.Millisecond))
	s.name = w.Cluster
	require.Equal(t, hubapi.ClusterConnected, s.cluster(t).State)
	require.Subset(t, u.equipped(t, s.name), []string{"nfd", "nvidia-gpu-operator", "hami"})
	_, err := s.agentPod(t.Context())
	require.NoError(t, err)
	proved(t, "the platform's upload of an administrator's kubeconfig brought the agent and its components into the cluster")
	u.seen(t, w.ClusterID)

	again, body := form(t, "Lab 8", written(t, config))
	status, text = u.call(t, "/cluster", again, body)
	require.Equal(t, http.StatusConflict, status, text)
	require.Contains(t, text, s.name, "it says under which name the cluster is registered")

	started = time.Now()
	status, text = u.call(t, "/cluster/delete", "application/json", strings.NewReader(`{"cluster_id": "`+w.ClusterID+`", "source_topic": "budAppMessages",
		"notification_metadata": {"name": "bud-internal", "subscriber_ids": "7d5e", "workflow_id": "0197f3a0-0000-7000-8000-000000000002"}}`))
	w = finished(t, u.hub, begun(t, status, text))
	require.Equal(t, hubapi.WorkflowCompleted, w.Status, "%s: %s", w.Reason, w.Message)
	awaitAsBefore(t, before)
	measured(t, "the cluster removed again, the agent too: %s", time.Since(started).Round(100*time.Millisecond))
	proved(t, "after its removal nothing of an uploaded cluster is left, not even the agent that the hub installed")
}

// outliveHub registers by the command line, and kills the hub while its child
// installs the agent: the child ends what it began, the agent joins the hub's
// next life, and the registration goes on.
func (u *uploads) outliveHub(t *testing.T, config *api.Config, before map[thing]string) {
	s := &site{hub: u.hub, name: "tokened", namespace: "budcluster-system"}
	t.Cleanup(func() {
		if t.Failed() {
			s.explain(t)
			s.leave(t)
		}
	})
	file := filepath.Join(t.TempDir(), "kubeconfig")
	require.NoError(t, os.WriteFile(file, written(t, config), 0o600))
	arguments := []string{"cluster", "register", s.name, "--kubeconfig", file}
	without := []string{"nvidia-gpu-operator", "hami", "prometheus-stack", "scaler"}
	for _, name := range without {
		arguments = append(arguments, "--without", name)
	}
	out := u.cli(t, arguments...)
	t.Logf("$ budcluster %s\n%s", strings.ReplaceAll(strings.Join(arguments, " "), file, "FILE"), out)
	require.NotContains(t, out, "helm install", "nobody has to type anything")
	await(t, time.Minute, "the installer to begin", func(ctx context.Context) error {
		_, err := env.cluster.Kube().CoreV1().Namespaces().Get(ctx, s.namespace, metav1.GetOptions{})
		return err
	})
	u.kill()
	u.again(t)
	runs, err := u.client.Workflows(t.Context(), hubapi.WorkflowQuery{Cluster: s.name})
	require.NoError(t, err)
	require.Len(t, runs.Items, 1)
	w := finished(t, u.hub, runs.Items[0].ID)
	require.Equal(t, hubapi.WorkflowCompleted, w.Status, "%s: %s", w.Reason, w.Message)
	require.Equal(t, []string{"nfd"}, u.equipped(t, s.name))
	proved(t, "a hub that was killed while its child installed the agent finds it there, and ends the registration well")

	out = u.cli(t, "cluster", "remove", s.name, "--yes", "--watch")
	t.Logf("$ budcluster cluster remove %s --yes --watch\n%s", s.name, out)
	awaitAsBefore(t, before)
}

// equipped are the components that are there: ready, and the hub's own.
func (u *uploads) equipped(t *testing.T, name string) (present []string) {
	t.Helper()
	components, err := u.client.ClusterComponents(t.Context(), name)
	require.NoError(t, err)
	for _, c := range components.Items {
		if c.Present {
			present = append(present, c.Name)
			require.True(t, c.Owned, c.Name)
			require.Equal(t, "Ready", c.Health, "%s: %s", c.Name, c.Message)
		}
	}
	return present
}

// seen: what the platform asks of a cluster is what there is in it: claims for
// which there is no volume, the DNS service, the device plugin, a storage class
// with its parameters, what the kubelet said of its node.
func (u *uploads) seen(t *testing.T, id string) {
	t.Helper()
	class := &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: "seen-by-the-platform"}, Provisioner: "nobody.example.com", Parameters: map[string]string{"tier": "fast"},
	}
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: "waits"}, Spec: corev1.PersistentVolumeClaimSpec{
		AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, StorageClassName: &class.Name,
		Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}},
	}}
	classes, claims := env.cluster.Kube().StorageV1().StorageClasses(), env.cluster.Kube().CoreV1().PersistentVolumeClaims(metav1.NamespaceDefault)
	_, err := classes.Create(t.Context(), class, metav1.CreateOptions{})
	require.NoError(t, err)
	_, err = claims.Create(t.Context(), claim, metav1.CreateOptions{})
	require.NoError(t, err)
	defer func() {
		ctx := context.WithoutCancel(t.Context())
		require.NoError(t, claims.Delete(ctx, claim.Name, metav1.DeleteOptions{}))
		require.NoError(t, classes.Delete(ctx, class.Name, metav1.DeleteOptions{}))
	}()
	for path, want := range map[string][]string{
		"/health?checks=storage":   {`"healthy":false`, "0/2 PVCs bound, 2 pending", "bud-system/data-prometheus", "default/waits"},
		"/health?checks=network":   {`"healthy":true`, "DNS service kube-system/kube-dns", "ready pods"},
		"/health?checks=gpu":       {`"allocatable":{"nvidia.com/gpu":80}`, `"device_plugins":{"nvidia.com/gpu":"ready"}`},
		"/health?checks=nodes,api": {"All nodes ready", "API server responding"},
		"/storage-classes":         {class.Name, `"provisioner":"nobody.example.com"`, `"parameters":{"tier":"fast"}`},
		"/node-wise-events/node1":  {`"reason":"NodeReady"`, `"component":"kubelet","host":"node1"`},
		"/events-count-by-node":    {`"node1":`},
	} {
		said := ""
		await(t, time.Minute, "GET "+path, func(ctx context.Context) error {
			text, err := u.get(ctx, "/cluster/"+id+path)
			if err != nil {
				return err
			}
			if text != said {
				said = text
				t.Logf("GET %s: %s", path, text)
			}
			for _, words := range want {
				if !strings.Contains(text, words) {
					return fmt.Errorf("%s is not in %s", words, text)
				}
			}
			return nil
		})
	}
	proved(t, "the platform's routes say of the cluster what there is: a claim that waits, DNS, the device plugin, storage classes, the kubelet's events")
}

// get asks as the platform does.
func (u *uploads) get(ctx context.Context, path string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+u.app+path, nil)
	if err != nil {
		return "", err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return "", err
	}
	defer func() { _ = response.Body.Close() }()
	text, err := io.ReadAll(response.Body)
	if err == nil && response.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s", response.Status, text)
	}
	return string(text), err
}

// installers are the children that a hub has for installing, by their arguments.
func installers(t *testing.T) (found []string) {
	t.Helper()
	for line := range strings.Lines(commandLines(t)) {
		if strings.Contains(line, "budcluster-agent\x00install") {
			found = append(found, line)
		}
	}
	return found
}

// environments is what every process of this machine was given at its start.
func environments(t *testing.T) string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/environ")
	require.NoError(t, err)
	var all strings.Builder
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil {
			all.Write(text)
			all.WriteByte('\n')
		}
	}
	return all.String()
}

// nothingOf: no secret is in a text.
func (u *uploads) nothingOf(t *testing.T, place, text string) {
	t.Helper()
	for i, secret := range u.secrets {
		if strings.Contains(text, secret) { // it is not to be in this test's log either
			t.Errorf("secret %d is in %s", i, place)
		}
	}
}

// secretsStay looks for what was in the kubeconfigs, wherever it could be.
func (u *uploads) secretsStay(t *testing.T) {
	log, err := os.ReadFile(u.log)
	require.NoError(t, err)
	places := map[string]string{
		"the hub's log": string(log), "what the platform was told": u.sidecar.heard(), "the database": u.dump(t),
		"process arguments": commandLines(t), "environments": environments(t),
	}
	text := func(v any, err error) string {
		require.NoError(t, err)
		raw, err := json.Marshal(v)
		require.NoError(t, err)
		return string(raw)
	}
	events, err := u.client.Events(t.Context(), hubapi.EventQuery{Limit: 1000})
	places["events"] = text(events, err)
	for w, err := range u.client.AllWorkflows(t.Context(), hubapi.WorkflowQuery{}) {
		require.NoError(t, err)
		one, err := u.client.Workflow(t.Context(), w.ID)
		places["workflow "+w.ID] = text(one, err)
	}
	kubeEvents, err := env.cluster.Kube().CoreV1().Events(metav1.NamespaceAll).List(t.Context(), metav1.ListOptions{})
	places["the cluster's events"] = text(kubeEvents, err)
	for place, content := range places {
		require.NotEmpty(t, content, place)
		u.nothingOf(t, place, content)
	}
	require.Contains(t, places["the database"], "tokened", "the search sees the tables")
	require.Contains(t, places["the database"], "wf.history", "and those of the engine")
	proved(t, "keys and tokens of uploaded kubeconfigs are in no table (the engine's included), log, event, workflow, message, process argument or environment")
}

// dump is every table of the hub's database as text.
func (u *uploads) dump(t *testing.T) string {
	t.Helper()
	sockets, err := filepath.Glob(filepath.Join(u.dir, "state", "postgres", ".s.PGSQL.*"))
	require.NoError(t, err)
	require.NotEmpty(t, sockets, "the hub's private server has a socket")
	programs, err := filepath.Glob("/usr/lib/postgresql/*/bin/pg_dump")
	require.NoError(t, err)
	require.NotEmpty(t, programs, "no pg_dump below /usr/lib/postgresql: apt-get install postgresql")
	dump := exec.CommandContext(t.Context(), programs[len(programs)-1], "--data-only", "--inserts", "--host", filepath.Dir(sockets[0]), "--username", "budcluster", "budcluster")
	var complaint strings.Builder
	dump.Stderr = &complaint
	out, err := dump.Output()
	require.NoError(t, err, complaint.String())
	return string(out)
}
