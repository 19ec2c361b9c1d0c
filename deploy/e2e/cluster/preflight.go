package cluster

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// Packages are the Debian packages that a node needs.
const Packages = "containerd runc containernetworking-plugins iptables iproute2"

// capabilities that bringing up a node takes, by their number in the kernel.
func capabilities() map[string]uint {
	return map[string]uint{"CAP_NET_ADMIN": 12, "CAP_SYS_CHROOT": 18, "CAP_SYS_ADMIN": 21, "CAP_MKNOD": 27}
}

// Preflight says in whole sentences what this machine lacks to run a cluster
// with real nodes.
func Preflight(stateDir string) error {
	var problems []error
	if os.Geteuid() != 0 {
		problems = append(problems, errors.New("a real cluster needs root (network, mount and process namespaces for its nodes): run this as root, for example with sudo"))
	} else {
		problems = append(problems, missingCapabilities()...)
	}
	problems = append(problems, missingTools()...)
	for _, hidden := range []string{"/var/lib", "/var/log", "/run", "/var/run", "/proc", "/sys", "/dev"} {
		if inside(stateDir, hidden) {
			problems = append(problems, fmt.Errorf("the state folder %s is below %s, which every node replaces by its own: choose another", stateDir, hidden))
		}
	}
	return errors.Join(problems...)
}

func inside(path, parent string) bool {
	return path == parent || strings.HasPrefix(path, parent+string(filepath.Separator))
}

func missingCapabilities() []error {
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return []error{err}
	}
	_, rest, _ := strings.Cut(string(status), "CapEff:")
	line, _, _ := strings.Cut(rest, "\n")
	held, err := strconv.ParseUint(strings.TrimSpace(line), 16, 64)
	if err != nil {
		return []error{fmt.Errorf("read this process's capabilities: %w", err)}
	}
	var problems []error
	for name, bit := range capabilities() {
		if held&(1<<bit) == 0 {
			problems = append(problems, fmt.Errorf("root lacks %s here, without which no node can be made: run this on a machine (or in a privileged container) that grants it", name))
		}
	}
	return problems
}

func missingTools() []error {
	var missing []string
	for _, tool := range []string{"containerd", "ctr", "runc", "iptables", "ip"} {
		if _, err := exec.LookPath(tool); err != nil {
			missing = append(missing, tool)
		}
	}
	if _, err := cniPlugins(); err != nil {
		missing = append(missing, "the CNI plugins")
	}
	if len(missing) == 0 {
		return nil
	}
	return []error{fmt.Errorf("%s not found: run apt-get install -y --no-install-recommends %s", strings.Join(missing, ", "), Packages)}
}

// cniPlugins finds the folder with the bridge plugin.
func cniPlugins() (string, error) {
	for _, dir := range []string{"/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"} {
		if _, err := os.Stat(filepath.Join(dir, "bridge")); err == nil {
			return dir, nil
		}
	}
	return "", errors.New("no CNI plugins")
}

// snapshotter is overlayfs, but where the state folder is itself on an
// overlay (inside a container), that cannot be stacked.
func snapshotter(stateDir string) string {
	const overlayMagic = 0x794c7630
	var stat syscall.Statfs_t
	if err := syscall.Statfs(stateDir, &stat); err == nil && stat.Type == overlayMagic {
		return "native"
	}
	return "overlayfs"
}
