package agenttest

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// KubeBinDirEnv names the folder that holds etcd and kube-apiserver.
const KubeBinDirEnv = "KUBE_BIN_DIR"

// startTimeout is long because a loaded machine with two cores took 25 s.
const startTimeout = 2 * time.Minute

// adminToken is known to the whole world: the server listens on loopback only
// and lives for one test run.
const adminToken = "agenttest-admin"

// Kube is a real API server with its etcd, and nothing else: no controller
// and no node. Objects stay as tests write them, so a test plays the kubelet
// and the controllers by writing status.
type Kube struct {
	binDir, dir string
	etcdURL     string
	port        int
	etcd        *process
	apiserver   *process
	config      *rest.Config
	namespaces  atomic.Int64
}

// RunWithKube is the body of a TestMain: it starts one server for the
// package, runs the tests, stops the server and returns the exit code. When
// the server cannot start, it says why and nothing runs.
func RunWithKube(m *testing.M, use func(*Kube)) int {
	k, err := StartKube()
	if err != nil {
		fmt.Fprintf(os.Stderr, "\n*** %v\n\n", err)
		return 1
	}
	defer k.Stop()
	use(k)
	return m.Run()
}

// StartKube starts etcd and kube-apiserver on private loopback ports. They
// die with the process that started them.
func StartKube() (*Kube, error) {
	binDir, err := kubeBinDir()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "agenttest-kube-")
	if err != nil {
		return nil, fmt.Errorf("make folder for the API server: %w", err)
	}
	k := &Kube{binDir: binDir, dir: dir}
	if err := k.start(); err != nil {
		k.Stop()
		return nil, err
	}
	return k, nil
}

// kubeBinDir finds the binaries that `make cluster-build` made.
func kubeBinDir() (string, error) {
	dir := os.Getenv(KubeBinDirEnv)
	if dir == "" {
		return "", fmt.Errorf("%s is not set, so these tests have no Kubernetes API server to run against: "+
			"run `make cluster-build` once, then `make test`, which sets it", KubeBinDirEnv)
	}
	for _, name := range []string{"etcd", "kube-apiserver"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return "", fmt.Errorf("%s=%s holds no %s, so these tests have no Kubernetes API server to run against: "+
				"run `make cluster-build` once", KubeBinDirEnv, dir, name)
		}
	}
	return dir, nil
}

func (k *Kube) start() error {
	ports, err := freePorts(3)
	if err != nil {
		return err
	}
	k.etcdURL = fmt.Sprintf("http://127.0.0.1:%d", ports[0])
	peerURL := fmt.Sprintf("http://127.0.0.1:%d", ports[1])
	k.port = ports[2]
	if err := k.writeFiles(); err != nil {
		return err
	}
	k.etcd, err = startProcess(k.path("etcd.log"), filepath.Join(k.binDir, "etcd"),
		"--data-dir", k.path("etcd"), "--name", "default",
		"--listen-client-urls", k.etcdURL, "--advertise-client-urls", k.etcdURL,
		"--listen-peer-urls", peerURL, "--initial-advertise-peer-urls", peerURL,
		"--initial-cluster", "default="+peerURL, "--unsafe-no-fsync", "--log-level", "error")
	if err != nil {
		return fmt.Errorf("start etcd: %w", err)
	}
	return k.StartServer()
}

// StartServer starts kube-apiserver again after StopServer, on the same port
// and with the same data.
func (k *Kube) StartServer() error {
	p, err := startProcess(k.path("apiserver.log"), filepath.Join(k.binDir, "kube-apiserver"),
		"--etcd-servers="+k.etcdURL, "--bind-address=127.0.0.1", fmt.Sprintf("--secure-port=%d", k.port),
		"--cert-dir="+k.path("certs"), "--token-auth-file="+k.path("tokens.csv"),
		"--authorization-mode=RBAC", "--disable-admission-plugins=ServiceAccount",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-cluster-ip-range=10.0.0.0/24",
		"--service-account-key-file="+k.path("sa.key"), "--service-account-signing-key-file="+k.path("sa.key"),
		"--allow-privileged=true", "--max-requests-inflight=1000", "--max-mutating-requests-inflight=500",
		"--shutdown-delay-duration=0s")
	if err != nil {
		return fmt.Errorf("start kube-apiserver: %w", err)
	}
	k.apiserver = p
	return k.awaitReady()
}

// StopServer ends kube-apiserver and leaves etcd: the API server is away.
func (k *Kube) StopServer() {
	k.apiserver.kill()
}

// Stop ends both processes and removes their files.
func (k *Kube) Stop() {
	k.apiserver.kill()
	k.etcd.kill()
	_ = os.RemoveAll(k.dir)
}

// Config returns an admin's client configuration without rate limits.
func (k *Kube) Config() *rest.Config { return rest.CopyConfig(k.config) }

// Client returns an admin's client.
func (k *Kube) Client(t testing.TB) kubernetes.Interface {
	t.Helper()
	c, err := kubernetes.NewForConfig(k.Config())
	if err != nil {
		t.Fatalf("make client: %v", err)
	}
	return c
}

// Kubeconfig returns the path of an admin's kubeconfig file.
func (k *Kube) Kubeconfig() string { return k.path("kubeconfig") }

