package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// apiPort is where the API server listens, on the bridge's address.
const apiPort = "6443"

func (c *Cluster) pki(file string) string { return filepath.Join(c.dir, "pki", file) }
func (c *Cluster) log(name string) string { return filepath.Join(c.dir, "logs", name+".log") }

// makeIdentities writes every certificate and kubeconfig that the parts need.
func (c *Cluster) makeIdentities() error {
	s := c.slot()
	server := "https://" + net.JoinHostPort(s.address(), apiPort)
	subjects := []subject{
		{
			file: "apiserver", name: "kube-apiserver",
			dns: []string{"localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local"},
			ips: []string{"127.0.0.1", s.address(), s.apiService()},
		},
		{file: "admin", name: "admin", organization: "system:masters"},
		{file: "controllers", name: "system:kube-controller-manager"},
		{file: "scheduler", name: "system:kube-scheduler"},
		{file: "proxy", name: "system:kube-proxy"},
		{file: "kubelet-client", name: "kube-apiserver", organization: "system:masters"},
		{file: "front-proxy", name: "front-proxy-client"},
	}
	for _, node := range c.state.Nodes {
		subjects = append(subjects, subject{
			file: node.Name, name: "system:node:" + node.Name, organization: "system:nodes",
			dns: []string{node.Name}, ips: []string{s.node(node.Index)},
		})
	}
	a, err := newAuthority(filepath.Join(c.dir, "pki"))
	if err != nil {
		return fmt.Errorf("make the certificate authority: %w", err)
	}
	for _, subject := range subjects {
		if err := a.issue(subject); err != nil {
			return err
		}
		if err := a.kubeconfig(filepath.Join(c.dir, subject.file+".kubeconfig"), subject.file, server); err != nil {
			return err
		}
	}
	return nil
}

// startControlPlane starts the parts in order and waits until pods could be
// created.
func (c *Cluster) startControlPlane(ctx context.Context) error {
	if err := c.run(ctx, "etcd", c.bin.Path("etcd"), c.etcdArgs()...); err != nil {
		return err
	}
	if _, err := c.component("kubectl"); err != nil { // for people, beside the others
		return err
	}
	api, err := c.component("kube-apiserver")
	if err != nil {
		return err
	}
	if err := c.run(ctx, "kube-apiserver", api, c.apiserverArgs()...); err != nil {
		return err
	}
	if err := c.connect(); err != nil {
		return err
	}
	if err := c.awaitPart(ctx, "kube-apiserver", time.Minute, "the API server", func(ctx context.Context) error {
		_, err := c.kube.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx)
		return err
	}); err != nil {
		return err
	}
	for name, args := range map[string][]string{"kube-controller-manager": c.controllerArgs(), "kube-scheduler": c.schedulerArgs()} {
		path, err := c.component(name)
		if err != nil {
			return err
		}
		if err := c.run(ctx, name, path, args...); err != nil {
			return err
		}
	}
	return c.awaitPart(ctx, "kube-controller-manager", time.Minute, "the default service account", func(ctx context.Context) error {
		_, err := c.kube.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
		return err
	})
}

// component is a name for the one Kubernetes binary.
func (c *Cluster) component(name string) (string, error) {
	path := filepath.Join(c.dir, "bin", name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", err
	}
	if err := os.Symlink(c.bin.Path("kube"), path); err != nil && !errors.Is(err, os.ErrExist) {
		return "", err
	}
	return path, nil
}

// run starts a part of the control plane and records it.
func (c *Cluster) run(_ context.Context, name, path string, args ...string) error {
	child, err := c.spawner.start(spawn{name: name, log: c.log(name), path: path, args: args, dir: c.dir})
	if err != nil {
		return err
	}
	c.children[name] = child
	c.state.Procs = append(c.state.Procs, child.proc)
	return c.state.write(c.dir)
}

