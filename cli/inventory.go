package cli

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/internal/facts"
)

func (a *app) nodes() *cobra.Command {
	return group("node", "Nodes of the fleet", a.nodeList(), a.nodeShow())
}

func (a *app) nodeList() *cobra.Command {
	var q hubapi.NodeQuery
	var ready, notReady bool
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List nodes", Args: cobra.NoArgs,
		Long: `List nodes. CPU and MEMORY are what is available of what can be used; SEEN is
when the hub last heard from the node's cluster, so how old this can be.`,
		Example: `  budcluster node list
  budcluster node list --cluster frankfurt -o wide
  budcluster node list --not-ready`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			if ready || notReady {
				q.Ready = &ready
			}
			all, err := hubapi.Collect(c.AllNodes(cmd.Context(), q))
			if err != nil {
				return err
			}
			return a.printer().nodes(all)
		},
	}
	a.clusterFlag(cmd, &q.Cluster, "only nodes of this cluster")
	cmd.Flags().BoolVar(&ready, "ready", false, "only nodes that are ready")
	cmd.Flags().BoolVar(&notReady, "not-ready", false, "only nodes that are not ready")
	cmd.MarkFlagsMutuallyExclusive("ready", "not-ready")
	return cmd
}

func (p *printer) nodes(all []hubapi.Node) error {
	head := []string{"CLUSTER", "NODE", "STATUS", "ROLES", "CPU", "MEMORY", "DEVICES", "SEEN", "AGE"}
	if p.wide() {
		head = append(head, "KUBELET", "ARCH", "OS", "ADDRESS", "TAINTS", "CHANGED")
	}
	return list(p, all, func(n hubapi.Node) string { return n.Cluster.Name + "/" + n.Name }, head, func(n hubapi.Node) []cell {
		row := []cell{
			text(n.Cluster.Name), text(n.Name), nodeStatus(n), text(strings.Join(n.Roles, ",")),
			text(cores(n.Available.CPUMillis) + "/" + cores(n.Allocatable.CPUMillis)),
			text(size(n.Available.MemoryBytes) + "/" + size(n.Allocatable.MemoryBytes)),
			text(accelerators(n.Devices)), p.seenRef(n.Cluster), p.age(n.CreatedAt),
		}
		if p.wide() {
			row = append(row, text(n.KubeletVersion), text(n.Architecture), text(n.OSImage), text(address(n.Node)), text(taints(n.Node)), p.age(n.UpdatedAt))
		}
		return row
	})
}

// nodeStatus is as kubectl shows it; what is not known now is not green.
func nodeStatus(n hubapi.Node) cell {
	out := cell{text: "Ready", tone: good}
	if !n.Ready {
		out = cell{text: "NotReady", tone: bad}
	}
	if !n.Schedulable {
		out.text, out.tone = out.text+",Cordoned", max(out.tone, warning)
	}
	for _, pressure := range n.Pressures {
		out.text, out.tone = out.text+","+pressure, max(out.tone, warning)
	}
	if n.Cluster.State != hubapi.ClusterConnected {
		out.text, out.tone = out.text+"?", dim
	}
	return out
}

// accelerators counts the devices that are no CPUs, by model.
func accelerators(devices []facts.Device) string {
	count := map[string]int{}
	var models []string
	for _, d := range devices {
		if d.Kind == facts.KindCPU {
			continue
		}
		model := cmp.Or(d.Model, d.Vendor+" "+string(d.Kind))
		if count[model]++; count[model] == 1 {
			models = append(models, model)
		}
	}
	slices.Sort(models)
	for i, m := range models {
		models[i] = fmt.Sprintf("%d×%s", count[m], m)
	}
	return strings.Join(models, ",")
}

func address(n facts.Node) string {
	for _, want := range []string{"InternalIP", "ExternalIP", "Hostname"} {
		for _, a := range n.Addresses {
			if a.Type == want {
				return a.Address
			}
		}
	}
	return ""
}

func taints(n facts.Node) string {
	out := make([]string, 0, len(n.Taints))
	for _, t := range n.Taints {
		s := t.Key
		if t.Value != "" {
			s += "=" + t.Value
		}
		out = append(out, s+":"+t.Effect)
	}
	return strings.Join(out, ",")
}

func (a *app) nodeShow() *cobra.Command {
	var cluster string
	cmd := &cobra.Command{
		Use: "show NODE --cluster CLUSTER", Aliases: []string{"get"}, Short: "Show a node", Args: cobra.ExactArgs(1),
		Example: "  budcluster node show worker-1 --cluster frankfurt",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			n, err := c.Node(cmd.Context(), cluster, args[0])
			if err != nil {
				return err
			}
			p := a.printer()
			return one(p, n, n.Name, func() { p.node(n) })
		},
	}
	a.clusterFlag(cmd, &cluster, "the node's cluster")
	must(cmd.MarkFlagRequired("cluster"))
	return cmd
}

