package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

func (a *app) events() *cobra.Command {
	var q hubapi.EventQuery
	var follow bool
	var last int
	cmd := &cobra.Command{
		Use: "events", Short: "Show what happened, and follow what happens", Args: cobra.NoArgs,
		Long: `Show the last events, or those after the id given. With --follow, go on showing
what happens; a connection that breaks is made again, and nothing is missed.
With -o json each event is one line.`,
		Example: `  budcluster events
  budcluster events --follow --cluster frankfurt
  budcluster events --type release.status --type release.removed --last 20
  budcluster events --after 1200 -o json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if last < 0 || q.After < 0 {
				return usagef("--last and --after must not be negative")
			}
			c, err := a.connect()
			if err != nil {
				return err
			}
			e := &eventPrinter{p: a.printer(), c: c, names: map[string]string{}}
			return e.run(cmd.Context(), q, cmd.Flags().Changed("after"), last, follow)
		},
	}
	f := cmd.Flags()
	f.BoolVarP(&follow, "follow", "f", false, "go on with what happens")
	f.Int64Var(&q.After, "after", 0, "show all events after this id")
	f.IntVar(&last, "last", 50, "without --after, show this many of the last events")
	f.StringArrayVar(&q.Types, "type", nil, "only events of this type, e.g. release.status; may be repeated")
	a.clusterFlag(cmd, &q.Cluster, "only events of this cluster")
	return cmd
}

// eventPrinter prints events one after the other.
type eventPrinter struct {
	p     *printer
	c     *hubapi.Client
	names map[string]string // of clusters, by id
}

func (e *eventPrinter) run(ctx context.Context, q hubapi.EventQuery, after bool, last int, follow bool) error {
	var err error
	if after {
		err = e.all(ctx, &q)
	} else {
		err = e.recent(ctx, &q, last)
	}
	if err != nil || !follow {
		return err
	}
	for ev, err := range e.c.Follow(ctx, q) {
		if err != nil {
			return err
		}
		if err := e.print(ctx, ev); err != nil {
			return err
		}
	}
	return context.Cause(ctx)
}

// all prints what there is after q.After, and moves it on.
func (e *eventPrinter) all(ctx context.Context, q *hubapi.EventQuery) error {
	q.Limit = 1000
	for {
		l, err := e.c.Events(ctx, *q)
		if err != nil {
			return err
		}
		if len(l.Items) == 0 {
			return nil
		}
		for _, ev := range l.Items {
			if err := e.print(ctx, ev); err != nil {
				return err
			}
		}
		q.After = l.After
	}
}

// recent prints the last n events: it looks back from the newest, further each
// time, until there are enough.
func (e *eventPrinter) recent(ctx context.Context, q *hubapi.EventQuery, n int) error {
	probe := *q
	probe.Limit = 1
	l, err := e.c.Events(ctx, probe)
	if err != nil {
		return err
	}
	newest := l.Latest
	if n == 0 {
		q.After = newest
		return nil
	}
	for back := int64(n); ; back *= 8 {
		start := max(newest-back, 0)
		got, err := e.between(ctx, *q, start)
		if err != nil {
			return err
		}
		if len(got) < n && start > 0 {
			continue
		}
		for _, ev := range got[max(len(got)-n, 0):] {
			if err := e.print(ctx, ev); err != nil {
				return err
			}
		}
		q.After = newest
		if len(got) > 0 {
			q.After = max(newest, got[len(got)-1].ID)
		}
		return nil
	}
}

func (e *eventPrinter) between(ctx context.Context, q hubapi.EventQuery, after int64) ([]hubapi.Event, error) {
	q.After, q.Limit = after, 1000
	var out []hubapi.Event
	for {
		l, err := e.c.Events(ctx, q)
		if err != nil {
			return nil, err
		}
		out = append(out, l.Items...)
		if len(l.Items) < q.Limit {
			return out, nil
		}
		q.After = l.After
	}
}

func (e *eventPrinter) print(ctx context.Context, ev hubapi.Event) error {
	var err error
	switch e.p.format {
	case "json":
		enc := json.NewEncoder(e.p.out)
		enc.SetEscapeHTML(false)
		err = enc.Encode(ev)
	case "yaml":
		var text []byte
		if text, err = yaml.Marshal(ev); err == nil {
			_, err = fmt.Fprintf(e.p.out, "---\n%s", text)
		}
	case "name":
		_, err = fmt.Fprintln(e.p.out, ev.ID)
	default:
		id := ""
		if e.p.wide() {
			id = fmt.Sprintf("%-8d ", ev.ID) + fmt.Sprintf("%-10s ", safe(cmp.Or(ev.Actor, "-")))
		}
		line := fmt.Sprintf("%s  %s%s %-16s %-20s %s", e.p.paint(cell{text: ev.At.UTC().Format(time.DateTime), tone: dim}), id,
			e.p.paint(cell{text: fmt.Sprintf("%-20s", ev.Type), tone: toneOf(ev)}), safe(cmp.Or(e.cluster(ctx, ev.ClusterID), "-")), safe(cmp.Or(ev.Subject, "-")), safe(ev.Message))
		_, err = fmt.Fprintln(e.p.out, strings.TrimRight(line, " "))
	}
	if err != nil {
		return fmt.Errorf("print event: %w", err)
	}
	return nil
}

// cluster is the name of a cluster, or its id when it is gone.
func (e *eventPrinter) cluster(ctx context.Context, id string) string {
	if id == "" {
		return ""
	}
	name, ok := e.names[id]
	if !ok {
		name = id
		if c, err := e.c.Cluster(ctx, id); err == nil {
			name = c.Name
		}
		e.names[id] = name
	}
	return name
}

func toneOf(ev hubapi.Event) tone {
	switch {
	case slices.Contains([]string{"cluster.disconnected", "cluster.degraded", "node.removed"}, ev.Type):
		return warning
	case slices.Contains([]string{"cluster.revoked", "cluster.deleted"}, ev.Type):
		return bad
	case slices.Contains([]string{"cluster.joined", "cluster.connected", "cluster.recovered", "node.added"}, ev.Type):
		return good
	default:
		return plain
	}
}
