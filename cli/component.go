package cli

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

func (a *app) components() *cobra.Command {
	return group("component", "What clusters need beside Kubernetes to serve models",
		a.componentList(), a.componentInstall(), a.componentUpgrade(), a.componentRemove())
}

func (a *app) completeComponents(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completeWith(func(ctx context.Context, c *hubapi.Client) ([]string, error) {
		l, err := c.Components(ctx)
		names := make([]string, 0, len(l.Items))
		for _, one := range l.Items {
			names = append(names, one.Name+"\t"+one.Title)
		}
		return names, err
	})
}

func (a *app) componentList() *cobra.Command {
	var cluster string
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the catalogue, or how a cluster stands with it", Args: cobra.NoArgs,
		Long: `List the catalogue of components, or with --cluster how a cluster stands with each:
WANTED is the cluster's own wish, PLAN what a plan made now would do, OWNER hub
where the hub put it there, and other where it was there before.`,
		Example: `  budcluster component list
  budcluster component list --cluster frankfurt
  budcluster component list --cluster frankfurt -o wide`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			if cluster != "" {
				return a.clusterComponents(cmd.Context(), c, cluster)
			}
			l, err := c.Components(cmd.Context())
			if err != nil {
				return err
			}
			head := []string{"NAME", "VERSION", "WANTED", "DESCRIPTION"}
			return list(a.printer(), l.Items, func(o hubapi.Component) string { return o.Name }, head, func(o hubapi.Component) []cell {
				return []cell{text(o.Name), text(o.Version), text(o.Wanted), text(o.Description)}
			})
		},
	}
	a.clusterFlag(cmd, &cluster, "show how this cluster stands with each")
	return cmd
}

func (a *app) clusterComponents(ctx context.Context, c *hubapi.Client, cluster string) error {
	l, err := c.ClusterComponents(ctx, cluster)
	if err != nil {
		return err
	}
	p := a.printer()
	head := []string{"NAME", "HEALTH", "VERSION", "OWNER", "WANTED", "PLAN"}
	if p.wide() {
		head = append(head, "AVAILABLE", "RELEASE", "WHY")
	}
	return list(p, l.Items, func(o hubapi.ClusterComponent) string { return o.Name }, head, func(o hubapi.ClusterComponent) []cell {
		row := []cell{text(o.Name), componentHealth(o), text(o.Version), text(owner(o)), text(o.Wanted), planCell(o)}
		if p.wide() {
			row = append(row, text(o.Available), text(o.Release), text(o.Why))
		}
		return row
	})
}

func componentHealth(o hubapi.ClusterComponent) cell {
	switch o.Health {
	case "Ready":
		return cell{text: o.Health, tone: good}
	case "Failed":
		return cell{text: o.Health, tone: bad}
	default:
		return cell{text: o.Health, tone: warning}
	}
}

func owner(o hubapi.ClusterComponent) string {
	switch {
	case o.Owned:
		return "hub"
	case o.Present:
		return "other"
	default:
		return ""
	}
}

func planCell(o hubapi.ClusterComponent) cell {
	switch o.Action {
	case "Blocked":
		return cell{text: o.Action, tone: bad}
	case "Unknown":
		return cell{text: o.Action, tone: warning}
	case "Keep", "Skip", "Adopt":
		return cell{text: o.Action, tone: dim}
	default:
		return text(o.Action)
	}
}

// wishFlags add what a wish may say.
func wishFlags(cmd *cobra.Command, w *hubapi.ComponentWish) {
	cmd.Flags().StringVar(&w.Version, "version", "", "version of the chart instead of the catalogue's")
	cmd.Flags().StringVar(&w.Digest, "digest", "", "digest of that version's chart")
}

