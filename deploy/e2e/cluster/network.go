package cluster

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Slots are how many clusters fit on one machine.
const slots = 16

// slot is a cluster's share of the machine's names and addresses.
type slot int

func (s slot) bridge() string       { return fmt.Sprintf("bud%d", s) }
func (s slot) veth(node int) string { return fmt.Sprintf("bud%dn%d", s, node) }

// network is the whole of the slot: 10.176.0.0/16 to 10.191.0.0/16.
func (s slot) network() netip.Prefix {
	return netip.MustParsePrefix(fmt.Sprintf("10.%d.0.0/16", 176+s))
}
func (s slot) address() string     { return fmt.Sprintf("10.%d.0.1", 176+s) }
func (s slot) lan() string         { return fmt.Sprintf("10.%d.0.0/24", 176+s) }
func (s slot) node(i int) string   { return fmt.Sprintf("10.%d.0.%d", 176+s, 10+i) }
func (s slot) podsOf(i int) string { return fmt.Sprintf("10.%d.%d.0/24", 176+s, 16+i) }
func (s slot) pods() string        { return fmt.Sprintf("10.%d.16.0/20", 176+s) }
func (s slot) kwokPods() string    { return fmt.Sprintf("10.%d.64.0/18", 176+s) }
func (s slot) services() string    { return fmt.Sprintf("10.%d.128.0/17", 176+s) }
func (s slot) apiService() string  { return fmt.Sprintf("10.%d.128.1", 176+s) }
func (s slot) dnsService() string  { return fmt.Sprintf("10.%d.128.10", 176+s) }

// loopback is where the parts of the control plane talk among themselves:
// all of 127.0.0.0/8 reaches this machine, and nobody from outside reaches it.
func (s slot) loopback() string { return fmt.Sprintf("127.88.%d.1", s) }

// nodes that fit into a slot's pod range.
const maxNodes = 15

// cgroup is the name of the control group under which a node's pods run.
func (s slot) cgroup(node int) string { return fmt.Sprintf("bud%d-node%d", s, node) }

// takeSlot makes the bridge of the first slot whose names and addresses are
// free. Making it is what takes the slot, so two racing runs cannot share one.
func takeSlot(ctx context.Context, reserve func(slot) error) (slot, error) {
	used, err := usedPrefixes()
	if err != nil {
		return 0, err
	}
	var why []error
	for s := range slot(slots) {
		if i := slices.IndexFunc(used, s.network().Overlaps); i >= 0 {
			why = append(why, fmt.Errorf("%s overlaps %s", s.network(), used[i]))
			continue
		}
		if _, err := net.InterfaceByName(s.bridge()); err == nil {
			why = append(why, fmt.Errorf("there is a link %s", s.bridge()))
			continue
		}
		if err := s.portsFree(ctx); err != nil {
			why = append(why, err)
			continue
		}
		if err := reserve(s); err != nil {
			return 0, err
		}
		if err := ip(ctx, "link", "add", s.bridge(), "type", "bridge"); err != nil {
			why = append(why, err)
			continue
		}
		return s, errors.Join(
			ip(ctx, "addr", "add", s.address()+"/24", "dev", s.bridge()),
			ip(ctx, "link", "set", s.bridge(), "up"))
	}
	return 0, fmt.Errorf("no room for a cluster's network on this machine: %w", errors.Join(why...))
}

// usedPrefixes are the networks that the machine already knows a way to.
func usedPrefixes() ([]netip.Prefix, error) {
	addresses, err := net.InterfaceAddrs()
	if err != nil {
		return nil, fmt.Errorf("list this machine's addresses: %w", err)
	}
	var used []netip.Prefix
	for _, address := range addresses {
		if prefix, err := netip.ParsePrefix(address.String()); err == nil {
			used = append(used, prefix.Masked())
		}
	}
	routes, err := os.ReadFile("/proc/net/route")
	if err != nil {
		return nil, fmt.Errorf("list this machine's routes: %w", err)
	}
	for _, line := range strings.Split(string(routes), "\n")[1:] {
		if prefix, ok := routePrefix(line); ok && prefix.Bits() > 0 {
			used = append(used, prefix)
		}
	}
	return used, nil
}

// routePrefix reads a line of /proc/net/route: little-endian hexadecimal.
func routePrefix(line string) (netip.Prefix, bool) {
	fields := strings.Fields(line)
	if len(fields) < 8 {
		return netip.Prefix{}, false
	}
	var to, mask uint32
	if _, err := fmt.Sscanf(fields[1]+" "+fields[7], "%x %x", &to, &mask); err != nil {
		return netip.Prefix{}, false
	}
	bits := 0
	for m := mask; m != 0; m &= m - 1 {
		bits++
	}
	address := netip.AddrFrom4([4]byte{byte(to), byte(to >> 8), byte(to >> 16), byte(to >> 24)})
	return netip.PrefixFrom(address, bits), true
}

// portsFree checks the fixed ports of the slot's own loopback address.
func (s slot) portsFree(ctx context.Context) error {
	for _, port := range []string{"2379", "2380", "10257", "10259", "10247"} {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", net.JoinHostPort(s.loopback(), port))
		if err != nil {
			return fmt.Errorf("port %s of %s is taken: %w", port, s.loopback(), err)
		}
		_ = listener.Close()
	}
	return nil
}

