package cli

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

func (a *app) clusters() *cobra.Command {
	return group("cluster", "Clusters of the fleet",
		a.clusterList(), a.clusterShow(), a.clusterRegister(), a.clusterRemove(), a.clusterUpgradeAgent(), a.clusterCreate(), a.clusterRevoke(), a.clusterDelete())
}

func (a *app) completeClusters(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completeWith(func(ctx context.Context, c *hubapi.Client) ([]string, error) {
		l, err := c.Clusters(ctx, hubapi.PageOptions{Limit: 1000})
		names := make([]string, 0, len(l.Items))
		for _, cl := range l.Items {
			names = append(names, cl.Name)
		}
		return names, err
	})
}

// clusterFlag adds --cluster.
func (a *app) clusterFlag(cmd *cobra.Command, to *string, usage string) {
	cmd.Flags().StringVarP(to, "cluster", "c", "", usage)
	must(cmd.RegisterFlagCompletionFunc("cluster", func(cmd *cobra.Command, _ []string, s string) ([]string, cobra.ShellCompDirective) {
		return a.completeClusters(cmd, nil, s)
	}))
}

func (a *app) clusterList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List clusters", Args: cobra.NoArgs,
		Long: `List clusters. STATE is Pending until the cluster joins, Connected while the hub
hears from it, and Unknown while it is away: then SEEN says how old everything
is that is shown of it.`,
		Example: `  budcluster cluster list
  budcluster cluster list -o wide`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			all, err := hubapi.Collect(c.AllClusters(cmd.Context()))
			if err != nil {
				return err
			}
			return a.printer().clusters(all)
		},
	}
}

func (p *printer) clusters(all []hubapi.Cluster) error {
	head := []string{"NAME", "STATE", "NODES", "KUBERNETES", "AGENT", "SEEN", "AGE"}
	if p.wide() {
		head = append(head, "ID", "DISTRIBUTION", "FROM", "LABELS", "DEGRADED")
	}
	return list(p, all, func(c hubapi.Cluster) string { return c.Name }, head, func(c hubapi.Cluster) []cell {
		row := []cell{
			text(c.Name), clusterState(c), nodeCount(c), text(kubernetes(c)), text(c.AgentVersion),
			p.seen(c.State, c.LastSeen != nil, c.AgeSeconds), p.age(c.CreatedAt),
		}
		if p.wide() {
			row = append(row, text(c.ID), text(distribution(c)), text(remote(c)), text(labels(c.Labels)), text(reasons(c.Degraded)))
		}
		return row
	})
}

func clusterState(c hubapi.Cluster) cell {
	state := stateCell(c.State)
	if len(c.Degraded) > 0 && c.State == hubapi.ClusterConnected {
		return cell{text: state.text + ",Degraded", tone: warning}
	}
	return state
}

func stateCell(s hubapi.ClusterState) cell {
	switch s {
	case hubapi.ClusterConnected:
		return cell{text: string(s), tone: good}
	case hubapi.ClusterUnknown:
		return cell{text: string(s), tone: warning}
	case hubapi.ClusterRevoked:
		return cell{text: string(s), tone: bad}
	default:
		return cell{text: string(s), tone: dim}
	}
}

// seen says how old what is shown is; while the cluster is connected the hub
// would know of any change.
func (p *printer) seen(s hubapi.ClusterState, ever bool, age *int64) cell {
	switch {
	case !ever || age == nil:
		return cell{text: "never", tone: dim}
	case s == hubapi.ClusterConnected:
		return text(agoSeconds(*age))
	default:
		return cell{text: agoSeconds(*age), tone: warning}
	}
}

func (p *printer) seenRef(r hubapi.ClusterRef) cell {
	return p.seen(r.State, r.LastSeen != nil, r.AgeSeconds)
}

func nodeCount(c hubapi.Cluster) cell {
	out := cell{text: fmt.Sprintf("%d/%d", c.ReadyNodes, c.Nodes)}
	if c.ReadyNodes < c.Nodes {
		out.tone = warning
	}
	return out
}

func kubernetes(c hubapi.Cluster) string {
	if c.Facts == nil {
		return ""
	}
	return c.Facts.Version
}

func distribution(c hubapi.Cluster) string {
	if c.Facts == nil {
		return ""
	}
	if c.Facts.Distribution == "" {
		return string(c.Facts.Platform)
	}
	return c.Facts.Distribution
}

func remote(c hubapi.Cluster) string {
	if c.Session == nil {
		return ""
	}
	return c.Session.RemoteAddr
}

func reasons(all []hubapi.Degradation) string {
	out := make([]string, 0, len(all))
	for _, d := range all {
		out = append(out, d.Reason)
	}
	return strings.Join(out, ",")
}

