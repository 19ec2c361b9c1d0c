package release

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/budecosystem/budcluster/agent/api/v1alpha1"
	"github.com/budecosystem/budcluster/agent/internal/helm"
	"github.com/budecosystem/budcluster/internal/id"
	"github.com/budecosystem/budcluster/internal/logkey"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// stopGrace is how long the last write may take after the agent was told to
// stop.
const stopGrace = 5 * time.Second

// do is the thin half of the machine: it carries out one action and believes
// nothing; the next step observes what became of it.
func (w *work) do(ctx context.Context, a Action, r Reason, o *observation) error {
	ref := refOf(w.cr)
	switch a.Kind {
	case ActionInstall, ActionUpgrade:
		return w.attempt(ctx, a, r, o)
	case ActionFail:
		return w.fail(ctx, r, o)
	case ActionUnlock:
		why := r.Message
		if why == "" {
			why = "the operation ended without a word"
		}
		return w.helm.Unlock(ctx, ref, a.Revision, why)
	case ActionMarkReady:
		return w.helm.MarkReady(ctx, ref, a.Revision)
	case ActionRollback:
		return w.rollback(ctx, a, r, o)
	case ActionCorrect:
		return w.correct(ctx, r, o)
	case ActionUninstall:
		return w.uninstall(ctx, r, o)
	case ActionClear:
		return w.clear(ctx, r, o)
	case ActionPurge:
		return w.helm.Purge(ctx, ref)
	case ActionWait:
	}
	return nil
}

// memory returns the machine's memory for this generation.
func (w *work) memory(o *observation) Memory {
	if o.Memory.Generation == w.want.Generation {
		return o.Memory
	}
	return Memory{Generation: w.want.Generation, FailedOperation: o.Memory.FailedOperation}
}

// attempt installs or upgrades, and counts it before it begins.
func (w *work) attempt(ctx context.Context, a Action, r Reason, o *observation) error {
	o.Memory = w.memory(o)
	chart, err := w.charts.get(ctx, w.cr.Spec.Chart.Digest)
	if err != nil {
		return w.noChart(ctx, o, err)
	}
	w.track.chartTries = 0
	op := helm.Operation{
		Ref: refOf(w.cr), Chart: chart, Values: deepCopy(w.values), CreateNamespace: w.cr.Spec.CreateNamespace, Timeout: w.want.Timeout,
		Labels: helm.Labels{ReleaseID: w.want.ID, Operation: id.New().String(), Content: w.want.Content, Adopted: adopts(o, w.want.ID)},
	}
	if !op.Adopted {
		// What is there now was there before us. Helm makes definitions before its
		// record: an attempt that left none is not a new life.
		_, found := o.History.Latest()
		fresh := !found && o.Memory.Attempts == 0
		if o.before, err = w.cleaner.before(ctx, w.cr.Spec, w.cr.Status.Before, fresh); err != nil {
			return fmt.Errorf("look at what is there before %s: %w", w.cr.Name, err)
		}
	}
	o.Memory.Attempts++
	o.Memory.RetryAt = time.Time{}
	if err := w.announce(ctx, o, r); err != nil {
		return err
	}
	run := w.helm.Upgrade
	code := ReasonUpgradeFailed
	if a.Kind == ActionInstall {
		run, code = w.helm.Install, ReasonInstallFailed
	}
	began := w.now()
	err = run(ctx, op)
	w.metrics.operation(a.Kind, w.now().Sub(began), err, ctx.Err() != nil)
	if err == nil {
		w.log.InfoContext(ctx, "helm operation done", slog.String(logkey.Release, w.cr.Name), slog.String(logkey.Action, string(a.Kind)),
			slog.String(logkey.Operation, op.Operation), slog.Duration(logkey.Duration, w.now().Sub(began)))
		return nil
	}
	if ctx.Err() != nil {
		return w.interrupted(ctx, o, r)
	}
	w.log.WarnContext(ctx, "helm operation failed", slog.String(logkey.Release, w.cr.Name), slog.String(logkey.Action, string(a.Kind)),
		slog.String(logkey.Operation, op.Operation), slog.String(logkey.Error, w.hide.text(err.Error())))
	o.Memory.FailedOperation, o.Memory.Permanent = op.Operation, helm.IsPermanent(err)
	o.Memory.Failure = Reason{agentv1.PhaseFailed, code, err.Error()}
	o.Memory.RetryAt = w.again(o.Memory)
	return w.tell(ctx, o, o.Memory.Failure)
}

// again is when the next attempt follows; never, after the last.
func (w *work) again(m Memory) time.Time {
	if m.exhausted(w.want.MaxAttempts) {
		return time.Time{}
	}
	return w.now().Add(backoff(m.Attempts))
}

// adopts: the release was there before us, and stays not ours to remove.
func adopts(o *observation, releaseID string) bool {
	latest, found := o.History.Latest()
	switch {
	case !found || latest.Status == helm.StatusUninstalled:
		return false
	case latest.ReleaseID == releaseID:
		return latest.Adopted
	default:
		return true
	}
}

// interrupted gives the attempt back: it was not the release that failed.
func (w *work) interrupted(ctx context.Context, o *observation, r Reason) error {
	cause := context.Cause(ctx)
	if errors.Is(cause, helm.ErrFenced) {
		return cause
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopGrace)
	defer cancel()
	o.Memory.Attempts--
	r.Code, r.Message = ReasonInterrupted, "the agent was stopped in the middle; it goes on when it is back"
	if errors.Is(cause, errSuperseded) {
		r.Message = "interrupted for a newer spec"
	}
	return errors.Join(cause, w.tell(last, o, r))
}

