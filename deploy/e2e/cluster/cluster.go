package cluster

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
)

// Config says what to bring up.
type Config struct {
	// Bin are the programs, from Build.
	Bin Binaries
	// StateDir is where everything is kept. Default: clusters/<Name> below
	// CacheDir.
	StateDir string
	// Name is for people; default "e2e".
	Name string
	// Nodes is how many real nodes: 0 is a control plane alone.
	Nodes int
	// Detach lets the cluster outlive this process; Down ends it.
	Detach bool
	// Progress hears what is being done.
	Progress func(format string, args ...any)
}

// Cluster is a running cluster. Its methods may not be called concurrently,
// but for the clients', which may.
type Cluster struct {
	dir      string
	bin      Binaries
	state    *state
	spawner  *spawner
	children map[string]*started
	progress func(string, ...any)

	config  *rest.Config
	kube    *kubernetes.Clientset
	dynamic *dynamic.DynamicClient
}

// StateDir returns where a cluster of that name is kept.
func StateDir(name string) (string, error) {
	dir, err := CacheDir()
	if err != nil {
		return "", err
	}
	return filepath.Join(dir, "clusters", name), nil
}

func (c Config) checked() (Config, error) {
	if c.Name == "" {
		c.Name = "e2e"
	}
	if c.StateDir == "" {
		dir, err := StateDir(c.Name)
		if err != nil {
			return c, err
		}
		c.StateDir = dir
	}
	dir, err := filepath.Abs(c.StateDir)
	if err != nil {
		return c, err
	}
	c.StateDir = dir
	if c.Progress == nil {
		c.Progress = func(string, ...any) {}
	}
	if c.Nodes < 0 || c.Nodes > maxNodes {
		return c, fmt.Errorf("%d nodes: from 0 to %d fit", c.Nodes, maxNodes)
	}
	return c, Preflight(c.StateDir)
}

// Up brings a cluster up and returns when its nodes are Ready. What an
// earlier, dead run left in the same state folder is removed first. When it
// fails, nothing stays but the logs.
func Up(ctx context.Context, cfg Config) (*Cluster, error) {
	cfg, err := cfg.checked()
	if err != nil {
		return nil, err
	}
	if err := clearOld(ctx, cfg); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.StateDir, 0o755); err != nil {
		return nil, err
	}
	self := procOf("owner", os.Getpid())
	c := &Cluster{
		dir: cfg.StateDir, bin: cfg.Bin, progress: cfg.Progress, spawner: newSpawner(cfg.Detach), children: map[string]*started{},
		state: &state{Name: cfg.Name, Slot: -1, Owner: &self, Bin: cfg.Bin.paths},
	}
	for i := range cfg.Nodes {
		c.state.Nodes = append(c.state.Nodes, &nodeState{Name: fmt.Sprintf("node%d", i+1), Index: i + 1})
	}
	if err := c.up(ctx); err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
		defer cancel()
		return nil, errors.Join(err, c.keepLogs(), c.Down(ctx))
	}
	if cfg.Detach {
		c.state.Owner = nil
	}
	c.state.Ready = true
	return c, c.state.write(c.dir)
}

// clearOld removes a dead run's remains and refuses a living one's.
func clearOld(ctx context.Context, cfg Config) error {
	old, err := readState(cfg.StateDir)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if old.Owner != nil && old.Owner.alive() {
		return fmt.Errorf("cluster %s belongs to process %d, which still runs: wait for it, or stop it", old.Name, old.Owner.PID)
	}
	if old.Owner == nil && old.anyAlive() {
		return fmt.Errorf("cluster %s is up already: use it, or take it down first", old.Name)
	}
	cfg.Progress("removing what an earlier run left in %s", cfg.StateDir)
	return Down(ctx, cfg.StateDir)
}

func (s *state) anyAlive() bool {
	return slices.ContainsFunc(s.processes(), proc.alive)
}

// processes are all recorded ones, nodes first.
func (s *state) processes() []proc {
	var all []proc
	for _, node := range s.Nodes {
		if node.Proc != nil {
			all = append(all, *node.Proc)
		}
	}
	return append(all, s.Procs...)
}

func (c *Cluster) up(ctx context.Context) error {
	began := time.Now()
	lap := func(format string, args ...any) {
		c.progress("%5.1fs  %s", time.Since(began).Seconds(), fmt.Sprintf(format, args...))
	}
	reserve := func(s slot) error {
		c.state.Slot = int(s)
		return c.state.write(c.dir)
	}
	s, err := takeSlot(ctx, reserve)
	if err != nil {
		return err
	}
	if err := errors.Join(c.makeIdentities(), writeImages(filepath.Join(c.dir, "images"), c.bin)); err != nil {
		return err
	}
	lap("certificates and images made; network %s on bridge %s", s.network(), s.bridge())
	if err := c.startControlPlane(ctx); err != nil {
		return err
	}
	lap("control plane answers at https://%s:%s", s.address(), apiPort)
	if len(c.state.Nodes) == 0 {
		return nil
	}
	base, err := manifest("base.yaml", map[string]any{"CoreDNSImage": CoreDNSImage, "DNS": s.dnsService()})
	if err != nil {
		return err
	}
	if err := c.Apply(ctx, base); err != nil {
		return err
	}
	for _, node := range c.state.Nodes {
		if err := errors.Join(c.prepareNode(node)); err != nil {
			return err
		}
		if err := c.boot(ctx, node); err != nil {
			return err
		}
	}
	lap("%d nodes booted", len(c.state.Nodes))
	if err := c.awaitNodes(ctx); err != nil {
		return err
	}
	lap("nodes Ready")
	return nil
}

