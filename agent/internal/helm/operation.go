package helm

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"helm.sh/helm/v3/pkg/action"
	"helm.sh/helm/v3/pkg/chart"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/kube"
	"helm.sh/helm/v3/pkg/release"
	"helm.sh/helm/v3/pkg/storage/driver"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/resource"
)

// DefaultTimeout of an operation's hooks.
const DefaultTimeout = 5 * time.Minute

// Operation is an install or an upgrade.
type Operation struct {
	Ref
	Labels
	// Chart is a packaged chart (.tgz).
	Chart  []byte
	Values map[string]any
	// CreateNamespace makes the namespace if it is not there.
	CreateNamespace bool
	// Timeout bounds each hook.
	Timeout time.Duration
}

// Install makes the first revision, or repeats an install that failed before
// anything was ever deployed; its install hooks run again.
func (c *Client) Install(ctx context.Context, op Operation) error {
	chrt, err := c.loadChart(op)
	if err != nil {
		return err
	}
	return c.operate(ctx, op.Ref, op.toMap(), func(s *session) error {
		before, _ := s.cfg.Releases.Last(op.Name)
		in := action.NewInstall(s.cfg)
		in.ReleaseName, in.Namespace = op.Name, op.Namespace
		in.CreateNamespace = op.CreateNamespace
		in.Timeout = cmp.Or(op.Timeout, DefaultTimeout)
		in.Replace = true
		in.Labels = map[string]string{}
		in.PostRenderer = c.mirrors
		rel, err := in.Run(chrt, op.Values)
		if err != nil {
			return err
		}
		return s.prune(before, rel)
	})
}

// prune deletes what a failed earlier install left and this one does not have.
func (s *session) prune(before, now *release.Release) error {
	if before == nil || before.Info.Status != release.StatusFailed || s.kube == nil {
		return nil
	}
	old, err := s.kube.Build(bytes.NewBufferString(before.Manifest), false)
	if err != nil {
		return nil //nolint:nilerr // a manifest that cannot be read now was never applied
	}
	wanted, err := s.kube.Build(bytes.NewBufferString(now.Manifest), false)
	if err != nil {
		return fmt.Errorf("compare with the failed install: %w", err)
	}
	var stale kube.ResourceList
	for _, info := range old.Difference(wanted) {
		if info.Get() == nil && !kept(info) {
			stale.Append(info)
		}
	}
	if len(stale) == 0 {
		return nil
	}
	_, errs := s.kube.DeleteWithPropagationPolicy(stale, metav1.DeletePropagationBackground)
	return errors.Join(errs...)
}

func kept(info *resource.Info) bool {
	obj, ok := info.Object.(metav1.Object)
	return ok && obj.GetAnnotations()[kube.ResourcePolicyAnno] == kube.KeepPolicy
}

// Upgrade makes the next revision.
func (c *Client) Upgrade(ctx context.Context, op Operation) error {
	chrt, err := c.loadChart(op)
	if err != nil {
		return err
	}
	return c.operate(ctx, op.Ref, op.toMap(), func(s *session) error {
		up := action.NewUpgrade(s.cfg)
		up.Namespace = op.Namespace
		up.Timeout = cmp.Or(op.Timeout, DefaultTimeout)
		up.MaxHistory = c.maxHistory
		up.ResetValues = true // else empty values mean "as before"
		up.PostRenderer = c.mirrors
		_, err := up.Run(op.Name, chrt, op.Values)
		return err
	})
}

// Rollback returns to an earlier revision, as a new one.
func (c *Client) Rollback(ctx context.Context, ref Ref, revision int, labels Labels, timeout time.Duration) error {
	return c.operate(ctx, ref, labels.toMap(), func(s *session) error {
		rb := action.NewRollback(s.cfg)
		rb.Version = revision
		rb.Timeout = cmp.Or(timeout, DefaultTimeout)
		rb.MaxHistory = c.maxHistory
		return rb.Run(ref.Name)
	})
}

// Uninstall deletes the objects of a release and keeps its records, marked as
// uninstalled, so that a restart still knows what must be gone. Purge drops
// them. An uninstall that was interrupted may be repeated. Jobs and pods that
// hooks left go too, other than in Helm: they could still be running.
func (c *Client) Uninstall(ctx context.Context, ref Ref, timeout time.Duration) error {
	return c.operate(ctx, ref, nil, func(s *session) error {
		un := action.NewUninstall(s.cfg)
		un.KeepHistory = true
		un.Timeout = cmp.Or(timeout, DefaultTimeout)
		res, err := un.Run(ref.Name)
		if err == nil && res != nil {
			return s.deleteHooks(res.Release)
		}
		if err != nil && s.kube != nil && s.kube.deleteErrors != nil {
			return fmt.Errorf("delete objects: %w", s.kube.deleteErrors)
		}
		return err
	})
}