// attach gives a started node its network card and its routes on this side.
func (s slot) attach(ctx context.Context, node *nodeState) error {
	veth := s.veth(node.Index)
	_ = ip(ctx, "link", "del", veth) // of the node's earlier life
	if err := ip(ctx, "link", "add", veth, "type", "veth", "peer", "name", veth+"p"); err != nil {
		return err
	}
	steps := [][]string{
		{"link", "set", veth + "p", "netns", fmt.Sprint(node.Proc.PID), "name", "eth0"},
		{"link", "set", veth, "master", s.bridge(), "up"},
		{"route", "replace", s.podsOf(node.Index), "via", s.node(node.Index)},
	}
	if node.Index == 1 { // lets the tests themselves use Services
		steps = append(steps, []string{"route", "replace", s.services(), "via", s.node(1)})
	}
	for _, step := range steps {
		if err := ip(ctx, step...); err != nil {
			return err
		}
	}
	return nil
}

// release removes the slot's links; routes go with them.
func (s slot) release(ctx context.Context, nodes []*nodeState) error {
	var problems []error
	for _, node := range nodes {
		problems = append(problems, deleteLink(ctx, s.veth(node.Index)), s.removeCgroup(ctx, node.Index))
	}
	problems = append(problems, deleteLink(ctx, s.bridge()))
	return errors.Join(problems...)
}

func deleteLink(ctx context.Context, name string) error {
	if _, err := net.InterfaceByName(name); err != nil {
		return nil //nolint:nilerr // not there: nothing to remove
	}
	if err := ip(ctx, "link", "del", name); err != nil {
		if _, gone := net.InterfaceByName(name); gone != nil {
			return nil //nolint:nilerr // its namespace ended meanwhile
		}
		return err
	}
	return nil
}

// cgroupRoots are the hierarchies in which pods need a place: one on cgroup
// v2, one per controller on v1.
func cgroupRoots() (roots []string, unified bool, err error) {
	const root = "/sys/fs/cgroup"
	if _, err := os.Stat(filepath.Join(root, "cgroup.controllers")); err == nil {
		return []string{root}, true, nil
	}
	entries, err := os.ReadDir(root)
	if err != nil {
		return nil, false, fmt.Errorf("find the control groups: %w", err)
	}
	for _, entry := range entries {
		dir := filepath.Join(root, entry.Name())
		if _, err := os.Stat(filepath.Join(dir, "cgroup.procs")); err != nil {
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "cgroup.controllers")); err == nil {
			continue // the v2 tree beside v1 holds nothing that pods use
		}
		roots = append(roots, dir)
	}
	if len(roots) == 0 {
		return nil, false, errors.New("no control groups below /sys/fs/cgroup: the kernel needs cgroup v1 or v2")
	}
	return roots, false, nil
}

// makeCgroup makes the place for a node's pods.
func (s slot) makeCgroup(node int) error {
	roots, unified, err := cgroupRoots()
	if err != nil {
		return err
	}
	for _, root := range roots {
		dir := filepath.Join(root, s.cgroup(node))
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("make control group %s: %w", dir, err)
		}
		if unified {
			for _, controller := range []string{"+cpu", "+cpuset", "+memory", "+pids", "+io", "+hugetlb"} {
				_ = os.WriteFile(filepath.Join(root, "cgroup.subtree_control"), []byte(controller), 0o600)
				_ = os.WriteFile(filepath.Join(dir, "cgroup.subtree_control"), []byte(controller), 0o600)
			}
			continue
		}
		// A v1 cpuset without processors accepts no process.
		for _, name := range []string{"cpuset.cpus", "cpuset.mems"} {
			if content, err := os.ReadFile(filepath.Join(root, name)); err == nil {
				if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
					return fmt.Errorf("set %s of %s: %w", name, dir, err)
				}
			}
		}
		_ = os.WriteFile(filepath.Join(dir, "memory.use_hierarchy"), []byte("1"), 0o600)
	}
	return nil
}

// removeCgroup removes what the node's pods left, in every hierarchy: the
// container runtime makes itself a place also in those that we did not. The
// kernel needs a moment after the last process has ended.
func (s slot) removeCgroup(ctx context.Context, node int) error {
	places := []string{filepath.Join("/sys/fs/cgroup", s.cgroup(node))}
	below, err := filepath.Glob(filepath.Join("/sys/fs/cgroup", "*", s.cgroup(node)))
	if err != nil {
		return err
	}
	return await(ctx, 10*time.Second, "the control groups of node "+fmt.Sprint(node)+" to empty", func(context.Context) error {
		var left error
		for _, place := range append(places, below...) {
			left = errors.Join(left, removeTree(place))
		}
		return left
	})
}

// removeTree removes a tree of control groups, leaves first. The files in them
// are the kernel's and cannot be unlinked, so os.RemoveAll does not do.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if missing(err) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() {
			if err := removeTree(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	if err := os.Remove(dir); err != nil && !missing(err) {
		return err
	}
	return nil
}

// ip runs iproute2.
func ip(ctx context.Context, args ...string) error {
	out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ip %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
