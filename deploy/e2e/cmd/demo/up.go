package main

import (
	"cmp"
	"context"
	"embed"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/budecosystem/budcluster/deploy/e2e/cluster"
	"github.com/budecosystem/budcluster/hub/hubapi"
)

//go:embed all:hello
var sample embed.FS

const (
	clusterName = "demo"
	// pci is what feature discovery finds on the node: class, vendor, device.
	pciAnnotation = "e2e.budcluster.test/pci"
	pci           = "0302_10de_20b2,0200_15b3_1017"
)

func (d *demo) say(format string, args ...any)  { fmt.Printf("    "+format+"\n", args...) }
func (d *demo) step(format string, args ...any) { fmt.Printf("\n==> "+format+"\n", args...) }

func (d *demo) up(ctx context.Context) error {
	for _, needed := range []string{"bin/budcluster-hub", "bin/budcluster", "dist/budcluster-agent.tar"} {
		if _, err := os.Stat(filepath.Join(d.repo, needed)); err != nil {
			return fmt.Errorf("%s is not built: run `make demo`, which builds it", needed)
		}
	}
	steps := []func(context.Context) error{d.cluster, d.hub, d.join, d.show, d.install}
	if d.kubeconfig == "" {
		steps = []func(context.Context) error{d.cluster, d.charts, d.hub, d.register, d.show, d.install}
	}
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return err
		}
	}
	d.next()
	return nil
}

// cluster finds or brings up the cluster to join.
func (d *demo) cluster(ctx context.Context) error {
	bin, err := cluster.Build(ctx, cluster.BuildConfig{Root: d.root, Prebuilt: d.prebuilt, Only: d.only(), Progress: d.say})
	if err != nil {
		return err
	}
	d.record.Helm = bin.Path("helm")
	if d.kubeconfig != "" {
		d.step("cluster: the one of $KUBECONFIG (%s)", d.kubeconfig)
		d.say("its nodes must be able to pull the agent's image ghcr.io/budecosystem/budcluster-agent, or have it loaded from dist/budcluster-agent.tar")
		d.record.Kubeconfig, d.record.Own = d.kubeconfig, false
		return d.save()
	}
	d.record.Own, d.record.ClusterDir = true, filepath.Join(d.dir, "cluster")
	if err := d.save(); err != nil {
		return err
	}
	c, err := cluster.Attach(d.record.ClusterDir)
	if err != nil {
		d.step("cluster: a real one-node Kubernetes on this machine (about 15 seconds)")
		config := cluster.Config{Bin: bin, StateDir: d.record.ClusterDir, Name: clusterName, Nodes: 1, Detach: true, Progress: d.say}
		if c, err = cluster.Up(ctx, config); err != nil {
			return err
		}
	} else {
		d.step("cluster: the demo's own runs already")
	}
	d.record.Kubeconfig = c.Kubeconfig()
	if err := d.save(); err != nil {
		return err
	}
	d.say("loading the agent's image; the node pretends that its PCI bus has NVIDIA GPUs")
	patch := fmt.Appendf(nil, `{"metadata":{"annotations":{%q:%q}}}`, pciAnnotation, pci)
	_, err = c.Kube().CoreV1().Nodes().Patch(ctx, c.Nodes()[0], types.MergePatchType, patch, metav1.PatchOptions{})
	return errors.Join(err, c.LoadImage(ctx, filepath.Join(d.repo, "dist/budcluster-agent.tar")))
}

// only is nil, for all that a cluster is made of, or Helm alone.
func (d *demo) only() []string {
	if d.kubeconfig == "" {
		return nil
	}
	return []string{"helm"}
}

