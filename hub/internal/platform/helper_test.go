package platform_test

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"io/fs"
	"log/slog"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/charts"
	"github.com/budecosystem/budcluster/hub/internal/chart"
	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/component"
	"github.com/budecosystem/budcluster/hub/internal/dapr/daprtest"
	"github.com/budecosystem/budcluster/hub/internal/equip"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/hub/internal/notify"
	"github.com/budecosystem/budcluster/hub/internal/operation"
	"github.com/budecosystem/budcluster/hub/internal/platform"
	"github.com/budecosystem/budcluster/hub/internal/release"
	"github.com/budecosystem/budcluster/hub/internal/store"
	"github.com/budecosystem/budcluster/hub/internal/store/storetest"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
	"github.com/budecosystem/budcluster/internal/facts"
	"github.com/budecosystem/budcluster/internal/kubeconfig"
	"github.com/budecosystem/budcluster/internal/secret"
)

// bundle is the face over real services on a real database.
type bundle struct {
	t          *testing.T
	store      *store.Store
	pool       *pgxpool.Pool
	clusters   *cluster.Service
	inventory  *inventory.Service
	workflows  *workflow.Service
	operations *operation.Service
	notify     *notify.Service
	face       *platform.Server
	// log is what the hub logged.
	log *bytes.Buffer
	// sidecar, if there is one, is what calls go through.
	sidecar *daprtest.Sidecar
}

// setup makes the services. change may alter the face's configuration.
func setup(t *testing.T, change ...func(*platform.Config)) *bundle {
	t.Helper()
	b := &bundle{t: t, log: &bytes.Buffer{}}
	b.store, b.pool = storetest.NewWithPool(t)
	log := slog.New(slog.NewTextHandler(b.log, nil))
	var err error
	b.clusters, err = cluster.New(cluster.Config{Store: b.store, Logger: log})
	require.NoError(t, err)
	b.inventory, err = inventory.New(inventory.Config{Store: b.store, Logger: log})
	require.NoError(t, err)
	b.notify, err = notify.New(notify.Config{Store: b.store, SuccessOnly: []string{notify.MainTopic}})
	require.NoError(t, err)
	b.workflows, err = workflow.New(workflow.Config{Store: b.store, Logger: log, Notify: b.notify.Notify})
	require.NoError(t, err)
	b.operations = b.newOperations(log)
	cfg := platform.Config{
		Logger: log, Clusters: b.clusters, Inventory: b.inventory, Workflows: b.workflows, Operations: b.operations,
		Register: b.register, Patience: 50 * time.Millisecond,
		Watch: func(string) (<-chan struct{}, func()) { return nil, func() {} },
	}
	for _, f := range change {
		f(&cfg)
	}
	b.face, err = platform.New(cfg)
	require.NoError(t, err)
	return b
}

func (b *bundle) newOperations(log *slog.Logger) *operation.Service {
	releases, err := release.New(release.Config{Store: b.store, Sealer: storetest.Keyring(b.t), Logger: log})
	require.NoError(b.t, err)
	chartService, err := chart.New(chart.Config{Store: b.store, Logger: log})
	require.NoError(b.t, err)
	catalogue, err := component.Load(nil)
	require.NoError(b.t, err)
	equipment, err := equip.New(equip.Config{
		Catalogue: catalogue, Store: b.store, Clusters: b.clusters, Inventory: b.inventory, Releases: releases, Charts: chartService, Logger: log,
		Presence: func(context.Context, uuid.UUID) ([]facts.Presence, error) { return nil, nil },
		Builtin:  func(name string) (fs.FS, error) { return charts.Chart(name) },
	})
	require.NoError(b.t, err)
	operations, err := operation.New(operation.Config{
		Store: b.store, Workflows: b.workflows, Clusters: b.clusters, Equipment: equipment, Releases: releases, Inventory: b.inventory,
		Logger: log, JoinWithin: time.Hour,
		AgentChart: func(context.Context, string, string) (chart.Meta, error) { return chart.Meta{}, chart.ErrNotFound },
	})
	require.NoError(b.t, err)
	return operations
}

// register checks the file as the installer does, and begins the registration.
func (b *bundle) register(ctx context.Context, actor string, r platform.Registration) (*workflow.Workflow, error) {
	_, err := kubeconfig.Parse(r.Kubeconfig, kubeconfig.Options{Now: time.Now()})
	for _, e := range kubeconfig.Errors(err) {
		return nil, invalid.New("kubeconfig."+e.Field, "%s", e.Message)
	}
	w, _, err := b.operations.Register(ctx, actor, operation.Register{Name: r.Name, Existing: r.Existing, IngressURL: r.IngressURL, Reply: r.Reply})
	return w, err
}