// Namespace makes a namespace of the test's own and returns its name.
func (k *Kube) Namespace(t testing.TB) string {
	t.Helper()
	name := fmt.Sprintf("t%d-%d", os.Getpid(), k.namespaces.Add(1))
	_, err := k.Client(t).CoreV1().Namespaces().Create(t.Context(),
		&corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: name}}, metav1.CreateOptions{})
	if err != nil {
		t.Fatalf("create namespace %s: %v", name, err)
	}
	return name
}

func (k *Kube) path(name string) string { return filepath.Join(k.dir, name) }

func (k *Kube) writeFiles() error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make service account key: %w", err)
	}
	der, err := x509.MarshalECPrivateKey(key)
	if err != nil {
		return fmt.Errorf("encode service account key: %w", err)
	}
	files := map[string][]byte{
		"sa.key":     pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: der}),
		"tokens.csv": []byte(adminToken + ",admin,admin,system:masters\n"),
	}
	for name, data := range files {
		if err := os.WriteFile(k.path(name), data, 0o600); err != nil {
			return fmt.Errorf("write %s: %w", name, err)
		}
	}
	return nil
}

// awaitReady waits until the server is ready and the namespaces that it makes
// by itself exist.
func (k *Kube) awaitReady() error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), startTimeout,
		fmt.Errorf("kube-apiserver was not ready after %s", startTimeout))
	defer cancel()
	var last error
	for {
		if last = k.probe(ctx); last == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w; its log ends:\n%s", context.Cause(ctx), last, k.apiserver.tail())
		case <-k.apiserver.done:
			return fmt.Errorf("kube-apiserver ended; its log ends:\n%s", k.apiserver.tail())
		case <-k.etcd.done:
			return fmt.Errorf("etcd ended; its log ends:\n%s", k.etcd.tail())
		case <-time.After(100 * time.Millisecond):
		}
	}
}

func (k *Kube) probe(ctx context.Context) error {
	ca, err := os.ReadFile(k.path("certs/apiserver.crt"))
	if err != nil {
		return fmt.Errorf("read certificate of kube-apiserver: %w", err)
	}
	k.config = &rest.Config{
		Host: fmt.Sprintf("https://127.0.0.1:%d", k.port), BearerToken: adminToken,
		TLSClientConfig: rest.TLSClientConfig{CAData: ca}, QPS: -1,
	}
	client, err := kubernetes.NewForConfig(k.config)
	if err != nil {
		return fmt.Errorf("make client: %w", err)
	}
	if _, err := client.Discovery().RESTClient().Get().AbsPath("/readyz").DoRaw(ctx); err != nil {
		return fmt.Errorf("ask /readyz: %w", err)
	}
	for _, ns := range []string{metav1.NamespaceSystem, metav1.NamespaceDefault} {
		if _, err := client.CoreV1().Namespaces().Get(ctx, ns, metav1.GetOptions{}); err != nil {
			return fmt.Errorf("look for namespace %s: %w", ns, err)
		}
	}
	return k.writeKubeconfig()
}

func (k *Kube) writeKubeconfig() error {
	cfg := clientcmdapi.NewConfig()
	cfg.Clusters["test"] = &clientcmdapi.Cluster{Server: k.config.Host, CertificateAuthorityData: k.config.CAData}
	cfg.AuthInfos["admin"] = &clientcmdapi.AuthInfo{Token: adminToken}
	cfg.Contexts["test"] = &clientcmdapi.Context{Cluster: "test", AuthInfo: "admin"}
	cfg.CurrentContext = "test"
	if err := clientcmd.WriteToFile(*cfg, k.Kubeconfig()); err != nil {
		return fmt.Errorf("write kubeconfig: %w", err)
	}
	return nil
}

// process is a child that dies with us.
type process struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when the process has ended
}

// startProcess runs a program with its output in a log file. Linux sends the
// parent-death signal when the starting *thread* ends, so that thread is kept
// until the child is gone.
func startProcess(log, name string, args ...string) (*process, error) {
	out, err := os.OpenFile(log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open log: %w", err)
	}
	cmd := exec.CommandContext(context.Background(), name, args...)
	cmd.Stdout, cmd.Stderr = out, out
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL, Setpgid: true}
	p := &process{cmd: cmd, log: log, done: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(p.done)
		defer func() { _ = out.Close() }()
		err := cmd.Start()
		started <- err
		if err == nil {
			_ = cmd.Wait()
		}
	}()
	return p, <-started
}

func (p *process) kill() {
	if p == nil || p.cmd.Process == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.done
}

func (p *process) tail() string {
	data, err := os.ReadFile(p.log)
	if err != nil {
		return err.Error()
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	return strings.TrimSpace(string(bytes.Join(lines[max(0, len(lines)-12):], []byte("\n"))))
}

// freePorts returns distinct loopback ports that were free a moment ago.
func freePorts(n int) ([]int, error) {
	ports := make([]int, 0, n)
	var open []net.Listener
	defer func() {
		for _, l := range open {
			_ = l.Close()
		}
	}()
	for range n {
		l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		open = append(open, l)
		addr, ok := l.Addr().(*net.TCPAddr)
		if !ok {
			return nil, errors.New("find a free port: not a TCP address")
		}
		ports = append(ports, addr.Port)
	}
	return ports, nil
}
