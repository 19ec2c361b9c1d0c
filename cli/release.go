package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

func (a *app) releases() *cobra.Command {
	return group("release", "Helm releases wanted in clusters",
		a.releaseApply(), a.releaseList(), a.releaseShow(), a.releaseWatch(), a.releaseDelete())
}

// releaseNamed adds --cluster, which is required, and completes names.
func (a *app) releaseNamed(cmd *cobra.Command, cluster *string) {
	a.clusterFlag(cmd, cluster, "the release's cluster")
	must(cmd.MarkFlagRequired("cluster"))
	cmd.ValidArgsFunction = a.completeReleases(cluster)
}

func (a *app) completeReleases(cluster *string) func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	return func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 || *cluster == "" {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return a.completeWith(func(ctx context.Context, c *hubapi.Client) ([]string, error) {
			l, err := c.Releases(ctx, hubapi.ReleaseQuery{Cluster: *cluster, PageOptions: hubapi.PageOptions{Limit: 1000}})
			names := make([]string, 0, len(l.Items))
			for _, r := range l.Items {
				names = append(names, r.Name)
			}
			return names, err
		})
	}
}

func (a *app) releaseList() *cobra.Command {
	var q hubapi.ReleaseQuery
	var phase string
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List releases", Args: cobra.NoArgs,
		Example: `  budcluster release list
  budcluster release list --cluster frankfurt -o wide
  budcluster release list --phase Failed`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			q.Phase = hubapi.Phase(phase)
			all, err := hubapi.Collect(c.AllReleases(cmd.Context(), q))
			if err != nil {
				return err
			}
			return a.printer().releases(all)
		},
	}
	a.clusterFlag(cmd, &q.Cluster, "only releases of this cluster")
	cmd.Flags().StringVar(&phase, "phase", "", "only releases in this phase, e.g. Failed")
	return cmd
}

func (p *printer) releases(all []hubapi.Release) error {
	head := []string{"CLUSTER", "RELEASE", "NAMESPACE", "CHART", "PHASE", "READY", "GENERATION", "SEEN", "AGE", "MESSAGE"}
	if p.wide() {
		head = slices.Insert(head, 9, "REVISION", "INSTALLED", "APP", "ATTEMPTS", "CORRECTIONS", "CHANGED")
	}
	return list(p, all, func(r hubapi.Release) string { return r.Cluster.Name + "/" + r.Name }, head, func(r hubapi.Release) []cell {
		phase := phaseCell(r.Status.Phase)
		generation := text(fmt.Sprint(r.Generation))
		if r.Status.ObservedGeneration < r.Generation {
			generation = cell{text: fmt.Sprintf("%d→%d", r.Status.ObservedGeneration, r.Generation), tone: warning}
		}
		if r.DeletedAt != nil && r.Status.Phase != hubapi.PhaseRemoving {
			phase = cell{text: "ToBeRemoved", tone: warning}
		}
		message := clipped(r.Status.Message, 60)
		row := []cell{
			text(r.Cluster.Name), text(r.Name), text(r.Namespace), text(r.Spec.Chart.Name + "-" + r.Spec.Chart.Version), phase,
			ready(r.Status), generation, p.seenRef(r.Cluster), p.age(r.CreatedAt),
		}
		if p.wide() {
			message = clipped(r.Status.Message, 1000)
			row = append(row, number(int64(r.Status.Revision)), text(r.Status.ChartVersion), text(r.Status.AppVersion),
				number(int64(r.Status.Attempts)), number(r.Status.Corrections), p.since(r.Status.ChangedAt))
		}
		return append(row, text(message))
	})
}

func number(n int64) cell {
	if n == 0 {
		return cell{}
	}
	return text(fmt.Sprint(n))
}

func ready(s hubapi.ReleaseStatus) cell {
	if s.Total == 0 {
		return cell{}
	}
	return text(fmt.Sprintf("%d/%d", s.Ready, s.Total))
}