// joined makes a cluster that has joined, with a session and two nodes.
func (b *bundle) joined(name string) *cluster.Cluster {
	b.t.Helper()
	c, err := b.clusters.Create(b.t.Context(), "ann", name, nil)
	require.NoError(b.t, err)
	_, err = b.pool.Exec(b.t.Context(), `UPDATE clusters SET joined_at = now(), uid = $2 WHERE id = $1`, c.ID, uuid.NewString())
	require.NoError(b.t, err)
	_, err = b.clusters.OpenSession(b.t.Context(), c.ID, cluster.SessionInfo{Replica: "r1", Instance: "i1", RemoteAddr: "10.1.2.3:4", AgentVersion: "0.1.0"})
	require.NoError(b.t, err)
	b.report(c.ID, inventory.Delta{
		Cluster: &facts.Cluster{UID: "u", Version: "v1.31.2", Platform: facts.PlatformKubernetes, Distribution: "k3s", StorageClasses: []facts.StorageClass{
			{Name: "nfs", Provisioner: "nfs.csi.k8s.io", AccessMode: "ReadWriteMany", ReclaimPolicy: "Retain", BindingMode: "Immediate", Parameters: map[string]string{"server": "nas-1", "share": "/models"}},
			{Name: "local-path", Provisioner: "rancher.io/local-path", Default: true, BindingMode: "WaitForFirstConsumer"},
		}, Claims: &facts.Claims{Bound: 3}, DNS: &facts.DNS{Service: "kube-system/kube-dns", Ready: new(int32(2))}},
		Nodes: []facts.Node{gpuNode("gpu-1"), cpuNode("master-1")},
		Events: []facts.NodeEvent{
			{
				UID: "e1", Node: "gpu-1", Type: "Warning", Reason: "NodeNotReady", Message: "Node gpu-1 status is now: NodeNotReady", Count: 2,
				FirstAt: time.Now().Add(-time.Hour), LastAt: time.Now().Add(-time.Minute), Component: "node-controller",
			},
			{UID: "e2", Node: "gpu-1", Type: "Normal", Reason: "NodeReady", Message: "Node gpu-1 status is now: NodeReady", Count: 1, Component: "kubelet", Host: "gpu-1"},
			{UID: "e3", Node: "gone-1", Type: "Normal", Reason: "RemovingNode", Message: "Node gone-1 event: Removing Node gone-1 from Controller", Count: 1, Component: "node-controller"},
		},
	})
	require.NoError(b.t, b.clusters.SetPresence(b.t.Context(), c.ID, []facts.Presence{
		{Probe: "nvidia-gpu-operator/device-plugin", State: facts.PresenceAbsent},
		{Probe: "hami/device-plugin", State: facts.PresenceFound, Kind: "DaemonSet", Namespace: "kube-system", Object: "hami-device-plugin", Ready: new(true)},
		{Probe: "hami/scheduler", State: facts.PresenceFound, Kind: "Deployment", Namespace: "kube-system", Object: "hami-scheduler", Ready: new(true)},
	}))
	return b.get(c.ID)
}

func (b *bundle) report(id uuid.UUID, d inventory.Delta) {
	b.t.Helper()
	require.NoError(b.t, b.inventory.Apply(b.t.Context(), id, d))
}

func (b *bundle) get(id uuid.UUID) *cluster.Cluster {
	b.t.Helper()
	c, err := b.clusters.Get(b.t.Context(), id.String())
	require.NoError(b.t, err)
	return c
}

// gpuNode has two GPUs, one of which a pod has.
func gpuNode(name string) facts.Node {
	n := facts.Node{
		Name: name, UID: uuid.NewSHA1(uuid.NameSpaceDNS, []byte(name)).String(), Ready: true, Schedulable: true, Architecture: "amd64", OSImage: "Ubuntu 24.04", Kernel: "6.8.0-48",
		OperatingSystem: "linux", Addresses: []facts.Address{{Type: "Hostname", Address: name}, {Type: "InternalIP", Address: "10.0.0.7"}},
		Capacity:    facts.Resources{CPUMillis: 64000, MemoryBytes: 512 << 30, Extended: map[string]int64{"nvidia.com/gpu": 2}},
		Allocatable: facts.Resources{CPUMillis: 63000, MemoryBytes: 500 << 30, Extended: map[string]int64{"nvidia.com/gpu": 2}},
		Requested:   facts.Resources{CPUMillis: 6300, MemoryBytes: 32 << 30, Extended: map[string]int64{"nvidia.com/gpu": 1}},
		CreatedAt:   time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC),
	}
	for i := range int32(2) {
		n.Devices = append(n.Devices, facts.Device{
			ID: "nvidia-cuda-" + string('0'+i), Vendor: "nvidia", Kind: facts.KindCUDA, Model: "NVIDIA-A100-SXM4-80GB", Index: new(i), MemoryBytes: new(int64(80 << 30)),
			Health: facts.HealthHealthy, CUDAVersion: "12.4", Resource: "nvidia.com/gpu", Source: facts.SourceLabel,
		})
	}
	n.Devices = append(n.Devices, cpu(63))
	return n
}

