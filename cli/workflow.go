package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

func (a *app) workflows() *cobra.Command {
	return group("workflow", "Long work: its steps, its end, and trying it again",
		a.workflowList(), a.workflowShow(), a.workflowWatch(), a.workflowCancel(), a.workflowRetry())
}

func (a *app) completeWorkflows(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completeWith(func(ctx context.Context, c *hubapi.Client) ([]string, error) {
		l, err := c.Workflows(ctx, hubapi.WorkflowQuery{})
		ids := make([]string, 0, len(l.Items))
		for _, w := range l.Items {
			ids = append(ids, w.ID+"\t"+w.Kind+" "+w.Cluster)
		}
		return ids, err
	})
}

func (a *app) workflowList() *cobra.Command {
	var q hubapi.WorkflowQuery
	cmd := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List workflows, newest first", Args: cobra.NoArgs,
		Example: `  budcluster workflow list
  budcluster workflow list --cluster frankfurt --active
  budcluster workflow list --status Failed -o wide`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			all, err := hubapi.Collect(c.AllWorkflows(cmd.Context(), q))
			if err != nil {
				return err
			}
			p := a.printer()
			head := []string{"ID", "KIND", "CLUSTER", "STATUS", "TOOK", "BY", "AGE"}
			if p.wide() {
				head = append(head, "MESSAGE")
			}
			return list(p, all, func(w hubapi.Workflow) string { return w.ID }, head, func(w hubapi.Workflow) []cell {
				row := []cell{text(w.ID), text(w.Kind), text(w.Cluster), workflowStatus(w.Status), text(p.took(w)), text(w.CreatedBy), p.age(w.CreatedAt)}
				if p.wide() {
					row = append(row, text(w.Message))
				}
				return row
			})
		},
	}
	a.clusterFlag(cmd, &q.Cluster, "only those about this cluster")
	cmd.Flags().StringVar(&q.Kind, "kind", "", "only those of this kind, e.g. register_cluster")
	cmd.Flags().StringVar(&q.Status, "status", "", "only those of this status, e.g. Failed")
	cmd.Flags().BoolVar(&q.Active, "active", false, "only those that are not over")
	return cmd
}

func workflowStatus(s hubapi.WorkflowStatus) cell {
	switch s {
	case hubapi.WorkflowCompleted:
		return cell{text: string(s), tone: good}
	case hubapi.WorkflowFailed:
		return cell{text: string(s), tone: bad}
	case hubapi.WorkflowUndoing, hubapi.WorkflowCancelled:
		return cell{text: string(s), tone: warning}
	default:
		return text(string(s))
	}
}

func (p *printer) took(w hubapi.Workflow) string {
	end := p.now
	if w.FinishedAt != nil {
		end = *w.FinishedAt
	}
	return ago(end.Sub(w.CreatedAt))
}

func (a *app) workflowShow() *cobra.Command {
	return &cobra.Command{
		Use: "show ID", Aliases: []string{"get"}, Short: "Show a workflow with its steps and times", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeWorkflows,
		Long: `Show a workflow with its steps. TOOK is how long a step took, and WAITED how much
of that it waited for the cluster.`,
		Example: `  budcluster workflow show 019ab2c4-5d6e-7f80-91a2-b3c4d5e6f708
  budcluster workflow show 019ab2c4-5d6e-7f80-91a2-b3c4d5e6f708 -o json`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			w, err := c.Workflow(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			p := a.printer()
			return one(p, w, w.ID, func() { p.workflow(w) })
		},
	}
}

func (p *printer) workflow(w hubapi.Workflow) {
	eta := ""
	if w.ETASeconds > 0 && !w.Status.Terminal() {
		eta = "about " + ago(time.Duration(w.ETASeconds)*time.Second)
	}
	p.facts("ID", w.ID, "Kind", w.Kind, "Cluster", w.Cluster, "Status", workflowStatus(w.Status), "Message", w.Message, "Took", p.took(w), "Left", eta,
		"By", w.CreatedBy, "Created", p.at(&w.CreatedAt), "Finished", p.at(w.FinishedAt), "Cancelled", p.at(w.CancelledAt), "Retry of", w.RetryOf)
	p.section("Steps")
	rows := make([][]cell, 0, len(w.Steps))
	for _, s := range w.Steps {
		rows = append(rows, []cell{text(s.Title), stepStatus(s.Status), text(p.stepTook(s)), text(millis(s.WaitedMillis)), text(s.Message)})
	}
	_ = p.table([]string{"STEP", "STATUS", "TOOK", "WAITED", "MESSAGE"}, rows)
}