// hub starts the hub in the background, or finds it running.
func (d *demo) hub(ctx context.Context) error {
	if d.record.API != "" && ready(ctx, d.record.API) == nil {
		d.step("hub: it runs already, at http://%s", d.record.API)
		return nil
	}
	d.step("hub: starting it with a private PostgreSQL (some seconds; the first time it makes the database)")
	address, err := d.address(ctx)
	if err != nil {
		return err
	}
	r := &d.record
	if r.API == "" {
		r.HubDir = d.hubDir()
		r.API, r.Tunnel = freeAddress(ctx, "127.0.0.1", "8080"), freeAddress(ctx, address, "8443")
		if err := d.save(); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(r.HubDir, 0o755); err != nil {
		return err
	}
	if err := d.startHub(ctx); err != nil {
		return err
	}
	if _, err := os.Stat(d.keyFile()); err != nil {
		out, err := d.program(ctx, "budcluster-hub", append([]string{"admin", "create-key", "--name", "demo", "--role", "admin"}, d.hubFlags()...)...).Output()
		if err != nil {
			return fmt.Errorf("make an admin key: %w (see %s)", err, d.hubLog())
		}
		if err := os.WriteFile(d.keyFile(), out, 0o600); err != nil {
			return err
		}
	}
	d.say("API http://%s, tunnel %s, log %s", r.API, r.Tunnel, d.hubLog())
	return d.save()
}

// address is this machine's, as pods of the cluster see it.
func (d *demo) address(ctx context.Context) (string, error) {
	if d.record.Own {
		c, err := cluster.Attach(d.record.ClusterDir)
		if err != nil {
			return "", err
		}
		return c.Address(), nil
	}
	return outbound(ctx)
}

// outbound is the address that this machine uses towards others.
func outbound(ctx context.Context) (string, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", "192.0.2.1:9") // sends nothing
	if err != nil {
		return "", fmt.Errorf("find this machine's own address: %w", err)
	}
	defer func() { _ = conn.Close() }()
	host, _, err := net.SplitHostPort(conn.LocalAddr().String())
	return host, err
}

// freeAddress prefers a port, and takes another when that is in use.
func freeAddress(ctx context.Context, host, port string) string {
	for _, try := range []string{port, "0"} {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(host, try))
		if err == nil {
			address := listener.Addr().String()
			_ = listener.Close()
			return address
		}
	}
	return net.JoinHostPort(host, port)
}

func (d *demo) hubLog() string { return filepath.Join(d.dir, "hub.log") }

func (d *demo) keyFile() string { return filepath.Join(d.dir, "admin.key") }

func (d *demo) hubFlags() []string {
	r := d.record
	flags := []string{
		"--dev", "--state-dir", r.HubDir, "--api-listen", r.API, "--api-url", "http://" + r.API,
		"--tunnel-listen", r.Tunnel, "--tunnel-address", r.Tunnel,
	}
	if r.Charts != "" {
		flags = append(flags, "--components-dir", d.componentsDir())
	}
	return flags
}

func (d *demo) startHub(ctx context.Context) error {
	hub := d.program(context.WithoutCancel(ctx), "budcluster-hub", append([]string{"serve"}, d.hubFlags()...)...)
	exited, err := background(hub, d.hubLog())
	if err != nil {
		return err
	}
	d.record.HubPID = hub.Process.Pid
	if err := d.save(); err != nil {
		return err
	}
	return wait(ctx, 90*time.Second, "the hub", func() error {
		select {
		case err := <-exited:
			return fmt.Errorf("%w: it ended: %w; the end of its log %s:\n%s", errHopeless, err, d.hubLog(), tail(d.hubLog()))
		default:
			return ready(ctx, d.record.API)
		}
	})
}

// background starts a program that stays when this one ends.
func background(cmd *exec.Cmd, logFile string) (exited <-chan error, err error) {
	log, err := os.OpenFile(logFile, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer func() { _ = log.Close() }()
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	return done, nil
}

func ready(ctx context.Context, api string) error { return answers(ctx, "http://"+api+"/readyz") }

// answers says whether a GET is answered with 200.
func answers(ctx context.Context, url string) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("it answers %s", response.Status)
	}
	return nil
}

// join registers the cluster and runs the command that the hub prints.
func (d *demo) join(ctx context.Context) error {
	d.step("join: registering the cluster at the hub")
	if state := d.state(ctx); state != "" && state != "Pending" {
		d.say("it has joined already (%s)", state)
		return d.connected(ctx)
	}
	if d.state(ctx) == "Pending" { // an up that was interrupted: its token is not known any more
		if _, err := d.cli(ctx, "cluster", "delete", clusterName, "--yes"); err != nil {
			return err
		}
	}
	out, err := d.cli(ctx, "cluster", "create", clusterName)
	if err != nil {
		return err
	}
	command := helmInstall(out)
	if command == "" {
		return fmt.Errorf("no helm install command in what the hub printed:\n%s", out)
	}
	fmt.Printf("\n$ budcluster cluster create %s\n%s\n", clusterName, out)
	d.say("running exactly that command")
	if err := d.shell(ctx, command); err != nil {
		return err
	}
	return d.connected(ctx)
}

