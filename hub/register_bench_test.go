package hub_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/budecosystem/budcluster/hub"
	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/hubtest"
	"github.com/budecosystem/budcluster/hub/internal/pg"
	"github.com/budecosystem/budcluster/hub/internal/pg/pgtest"
	"github.com/budecosystem/budcluster/internal/facts"
	"github.com/budecosystem/budcluster/internal/secret"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// envHub gives this program a hub's configuration, as JSON: then it is one. Its
// listeners are files 3 and 4, and it says on file 5 that it is ready.
const envHub = "HUB_TEST_CONFIG"

// childConfig is what a hub needs to know that runs as a process of its own.
type childConfig struct {
	StateDir, ComponentsDir, DatabaseURL, URL, TunnelAddress string
}

func (c childConfig) config() hub.Config {
	cfg := hub.Defaults()
	cfg.StateDir, cfg.ComponentsDir, cfg.DatabaseURL = c.StateDir, c.ComponentsDir, secret.New(c.DatabaseURL)
	cfg.API.URL, cfg.Tunnel.Address = c.URL, c.TunnelAddress
	return cfg
}

// runHub is a hub until it is told to stop.
func runHub(config string) error {
	var c childConfig
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		return err
	}
	api, errAPI := net.FileListener(os.NewFile(3, "api"))
	tunnel, errTunnel := net.FileListener(os.NewFile(4, "tunnel"))
	if err := errors.Join(errAPI, errTunnel); err != nil {
		return err
	}
	h, err := hub.New(c.config(), hub.Options{
		Logger:      slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		APIListener: api, TunnelListener: tunnel, Replica: "hub-0",
	})
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	go func() {
		<-h.Ready()
		_ = os.NewFile(5, "ready").Close()
	}()
	return h.Run(ctx)
}

// spawnHub starts a hub as a process of its own, on a Postgres that waits for
// its disk, and stops it with the benchmark.
func spawnHub(b *testing.B) (h *hubtest.Hub, pid int) {
	b.Helper()
	dir, err := os.MkdirTemp("", "bench") //nolint:usetesting // short: a socket's path has at most 107 bytes
	require.NoError(b, err)
	require.NoError(b, os.Chmod(dir, 0o755)) // the database server runs as another user
	b.Cleanup(func() { _ = os.RemoveAll(dir) })
	dev, err := pg.NewDev(filepath.Join(dir, "pg"), slog.New(slog.DiscardHandler))
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(context.WithoutCancel(b.Context()))
	ended := make(chan error, 1)
	go func() { ended <- dev.Run(ctx) }()
	b.Cleanup(func() {
		cancel()
		require.NoError(b, <-ended)
	})
	<-dev.Ready()
	require.NoError(b, pg.Migrate(b.Context(), pgtest.Pool(b, dev.URL())))

	// Feature discovery's chart is one that the hub carries: there is no network.
	components := filepath.Join(dir, "components")
	require.NoError(b, os.Mkdir(components, 0o750))
	require.NoError(b, os.WriteFile(filepath.Join(components, "nfd.yaml"), []byte(`name: nfd
chart: {repository: "", digest: "", builtin: gaudi-device-plugin, name: gaudi-device-plugin, version: 0.1.0}
`), 0o600))
	api, tunnel := listenFile(b), listenFile(b)
	c := childConfig{
		StateDir: filepath.Join(dir, "state"), ComponentsDir: components, DatabaseURL: dev.URL(),
		URL: "http://" + api.Addr().String(), TunnelAddress: tunnel.Addr().String(),
	}
	key, err := hub.CreateKey(b.Context(), c.config(), slog.New(slog.DiscardHandler), hub.NewKey{Name: "bench", Role: "admin"})
	require.NoError(b, err)
	raw, err := json.Marshal(c)
	require.NoError(b, err)
	cmd := exec.CommandContext(context.WithoutCancel(b.Context()), os.Args[0])
	cmd.Env, cmd.Stderr = append(os.Environ(), envHub+"="+string(raw)), os.Stderr
	for _, ln := range []*net.TCPListener{api, tunnel} {
		f, err := ln.File()
		require.NoError(b, err)
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
		b.Cleanup(func() { _, _ = f.Close(), ln.Close() })
	}
	ready, tell, err := os.Pipe()
	require.NoError(b, err)
	cmd.ExtraFiles = append(cmd.ExtraFiles, tell)
	require.NoError(b, cmd.Start())
	b.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		require.NoError(b, cmd.Wait())
	})
	require.NoError(b, tell.Close())
	_, err = io.ReadAll(ready)
	require.NoError(b, err)
	return hubtest.Attach(b, c.URL, c.TunnelAddress, key), cmd.Process.Pid
}

func listenFile(b *testing.B) *net.TCPListener {
	b.Helper()
	ln, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	require.NoError(b, err)
	return ln
}

// peak is the most memory that a process ever had, in MiB.
func peak(b *testing.B, pid int) float64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	require.NoError(b, err)
	var kib float64
	_, after, ok := strings.Cut(string(status), "VmHWM:")
	require.True(b, ok)
	_, err = fmt.Sscan(after, &kib)
	require.NoError(b, err)
	return kib / 1024
}