func phaseCell(ph hubapi.Phase) cell {
	out := cell{text: string(ph)}
	switch ph {
	case hubapi.PhaseReady:
		out.tone = good
	case hubapi.PhaseFailed:
		out.tone = bad
	case hubapi.PhaseDrifted, hubapi.PhaseLocked, hubapi.PhaseRollingBack:
		out.tone = warning
	case hubapi.PhaseRemoved:
		out.tone = dim
	case hubapi.PhasePending, hubapi.PhaseInstalling, hubapi.PhaseUpgrading, hubapi.PhaseProgressing, hubapi.PhaseAdopted, hubapi.PhaseRemoving:
	}
	return out
}

func (a *app) releaseShow() *cobra.Command {
	var cluster string
	cmd := &cobra.Command{
		Use: "show RELEASE --cluster CLUSTER", Aliases: []string{"get"}, Short: "Show a release", Args: cobra.ExactArgs(1),
		Example: `  budcluster release show web --cluster frankfurt
  budcluster release show web --cluster frankfurt -o yaml`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			r, err := c.Release(cmd.Context(), cluster, args[0])
			if err != nil {
				return err
			}
			p := a.printer()
			return one(p, r, r.Name, func() { p.release(r) })
		},
	}
	a.releaseNamed(cmd, &cluster)
	return cmd
}

func (p *printer) release(r hubapi.Release) {
	st, spec := r.Status, r.Spec
	p.facts("Release", r.Name, "Cluster", r.Cluster.Name, "Cluster state", stateCell(r.Cluster.State), "Seen", p.seenRef(r.Cluster),
		"Namespace", r.Namespace, "Generation", fmt.Sprintf("%d (the agent speaks of %d)", r.Generation, st.ObservedGeneration), "Created", p.at(&r.CreatedAt),
		"Changed", p.at(&r.UpdatedAt), "Deleted", p.at(r.DeletedAt))
	p.section("Status")
	owned := ""
	if !st.Owned && st.ObservedGeneration > 0 {
		owned = "no; it was there before, and will not be removed by us"
	}
	p.facts("Phase", phaseCell(st.Phase), "Reason", st.Reason, "Message", st.Message, "Ready", ready(st), "Waiting for", st.WaitingFor,
		"Installed", strings.TrimSpace(st.ChartVersion+" "+st.AppVersion), "Revision", number(int64(st.Revision)), "Ours", owned,
		"Attempts", number(int64(st.Attempts)), "Next attempt", p.at(st.RetryAt), "Corrections", number(st.Corrections), "Since", p.at(st.ChangedAt))
	for _, d := range st.Drift {
		p.facts("Drift", cell{text: strings.TrimSpace(d.Object + " " + d.Field + " " + d.Manager), tone: warning})
	}
	if len(st.Outputs) > 0 {
		p.section("Outputs")
		for _, k := range slices.Sorted(maps.Keys(st.Outputs)) {
			p.facts(k, st.Outputs[k])
		}
	}
	p.section("Wanted")
	p.facts("Chart", spec.Chart.Name+" "+spec.Chart.Version, "Digest", spec.Chart.Digest, "Timeout", spec.Timeout,
		"When it fails", spec.Remediation, "Attempts", number(int64(spec.MaxAttempts)), "On drift", spec.Drift, "If it was there", spec.Adoption)
	if text, err := yaml.JSONToYAML(spec.Values); err == nil && len(spec.Values) > 2 {
		p.section("Values")
		for line := range strings.Lines(string(text)) {
			_, _ = fmt.Fprintln(p.out, safe(strings.TrimRight(line, "\n")))
		}
	}
}

func (a *app) releaseWatch() *cobra.Command {
	var cluster string
	cmd := &cobra.Command{
		Use: "watch RELEASE --cluster CLUSTER", Short: "Show a release each time that it changes", Args: cobra.ExactArgs(1),
		Long: `Show a release now and each time that it changes, until it is gone or Ctrl-C.
It goes on while the hub is away for a while. With -o json each state is one line.`,
		Example: "  budcluster release watch web --cluster frankfurt",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			return a.watch(cmd.Context(), c, cluster, args[0])
		},
	}
	a.releaseNamed(cmd, &cluster)
	return cmd
}