// register has the hub make the cluster ready for models, and follows it.
func (d *demo) register(ctx context.Context) error {
	d.step("register: the cluster gets feature discovery, what its GPUs need, and monitoring (about a minute)")
	state := d.state(ctx)
	active, err := d.workflow(ctx, "--active")
	if err != nil {
		return err
	}
	args := []string{"cluster", "register", clusterName, "--existing"}
	switch {
	case state == "":
		args = args[:3]
	case active != "":
		args = []string{"token", "create", clusterName} // an up that was interrupted: nobody knows the last one
	default:
		if done, err := d.workflow(ctx, "--status", string(hubapi.WorkflowCompleted)); err != nil || done != "" {
			d.say("it is registered already")
			return err
		}
	}
	if state == "" || state == string(hubapi.ClusterPending) || active == "" {
		out, err := d.cli(ctx, args...)
		if err != nil {
			return err
		}
		fmt.Printf("\n$ budcluster %s\n%s\n", strings.Join(args, " "), out)
		if command := helmInstall(out); command != "" {
			d.say("running exactly that command")
			if err := d.shell(ctx, command); err != nil {
				return err
			}
		}
	}
	if active, err = d.workflow(ctx, "--active"); err != nil || active == "" {
		return err
	}
	fmt.Printf("\n$ budcluster workflow watch %s\n", active)
	if err := d.follow(ctx, "workflow", "watch", active); err != nil {
		return err
	}
	return d.print(ctx, "component", "list", "--cluster", clusterName)
}

// workflow is the id of the newest registration that the flags choose; empty
// when there is none.
func (d *demo) workflow(ctx context.Context, flags ...string) (string, error) {
	out, err := d.cli(ctx, append([]string{"workflow", "list", "--kind", "register_cluster", "-o", "name"}, flags...)...)
	id, _, _ := strings.Cut(strings.TrimSpace(out), "\n")
	return id, err
}

// helmInstall finds the command in what the command line printed.
func helmInstall(out string) string {
	for line := range strings.Lines(strings.ReplaceAll(out, "\\\n", " ")) {
		if line = strings.TrimSpace(line); strings.HasPrefix(line, "helm install ") {
			return line
		}
	}
	return ""
}

func (d *demo) connected(ctx context.Context) error {
	began := time.Now()
	err := wait(ctx, 3*time.Minute, "the agent to connect", func() error {
		if state := d.state(ctx); state != "Connected" {
			return fmt.Errorf("the cluster is %s", state)
		}
		return nil
	})
	if err != nil {
		_ = d.shell(ctx, "kubectl --namespace budcluster-system get pods; kubectl --namespace budcluster-system logs -l app.kubernetes.io/component=agent --tail=20")
		return err
	}
	d.say("connected after %s", time.Since(began).Round(100*time.Millisecond))
	return nil
}

// show prints the fleet, its nodes and its devices.
func (d *demo) show(ctx context.Context) error {
	d.step("inventory: what the hub knows now")
	wanted := `"cluster"`
	if d.record.Own { // inventory follows some moments after the components
		wanted = "nvidia"
	}
	err := wait(ctx, time.Minute, "the inventory", func() error {
		out, err := d.cli(ctx, "device", "list", "-o", "json")
		if err == nil && !strings.Contains(out, wanted) {
			err = errors.New("the devices are not at the hub yet")
		}
		return err
	})
	if err != nil {
		return err
	}
	for _, what := range []string{"cluster", "node", "device"} {
		if err := d.print(ctx, what, "list"); err != nil {
			return err
		}
	}
	return nil
}

// print shows a command and what it says.
func (d *demo) print(ctx context.Context, args ...string) error {
	out, err := d.cli(ctx, args...)
	if err == nil {
		fmt.Printf("\n$ budcluster %s\n%s", strings.Join(args, " "), out)
	}
	return err
}

// follow runs a command that shows how something goes.
func (d *demo) follow(ctx context.Context, args ...string) error {
	cmd := d.program(ctx, "budcluster", args...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

// install applies the sample release and follows it.
func (d *demo) install(ctx context.Context) error {
	d.step("release: installing a sample through the hub")
	chart, err := d.unpackSample()
	if err != nil {
		return err
	}
	args := []string{"release", "apply", "hello", "--cluster", clusterName, "--namespace", "demo", "--chart", chart, "--wait"}
	if !d.record.Own {
		args = append(args, "--set", "image="+cmp.Or(d.image, "registry.k8s.io/pause:3.10"), "--set-json", "args=[]")
	}
	fmt.Printf("\n$ budcluster %s\n", strings.Join(args, " "))
	return d.follow(ctx, args...)
}

// unpackSample writes the sample's chart where the command line can read it.
func (d *demo) unpackSample() (string, error) {
	to := filepath.Join(d.dir, "charts")
	err := fs.WalkDir(sample, "hello", func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if entry.IsDir() {
			return os.MkdirAll(filepath.Join(to, path), 0o755)
		}
		content, err := sample.ReadFile(path)
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join(to, path), content, 0o644)
	})
	return filepath.Join(to, "hello"), err
}

