package cli

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os"

	"github.com/spf13/cobra"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

func (a *app) clusterRegister() *cobra.Command {
	var (
		r             hubapi.RegisterRequest
		watch         bool
		ttl, file     string
		with, without []string
	)
	cmd := &cobra.Command{
		Use: "register NAME", Short: "Enter a cluster and make it ready for models", Args: cobra.ExactArgs(1),
		Long: `Enter a cluster and make it ready for models: feature discovery, what its
accelerators need, monitoring. The one helm command that installs the agent is
printed first; the rest happens by itself once the agent is there. With
--kubeconfig the hub installs the agent too: it uses the file's current context
once and does not keep it. What was in the cluster before is used and left alone.
If it fails or is cancelled, what it installed is removed again.

Which components a cluster gets its hardware says; --with and --without say it
instead, for this cluster and from now on.`,
		Example: `  budcluster cluster register frankfurt --watch
  budcluster cluster register frankfurt --label site=de --ingress-url https://models.example.com
  budcluster cluster register frankfurt --without prometheus-stack --watch
  budcluster cluster register frankfurt --existing --watch
  budcluster cluster register frankfurt --kubeconfig frankfurt.yaml --watch
  kubectl config view --raw --flatten --minify --context frankfurt | budcluster cluster register frankfurt --kubeconfig -`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if file != "" && ttl != "" {
				return usagef("--token-ttl is for a join token that somebody uses, and with --kubeconfig the hub does; leave one of them out")
			}
			var err error
			if r.Components, err = wishes(with, without); err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			r.Name = args[0]
			if r.Kubeconfig, err = a.readKubeconfig(file); err != nil {
				return err
			}
			w, err := c.Register(cmd.Context(), r)
			if err != nil {
				return err
			}
			if file != "" {
				return a.finish(cmd.Context(), c, w, watch)
			}
			if err := a.showJoin(cmd.Context(), c, w, ttl); err != nil {
				return err
			}
			return a.finish(cmd.Context(), c, w, watch)
		},
	}
	cmd.Flags().StringToStringVarP(&r.Labels, "label", "l", nil, "label, as key=value; may be repeated")
	cmd.Flags().StringVar(&r.IngressURL, "ingress-url", "", "where the cluster's models are reached")
	cmd.Flags().StringArrayVar(&with, "with", nil, "component to install whatever the hardware is; may be repeated")
	cmd.Flags().StringArrayVar(&without, "without", nil, "component not to install; may be repeated")
	cmd.Flags().BoolVar(&r.Existing, "existing", false, "register a cluster that is in the register already")
	cmd.Flags().StringVar(&file, "kubeconfig", "", "file with which the hub installs the agent; - reads standard input")
	cmd.Flags().StringVar(&ttl, "token-ttl", "", "how long the join token may be used (default 24h)")
	watchFlag(cmd, &watch)
	return cmd
}

// wishes are those that --with and --without name.
func wishes(with, without []string) (map[string]hubapi.ComponentWish, error) {
	if len(with)+len(without) == 0 {
		return nil, nil //nolint:nilnil // none is wished
	}
	all := make(map[string]hubapi.ComponentWish, len(with)+len(without))
	for _, name := range with {
		all[name] = hubapi.ComponentWish{Wanted: "yes"}
	}
	for _, name := range without {
		if all[name].Wanted != "" {
			return nil, usagef("component %s is both in --with and in --without; leave it out of one", name)
		}
		all[name] = hubapi.ComponentWish{Wanted: "no"}
	}
	return all, nil
}

// readKubeconfig reads a file, or the standard input when it is "-". Whether it
// can be used the hub says.
func (a *app) readKubeconfig(name string) (string, error) {
	if name == "" {
		return "", nil
	}
	var raw []byte
	var err error
	if name == "-" {
		raw, err = io.ReadAll(io.LimitReader(a.w.In, 4<<20))
	} else {
		raw, err = os.ReadFile(name)
	}
	if err != nil {
		return "", fmt.Errorf("kubeconfig %s: %w", name, reason(err))
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return "", usagef("kubeconfig %s is empty; kubectl config view --raw --flatten --minify prints one", name)
	}
	return string(raw), nil
}

// showJoin prints the command that installs the agent, where there is none yet.
func (a *app) showJoin(ctx context.Context, c *hubapi.Client, w hubapi.Workflow, ttl string) error {
	cl, err := c.Cluster(ctx, w.ClusterID)
	if err != nil || cl.State != hubapi.ClusterPending {
		return err
	}
	made, err := c.CreateToken(ctx, w.ClusterID, hubapi.CreateTokenRequest{TTL: ttl})
	if err != nil {
		return err
	}
	p := a.printer()
	p.out = a.w.Err
	if p.format == "table" || p.format == "wide" {
		p.out = a.w.Out
	}
	p.install(made.InstallCommand, made.JoinToken)
	return nil
}

func (a *app) clusterRemove() *cobra.Command {
	var (
		r          hubapi.RemoveRequest
		watch, yes bool
	)
	cmd := &cobra.Command{
		Use: "remove CLUSTER", Short: "Take a cluster out of the fleet with all that the hub put there", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeClusters,
		Long: `Take a cluster out of the fleet: its models and components are removed, the last
first, then the agent itself. What was there before stays. With --force a
cluster that does not answer any more leaves at once; should its agent ever come
back, it removes what the hub put there.`,
		Example: `  budcluster cluster remove frankfurt --watch
  budcluster cluster remove frankfurt --force --yes`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.confirm(yes, fmt.Sprintf("Everything that the hub put into cluster %s is removed.", args[0])); err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			w, err := c.Remove(cmd.Context(), args[0], r)
			if err != nil {
				return err
			}
			return a.finish(cmd.Context(), c, w, watch)
		},
	}
	cmd.Flags().BoolVar(&r.Force, "force", false, "at once and without its agent, for a cluster that is gone")
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	watchFlag(cmd, &watch)
	return cmd
}

func (a *app) clusterUpgradeAgent() *cobra.Command {
	var (
		r     hubapi.UpgradeAgentRequest
		watch bool
	)
	cmd := &cobra.Command{
		Use: "upgrade-agent CLUSTER", Short: "Replace a cluster's agent by that of the hub's version", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeClusters,
		Long: `Replace a cluster's agent by that of the hub's own version, or by a chart that was
pushed to the hub. When the new agent does not reach the hub within a minute the
old one comes back by itself.`,
		Example: `  budcluster cluster upgrade-agent frankfurt --watch`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			w, err := c.UpgradeAgent(cmd.Context(), args[0], r)
			if err != nil {
				return err
			}
			return a.finish(cmd.Context(), c, w, watch)
		},
	}
	cmd.Flags().StringVar(&r.Digest, "digest", "", "digest of an agent's chart that the hub holds")
	watchFlag(cmd, &watch)
	return cmd
}
