package upgrade

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/budecosystem/budcluster/agent/internal/helm"
	"github.com/budecosystem/budcluster/internal/chartfile"
	"github.com/budecosystem/budcluster/internal/id"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

const (
	// releaseID marks Helm's records of the agent itself.
	releaseID   = "budcluster-agent"
	hookTimeout = time.Minute
	// maxMessage bounds what the record and the hub are told.
	maxMessage = 900
)

// begin writes the record of a new upgrade, or of why there is none.
func (k *Keeper) begin(ctx context.Context, t *agentv1.AgentTarget, version string) error {
	r := Record{
		Generation: t.GetGeneration(), Phase: Failed, Digest: t.GetChart().GetDigest(), ChartVersion: t.GetChart().GetVersion(),
		AppVersion: t.GetAppVersion(), StartedAt: k.cfg.Now().UTC(), ConnectWithin: t.GetConnectWithin().AsDuration(), FromHash: k.hash,
	}
	if r.ConnectWithin < time.Second || r.ConnectWithin > time.Hour {
		r.ConnectWithin = DefaultConnectWithin
	}
	refuse := func(reason Reason, format string, args ...any) error {
		r.Reason, r.Message = reason, fmt.Sprintf(format, args...)
		return k.save(ctx, r, version)
	}
	if !k.installed() {
		return refuse(NotByHelm, "this agent was not installed by helm in a cluster, so it cannot upgrade itself; upgrade it with what installed it")
	}
	history, err := k.cfg.Helm.History(ctx, k.cfg.Ref)
	if err != nil {
		return err
	}
	last, there := history.Latest()
	switch {
	case !there:
		return refuse(NotByHelm, "helm knows no release %s, so the agent cannot upgrade itself; upgrade it with what installed it", k.cfg.Ref)
	case last.Status != helm.StatusDeployed:
		return refuse(Busy, "the agent's release %s is %s (revision %d); repair it with helm, and ask for the upgrade again", k.cfg.Ref, last.Status, last.Revision)
	}
	given, err := k.cfg.Helm.Given(ctx, k.cfg.Ref, last.Revision)
	if err != nil {
		return err
	}
	r.FromRevision, r.FromVersion = last.Revision, given.AppVersion
	if last.Content != "" && last.Content == content(r.Digest) {
		r.Phase = Current
		return refuse(Unchanged, "this agent was installed with that very chart")
	}
	missing, err := k.cfg.Cluster.Allowed(ctx)
	if err != nil {
		return err
	}
	if missing != "" {
		return refuse(NotAllowed, "the agent may not %s, so it cannot upgrade itself; allow it with rbac.installer.create, or upgrade it with helm", missing)
	}
	r.Phase, r.Operation = Upgrading, id.New().String()
	return k.save(ctx, r, version)
}

// content names a chart in a label, which has 63 characters at most.
func content(digest string) string {
	_, hex, _ := strings.Cut(digest, ":")
	return hex[:min(len(hex), 40)]
}

// apply has Helm upgrade the release, unless an earlier agent has done that.
func (k *Keeper) apply(ctx context.Context, r Record, version string) error {
	history, err := k.cfg.Helm.History(ctx, k.cfg.Ref)
	if err != nil {
		return err
	}
	done := slices.IndexFunc(history, func(h helm.Record) bool { return h.Operation == r.Operation })
	switch {
	case done >= 0 && history[done].Status == helm.StatusDeployed:
		return k.applied(ctx, r, version, "")
	case done >= 0:
		return k.turnBack(ctx, r, version, NotApplied, "helm was interrupted while it upgraded the agent")
	}
	chart, err := k.chart(ctx, r)
	if err != nil {
		if k.cfg.Now().Sub(r.StartedAt) < chartTimeout {
			return err
		}
		r.Phase, r.Reason, r.Message = Failed, NoChart, cut("the chart did not come from the hub: "+err.Error())
		return k.save(ctx, r, version)
	}
	given, err := k.cfg.Helm.Given(ctx, k.cfg.Ref, r.FromRevision)
	if err != nil {
		return err
	}
	before, err := k.cfg.Cluster.Template(ctx)
	if err != nil {
		return err
	}
	err = k.cfg.Helm.Upgrade(ctx, helm.Operation{
		Ref: k.cfg.Ref, Chart: chart, Values: given.Values, Timeout: hookTimeout,
		Labels: helm.Labels{ReleaseID: releaseID, Operation: r.Operation, Content: content(r.Digest)},
	})
	if ctx.Err() != nil {
		return ctx.Err() // whoever comes next sees in Helm's record what became of it
	}
	if err != nil {
		return k.turnBack(ctx, r, version, NotApplied, helm.Sentence(err))
	}
	return k.applied(ctx, r, version, before)
}

