package cluster

import (
	"bytes"
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"text/template"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

//go:embed manifests
var manifests embed.FS

// nodeSpec is what cmd/nodeinit reads; the fields must agree with it.
type nodeSpec struct {
	Name    string            `json:"name"`
	Dir     string            `json:"dir"`
	Address string            `json:"address"` // with its prefix length
	Gateway string            `json:"gateway"`
	Routes  map[string]string `json:"routes"` // other nodes' pods: prefix to next hop
	Images  string            `json:"images"`
	Kubelet []string          `json:"kubelet"`
	Proxy   []string          `json:"proxy"`
}

// nodeFiles are the names and values that the configuration templates use.
type nodeFiles struct {
	Name, Dir, Cgroup, ClientCA, Cert, Key, DNS, Pods, ProxyKubeconfig, CNIPlugins, CNIConfig, Snapshotter, PauseImage string
	PodRange                                                                                                           string
}

// prepareNode writes a node's configuration.
func (c *Cluster) prepareNode(node *nodeState) error {
	s, dir := c.slot(), c.nodeDir(node)
	for _, sub := range []string{"var-lib/kubelet", "var-log", "cni"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return err
		}
	}
	plugins, err := cniPlugins()
	if err != nil {
		return err
	}
	files := nodeFiles{
		Name: node.Name, Dir: dir, Cgroup: "/" + s.cgroup(node.Index), ClientCA: c.pki("ca.crt"),
		Cert: c.pki(node.Name + ".crt"), Key: c.pki(node.Name + ".key"), DNS: s.dnsService(), Pods: s.pods(),
		ProxyKubeconfig: filepath.Join(c.dir, "proxy.kubeconfig"), CNIPlugins: plugins, CNIConfig: filepath.Join(dir, "cni"),
		Snapshotter: snapshotter(c.dir), PauseImage: PauseImage, PodRange: s.podsOf(node.Index),
	}
	for source, to := range map[string]string{
		"containerd.toml": "containerd.toml", "kubelet.yaml": "kubelet.yaml", "kube-proxy.yaml": "kube-proxy.yaml", "cni.json": "cni/10-e2e.conflist",
	} {
		if err := render(source, filepath.Join(dir, to), files); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "resolv.conf"), nil, 0o644); err != nil {
		return err
	}
	return c.writeNodeSpec(node)
}

func (c *Cluster) writeNodeSpec(node *nodeState) error {
	s, dir := c.slot(), c.nodeDir(node)
	kubelet, err := c.component("kubelet")
	if err != nil {
		return err
	}
	proxy, err := c.component("kube-proxy")
	if err != nil {
		return err
	}
	spec := nodeSpec{
		Name: node.Name, Dir: dir, Address: s.node(node.Index) + "/24", Gateway: s.address(), Routes: map[string]string{},
		Images: filepath.Join(c.dir, "images"),
		Kubelet: []string{
			kubelet, "--config=" + filepath.Join(dir, "kubelet.yaml"), "--kubeconfig=" + filepath.Join(c.dir, node.Name+".kubeconfig"),
			"--hostname-override=" + node.Name, "--node-ip=" + s.node(node.Index), "--node-labels=" + realNode + "=true",
		},
		Proxy: []string{proxy, "--config=" + filepath.Join(dir, "kube-proxy.yaml")},
	}
	for _, other := range c.state.Nodes {
		if other.Index != node.Index {
			spec.Routes[s.podsOf(other.Index)] = s.node(other.Index)
		}
	}
	content, err := json.MarshalIndent(spec, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "node.json"), content, 0o600)
}

func render(source, to string, data any) error {
	t, err := template.ParseFS(manifests, "manifests/"+source)
	if err != nil {
		return fmt.Errorf("read template %s: %w", source, err)
	}
	var content bytes.Buffer
	if err := t.Execute(&content, data); err != nil {
		return fmt.Errorf("render %s: %w", source, err)
	}
	return os.WriteFile(to, content.Bytes(), 0o600)
}

func (c *Cluster) nodeDir(node *nodeState) string { return filepath.Join(c.dir, node.Name) }