func (a *app) clusterShow() *cobra.Command {
	return &cobra.Command{
		Use: "show CLUSTER", Aliases: []string{"get"}, Short: "Show a cluster", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeClusters,
		Example: `  budcluster cluster show frankfurt
  budcluster cluster show frankfurt -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			cl, err := c.Cluster(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			p := a.printer()
			return one(p, cl, cl.Name, func() { p.cluster(cl) })
		},
	}
}

func (p *printer) cluster(c hubapi.Cluster) {
	p.facts("Name", c.Name, "ID", c.ID, "State", clusterState(c), "Seen", p.seen(c.State, c.LastSeen != nil, c.AgeSeconds),
		"Nodes", cell{text: nodeCount(c).text + " ready", tone: nodeCount(c).tone}, "Kubernetes", kubernetes(c), "Distribution", distribution(c),
		"Agent", c.AgentVersion, "Labels", labels(c.Labels), "UID", c.UID, "Created", p.at(&c.CreatedAt), "Joined", p.at(c.JoinedAt), "Revoked", p.at(c.RevokedAt))
	if c.Session != nil {
		p.section("Tunnel")
		p.facts("From", c.Session.RemoteAddr, "Agent", c.Session.Instance, "Hub", c.Session.Replica, "Since", p.at(&c.Session.ConnectedAt))
	}
	if len(c.Degraded) > 0 {
		p.section("Degraded")
		for _, d := range c.Degraded {
			_, _ = fmt.Fprintf(p.out, "%s for %s: %s\n", p.paint(cell{text: d.Reason, tone: warning}), p.age(d.Since).text, safe(d.Message))
		}
	}
	if c.Facts == nil {
		return
	}
	if len(c.Facts.StorageClasses) > 0 {
		p.section("Storage classes")
		for _, s := range c.Facts.StorageClasses {
			p.line(s.Name, s.Default, s.Provisioner, s.AccessMode)
		}
	}
	if len(c.Facts.IngressClasses) > 0 {
		p.section("Ingress classes")
		for _, i := range c.Facts.IngressClasses {
			p.line(i.Name, i.Default, i.Controller)
		}
	}
}

func (p *printer) line(name string, isDefault bool, more ...string) {
	if isDefault {
		name += " (default)"
	}
	_, _ = fmt.Fprintln(p.out, safe(strings.TrimSpace(name+"  "+strings.TrimSpace(strings.Join(more, "  ")))))
}

func (a *app) clusterCreate() *cobra.Command {
	var r hubapi.CreateClusterRequest
	cmd := &cobra.Command{
		Use: "create NAME", Short: "Enter a cluster and print the command that joins it", Args: cobra.ExactArgs(1),
		Long: `Enter a cluster into the register and print the one helm command that joins it.
Run that command against the cluster. The join token in it works once and is
shown only now; "budcluster token create" makes another.`,
		Example: `  budcluster cluster create frankfurt
  budcluster cluster create frankfurt --label site=de --token-ttl 72h`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			r.Name = args[0]
			made, err := c.CreateCluster(cmd.Context(), r)
			if err != nil {
				return err
			}
			p := a.printer()
			return one(p, made, made.Cluster.Name, func() {
				_, _ = fmt.Fprintf(p.out, "Cluster %s is entered; its id is %s.\n", made.Cluster.Name, made.Cluster.ID)
				p.install(made.InstallCommand, made.JoinToken)
			})
		},
	}
	cmd.Flags().StringToStringVarP(&r.Labels, "label", "l", nil, "label, as key=value; may be repeated")
	cmd.Flags().StringVar(&r.TokenTTL, "token-ttl", "", "how long the join token may be used (default 24h)")
	return cmd
}

// install shows a command that holds a token, which is shown this once.
func (p *printer) install(command string, t hubapi.Token) {
	_, _ = fmt.Fprintf(p.out, "Join it with this command, once and within %s:\n\n%s\n", p.until(t), command)
}

func (p *printer) until(t hubapi.Token) string {
	return ago(t.ExpiresAt.Sub(p.now).Round(time.Minute))
}

func (a *app) clusterRevoke() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "revoke CLUSTER", Short: "Refuse a cluster's certificates and close its tunnel", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeClusters,
		Long: `Refuse a cluster's certificates from now on and close its tunnel. What runs in
the cluster goes on. A new join token and a new installation take it back.`,
		Example: "  budcluster cluster revoke frankfurt --yes",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.confirm(yes, fmt.Sprintf("Cluster %s is cut off until it is installed again.", args[0])); err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			cl, err := c.RevokeCluster(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			p := a.printer()
			return one(p, cl, cl.Name, func() { _, _ = fmt.Fprintf(p.out, "Cluster %s is revoked.\n", cl.Name) })
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func (a *app) clusterDelete() *cobra.Command {
	var yes, force bool
	cmd := &cobra.Command{
		Use: "delete CLUSTER", Aliases: []string{"rm"}, Short: "Forget a cluster; nothing in it is touched", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeClusters,
		Long: `Forget a cluster and refuse its certificates. Nothing in the cluster is touched:
delete its releases first to have them removed there, or use --force to leave
them running without anybody who watches them.`,
		Example: `  budcluster cluster delete frankfurt
  budcluster cluster delete frankfurt --force --yes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.confirm(yes, fmt.Sprintf("Everything that is known of cluster %s is forgotten.", args[0])); err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			if err := c.DeleteCluster(cmd.Context(), args[0], force); err != nil {
				return err
			}
			_, _ = fmt.Fprintf(a.w.Out, "Cluster %s is deleted.\n", args[0])
			return nil
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	cmd.Flags().BoolVar(&force, "force", false, "also when it has releases, which then stay as they are")
	return cmd
}