// awaitPart waits, and gives up at once when the process ends.
func (c *Cluster) awaitPart(ctx context.Context, name string, atMost time.Duration, what string, try func(context.Context) error) error {
	child := c.children[name]
	err := await(ctx, atMost, what, func(ctx context.Context) error {
		select {
		case <-child.exited:
			return fmt.Errorf("%s: %w: %w", name, errHopeless, child.err)
		default:
			return try(ctx)
		}
	})
	if err != nil {
		return fmt.Errorf("%w%s", err, tail(c.log(name)))
	}
	return nil
}

func (c *Cluster) etcdArgs() []string {
	lo := c.slot().loopback()
	return []string{
		"--name=e2e", "--data-dir=" + filepath.Join(c.dir, "etcd"),
		"--listen-client-urls=http://" + lo + ":2379", "--advertise-client-urls=http://" + lo + ":2379",
		"--listen-peer-urls=http://" + lo + ":2380", "--initial-advertise-peer-urls=http://" + lo + ":2380",
		"--initial-cluster=e2e=http://" + lo + ":2380",
		"--unsafe-no-fsync", // a throwaway: nobody mourns it after a power cut
		"--log-level=warn",
	}
}

func (c *Cluster) apiserverArgs() []string {
	s := c.slot()
	return []string{
		"--etcd-servers=http://" + s.loopback() + ":2379",
		// The bridge's address is also what pods are told: it must not be loopback.
		"--bind-address=" + s.address(), "--advertise-address=" + s.address(), "--secure-port=" + apiPort,
		"--tls-cert-file=" + c.pki("apiserver.crt"), "--tls-private-key-file=" + c.pki("apiserver.key"),
		"--client-ca-file=" + c.pki("ca.crt"),
		"--service-account-issuer=https://kubernetes.default.svc.cluster.local",
		"--service-account-key-file=" + c.pki("sa.pub"), "--service-account-signing-key-file=" + c.pki("sa.key"),
		"--kubelet-client-certificate=" + c.pki("kubelet-client.crt"), "--kubelet-client-key=" + c.pki("kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP,Hostname",
		"--requestheader-client-ca-file=" + c.pki("ca.crt"), "--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User", "--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + c.pki("front-proxy.crt"), "--proxy-client-key-file=" + c.pki("front-proxy.key"),
		// There is no kube-proxy on this side: webhooks go to pods directly.
		"--enable-aggregator-routing=true",
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--service-cluster-ip-range=" + s.services(), "--allow-privileged=true",
	}
}

func (c *Cluster) controllerArgs() []string {
	config := filepath.Join(c.dir, "controllers.kubeconfig")
	return []string{
		"--kubeconfig=" + config, "--authentication-kubeconfig=" + config, "--authorization-kubeconfig=" + config,
		"--root-ca-file=" + c.pki("ca.crt"), "--service-account-private-key-file=" + c.pki("sa.key"),
		"--cluster-signing-cert-file=" + c.pki("ca.crt"), "--cluster-signing-key-file=" + c.pki("ca.key"),
		"--use-service-account-credentials=true", "--controllers=*", "--leader-elect=false",
		"--bind-address=" + c.slot().loopback(),
		// Pod ranges are given to the nodes here: the controller's own would run
		// out after 256 pretend nodes.
		"--allocate-node-cidrs=false", "--kube-api-qps=500", "--kube-api-burst=1000",
		// A stopped node is noticed in half a minute instead of most of one.
		"--node-monitor-period=2s", "--node-monitor-grace-period=30s",
	}
}

func (c *Cluster) schedulerArgs() []string {
	config := filepath.Join(c.dir, "scheduler.kubeconfig")
	return []string{
		"--kubeconfig=" + config, "--authentication-kubeconfig=" + config, "--authorization-kubeconfig=" + config,
		"--leader-elect=false", "--bind-address=" + c.slot().loopback(), "--kube-api-qps=500", "--kube-api-burst=1000",
	}
}
