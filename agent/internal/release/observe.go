package release

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/budecosystem/budcluster/agent/api/v1alpha1"
	"github.com/budecosystem/budcluster/agent/internal/helm"
)

// observation is what a decision rests on, and what its action needs.
type observation struct {
	Observed
	id string
	// details of the newest record, when something had to be read from it.
	details *helm.Details
	// judged: Readiness was looked at.
	judged  bool
	outputs map[string]string
	// before, when it was looked at, is to be written into the status.
	before *v1alpha1.Before
	// ours are the leftovers that a clearing removes.
	ours []remnant
	// problem is what could not be observed, and does not matter to a decision.
	problem string
}

// track is what is kept in memory of one release between two looks. Losing it
// costs requests, nothing else.
type track struct {
	// details of the record that the rest speaks of; dropped when all is quiet.
	details  *helm.Details
	revision int
	content  string
	surveyed time.Time
	drift    []v1alpha1.Drift
	clean    clean
	// waiting are the objects, by their place among the details', that were not
	// ready at the last look; gone those that an uninstall has left no more of.
	waiting []int
	gone    map[int]bool
	// denied are leftovers that we may not delete.
	denied map[string]bool
	// chartTries counts failed fetches since the last success.
	chartTries int
}

// observe looks at Helm's records, and at the objects as far as the decision
// can depend on them.
func (m *Manager) observe(ctx context.Context, cr *v1alpha1.Release, want Desired, tr *track) (*observation, error) {
	ref := refOf(cr)
	history, err := m.helm.History(ctx, ref)
	if err != nil {
		return nil, err
	}
	o := &observation{Observed: Observed{Now: m.now(), History: history, Memory: memoryOf(cr.Status)}, id: want.ID}
	latest, found := history.Latest()
	if !found {
		if want.Removed {
			err = m.observeLeftovers(ctx, cr, tr, o)
		}
		return o, err
	}
	ours := latest.ReleaseID == want.ID
	if tr.revision != latest.Revision || tr.content != latest.Operation {
		*tr = track{revision: latest.Revision, content: latest.Operation, clean: clean{}, gone: map[int]bool{}, chartTries: tr.chartTries}
	}
	switch {
	case latest.Status == helm.StatusDeployed && !want.Removed:
		err = m.observeDeployed(ctx, cr, want, tr, o)
	case latest.Status == helm.StatusUninstalled && ours:
		err = m.observeUninstalled(ctx, cr, tr, o)
	case latest.Status == helm.StatusFailed && ours && latest.Operation != o.Memory.FailedOperation:
		err = m.detail(ctx, cr, tr, o)
	}
	return o, err
}

func refOf(cr *v1alpha1.Release) helm.Ref {
	return helm.Ref{Namespace: cr.Spec.Namespace, Name: cr.Name}
}

// detail reads the newest record, once.
func (m *Manager) detail(ctx context.Context, cr *v1alpha1.Release, tr *track, o *observation) error {
	if tr.details == nil {
		d, err := m.helm.Details(ctx, m.kinds, refOf(cr), o.History[0].Revision)
		if err != nil {
			return err
		}
		tr.details = d
	}
	o.details = tr.details
	return nil
}

func (m *Manager) observeUninstalled(ctx context.Context, cr *v1alpha1.Release, tr *track, o *observation) error {
	if err := m.detail(ctx, cr, tr, o); err != nil {
		return err
	}
	left, err := m.surveyor.remaining(ctx, o.details.Objects, tr.gone, refOf(cr))
	o.Remaining = left
	if err != nil || len(left) > 0 || !cr.Spec.Removed {
		return err
	}
	return m.observeLeftovers(ctx, cr, tr, o)
}

// observeLeftovers looks for what the release leaves behind.
func (m *Manager) observeLeftovers(ctx context.Context, cr *v1alpha1.Release, tr *track, o *observation) error {
	found, err := m.cleaner.look(ctx, cr.Spec, cr.Name, cr.Status.Before, tr.denied)
	if err != nil {
		return err
	}
	o.ours, o.Kept = found.ours, found.kept
	for _, r := range found.ours {
		o.Leftovers = append(o.Leftovers, r.String())
	}
	for _, r := range found.leaving {
		text := r.String()
		if f := r.meta.Finalizers; len(f) > 0 {
			text += fmt.Sprintf(" (finalizer %s)", f[0])
		}
		o.Leaving = append(o.Leaving, text)
	}
	return nil
}