func (p *printer) node(n hubapi.Node) {
	p.facts("Name", n.Name, "Cluster", n.Cluster.Name, "Cluster state", stateCell(n.Cluster.State), "Seen", p.seenRef(n.Cluster), "Changed", p.at(&n.UpdatedAt),
		"Status", nodeStatus(n), "Reason", clipped(n.ReadyReason+" "+n.ReadyMessage, 200), "Roles", strings.Join(n.Roles, ","), "Taints", taints(n.Node),
		"Kubelet", n.KubeletVersion, "Runtime", n.ContainerRuntime, "OS", n.OSImage, "Kernel", n.Kernel, "Architecture", n.Architecture,
		"Created", p.at(&n.CreatedAt), "UID", n.UID)
	for _, a := range n.Addresses {
		p.facts(a.Type, a.Address)
	}
	p.section("Resources")
	_ = p.table([]string{" ", "CPU", "MEMORY", "PODS", "OTHER"}, [][]cell{
		p.amounts("capacity", n.Capacity), p.amounts("allocatable", n.Allocatable), p.amounts("requested", n.Requested), p.amounts("available", n.Available),
	})
	if len(n.Devices) > 0 {
		p.section("Devices")
		rows := make([][]cell, 0, len(n.Devices))
		for _, d := range n.Devices {
			rows = append(rows, []cell{text(d.ID), text(string(d.Kind)), text(d.Vendor), text(d.Model), memory(d), health(d), text(string(d.Source))})
		}
		_ = p.table([]string{"DEVICE", "KIND", "VENDOR", "MODEL", "MEMORY", "HEALTH", "KNOWN FROM"}, rows)
	}
	if len(n.Labels) > 0 {
		p.section("Labels")
		for _, k := range slices.Sorted(maps.Keys(n.Labels)) {
			_, _ = fmt.Fprintln(p.out, safe(k+"="+n.Labels[k]))
		}
	}
	if len(n.Problems) > 0 {
		p.section("Problems")
		for _, s := range n.Problems {
			_, _ = fmt.Fprintln(p.out, p.paint(cell{text: s, tone: warning}))
		}
	}
}

func (p *printer) amounts(name string, r hubapi.Resources) []cell {
	other := make([]string, 0, len(r.Extended))
	for k, v := range r.Extended {
		other = append(other, fmt.Sprintf("%s=%d", k, v))
	}
	slices.Sort(other)
	return []cell{text(name), text(cores(r.CPUMillis)), text(size(r.MemoryBytes)), text(fmt.Sprint(r.Pods)), text(strings.Join(other, ","))}
}

func memory(d facts.Device) cell {
	if d.MemoryBytes == nil {
		return cell{}
	}
	return text(size(*d.MemoryBytes))
}

// health is shown together with a doubt: facts whose source has gone quiet.
func health(d facts.Device) cell {
	out := cell{text: string(d.Health)}
	switch d.Health {
	case facts.HealthHealthy:
		out.tone = good
	case facts.HealthUnhealthy:
		out.tone = bad
	case facts.HealthUnknown:
		out.tone = dim
	}
	if d.SuspectSince != nil {
		return cell{text: out.text + ",suspect", tone: warning}
	}
	return out
}

func (a *app) devices() *cobra.Command {
	return group("device", "Accelerators and CPUs of the fleet", a.deviceList())
}

func (a *app) deviceList() *cobra.Command {
	var q hubapi.DeviceQuery
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List devices", Args: cobra.NoArgs,
		Example: `  budcluster device list
  budcluster device list --kind cuda
  budcluster device list --cluster frankfurt --node worker-1 -o wide`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			all, err := hubapi.Collect(c.AllDevices(cmd.Context(), q))
			if err != nil {
				return err
			}
			return a.printer().devices(all)
		},
	}
	a.clusterFlag(cmd, &q.Cluster, "only devices of this cluster")
	cmd.Flags().StringVar(&q.Node, "node", "", "only devices of this node")
	cmd.Flags().StringVar(&q.Kind, "kind", "", "only devices of this kind: cuda, rocm, hpu or cpu")
	cmd.Flags().StringVar(&q.Vendor, "vendor", "", "only devices of this vendor")
	cmd.Flags().StringVar(&q.Model, "model", "", "only devices of this model")
	return cmd
}

func (p *printer) devices(all []hubapi.Device) error {
	head := []string{"CLUSTER", "NODE", "DEVICE", "KIND", "VENDOR", "MODEL", "MEMORY", "HEALTH", "SEEN"}
	if p.wide() {
		head = append(head, "SHARING", "RESOURCE", "DRIVER", "UUID", "KNOWN FROM", "CHANGED")
	}
	return list(p, all, func(d hubapi.Device) string { return d.Cluster.Name + "/" + d.Node + "/" + d.ID }, head, func(d hubapi.Device) []cell {
		node := text(d.Node)
		switch {
		case !d.NodeReady:
			node = cell{text: d.Node + " (NotReady)", tone: bad}
		case !d.NodeSchedulable:
			node = cell{text: d.Node + " (Cordoned)", tone: warning}
		}
		row := []cell{
			text(d.Cluster.Name), node, text(d.ID), text(string(d.Kind)), text(d.Vendor), text(d.Model), memory(d.Device), health(d.Device), p.seenRef(d.Cluster),
		}
		if p.wide() {
			row = append(row, text(string(d.Sharing)), text(d.Resource), text(d.DriverVersion), text(d.UUID), text(string(d.Source)), p.age(d.UpdatedAt))
		}
		return row
	})
}