func (a *app) watch(ctx context.Context, c *hubapi.Client, cluster, name string) error {
	p := a.printer()
	any := false
	for r, err := range c.WatchRelease(ctx, cluster, name) {
		if err != nil {
			if any && hubapi.IsNotFound(err) {
				a.warn("Release %s is gone.", name)
				return nil
			}
			return err
		}
		any = true
		switch p.format {
		case "json":
			enc := json.NewEncoder(p.out)
			enc.SetEscapeHTML(false)
			err = enc.Encode(r)
		case "yaml":
			var text []byte
			if text, err = yaml.Marshal(r); err == nil {
				_, err = fmt.Fprintf(p.out, "---\n%s", text)
			}
		default:
			line := cell{text: describe(r), tone: phaseCell(r.Status.Phase).tone}
			_, err = fmt.Fprintf(p.out, "%s  %s\n", p.paint(cell{text: a.w.Now().UTC().Format(time.TimeOnly), tone: dim}), p.paint(line))
		}
		if err != nil {
			return fmt.Errorf("print release: %w", err)
		}
	}
	return nil
}

func (a *app) releaseDelete() *cobra.Command {
	var cluster string
	var yes, forget, wait bool
	var limit time.Duration
	cmd := &cobra.Command{
		Use: "delete RELEASE --cluster CLUSTER", Aliases: []string{"rm"}, Short: "Have a release removed from its cluster", Args: cobra.ExactArgs(1),
		Long: `Have a release removed from its cluster. It is gone when the agent says so; a
cluster that is away removes it when it is back. With --forget the hub drops it
at once, and what is in the cluster stays there.`,
		Example: `  budcluster release delete web --cluster frankfurt
  budcluster release delete web --cluster frankfurt --yes --wait`,
		RunE: func(cmd *cobra.Command, args []string) error {
			question := fmt.Sprintf("Release %s is removed from cluster %s.", args[0], cluster)
			if forget {
				question = fmt.Sprintf("Release %s is forgotten, and what it installed in cluster %s stays there unmanaged.", args[0], cluster)
			}
			if err := a.confirm(yes, question); err != nil {
				return err
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			r, err := c.DeleteRelease(cmd.Context(), cluster, args[0], forget)
			if err != nil {
				return err
			}
			if wait && !forget {
				if err := a.waitGone(cmd.Context(), c, r, limit); err != nil {
					return err
				}
			}
			p := a.printer()
			return one(p, r, r.Name, func() {
				said := "is being removed"
				if wait || forget {
					said = "is gone"
				}
				_, _ = fmt.Fprintf(p.out, "Release %s in cluster %s %s.\n", r.Name, r.Cluster.Name, said)
			})
		},
	}
	a.releaseNamed(cmd, &cluster)
	f := cmd.Flags()
	f.BoolVarP(&yes, "yes", "y", false, "do not ask")
	f.BoolVar(&forget, "forget", false, "drop it at the hub, and leave what is in the cluster")
	f.BoolVar(&wait, "wait", false, "wait until it is gone")
	f.DurationVar(&limit, "wait-timeout", 10*time.Minute, "how long to wait")
	return cmd
}

func (a *app) waitGone(ctx context.Context, c *hubapi.Client, r hubapi.Release, limit time.Duration) error {
	ctx, cancel := context.WithTimeoutCause(ctx, limit, errWaited)
	defer cancel()
	g := a.progress()
	err := c.WaitReleaseGone(ctx, r.Cluster.ID, r.Name, g.see)
	g.stop()
	return waited(err, r, limit)
}

// errWaited says that our own patience ended, and nothing else.
var errWaited = errors.New("waited long enough")

func waited(err error, r hubapi.Release, limit time.Duration) error {
	if errors.Is(err, errWaited) {
		return fmt.Errorf("release %s is not done after %s; it goes on, follow it with: budcluster release watch %s --cluster %s",
			r.Name, limit, r.Name, r.Cluster.Name)
	}
	return err
}