// realNode labels the nodes that run pods, as against kwok's.
const realNode = "budcluster.test/real"

// boot starts a node and returns when its kubelet has been started.
func (c *Cluster) boot(ctx context.Context, node *nodeState) error {
	s, dir := c.slot(), c.nodeDir(node)
	up := filepath.Join(dir, "up")
	if err := os.Remove(up); err != nil && !missing(err) {
		return err
	}
	if err := s.makeCgroup(node.Index); err != nil {
		return err
	}
	child, err := c.spawner.start(spawn{
		name: node.Name, log: c.log(node.Name), path: c.bin.Path("nodeinit"), args: []string{filepath.Join(dir, "node.json")},
		dir:   "/",
		env:   append(os.Environ(), "KUBECONFIG="),
		clone: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWUTS,
		stdin: true,
	})
	if err != nil {
		return err
	}
	c.children[node.Name] = child
	node.Proc = &child.proc
	if err := c.state.write(c.dir); err != nil {
		return err
	}
	if err := s.attach(ctx, node); err != nil {
		return fmt.Errorf("connect %s: %w", node.Name, err)
	}
	// The node waits for this word before it looks for its network card.
	if _, err := io.WriteString(child.stdin, "go\n"); err != nil {
		return fmt.Errorf("start %s: %w%s", node.Name, err, tail(c.log(node.Name)))
	}
	return c.awaitPart(ctx, node.Name, time.Minute, node.Name+"'s container runtime and images", func(context.Context) error {
		_, err := os.Stat(up)
		return err
	})
}

// StopNode takes a node down as a power cut would. What it had on disk stays.
func (c *Cluster) StopNode(ctx context.Context, name string) error {
	node, err := c.node(name)
	if err != nil {
		return err
	}
	if node.Proc == nil {
		return fmt.Errorf("node %s is stopped already", name)
	}
	if err := killAll(ctx, []proc{*node.Proc}); err != nil {
		return err
	}
	node.Proc = nil
	return errors.Join(c.slot().removeCgroup(ctx, node.Index), c.state.write(c.dir))
}

// StartNode boots a stopped node.
func (c *Cluster) StartNode(ctx context.Context, name string) error {
	node, err := c.node(name)
	if err != nil {
		return err
	}
	if node.Proc != nil && node.Proc.alive() {
		return fmt.Errorf("node %s runs already", name)
	}
	return c.boot(ctx, node)
}

func (c *Cluster) node(name string) (*nodeState, error) {
	for _, node := range c.state.Nodes {
		if node.Name == name {
			return node, nil
		}
	}
	return nil, fmt.Errorf("no node called %s", name)
}

// awaitNodes waits until every node that was started is Ready.
func (c *Cluster) awaitNodes(ctx context.Context) error {
	return await(ctx, 2*time.Minute, "the nodes to be Ready", func(ctx context.Context) error {
		for _, node := range c.state.Nodes {
			object, err := c.kube.CoreV1().Nodes().Get(ctx, node.Name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			if !NodeReady(object) {
				return fmt.Errorf("%s is not ready (its log: %s)", node.Name, filepath.Join(c.nodeDir(node), "kubelet.log"))
			}
		}
		return nil
	})
}

// NodeReady says whether a node's condition Ready is True.
func NodeReady(node *corev1.Node) bool {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// LoadImage imports image archives into every running node.
func (c *Cluster) LoadImage(ctx context.Context, archives ...string) error {
	for _, node := range c.state.Nodes {
		if node.Proc == nil {
			continue
		}
		// Through /proc, since the node's /run is its own.
		socket := fmt.Sprintf("/proc/%d/root/run/containerd/containerd.sock", node.Proc.PID)
		for _, archive := range archives {
			out, err := exec.CommandContext(ctx, "ctr", "--address", socket, "--namespace", "k8s.io", "images", "import", archive).CombinedOutput()
			if err != nil {
				return fmt.Errorf("import %s into %s: %w: %s", archive, node.Name, err, out)
			}
		}
	}
	return nil
}
