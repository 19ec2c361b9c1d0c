//go:build e2e

package suite_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/budecosystem/budcluster/deploy/e2e/cluster"
)

// env is what all tests share; TestMain makes it.
var env *world

// world is the cluster and the programs under test.
type world struct {
	repo    string // the repository's root
	bin     cluster.Binaries
	cluster *cluster.Cluster
	dir     string // scratch space of this run

	mu     sync.Mutex // guards shared, notes
	common *site
	// unjoined says that a test tried to join the shared site and could not.
	unjoined bool
	notes    []string
}

func TestMain(m *testing.M) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	code, err := run(ctx, m)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "\nend-to-end tests cannot run:", err)
		code = 1
	}
	os.Exit(code)
}

func run(ctx context.Context, m *testing.M) (code int, err error) {
	w := &world{}
	if err := w.prepare(ctx); err != nil {
		return 1, err
	}
	defer os.RemoveAll(w.dir)
	config := cluster.Config{Bin: w.bin, Name: "e2e", Nodes: 2, Progress: say}
	if w.cluster, err = cluster.Up(ctx, config); err != nil {
		return 1, err
	}
	defer func() {
		if w.common != nil {
			w.common.hub.kill()
		}
		err = errors.Join(err, w.cluster.Down(context.WithoutCancel(ctx)))
	}()
	if err := w.load(ctx); err != nil {
		return 1, err
	}
	env = w
	code = m.Run()
	if len(w.notes) > 0 {
		fmt.Printf("\nmeasured:\n  %s\n", strings.Join(w.notes, "\n  "))
	}
	return code, nil
}

func say(format string, args ...any) { fmt.Printf(format+"\n", args...) }

// prepare finds the programs and builds those of the cluster.
func (w *world) prepare(ctx context.Context) error {
	wd, err := os.Getwd()
	if err != nil {
		return err
	}
	root, err := cluster.FindRoot(wd)
	if err != nil {
		return err
	}
	w.repo = filepath.Join(root, "..", "..")
	for _, needed := range []string{"bin/budcluster-hub", "bin/budcluster-agent", "bin/budcluster", agentArchive, hubArchive} {
		if _, err := os.Stat(filepath.Join(w.repo, needed)); err != nil {
			return fmt.Errorf("%s is not built: run make build images first (make e2e does)", needed)
		}
	}
	dir, err := cluster.StateDir("e2e")
	if err != nil {
		return err
	}
	if err := cluster.Preflight(dir); err != nil {
		return err
	}
	if w.dir, err = os.MkdirTemp("", "bud-e2e-"); err != nil {
		return err
	}
	// The hub's private PostgreSQL runs as another user, who must get in.
	if err := os.Chmod(w.dir, 0o755); err != nil {
		return err
	}
	w.bin, err = cluster.Build(ctx, cluster.BuildConfig{Root: root, Prebuilt: os.Getenv("KUBE_BIN_DIR"), Progress: say})
	return err
}

// agentArchive is the agent's image, as make images writes it.
const agentArchive = "dist/budcluster-agent.tar"

// load puts the agent's image and the pretend GPUs into the cluster.
func (w *world) load(ctx context.Context) error {
	started := time.Now()
	if err := w.cluster.LoadImage(ctx, filepath.Join(w.repo, agentArchive)); err != nil {
		return err
	}
	if err := w.cluster.FakeGPUs(ctx, gpusPerNode); err != nil {
		return err
	}
	say("agent image loaded into %s in %s", strings.Join(w.cluster.Nodes(), " and "), time.Since(started).Round(time.Millisecond))
	return nil
}

const gpusPerNode = 8

// proved writes what a test showed into its log.
func proved(t *testing.T, format string, args ...any) {
	t.Helper()
	t.Logf("PROVED: "+format, args...)
}

// measured writes a figure into the test's log and into the list at the end.
func measured(t *testing.T, format string, args ...any) {
	t.Helper()
	note := fmt.Sprintf(format, args...)
	t.Log("measured: " + note)
	env.mu.Lock()
	defer env.mu.Unlock()
	if !slices.Contains(env.notes, note) {
		env.notes = append(env.notes, note)
	}
}

// await tries until it works; what names what is waited for. The last reason
// why not is in the failure.
func await(t *testing.T, atMost time.Duration, what string, try func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), atMost)
	defer cancel()
	again := time.NewTicker(100 * time.Millisecond)
	defer again.Stop()
	for {
		err := try(ctx)
		if err == nil {
			return
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			t.Fatalf("waited %s for %s: %v", atMost, what, err)
		}
	}
}