func (p *printer) stepTook(s hubapi.WorkflowStep) string {
	if s.StartedAt == nil {
		return ""
	}
	end := p.now
	if s.FinishedAt != nil {
		end = *s.FinishedAt
	}
	return millis(end.Sub(*s.StartedAt).Milliseconds())
}

// millis is exact where it matters: below ten seconds.
func millis(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	switch {
	case ms == 0:
		return ""
	case d < 10*time.Second:
		return fmt.Sprintf("%.1fs", d.Seconds())
	default:
		return ago(d)
	}
}

func stepStatus(s hubapi.StepStatus) cell {
	switch s {
	case hubapi.StepCompleted:
		return cell{text: string(s), tone: good}
	case hubapi.StepFailed:
		return cell{text: string(s), tone: bad}
	case hubapi.StepWaiting, hubapi.StepRunning, hubapi.StepCancelled:
		return cell{text: string(s), tone: warning}
	default:
		return cell{text: string(s), tone: dim}
	}
}

func (a *app) workflowWatch() *cobra.Command {
	return &cobra.Command{
		Use: "watch ID", Short: "Follow a workflow until it is over", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeWorkflows,
		Long: `Follow a workflow until it is over. It goes on whether or not somebody watches;
the exit status is 6 when it fails or is cancelled.`,
		Example: "  budcluster workflow watch 019ab2c4-5d6e-7f80-91a2-b3c4d5e6f708",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			return a.finish(cmd.Context(), c, hubapi.Workflow{ID: args[0]}, true)
		},
	}
}

// finish shows what a workflow that was begun comes to, if somebody wants to
// wait for it.
func (a *app) finish(ctx context.Context, c *hubapi.Client, w hubapi.Workflow, watch bool) error {
	p := a.printer()
	if !watch {
		return one(p, w, w.ID, func() {
			_, _ = fmt.Fprintf(p.out, "Workflow %s began; follow it with: budcluster workflow watch %s\n", w.ID, w.ID)
		})
	}
	end, err := a.follow(ctx, c, w.ID)
	if err != nil {
		return err
	}
	return one(p, end, end.ID, func() {
		_, _ = fmt.Fprintf(p.out, "Workflow %s (%s) is done after %s.\n", end.ID, end.Kind, p.took(end))
	})
}

func (a *app) workflowCancel() *cobra.Command {
	return &cobra.Command{
		Use: "cancel ID", Short: "Ask for a workflow's end; what it made is undone", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeWorkflows,
		Example: "  budcluster workflow cancel 019ab2c4-5d6e-7f80-91a2-b3c4d5e6f708",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			w, err := c.CancelWorkflow(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			p := a.printer()
			return one(p, w, w.ID, func() {
				_, _ = fmt.Fprintf(p.out, "Workflow %s ends as soon as what it made is undone.\n", w.ID)
			})
		},
	}
}

func (a *app) workflowRetry() *cobra.Command {
	var watch bool
	cmd := &cobra.Command{
		Use: "retry ID", Short: "Begin the work of a failed or cancelled workflow anew", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeWorkflows,
		Long: `Begin the work of a failed or cancelled workflow anew, as a workflow of its own.
What is there already is kept: a rollout goes on with the clusters that are left.`,
		Example: "  budcluster workflow retry 019ab2c4-5d6e-7f80-91a2-b3c4d5e6f708 --watch",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			w, err := c.RetryWorkflow(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.finish(cmd.Context(), c, w, watch)
		},
	}
	watchFlag(cmd, &watch)
	return cmd
}

func watchFlag(cmd *cobra.Command, to *bool) {
	cmd.Flags().BoolVarP(to, "watch", "w", false, "follow the workflow until it is over")
}
