package install

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/budecosystem/budcluster/agent/api/v1alpha1"
	"github.com/budecosystem/budcluster/agent/internal/helm"
	"github.com/budecosystem/budcluster/agent/internal/kube"
	"github.com/budecosystem/budcluster/charts"
	"github.com/budecosystem/budcluster/internal/chartfile"
	"github.com/budecosystem/budcluster/internal/id"
)

// releaseID marks Helm's records of the agent itself.
const releaseID = "budcluster-agent"

const (
	hookTimeout = 2 * time.Minute
	// goneTimeout is how long pods and namespaces may take to go.
	goneTimeout = 90 * time.Second
	pollEvery   = time.Second
)

// effects is what this process has done.
type effects struct {
	namespace bool
	// installed: a release that was not there.
	installed bool
	// upgraded: the revision that was there before.
	upgraded int
}

// embedded packs the chart that this program was built with.
func embedded() ([]byte, chartfile.Info, error) {
	dir, err := charts.Agent()
	if err != nil {
		return nil, chartfile.Info{}, fmt.Errorf("open the agent's chart: %w", err)
	}
	return chartfile.Pack(dir)
}

// content names a chart in a label, which has 63 characters at most.
func content(info chartfile.Info) string {
	_, hex, _ := strings.Cut(info.Digest, ":")
	return hex[:min(len(hex), 40)]
}

// install makes the hub's agent be there.
func (c *cluster) install(ctx context.Context, p present, values map[string]any, token string) error {
	plan, err := decide(p, c.hub, c.now())
	if err != nil {
		return err
	}
	chart, info, err := embedded()
	if err != nil {
		return err
	}
	if err := c.prepare(ctx, plan, p); err != nil {
		return err
	}
	op := helm.Operation{
		Ref: c.ref, Chart: chart, Timeout: hookTimeout, Values: compose(p.values, values, c.hub, token),
		Labels: helm.Labels{ReleaseID: releaseID, Operation: id.New().String(), Content: content(info)},
	}
	if plan.step == stepUpgrade {
		last, _ := p.history.Latest()
		c.done.upgraded = last.Revision
		return c.helm.Upgrade(ctx, op)
	}
	c.done.installed = true
	return c.helm.Install(ctx, op)
}

// prepare clears the ground of what an earlier agent or installer left.
func (c *cluster) prepare(ctx context.Context, plan plan, p present) error {
	if err := c.makeNamespace(ctx); err != nil {
		return err
	}
	if plan.purge {
		if err := c.helm.Purge(ctx, c.ref); err != nil {
			return err
		}
	}
	if last, ok := p.history.Latest(); ok && last.Status.Pending() {
		if err := c.helm.Unlock(ctx, c.ref, last.Revision, "the installer that began this ended without a word"); err != nil {
			return err
		}
	}
	if !plan.forget {
		return nil
	}
	return c.drop(ctx, "identity of an earlier agent", func() error {
		return c.typed.CoreV1().Secrets(c.ref.Namespace).Delete(ctx, c.identity(), metav1.DeleteOptions{})
	})
}

func (c *cluster) makeNamespace(ctx context.Context) error {
	_, err := c.typed.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{
		Name: c.ref.Namespace, Annotations: map[string]string{kube.MadeBy: releaseID},
	}}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("make namespace %s: %w", c.ref.Namespace, err)
	}
	c.done.namespace = true
	return nil
}

// remove takes the agent out, with all that it made for itself. What stays is
// named, a sentence each.
func (c *cluster) remove(ctx context.Context) (left []string, err error) {
	if err := c.uninstall(ctx); err != nil {
		return nil, err
	}
	ns := c.ref.Namespace
	errs := []error{
		c.drop(ctx, "identity", func() error {
			return c.typed.CoreV1().Secrets(ns).Delete(ctx, c.identity(), metav1.DeleteOptions{})
		}),
		c.drop(ctx, "lease", func() error {
			return c.typed.CoordinationV1().Leases(ns).Delete(ctx, c.fullname(), metav1.DeleteOptions{})
		}),
	}
	why, err := c.dropDefinition(ctx)
	left, errs = append(left, why...), append(errs, err)
	why, err = c.dropNamespace(ctx)
	left, errs = append(left, why...), append(errs, err)
	return left, errors.Join(errs...)
}

// uninstall removes the release and waits until its pods are gone: an agent
// that still runs would make its definition and its identity again.
func (c *cluster) uninstall(ctx context.Context) error {
	history, err := c.helm.History(ctx, c.ref)
	if err != nil {
		return err
	}
	last, there := history.Latest()
	if there && last.Status != helm.StatusUninstalled {
		if last.Status.Pending() {
			if err := c.helm.Unlock(ctx, c.ref, last.Revision, "taken back"); err != nil {
				return err
			}
		}
		if err := c.helm.Uninstall(ctx, c.ref, hookTimeout); err != nil {
			return err
		}
	}
	if err := c.awaitPodsGone(ctx); err != nil {
		return err
	}
	return c.helm.Purge(ctx, c.ref)
}

func (c *cluster) awaitPodsGone(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, goneTimeout, fmt.Errorf("the agent's pods did not end within %s", goneTimeout))
	defer cancel()
	return poll(ctx, pollEvery, func() (bool, error) {
		pods, err := c.typed.CoreV1().Pods(c.ref.Namespace).List(ctx, metav1.ListOptions{
			LabelSelector: "app.kubernetes.io/component=agent,app.kubernetes.io/instance=" + c.ref.Name, Limit: 1,
		})
		if err != nil {
			return false, fmt.Errorf("look for pods of the agent: %w", err)
		}
		return len(pods.Items) == 0, nil
	})
}

// drop deletes something that may be gone already.
func (c *cluster) drop(_ context.Context, what string, del func() error) error {
	if err := del(); err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete the %s: %w", what, err)
	}
	return nil
}

// dropDefinition deletes the custom resource definition, unless the agent had
// releases to look after: deleting it would delete their records.
func (c *cluster) dropDefinition(ctx context.Context) (left []string, err error) {
	list, err := c.dynamic.Resource(v1alpha1.GroupVersionResource()).List(ctx, metav1.ListOptions{Limit: 1})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look for releases of the agent: %w", err)
	}
	if len(list.Items) > 0 {
		return []string{"the custom resource definition " + v1alpha1.CRDName + " stays, for there are releases of the agent in namespace " + list.Items[0].GetNamespace()}, nil
	}
	crds := schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
	return nil, c.drop(ctx, "custom resource definition", func() error {
		return c.dynamic.Resource(crds).Delete(ctx, v1alpha1.CRDName, metav1.DeleteOptions{})
	})
}

// poll asks until the answer is yes or ctx ends.
func poll(ctx context.Context, every time.Duration, ask func() (bool, error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		ok, err := ask()
		if ok || (err != nil && ctx.Err() == nil) {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}