func (m *Manager) observeDeployed(ctx context.Context, cr *v1alpha1.Release, want Desired, tr *track, o *observation) error {
	if err := m.detail(ctx, cr, tr, o); err != nil {
		return err
	}
	latest := o.History[0]
	readiness, err := m.readiness(ctx, o.details.Objects, tr, latest.Ready)
	if err != nil {
		return err
	}
	o.Readiness, o.judged = readiness, true
	if latest.ReleaseID != want.ID || latest.Content != want.Content || !latest.Ready {
		return nil
	}
	if want.Drift != v1alpha1.DriftIgnore && !o.History.Copied() {
		if m.now().Sub(tr.surveyed) >= m.interval {
			if tr.drift, err = m.surveyor.survey(ctx, o.details.Objects, tr.clean); err != nil {
				return err
			}
			tr.surveyed = m.now()
		}
		o.Drift = tr.drift
	}
	return m.report(ctx, cr, o)
}

// report reads the outputs. One that cannot be read is told, not waited for.
func (m *Manager) report(ctx context.Context, cr *v1alpha1.Release, o *observation) error {
	out, err := m.reporter.outputs(ctx, cr.Spec.Namespace, cr.Spec.Outputs, o.details.Objects)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err != nil {
		o.problem = strings.ReplaceAll(err.Error(), "\n", "; ")
	}
	// A Job that its time to live took away has still said what it said.
	for name, text := range cr.Status.Outputs {
		if _, there := out[name]; !there && strings.HasPrefix(name, outputResult) && cr.Status.Revision == o.History[0].Revision {
			if out == nil {
				out = map[string]string{}
			}
			out[name] = text
		}
	}
	o.outputs = maps.Clone(out)
	return nil
}

// readiness judges every object of a release. While some are waited for, only
// these are looked at; once they are ready, all are.
func (m *Manager) readiness(ctx context.Context, objects []helm.Object, tr *track, wasReady bool) (r Readiness, err error) {
	if len(tr.waiting) > 0 {
		r, tr.waiting, err = m.judge(ctx, objects, tr.waiting, wasReady)
		if err != nil || !r.Done() {
			return r, err
		}
	}
	every := make([]int, len(objects))
	for i := range every {
		every[i] = i
	}
	r, tr.waiting, err = m.judge(ctx, objects, every, wasReady)
	return r, err
}

// judge looks at some objects and takes the others for ready.
func (m *Manager) judge(ctx context.Context, objects []helm.Object, which []int, wasReady bool) (r Readiness, waiting []int, err error) {
	r = Readiness{Ready: len(objects) - len(which), Total: len(objects)}
	for _, i := range which {
		state, err := m.checker.Check(ctx, objects[i])
		if err != nil {
			return Readiness{}, which, err
		}
		if state.Ready || wasReady && finishes(objects[i]) {
			r.Ready++
			continue
		}
		waiting = append(waiting, i)
		switch {
		case state.Failed && r.Failed == "":
			r.Failed = state.Why
		case r.WaitingFor == "":
			r.WaitingFor = state.Why
		}
	}
	return r, waiting, nil
}

// errValues: the values are not an object.
var errValues = errors.New("the values are not a JSON object")

// desired reads what is wanted out of a custom resource.
func (m *Manager) desired(ctx context.Context, cr *v1alpha1.Release) (Desired, map[string]any, redactor, error) {
	s := cr.Spec
	w := Desired{
		ID: s.ID, Generation: s.Generation, Removed: s.Removed, MaxAttempts: orDefault(s.MaxAttempts, defaultAttempts),
		Remediation: orDefault(s.Remediation, v1alpha1.RemediationRollback), Drift: orDefault(s.Drift, v1alpha1.DriftCorrect),
		Adoption: orDefault(s.Adoption, v1alpha1.AdoptionObserve), Timeout: helm.DefaultTimeout,
	}
	if d, err := time.ParseDuration(s.Timeout); err == nil && d > 0 {
		w.Timeout = d
	}
	if s.Removed { // what it would contain does not matter any more
		return w, nil, redactor{}, nil
	}
	raw, err := m.store.values(ctx, cr)
	if err != nil {
		return w, nil, redactor{}, err
	}
	hide := newRedactor(raw.secret)
	merged, err := mergeValues(raw.plain, raw.secret)
	if err != nil {
		return w, nil, hide, fmt.Errorf("%w: %w", errValues, err)
	}
	w.Content, err = contentHash(s.Chart.Digest, merged, m.mirrors)
	return w, merged, hide, err
}

func orDefault[T comparable](v, other T) T {
	var zero T
	if v == zero {
		return other
	}
	return v
}