func cpuNode(name string) facts.Node {
	return facts.Node{
		Name: name, UID: "not-a-uuid", Ready: true, Schedulable: true, Roles: []string{"control-plane"}, Architecture: "amd64",
		Allocatable: facts.Resources{CPUMillis: 8000, MemoryBytes: 16 << 30}, Devices: []facts.Device{cpu(8)},
	}
}

func cpu(cores int32) facts.Device {
	return facts.Device{
		ID: "cpu-0", Vendor: "intel", Kind: facts.KindCPU, Model: "Sapphire Rapids", Cores: &cores, Threads: new(cores + 1), MemoryBytes: new(int64(cores) << 33),
		Health: facts.HealthHealthy, InstructionSets: []string{"AMX_TILE", "AVX2"}, Resource: "cpu", Source: facts.SourceNode,
	}
}

// call is one request; it returns the status and the body.
func (b *bundle) call(method, path string, body any) (status int, text string) {
	b.t.Helper()
	var reader io.Reader
	switch v := body.(type) {
	case nil:
	case string:
		reader = strings.NewReader(v)
	default:
		raw, err := json.Marshal(v)
		require.NoError(b.t, err)
		reader = bytes.NewReader(raw)
	}
	return b.do(httptest.NewRequest(method, path, reader))
}

func (b *bundle) do(r *http.Request) (status int, text string) {
	b.t.Helper()
	if b.sidecar != nil {
		status, answer := b.sidecar.Invoke(b.t, daprtest.AppID, r)
		require.True(b.t, json.Valid(answer), string(answer))
		return status, string(answer)
	}
	w := httptest.NewRecorder()
	b.face.Handler().ServeHTTP(w, r.WithContext(b.t.Context()))
	require.Equal(b.t, "application/json", w.Header().Get("Content-Type"), w.Body.String())
	require.True(b.t, json.Valid(w.Body.Bytes()), w.Body.String())
	return w.Code, w.Body.String()
}

// onboard sends the form; an empty part is left out.
func (b *bundle) onboard(request, file string) (status int, text string) {
	b.t.Helper()
	return b.do(form(b.t, request, file))
}

func form(t *testing.T, request, file string) *http.Request {
	t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	if request != "" {
		require.NoError(t, w.WriteField("cluster_create_request", request))
	}
	if file != "" {
		part, err := w.CreateFormFile("configuration", "kubeconfig.yaml")
		require.NoError(t, err)
		_, err = io.WriteString(part, file)
		require.NoError(t, err)
	}
	require.NoError(t, w.Close())
	r := httptest.NewRequest(http.MethodPost, "/cluster", &body)
	r.Header.Set("Content-Type", w.FormDataContentType())
	return r
}

// read decodes an answer.
func read[T any](t *testing.T, text string) (v T) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(text), &v), text)
	return v
}

// canary is a credential that must not show anywhere.
var canary = secret.New("canary-8a6b1f")

func goodKubeconfig() string {
	return `apiVersion: v1
kind: Config
current-context: main
contexts: [{name: main, context: {cluster: c, user: u}}]
clusters: [{name: c, cluster: {server: "https://203.0.113.7:6443"}}]
users: [{name: u, user: {token: ` + canary.Reveal() + `}}]
`
}

// asked is what the platform's main service sends.
func asked(name string) string {
	raw, _ := json.Marshal(map[string]any{
		"enable_master_node": true, "name": name, "ingress_url": "https://models.example.com", "cluster_type": "ON_PREM",
		"notification_metadata": map[string]any{"name": "bud-internal", "subscriber_ids": "7d5e", "workflow_id": "3c0ffee0-0000-4000-8000-000000000001"},
		"source_topic":          "budAppMessages",
	})
	return string(raw)
}