// BenchmarkRegister registers clusters with a whole hub, in a process of its
// own, one and a hundred at once: their agents come over the tunnel, describe
// their clusters, install feature discovery in a few seconds and report the
// labels that it brings. What is reported is the time of a step that was not
// spent waiting for the cluster, and the most memory that the hub ever had.
func BenchmarkRegister(b *testing.B) {
	h, pid := spawnHub(b)
	for _, c := range []struct {
		name   string
		atOnce int
	}{{"baseline", 1}, {"hundred", 100}} {
		b.Run(c.name, func(b *testing.B) {
			var all []int64
			for b.Loop() {
				all = append(all, registerAtOnce(b, h, c.atOnce)...)
			}
			slices.Sort(all)
			b.ReportMetric(float64(all[len(all)/2]), "p50-ms")
			b.ReportMetric(float64(all[len(all)*95/100]), "p95-ms")
			b.ReportMetric(peak(b, pid), "hub-MiB")
		})
	}
}

// registerAtOnce registers so many new clusters and returns the overheads of
// all steps in milliseconds. The agents have their certificates before.
func registerAtOnce(b *testing.B, h *hubtest.Hub, n int) (overheads []int64) {
	b.Helper()
	b.StopTimer()
	agents := make([]*hubtest.Agent, n)
	for i := range agents {
		agents[i] = h.Joined(fmt.Sprintf("c%d-%d", i, time.Now().UnixNano()))
	}
	b.StartTimer()
	type result struct {
		w   hubapi.Workflow
		err error
	}
	results := make(chan result, n)
	ctx, stop := context.WithTimeout(b.Context(), 5*time.Minute)
	defer stop()
	for _, a := range agents {
		go func() {
			w, err := h.Client.Register(ctx, hubapi.RegisterRequest{Name: a.ClusterID.String(), Existing: true, Components: map[string]hubapi.ComponentWish{
				"scaler": {Wanted: "no"}, "prometheus-stack": {Wanted: "no"},
			}})
			if err == nil {
				err = playCluster(ctx, a)
			}
			for err == nil && !w.Status.Terminal() {
				select {
				case <-time.After(2 * time.Second): // seldom: it is no part of what is measured
				case <-ctx.Done():
				}
				w, err = h.Client.Workflow(ctx, w.ID)
			}
			results <- result{w, err}
		}()
	}
	for range agents {
		r := <-results
		require.NoError(b, r.err)
		require.Equal(b, hubapi.WorkflowCompleted, r.w.Status, r.w.Message)
		for _, step := range r.w.Steps {
			if step.Status == hubapi.StepCompleted {
				overheads = append(overheads, step.OverheadMillis)
			}
		}
	}
	return overheads
}

// playCluster is an agent of a cluster with one node, until ctx ends.
func playCluster(ctx context.Context, a *hubtest.Agent) error {
	c, err := a.Connect(ctx)
	if err != nil {
		return err
	}
	context.AfterFunc(ctx, c.Close)
	go func() { _, _ = c.Live() }()
	inventory, err := c.Inventory(ctx)
	if err != nil {
		return err
	}
	node := facts.Node{Name: "node-1", UID: "n1", Ready: true, Schedulable: true, Labels: map[string]string{}, Architecture: "amd64"}
	if _, err = inventory.Summary(&agentv1.Summary{ClusterDigest: "c", Nodes: map[string]string{node.Name: "d1"}}); err != nil {
		return err
	}
	described := facts.Cluster{UID: a.ClusterUID, Version: "v1.33.1", Platform: facts.PlatformKubernetes, Distribution: "kubernetes"}
	if _, err = inventory.Delta(&agentv1.Delta{Sequence: 1, Cluster: described.ToProto(), Nodes: []*agentv1.NodeFacts{node.ToProto()}}); err != nil {
		return err
	}
	sync, err := c.Sync(ctx)
	if err != nil {
		return err
	}
	go func() {
		for {
			m, err := sync.Stream.Recv()
			if err != nil {
				return
			}
			if probes := m.GetProbes(); probes != nil {
				var answers []facts.Presence
				for _, p := range facts.ProbesFromProto(probes) {
					answers = append(answers, facts.Presence{Probe: p.Name, State: facts.PresenceAbsent})
				}
				_ = sync.Stream.Send(&agentv1.SyncRequest{Message: &agentv1.SyncRequest_Presence{Presence: facts.PresenceToProto(answers)}})
			}
			if r := m.GetUpsert(); r != nil {
				<-time.After(2*time.Second + rand.N(4*time.Second)) // quicker than any real installation
				_ = sync.Report(&agentv1.ReleaseStatus{
					Id: r.GetId(), ObservedGeneration: r.GetGeneration(), Phase: string(agentv1.PhaseReady), Owned: true, Revision: 1, ChangedAt: timestamppb.Now(),
				})
				node.Labels["feature.node.kubernetes.io/kernel-version.full"] = "6.12.0"
				_, _ = inventory.Delta(&agentv1.Delta{Sequence: 2, Nodes: []*agentv1.NodeFacts{node.ToProto()}})
			}
		}
	}()
	return nil
}