// noChart waits for the hub, or asks it again for what it sent wrong. No
// attempt is counted: Helm was not asked.
func (w *work) noChart(ctx context.Context, o *observation, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	w.track.chartTries++
	wait := backoff(w.track.chartTries)
	failure := Reason{agentv1.PhasePending, ReasonChartMissing, "waiting for the chart: " + err.Error()}
	switch {
	case errors.Is(err, ErrHubAway):
		wait = min(wait, 30*time.Second)
		failure.Message = fmt.Sprintf("chart %s is not in the cluster and the hub is away; it goes on when the hub is back", w.cr.Spec.Chart.Digest)
	case errors.Is(err, errChartRefused):
		failure.Phase, failure.Code, failure.Message = agentv1.PhaseFailed, ReasonChartRefused, err.Error()
	}
	o.Memory.Failure, o.Memory.RetryAt = failure, w.now().Add(wait)
	return w.tell(ctx, o, failure)
}

// fail counts a failure that Helm did not report.
func (w *work) fail(ctx context.Context, r Reason, o *observation) error {
	o.Memory = w.memory(o)
	latest, _ := o.History.Latest()
	if r.Message == "" && o.details != nil {
		r.Message = helm.Sentence(errors.New(o.details.Description))
	}
	r.Phase = agentv1.PhaseFailed
	o.Memory.FailedOperation, o.Memory.Failure = latest.Operation, r
	if r.Code == ReasonNotReadyInTime && w.want.Remediation == v1alpha1.RemediationKeep {
		o.Memory.Permanent = true // what was applied is there: to apply it again changes nothing
	}
	o.Memory.RetryAt = w.again(o.Memory)
	return w.tell(ctx, o, r)
}

func (w *work) rollback(ctx context.Context, a Action, r Reason, o *observation) error {
	if err := w.announce(ctx, o, r); err != nil {
		return err
	}
	latest, _ := o.History.Latest()
	labels := helm.Labels{ReleaseID: w.want.ID, Operation: id.New().String(), Adopted: latest.Adopted}
	began := w.now()
	err := w.helm.Rollback(ctx, refOf(w.cr), a.Revision, labels, w.want.Timeout)
	w.metrics.operation(a.Kind, w.now().Sub(began), err, ctx.Err() != nil)
	if err == nil || ctx.Err() != nil {
		return err
	}
	failed := Reason{agentv1.PhaseFailed, ReasonRollbackFailed, fmt.Sprintf("%s; and returning to revision %d failed: %s", o.Memory.Failure.Message, a.Revision, err)}
	return errors.Join(fmt.Errorf("roll back: %w", err), w.tell(ctx, o, failed))
}

func (w *work) correct(ctx context.Context, r Reason, o *observation) error {
	count, err := w.surveyor.correct(ctx, o.details.Objects, o.Drift)
	w.corrected += count
	w.metrics.corrections.Add(float64(count))
	w.insisted = true
	if count > 0 {
		w.log.InfoContext(ctx, "drift corrected", slog.String(logkey.Release, w.cr.Name), slog.Int(logkey.Count, count), slog.String(logkey.Message, w.hide.text(r.Message)))
		corrected := w.cr.Status
		corrected.Reason, corrected.Message = "DriftCorrected", w.hide.text(r.Message)
		w.event(ctx, w.cr, corrected)
	}
	w.track.surveyed = time.Time{} // look again: what was applied may not have held
	if err == nil {
		return nil
	}
	failed := Reason{agentv1.PhaseDrifted, ReasonDrifted, r.Message + "; correcting it failed: " + helm.Sentence(err)}
	return errors.Join(err, w.tell(ctx, o, failed))
}

func (w *work) uninstall(ctx context.Context, r Reason, o *observation) error {
	if err := w.tell(ctx, o, r); err != nil {
		return err
	}
	began := w.now()
	err := w.helm.Uninstall(ctx, refOf(w.cr), w.want.Timeout)
	w.metrics.operation(ActionUninstall, w.now().Sub(began), err, ctx.Err() != nil)
	if err == nil || ctx.Err() != nil {
		return err
	}
	o.Memory = w.memory(o)
	if !w.want.Removed {
		return fmt.Errorf("uninstall: %w", err)
	}
	o.Memory.Attempts++
	o.Memory.Failure = Reason{agentv1.PhaseRemoving, ReasonUninstallFailed, "uninstall failed: " + err.Error()}
	o.Memory.RetryAt = w.now().Add(backoff(o.Memory.Attempts))
	return w.tell(ctx, o, o.Memory.Failure)
}

// clear removes leftovers. What may not be removed is told once and given up.
func (w *work) clear(ctx context.Context, r Reason, o *observation) error {
	if err := w.tell(ctx, o, r); err != nil {
		return err
	}
	denied, err := w.cleaner.clear(ctx, o.ours)
	for _, name := range denied {
		if w.track.denied == nil {
			w.track.denied = map[string]bool{}
		}
		w.track.denied[name] = true
	}
	if err == nil || ctx.Err() != nil {
		return err
	}
	o.Memory = w.memory(o)
	o.Memory.Attempts++
	o.Memory.Failure = Reason{agentv1.PhaseRemoving, ReasonClearFailed, "removing what the chart left behind failed: " + err.Error()}
	o.Memory.RetryAt = w.now().Add(backoff(o.Memory.Attempts))
	return w.tell(ctx, o, o.Memory.Failure)
}

// deepCopy: Helm changes the values that it is given.
func deepCopy(v map[string]any) map[string]any {
	out := make(map[string]any, len(v))
	for key, value := range v {
		out[key] = copyAny(value)
	}
	return out
}

func copyAny(v any) any {
	switch v := v.(type) {
	case map[string]any:
		return deepCopy(v)
	case []any:
		out := make([]any, len(v))
		for i := range v {
			out[i] = copyAny(v[i])
		}
		return out
	default:
		return v
	}
}