// deleteHooks deletes what hooks run, other than what the chart wants to keep.
func (s *session) deleteHooks(rel *release.Release) error {
	if rel == nil || s.kube == nil {
		return nil
	}
	var left kube.ResourceList
	for _, h := range rel.Hooks {
		if h.Kind != "Job" && h.Kind != "Pod" {
			continue
		}
		list, err := s.kube.Build(bytes.NewBufferString(h.Manifest), false)
		if err != nil {
			return fmt.Errorf("read hook %s: %w", h.Path, err)
		}
		for _, info := range list {
			if !kept(info) {
				left.Append(info)
			}
		}
	}
	if len(left) == 0 {
		return nil
	}
	_, errs := s.kube.DeleteWithPropagationPolicy(left, metav1.DeletePropagationBackground)
	return errors.Join(errs...)
}

// Purge drops the records of an uninstalled release.
func (c *Client) Purge(ctx context.Context, ref Ref) error {
	return c.operate(ctx, ref, nil, func(s *session) error {
		rels, err := s.cfg.Releases.History(ref.Name)
		if errors.Is(err, driver.ErrReleaseNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		for _, rel := range rels {
			if _, err := s.cfg.Releases.Delete(rel.Name, rel.Version); err != nil && !errors.Is(err, driver.ErrReleaseNotFound) {
				return fmt.Errorf("drop revision %d: %w", rel.Version, err)
			}
		}
		return nil
	})
}

// Unlock turns a pending record, whose operation ended without a word, into a
// failed one. A record that is not pending any more is left alone.
func (c *Client) Unlock(ctx context.Context, ref Ref, revision int, why string) error {
	rel, store, err := c.load(ref, revision)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil || !rel.Info.Status.IsPending() {
		return err
	}
	rel.Labels = merge(rel.Labels, map[string]string{LabelInterrupted: labelTrue})
	rel.SetStatus(release.StatusFailed, why)
	if err := store.Update(rel); err != nil {
		return fmt.Errorf("unlock %s: %w", ref, err)
	}
	return nil
}

// MarkReady notes on a record that its objects were all ready.
func (c *Client) MarkReady(ctx context.Context, ref Ref, revision int) error {
	rel, store, err := c.load(ref, revision)
	if err != nil {
		return err
	}
	if err := ctx.Err(); err != nil || rel.Info.Status != release.StatusDeployed {
		return err
	}
	rel.Labels = merge(rel.Labels, map[string]string{LabelReady: labelTrue})
	if err := store.Update(rel); err != nil {
		return fmt.Errorf("mark %s as ready: %w", ref, err)
	}
	return nil
}

// operate runs one operation in its session and makes sure that it leaves no
// pending record of its own behind.
func (c *Client) operate(ctx context.Context, ref Ref, labels map[string]string, fn func(*session) error) error {
	s, done, err := c.begin(ctx, ref, labels)
	if err != nil {
		return err
	}
	defer done()
	err = fn(s)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %w", context.Cause(ctx), err)
	}
	return failed(errors.Join(err, s.settle(labels[LabelOperation], err)))
}

// settle fails our record if Helm left it pending, as a rollback whose hook
// failed does.
func (s *session) settle(operation string, err error) error {
	if err == nil || operation == "" || errors.Is(err, ErrFenced) {
		return nil
	}
	rel, lastErr := s.cfg.Releases.Last(s.ref.Name)
	if lastErr != nil {
		return nil //nolint:nilerr // no record, or no API server: the next observation sees it
	}
	if rel.Labels[LabelOperation] != operation || !rel.Info.Status.IsPending() {
		return nil
	}
	rel.SetStatus(release.StatusFailed, Sentence(err))
	if err := s.cfg.Releases.Update(rel); err != nil {
		return fmt.Errorf("record the failure: %w", err)
	}
	return nil
}

// loadChart reads the chart; what is wrong here stays wrong.
func (c *Client) loadChart(op Operation) (*chart.Chart, error) {
	chrt, err := loader.LoadArchive(bytes.NewReader(op.Chart))
	if err != nil {
		return nil, permanent(fmt.Errorf("the chart cannot be read: %w", err))
	}
	if err := action.CheckDependencies(chrt, chrt.Metadata.Dependencies); err != nil {
		return nil, permanent(fmt.Errorf("the chart lacks dependencies: %w", err))
	}
	if t := chrt.Metadata.Type; t != "" && t != "application" {
		return nil, permanent(fmt.Errorf("the chart is of type %q; only an application chart can be installed", t))
	}
	return chrt, nil
}