func (a *app) componentInstall() *cobra.Command {
	var (
		cluster string
		wish    hubapi.ComponentWish
		watch   bool
	)
	cmd := &cobra.Command{
		Use: "install COMPONENT", Short: "Install a component and what it requires", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeComponents,
		Long: `Install a component in a cluster, and what it requires first. What was there
before is used as it is. If it fails, what was installed is removed again.`,
		Example: `  budcluster component install hami --cluster frankfurt --watch
  budcluster component install nfd -c frankfurt --version 0.19.0`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			w, err := c.InstallComponent(cmd.Context(), cluster, args[0], wish)
			if err != nil {
				return err
			}
			return a.finish(cmd.Context(), c, w, watch)
		},
	}
	a.clusterFlag(cmd, &cluster, "cluster to install it in")
	must(cmd.MarkFlagRequired("cluster"))
	wishFlags(cmd, &wish)
	watchFlag(cmd, &watch)
	return cmd
}

func (a *app) componentUpgrade() *cobra.Command {
	var (
		clusters []string
		r        hubapi.RolloutRequest
		watch    bool
	)
	cmd := &cobra.Command{
		Use: "upgrade COMPONENT", Short: "Upgrade a component in one cluster or, in waves, in many", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeComponents,
		Long: `Upgrade a component that the hub installed to the catalogue's version, or to
--version. In many clusters it goes in waves: it stops when more than --tolerate
of them fail, and "budcluster workflow retry" goes on with those that are left.`,
		Example: `  budcluster component upgrade hami --cluster frankfurt --watch
  budcluster component upgrade nfd -c frankfurt -c paris -c oslo --wave 2 --canary 1 --watch`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			w, err := upgrade(cmd.Context(), c, args[0], clusters, r)
			if err != nil {
				return err
			}
			return a.finish(cmd.Context(), c, w, watch)
		},
	}
	cmd.Flags().StringArrayVarP(&clusters, "cluster", "c", nil, "cluster to upgrade it in; may be repeated, and their order is that of the waves")
	must(cmd.MarkFlagRequired("cluster"))
	must(cmd.RegisterFlagCompletionFunc("cluster", func(cmd *cobra.Command, _ []string, s string) ([]string, cobra.ShellCompDirective) {
		return a.completeClusters(cmd, nil, s)
	}))
	cmd.Flags().StringVar(&r.Version, "version", "", "version of the chart instead of the catalogue's")
	cmd.Flags().StringVar(&r.Digest, "digest", "", "digest of that version's chart")
	cmd.Flags().IntVar(&r.Size, "wave", 0, "clusters worked on at a time (default 1)")
	cmd.Flags().IntVar(&r.Canary, "canary", 0, "clusters of the first wave")
	cmd.Flags().IntVar(&r.Tolerate, "tolerate", 0, "failures that do not stop it")
	watchFlag(cmd, &watch)
	return cmd
}

func upgrade(ctx context.Context, c *hubapi.Client, name string, clusters []string, r hubapi.RolloutRequest) (hubapi.Workflow, error) {
	if len(clusters) == 1 {
		return c.UpgradeComponent(ctx, clusters[0], name, hubapi.ComponentWish{Version: r.Version, Digest: r.Digest})
	}
	r.Clusters = clusters
	return c.Rollout(ctx, name, r)
}

func (a *app) componentRemove() *cobra.Command {
	var (
		cluster    string
		watch, yes bool
	)
	cmd := &cobra.Command{
		Use: "remove COMPONENT", Aliases: []string{"rm"}, Short: "Remove a component that the hub installed", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeComponents,
		Long: `Remove a component that the hub installed, with what its chart leaves behind. What
was there before the hub is not touched.`,
		Example: "  budcluster component remove hami --cluster frankfurt --watch",
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.confirm(yes, fmt.Sprintf("Component %s is removed from cluster %s.", args[0], cluster)); err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			w, err := c.RemoveComponent(cmd.Context(), cluster, args[0])
			if err != nil {
				return err
			}
			return a.finish(cmd.Context(), c, w, watch)
		},
	}
	a.clusterFlag(cmd, &cluster, "cluster to remove it from")
	must(cmd.MarkFlagRequired("cluster"))
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	watchFlag(cmd, &watch)
	return cmd
}