// keepLogs moves the logs of a failed start aside, where Down leaves them.
func (c *Cluster) keepLogs() error {
	kept := c.dir + ".failed"
	if err := os.RemoveAll(kept); err != nil {
		return err
	}
	if err := os.MkdirAll(kept, 0o755); err != nil {
		return err
	}
	logs, err := filepath.Glob(filepath.Join(c.dir, "logs", "*.log"))
	if err != nil {
		return err
	}
	nodes, err := filepath.Glob(filepath.Join(c.dir, "node*", "*.log"))
	if err != nil {
		return err
	}
	for _, log := range append(logs, nodes...) {
		name := filepath.Base(filepath.Dir(log)) + "-" + filepath.Base(log)
		if err := os.Rename(log, filepath.Join(kept, name)); err != nil {
			return err
		}
	}
	c.progress("the logs are in %s", kept)
	return nil
}

// Attach finds a cluster that another process brought up.
func Attach(dir string) (*Cluster, error) {
	s, err := readState(dir)
	if missing(err) {
		return nil, fmt.Errorf("no cluster in %s: bring one up first", dir)
	}
	if err != nil {
		return nil, err
	}
	if !s.Ready || !s.anyAlive() {
		return nil, fmt.Errorf("the cluster in %s is not running: take it down, then up again", dir)
	}
	c := &Cluster{
		dir: dir, bin: Binaries{paths: s.Bin}, state: s, spawner: newSpawner(true), children: map[string]*started{},
		progress: func(string, ...any) {},
	}
	return c, c.connect()
}

// Down ends the cluster and removes all of it.
func (c *Cluster) Down(ctx context.Context) error {
	err := Down(ctx, c.dir)
	for _, child := range c.children {
		<-child.exited // Down killed them; this only collects
	}
	c.spawner.close()
	return err
}

// Down removes the cluster whose state is in dir: by what is recorded there,
// so it also clears up after a run that was killed. Nothing there is no error.
func Down(ctx context.Context, dir string) error {
	s, err := readState(dir)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := killAll(ctx, s.processes()); err != nil {
		return err
	}
	if s.Slot >= 0 {
		if err := slot(s.Slot).release(ctx, s.Nodes); err != nil {
			return err
		}
	}
	// A node's overlay files may be let go of a moment after its last process.
	return await(ctx, 10*time.Second, "the state folder to be free", func(context.Context) error {
		return os.RemoveAll(dir)
	})
}

// killAll ends processes and waits until they are gone.
func killAll(ctx context.Context, procs []proc) error {
	for _, p := range procs {
		if err := p.kill(); err != nil {
			return err
		}
	}
	return await(ctx, 20*time.Second, "processes to end", func(context.Context) error {
		for _, p := range procs {
			if p.alive() {
				return fmt.Errorf("%s (process %d) is still there", p.Name, p.PID)
			}
		}
		return nil
	})
}

// Kubeconfig is the file for an administrator of the cluster.
func (c *Cluster) Kubeconfig() string { return filepath.Join(c.dir, "admin.kubeconfig") }

// Address is this machine's address as pods see it: what listens there can be
// reached from every pod, and from nowhere outside the machine.
func (c *Cluster) Address() string { return c.slot().address() }

// Dir is the state folder, with the logs of the control plane in logs/ and
// those of each node in node<N>/.
func (c *Cluster) Dir() string { return c.dir }

// Nodes are the names of the real nodes.
func (c *Cluster) Nodes() []string {
	var names []string
	for _, node := range c.state.Nodes {
		names = append(names, node.Name)
	}
	return names
}

func (c *Cluster) slot() slot { return slot(c.state.Slot) }

// Helm returns a command that runs helm against this cluster, with folders of
// its own for what helm remembers.
func (c *Cluster) Helm(ctx context.Context, args ...string) *exec.Cmd {
	home := filepath.Join(c.dir, "helm")
	cmd := exec.CommandContext(ctx, c.bin.Path("helm"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig(), "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home)
	return cmd
}

// Kubectl returns a command that runs kubectl against this cluster.
func (c *Cluster) Kubectl(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, c.bin.Path("kube"), append([]string{"kubectl"}, args...)...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+c.Kubeconfig())
	return cmd
}

// Paths are the programs by name, for those who run them by hand.
func (b Binaries) Paths() map[string]string { return maps.Clone(b.paths) }