func (k *Keeper) chart(ctx context.Context, r Record) ([]byte, error) {
	chart, err := k.cfg.FetchChart(ctx, r.Digest)
	if err != nil {
		return nil, fmt.Errorf("fetch chart %s: %w", r.Digest, err)
	}
	if got := chartfile.Digest(chart); got != r.Digest {
		return nil, fmt.Errorf("fetch chart %s: what came is %s", r.Digest, got)
	}
	return chart, nil
}

// applied starts the clock. Where the template stayed the same no new agent
// comes, and nobody has to prove anything.
func (k *Keeper) applied(ctx context.Context, r Record, version, before string) error {
	after, err := k.cfg.Cluster.Template(ctx)
	if err != nil && before == "" {
		return err
	}
	r.Applied, r.Deadline = true, k.cfg.Now().UTC().Add(r.ConnectWithin)
	if err == nil && before != "" && after == before {
		r.Phase, r.Reason, r.Message = Current, Unchanged, "the new chart starts the same agent"
	}
	return k.save(ctx, r, version)
}

// turnBack records that the way leads back, and why.
func (k *Keeper) turnBack(ctx context.Context, r Record, version string, reason Reason, message string) error {
	r.Phase, r.Reason, r.Message = Returning, reason, cut(message)
	r.Holder, r.HeldAt = k.cfg.Pod, k.cfg.Now().UTC()
	return k.save(ctx, r, version)
}

// giveBack has Helm put back what there was. Each call does one step, so that
// another agent may carry on after any of them.
func (k *Keeper) giveBack(ctx context.Context, r Record, version string) error {
	if r.Phase == Upgrading {
		why := fmt.Sprintf("agent %s did not reach the hub within %s", r.AppVersion, r.ConnectWithin)
		if trouble := k.cfg.Cluster.Trouble(ctx); trouble != "" {
			why += ": " + trouble
		}
		return k.turnBack(ctx, r, version, NotConnected, why)
	}
	if r.Holder != k.cfg.Pod || k.cfg.Now().Sub(r.HeldAt) >= takeover/2 {
		r.Holder, r.HeldAt = k.cfg.Pod, k.cfg.Now().UTC()
		return k.save(ctx, r, version)
	}
	operation := "return-" + r.Operation
	history, err := k.cfg.Helm.History(ctx, k.cfg.Ref)
	if err != nil {
		return err
	}
	last, _ := history.Latest()
	if last.Operation != operation || last.Status != helm.StatusDeployed {
		if last.Status.Pending() {
			if err := k.cfg.Helm.Unlock(ctx, k.cfg.Ref, last.Revision, "the agent returned to revision "+fmt.Sprint(r.FromRevision)); err != nil {
				return err
			}
		}
		labels := helm.Labels{ReleaseID: releaseID, Operation: operation}
		if err := k.cfg.Helm.Rollback(ctx, k.cfg.Ref, r.FromRevision, labels, hookTimeout); err != nil {
			return fmt.Errorf("return to revision %d: %w", r.FromRevision, err)
		}
	}
	r.Phase = RolledBack
	r.Message = cut(fmt.Sprintf("%s; returned to agent %s", r.Message, cmp.Or(r.FromVersion, "of before")))
	return k.save(ctx, r, version)
}

func cut(text string) string {
	if runes := []rune(text); len(runes) > maxMessage {
		return string(runes[:maxMessage-1]) + "…"
	}
	return text
}