func (d *demo) next() {
	relative := func(path string) string {
		if r, err := filepath.Rel(d.repo, path); err == nil && !strings.HasPrefix(r, "..") {
			return r
		}
		return path
	}
	fmt.Printf(`
==> The demo is up. Type next:

    export %s PATH=$PWD/bin:$PWD/.budcluster/path:$PATH
    budcluster node list -o wide
    budcluster release apply hello --cluster %s --namespace demo --chart %s --set replicas=3 --wait
    budcluster release list
    budcluster component list --cluster %s
    budcluster cluster remove %s --watch         # takes all of it out of the cluster again
    budcluster events --follow
    open http://%s/docs

  and from the cluster's side:

    export KUBECONFIG=%s
    kubectl -n budcluster-system get releases.budcluster.io
    kubectl -n demo delete deployment hello      # somebody meddles; within a minute it is back

  To stop and remove all of it: make demo-down
`, strings.Join(d.client(), " "), clusterName, relative(filepath.Join(d.dir, "charts", "hello")),
		clusterName, clusterName, d.record.API, d.record.Kubeconfig)
}

// program is one of ours, free of settings from the outside.
func (d *demo) program(ctx context.Context, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(d.repo, "bin", name), args...)
	cmd.Env = append(append([]string{}, d.environ...), d.client()...)
	if name != "budcluster" {
		cmd.Env = d.environ
	}
	return cmd
}

// client are the variables that point the command line at the demo's hub.
func (d *demo) client() []string {
	return []string{"BUDCLUSTER_URL=http://" + d.record.API, "BUDCLUSTER_API_KEY_FILE=" + d.keyFile()}
}

func (d *demo) cli(ctx context.Context, args ...string) (string, error) {
	out, err := d.program(ctx, "budcluster", args...).Output()
	if err != nil {
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			return string(out), fmt.Errorf("budcluster %s: %s", strings.Join(args, " "), strings.TrimSpace(string(exit.Stderr)))
		}
		return string(out), err
	}
	return string(out), nil
}

// state of the demo's cluster at the hub; empty when it is not registered.
func (d *demo) state(ctx context.Context) string {
	out, err := d.cli(ctx, "cluster", "show", clusterName, "-o", "json")
	if err != nil {
		return ""
	}
	return field(out, "state")
}

// shell runs a command line with helm and kubectl pointed at the cluster.
func (d *demo) shell(ctx context.Context, line string) error {
	path := filepath.Join(d.dir, "path")
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	tools := map[string]string{"helm": d.record.Helm}
	if d.record.Own {
		tools["kubectl"] = filepath.Join(d.record.ClusterDir, "bin", "kubectl")
	}
	for name, to := range tools {
		link := filepath.Join(path, name)
		if err := os.Remove(link); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err := os.Symlink(to, link); err != nil {
			return err
		}
	}
	cmd := exec.CommandContext(ctx, "sh", "-c", line)
	cmd.Env = append(append([]string{}, d.environ...), "PATH="+path+":"+os.Getenv("PATH"), "KUBECONFIG="+d.record.Kubeconfig)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

var errHopeless = errors.New("no use to wait")

// wait tries until it works and says now and then what it waits for.
func wait(ctx context.Context, atMost time.Duration, what string, try func() error) error {
	began, told := time.Now(), time.Now()
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		switch {
		case err == nil:
			return nil
		case errors.Is(err, errHopeless):
			return err
		case time.Since(began) > atMost:
			return fmt.Errorf("waited %s for %s: %w", atMost, what, err)
		case time.Since(told) > 5*time.Second:
			told = time.Now()
			fmt.Printf("    waiting for %s since %s: %v\n", what, time.Since(began).Round(time.Second), err)
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

func tail(path string) string {
	file, err := os.Open(path)
	if err != nil {
		return err.Error()
	}
	defer func() { _ = file.Close() }()
	if info, err := file.Stat(); err == nil && info.Size() > 4000 {
		_, _ = file.Seek(-4000, io.SeekEnd)
	}
	content, _ := io.ReadAll(file)
	return string(content)
}

// alive says whether a process is still the one that the demo started: its
// command line has these words.
func alive(pid int, words ...string) bool {
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	return pid != 0 && err == nil && !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(string(line), word) })
}

func (d *demo) hubAlive() bool { return alive(d.record.HubPID, "budcluster-hub", d.record.HubDir) }
