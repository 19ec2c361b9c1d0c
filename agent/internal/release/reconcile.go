package release

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/budecosystem/budcluster/agent/api/v1alpha1"
	"github.com/budecosystem/budcluster/internal/logkey"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// reconcile observes, decides and acts until there is nothing to do now. It
// returns how long to wait. Before it changes anything it takes the release's
// lock, and observes again under it.
func (m *Manager) reconcile(ctx context.Context, name string) (time.Duration, error) {
	cr, err := m.store.get(ctx, name)
	if errors.Is(err, errNotFound) {
		m.dropped(ctx, name)
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if f := cr.Status.Failure; m.hubWasHere(name) && f != nil && f.Reason == ReasonChartMissing {
		cr.Status.RetryAt = nil
	}
	want, values, hide, err := m.desired(ctx, cr)
	w := &work{Manager: m, cr: cr, want: want, values: values, hide: hide, track: m.track(name)}
	if reason, told := unusable(err); told {
		return m.interval, w.tell(ctx, &observation{id: want.ID, Observed: Observed{Memory: memoryOf(cr.Status)}}, reason)
	}
	if err != nil {
		return 0, err
	}
	defer w.unlock()
	ctx, done := m.interruptible(ctx, name)
	defer done()
	for range maxSteps {
		next, done, err := w.step(ctx)
		if errors.Is(context.Cause(ctx), errSuperseded) {
			return 0, nil // the queue has the new spec
		}
		if done || err != nil {
			return next, w.hide.error(err)
		}
	}
	return busyPoll, nil
}

// errSuperseded ends an operation whose spec is not wanted any more: a hook
// that cannot succeed must not hold up the spec that repairs it.
var errSuperseded = errors.New("a newer spec has arrived")

// interruptible gives a context that supersede ends.
func (m *Manager) interruptible(ctx context.Context, name string) (context.Context, func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	m.mu.Lock()
	m.running[name] = cancel
	m.mu.Unlock()
	return ctx, func() {
		m.mu.Lock()
		delete(m.running, name)
		m.mu.Unlock()
		cancel(nil)
	}
}

// supersede ends what is being done for an older spec.
func (m *Manager) supersede(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if cancel, ok := m.running[name]; ok {
		cancel(errSuperseded)
	}
}

// unusable: what is stored cannot be worked on, and only the hub can help.
func unusable(err error) (Reason, bool) {
	switch {
	case errors.Is(err, errValuesMissing):
		return Reason{agentv1.PhasePending, ReasonValuesMissing, "the values are not in the cluster; the hub sends them again when it is connected"}, true
	case errors.Is(err, errValues):
		return Reason{agentv1.PhaseFailed, ReasonInvalid, err.Error()}, true
	default:
		return Reason{}, false
	}
}

// work is one release in hand.
type work struct {
	*Manager
	cr     *v1alpha1.Release
	want   Desired
	values map[string]any
	hide   redactor
	track  *track
	// held ends when the lock is lost; nil without the lock.
	held    context.Context //nolint:containedctx // the lock's, between two steps
	release func()
	// corrected counts the objects that were corrected and not told yet;
	// insisted is set once: drift that comes back at once is only reported.
	corrected int
	insisted  bool
}

func (w *work) unlock() {
	if w.release != nil {
		w.release()
	}
}

// step observes and decides once, and acts if there is something to do.
func (w *work) step(ctx context.Context) (next time.Duration, done bool, err error) { //nolint:contextcheck // held is made of ctx
	if w.held != nil {
		ctx = w.held
	}
	o, err := w.observe(ctx, w.cr, w.want, w.track)
	if err != nil {
		return 0, false, err
	}
	action, reason := Decide(o.Observed, w.want)
	if action.Acts() && w.held == nil {
		w.held, w.release, err = w.locks.acquire(ctx, w.cr.Name)
		switch {
		case err == nil:
			return 0, false, nil // observe again under the lock
		case !errors.Is(err, errLocked):
			return 0, false, err
		}
		o.Busy = true
		action, reason = Decide(o.Observed, w.want)
	}
	if action.Kind == ActionCorrect && w.insisted {
		action = Action{Kind: ActionWait}
		reason.Message += "; it comes back as soon as it is corrected"
	}
	if action.Acts() {
		return 0, false, w.do(ctx, action, reason, o)
	}
	if reason.Phase == agentv1.PhaseReady || reason.Phase == agentv1.PhaseDrifted || reason.Phase == agentv1.PhaseRemoved {
		w.track.details = nil // quiet: nothing is kept of it
	}
	if o.problem != "" && reason.Message == "" {
		reason.Message = o.problem
	}
	if err := w.tell(ctx, o, reason); err != nil {
		return 0, false, err
	}
	return w.soon(w.pause(action, o.Now), action, reason, o.Now), true, nil
}

// soon brings the next look forward when somebody may be waiting for it: for
// objects to come or to go, or for what a ready release reports. An operator's
// own state, say, changes long after its chart was ready. Whoever waits loses
// no more than an eighth of the time since the last change.
func (w *work) soon(next time.Duration, a Action, r Reason, now time.Time) time.Duration {
	least := soonest
	if r.Phase == agentv1.PhaseReady && len(w.cr.Spec.Outputs) > 0 {
		a.Soon, least = true, 2*soonest // it is a look at all objects
	}
	if !a.Soon || w.cr.Status.ChangedAt == nil {
		return next
	}
	return min(next, max(now.Sub(w.cr.Status.ChangedAt.Time)/8, least))
}

// soonest is the least time between two looks. One costs a few requests, of
// which the agent allows itself 50 a second.
const soonest = 250 * time.Millisecond

// pause turns the time of an action into a wait.
func (m *Manager) pause(a Action, now time.Time) time.Duration {
	if a.At.IsZero() {
		return m.interval
	}
	return min(max(a.At.Sub(now), 100*time.Millisecond), m.interval)
}

// tell writes the status, if it says something new, and shows it to the hub.
func (w *work) tell(ctx context.Context, o *observation, r Reason) error {
	// Before compose shortens anything: half a secret is still one.
	r.Message = w.hide.text(r.Message)
	w.hide.observation(o)
	next := compose(w.cr.Status, w.cr.Spec.Generation, o, r)
	next.Corrections += int64(w.corrected)
	w.annotate(w.cr.Name, &next)
	if err := w.publish(ctx, w.cr, next); err != nil {
		return err
	}
	w.corrected = 0
	return nil
}

// annotate adds what the hub said about the release.
func (m *Manager) annotate(name string, s *v1alpha1.ReleaseStatus) {
	m.mu.Lock()
	n, known := m.notes[name]
	m.mu.Unlock()
	if known {
		setCondition(s, v1alpha1.ConditionOrphaned, "NotListed", n.orphaned, m.now())
		setCondition(s, v1alpha1.ConditionRefused, "StaleGeneration", n.refused, m.now())
	}
}

// show puts a status on the board.
func (m *Manager) show(cr *v1alpha1.Release) {
	m.mu.Lock()
	m.ids[cr.Name] = cr.Spec.ID
	m.mu.Unlock()
	m.board.set(toProto(cr))
}

func (m *Manager) publish(ctx context.Context, cr *v1alpha1.Release, next v1alpha1.ReleaseStatus) error {
	before := cr.Status
	if !changed(before, next) {
		m.show(cr)
		return nil
	}
	next.ChangedAt = timeOf(m.now())
	if err := m.store.writeStatus(ctx, cr, next); err != nil {
		return err
	}
	m.show(cr)
	if before.Phase != next.Phase || before.Reason != next.Reason {
		m.log.InfoContext(ctx, "release changed", slog.String(logkey.Release, cr.Name), slog.String(logkey.Phase, string(next.Phase)),
			slog.String(logkey.Reason, next.Reason), slog.String(logkey.Message, next.Message))
		m.event(ctx, cr, next)
	}
	return nil
}

// announce shows what is about to be done, before it is done: the attempt is
// counted even if this process does not survive it.
func (w *work) announce(ctx context.Context, o *observation, r Reason) error {
	if r.Message == "" && o.Memory.Attempts > 1 {
		r.Message = fmt.Sprintf("attempt %d of %d", o.Memory.Attempts, w.want.MaxAttempts)
		if why := o.Memory.Failure.Message; why != "" {
			r.Message += "; the last one failed: " + why
		}
	}
	return w.tell(ctx, o, r)
}
