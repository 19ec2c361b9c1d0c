package cli

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

func (a *app) webhooks() *cobra.Command {
	return group("webhook", "Programs that are told of events by HTTP",
		a.webhookList(), a.webhookCreate(), a.webhookDelete(), a.webhookTest(), a.webhookDeliveries(), a.webhookRedeliver())
}

func (a *app) completeWebhooks(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return a.completeWith(func(ctx context.Context, c *hubapi.Client) ([]string, error) {
		l, err := c.Webhooks(ctx)
		names := make([]string, 0, len(l.Items))
		for _, w := range l.Items {
			names = append(names, w.Name)
		}
		return names, err
	})
}

func (a *app) webhookList() *cobra.Command {
	return &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List webhooks and whether they work", Args: cobra.NoArgs,
		Example: `  budcluster webhook list
  budcluster webhook list -o wide`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			l, err := c.Webhooks(cmd.Context())
			if err != nil {
				return err
			}
			p := a.printer()
			head := []string{"NAME", "STATE", "URL", "TYPES", "SENT", "BY", "AGE"}
			if p.wide() {
				head = append(head, "ERROR")
			}
			return list(p, l.Items, func(w hubapi.Webhook) string { return w.Name }, head, func(w hubapi.Webhook) []cell {
				state := cell{text: "Working", tone: good}
				if w.Failures > 0 {
					state = cell{text: fmt.Sprintf("Failing (%d)", w.Failures), tone: bad}
				}
				types := strings.Join(w.Types, ",")
				if types == "" {
					types = "all"
				}
				row := []cell{text(w.Name), state, text(w.URL), text(types), p.since(w.LastSentAt), text(w.CreatedBy), p.age(w.CreatedAt)}
				if p.wide() {
					row = append(row, text(w.Error))
				}
				return row
			})
		},
	}
}

func (a *app) webhookCreate() *cobra.Command {
	var r hubapi.CreateWebhookRequest
	cmd := &cobra.Command{
		Use: "create NAME URL", Short: "Have a program told of events from now on", Args: cobra.ExactArgs(2),
		Long: `Have a program told of events by POST, in order, each until it answers 2xx. The
messages are signed as Standard Webhooks says (standardwebhooks.com), with the
key that is printed now and never again.`,
		Example: `  budcluster webhook create pager https://ops.example.com/budcluster
  budcluster webhook create ci https://ci.example.com/hook --type release.status --cluster frankfurt`,
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			r.Name, r.URL = args[0], args[1]
			made, err := c.CreateWebhook(cmd.Context(), r)
			if err != nil {
				return err
			}
			p := a.printer()
			return one(p, made, made.Webhook.Name, func() {
				a.warn("Webhook %s is made; the key of its signatures is shown only now:", made.Webhook.Name)
				_, _ = fmt.Fprintln(p.out, made.Secret)
			})
		},
	}
	cmd.Flags().StringArrayVar(&r.Types, "type", nil, "only events of this type, e.g. release.status; may be repeated")
	a.clusterFlag(cmd, &r.Cluster, "only events of this cluster")
	return cmd
}

func (a *app) webhookDelete() *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use: "delete NAME", Aliases: []string{"rm"}, Short: "End a webhook and forget what it was sent", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeWebhooks,
		Example: "  budcluster webhook delete pager",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			if err := a.confirm(yes, fmt.Sprintf("Webhook %s gets no more events, and its dead letters are lost. Delete it?", args[0])); err != nil {
				return err
			}
			if err := c.DeleteWebhook(cmd.Context(), args[0]); err != nil {
				return err
			}
			_, _ = fmt.Fprintf(a.w.Out, "Webhook %s is deleted.\n", args[0])
			return nil
		},
	}
	cmd.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return cmd
}

func (a *app) webhookTest() *cobra.Command {
	return &cobra.Command{
		Use: "test NAME", Short: "Send a webhook a message now", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeWebhooks,
		Example: "  budcluster webhook test pager",
		RunE: func(cmd *cobra.Command, args []string) error {
			c, err := a.connect()
			if err != nil {
				return err
			}
			d, err := c.TestWebhook(cmd.Context(), args[0])
			if err != nil {
				return err
			}
			return a.attempt(args[0], d)
		},
	}
}

// attempt says how one attempt went, and fails if it did.
func (a *app) attempt(name string, d hubapi.Delivery) error {
	err := one(a.printer(), d, name, func() {
		if d.Status == hubapi.DeliverySent {
			_, _ = fmt.Fprintf(a.w.Out, "Webhook %s took it (%d).\n", name, d.Response)
		}
	})
	if err == nil && d.Status != hubapi.DeliverySent {
		return fmt.Errorf("webhook %s did not take it: %s", name, d.Error)
	}
	return err
}

func (a *app) webhookDeliveries() *cobra.Command {
	var status string
	var last int
	cmd := &cobra.Command{
		Use: "deliveries NAME", Short: "Show what a webhook was sent, the newest first", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeWebhooks,
		Example: `  budcluster webhook deliveries pager
  budcluster webhook deliveries pager --status Dead`,
		RunE: func(cmd *cobra.Command, args []string) error {
			if last < 0 {
				return usagef("--last must not be negative")
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			var found []hubapi.Delivery
			for d, err := range c.AllDeliveries(cmd.Context(), args[0], hubapi.DeliveryStatus(status)) {
				if err != nil {
					return err
				}
				if found = append(found, d); len(found) == last {
					break
				}
			}
			p := a.printer()
			head := []string{"EVENT", "TYPE", "STATUS", "ATTEMPTS", "ANSWER", "LAST", "ERROR"}
			return list(p, found, func(d hubapi.Delivery) string { return strconv.FormatInt(d.EventID, 10) }, head, func(d hubapi.Delivery) []cell {
				state := cell{text: string(d.Status), tone: bad}
				if d.Status == hubapi.DeliverySent {
					state.tone = good
				}
				answer := ""
				if d.Response > 0 {
					answer = strconv.Itoa(d.Response)
				}
				return []cell{text(strconv.FormatInt(d.EventID, 10)), text(d.Type), state, text(strconv.Itoa(d.Attempts)), text(answer), p.since(&d.LastAt), text(d.Error)}
			})
		},
	}
	cmd.Flags().StringVar(&status, "status", "", "only those that are Sent, Failing or Dead")
	cmd.Flags().IntVar(&last, "last", 50, "show this many; 0 shows all")
	must(cmd.RegisterFlagCompletionFunc("status", cobra.FixedCompletions([]string{"Sent", "Failing", "Dead"}, cobra.ShellCompDirectiveNoFileComp)))
	return cmd
}

func (a *app) webhookRedeliver() *cobra.Command {
	return &cobra.Command{
		Use: "redeliver NAME EVENT", Short: "Send a webhook an event again", Args: cobra.ExactArgs(2), ValidArgsFunction: a.completeWebhooks,
		Example: "  budcluster webhook redeliver pager 1204",
		RunE: func(cmd *cobra.Command, args []string) error {
			eventID, err := strconv.ParseInt(args[1], 10, 64)
			if err != nil || eventID < 1 {
				return usagef("%q is not the id of an event; `budcluster webhook deliveries %s` shows them", args[1], args[0])
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			d, err := c.Redeliver(cmd.Context(), args[0], eventID)
			if err != nil {
				return err
			}
			return a.attempt(args[0], d)
		},
	}
}
