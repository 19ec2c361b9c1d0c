// Command nodeinit is process 1 of a pretend machine: it is started in new
// network, mount, process and hostname namespaces, makes itself at home there,
// and runs containerd, kubelet and kube-proxy. When it ends, for whatever
// reason, the kernel ends every process of the node with it.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// spec is what package cluster writes for a node.
type spec struct {
	Name    string            `json:"name"`
	Dir     string            `json:"dir"`
	Address string            `json:"address"`
	Gateway string            `json:"gateway"`
	Routes  map[string]string `json:"routes"`
	Images  string            `json:"images"`
	Kubelet []string          `json:"kubelet"`
	Proxy   []string          `json:"proxy"`
}

const containerdSocket = "/run/containerd/containerd.sock"

func main() {
	if err := run(os.Args[1:]); err != nil {
		slog.Error("node stopped", slog.Any("error", err))
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 || os.Getpid() != 1 {
		return errors.New("usage: nodeinit NODE.json, as process 1 of new namespaces; package cluster starts it")
	}
	content, err := os.ReadFile(args[0])
	if err != nil {
		return err
	}
	var node spec
	if err := json.Unmarshal(content, &node); err != nil {
		return fmt.Errorf("read %s: %w", args[0], err)
	}
	if err := node.mount(); err != nil {
		return err
	}
	if err := syscall.Sethostname([]byte(node.Name)); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	if _, err := bufio.NewReader(os.Stdin).ReadString('\n'); err != nil {
		return fmt.Errorf("wait for the network card: %w", err)
	}
	if err := node.network(); err != nil {
		return err
	}
	return node.serve()
}

// mount gives the node its own /proc, /run, /var/lib and /var/log. Shared
// propagation is what mountPropagation in pods needs.
func (n spec) mount() error {
	steps := []struct {
		source, target, kind string
		flags                uintptr
	}{
		{"", "/", "", syscall.MS_REC | syscall.MS_PRIVATE},
		{"proc", "/proc", "proc", syscall.MS_NOSUID | syscall.MS_NODEV | syscall.MS_NOEXEC},
		{filepath.Join(n.Dir, "var-lib"), "/var/lib", "", syscall.MS_BIND},
		{filepath.Join(n.Dir, "var-log"), "/var/log", "", syscall.MS_BIND},
		{"tmpfs", "/run", "tmpfs", syscall.MS_NOSUID | syscall.MS_NODEV},
		{"", "/", "", syscall.MS_REC | syscall.MS_SHARED},
	}
	for _, s := range steps {
		if err := syscall.Mount(s.source, s.target, s.kind, s.flags, ""); err != nil {
			return fmt.Errorf("mount %s: %w", s.target, err)
		}
	}
	return os.MkdirAll("/run/netns", 0o755)
}

func (n spec) network() error {
	steps := [][]string{
		{"link", "set", "lo", "up"},
		{"addr", "add", n.Address, "dev", "eth0"},
		{"link", "set", "eth0", "up"},
		{"route", "add", "default", "via", n.Gateway},
	}
	for pods, via := range n.Routes {
		steps = append(steps, []string{"route", "add", pods, "via", via})
	}
	for _, step := range steps {
		if out, err := exec.Command("ip", step...).CombinedOutput(); err != nil { //nolint:noctx // boot: nothing to cancel it
			return fmt.Errorf("ip %s: %w: %s", strings.Join(step, " "), err, out)
		}
	}
	return os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0o600)
}

// serve runs the node's three programs until one of them ends.
func (n spec) serve() error {
	running := map[int]string{}
	start := func(name string, command ...string) error {
		log, err := os.OpenFile(filepath.Join(n.Dir, name+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
		if err != nil {
			return err
		}
		defer func() { _ = log.Close() }()
		path, err := exec.LookPath(command[0])
		if err != nil {
			return err
		}
		process, err := os.StartProcess(path, command, &os.ProcAttr{Dir: "/", Env: os.Environ(), Files: []*os.File{nil, log, log}})
		if err != nil {
			return fmt.Errorf("start %s: %w", name, err)
		}
		running[process.Pid] = name
		return nil
	}
	if err := start("containerd", "containerd", "--config", filepath.Join(n.Dir, "containerd.toml")); err != nil {
		return err
	}
	if err := n.importImages(); err != nil {
		return err
	}
	if err := errors.Join(start("kubelet", n.Kubelet...), start("kube-proxy", n.Proxy...)); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(n.Dir, "up"), nil, 0o600); err != nil {
		return err
	}
	return reap(running)
}

// importImages waits for containerd and gives it the images there are. Those
// it has from an earlier boot it keeps.
func (n spec) importImages() error {
	for deadline := time.Now().Add(time.Minute); ; {
		conn, err := net.Dial("unix", containerdSocket) //nolint:noctx // boot: nothing to cancel it
		if err == nil {
			_ = conn.Close()
			break
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("wait for containerd: %w (see %s/containerd.log)", err, n.Dir)
		}
		time.Sleep(20 * time.Millisecond)
	}
	archives, err := filepath.Glob(filepath.Join(n.Images, "*.tar"))
	if err != nil {
		return err
	}
	slices.Sort(archives)
	for _, archive := range archives {
		command := exec.Command("ctr", "--address", containerdSocket, "--namespace", "k8s.io", "images", "import", archive) //nolint:noctx,gosec // boot
		if out, err := command.CombinedOutput(); err != nil {
			return fmt.Errorf("import %s: %w: %s", archive, err, out)
		}
	}
	return nil
}

// reap collects every process that ends, also those that pods leave behind,
// until one of the node's own does.
func reap(running map[int]string) error {
	for {
		var status syscall.WaitStatus
		pid, err := syscall.Wait4(-1, &status, 0, nil)
		if errors.Is(err, syscall.EINTR) {
			continue
		}
		if err != nil {
			return fmt.Errorf("wait for the node's programs: %w", err)
		}
		if name, ours := running[pid]; ours {
			return fmt.Errorf("%s ended (status %d): see its log beside this one", name, status.ExitStatus())
		}
	}
}
