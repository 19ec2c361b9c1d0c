package helm

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"helm.sh/helm/v3/pkg/kube"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
)

// pollInterval is how often an operation looks whether a hook or a CRD is done.
const pollInterval = time.Second

// kubeClient is Helm's own client with every wait ending with the operation's
// context. Helm's waits run to their timeout whatever happens.
type kubeClient struct {
	*kube.Client
	ctx   context.Context //nolint:containedctx // Helm's interface has none
	typed kubernetes.Interface
	yield func() (resume func())
	// deleteErrors is what a deletion failed with; Helm only logs it.
	deleteErrors error
}

// Update sends the difference between what is wanted and what is there for
// custom resources too; Helm 3 compares only the two manifests, so a repeated
// attempt would leave what an earlier one did.
func (k *kubeClient) Update(original, target kube.ResourceList, force bool) (*kube.Result, error) {
	return k.UpdateThreeWayMerge(original, target, force)
}

// DeleteWithPropagationPolicy remembers why objects could not be deleted. Custom
// resources go in the foreground: each stays until what it owns is gone. What an
// operator made of one would otherwise be left to the garbage collector, which
// loses it for ever if the definition goes before it has looked: it cannot find
// out any more whether the owner is there.
func (k *kubeClient) DeleteWithPropagationPolicy(list kube.ResourceList, policy metav1.DeletionPropagation) (*kube.Result, []error) {
	custom := func(info *resource.Info) bool { return !scheme.Scheme.Recognizes(info.Mapping.GroupVersionKind) }
	res := &kube.Result{}
	var errs []error
	for _, part := range []struct {
		list   kube.ResourceList
		policy metav1.DeletionPropagation
	}{
		{list.Filter(custom), metav1.DeletePropagationForeground},
		{list.Filter(func(info *resource.Info) bool { return !custom(info) }), policy},
	} {
		if len(part.list) == 0 {
			continue // Helm calls that an error
		}
		done, wrong := k.Client.DeleteWithPropagationPolicy(part.list, part.policy)
		if errs = append(errs, wrong...); done != nil {
			res.Deleted = append(res.Deleted, done.Deleted...)
		}
	}
	k.deleteErrors = errors.Join(errs...)
	return res, errs
}

// Wait is used for the CRDs of a chart only.
func (k *kubeClient) Wait(list kube.ResourceList, timeout time.Duration) error {
	checker := kube.NewReadyChecker(k.typed, k.Log, kube.PausedAsReady(true))
	return k.each(list, timeout, func(ctx context.Context, info *resource.Info) (bool, error) {
		return checker.IsReady(ctx, info)
	})
}

// WaitForDelete waits until objects are gone, e.g. a hook's Job of last time.
func (k *kubeClient) WaitForDelete(list kube.ResourceList, timeout time.Duration) error {
	return k.each(list, timeout, func(_ context.Context, info *resource.Info) (bool, error) {
		_, err := resource.NewHelper(info.Client, info.Mapping).Get(info.Namespace, info.Name)
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		return false, err
	})
}

// WatchUntilReady waits for hooks: Jobs until they are complete, Pods until
// they have succeeded. Everything else is done when it is made.
func (k *kubeClient) WatchUntilReady(list kube.ResourceList, timeout time.Duration) error {
	checker := &Checker{typed: k.typed}
	return k.each(list, timeout, func(ctx context.Context, info *resource.Info) (bool, error) {
		switch info.Mapping.GroupVersionKind.Kind {
		case "Job":
			return hookDone(checker.job(ctx, info.Namespace, info.Name))
		case "Pod":
			return hookDone(checker.hookPod(ctx, info.Namespace, info.Name))
		default:
			return true, nil
		}
	})
}

func hookDone(state State, err error) (bool, error) {
	switch {
	case apierrors.IsNotFound(err): // deleted by somebody, or by its time to live
		return true, nil
	case err != nil:
		return false, err
	case state.Failed:
		return false, errors.New(state.Why)
	default:
		return state.Ready, nil
	}
}

// each waits for one object after the other; the slot is given away meanwhile.
func (k *kubeClient) each(list kube.ResourceList, timeout time.Duration, done func(context.Context, *resource.Info) (bool, error)) error {
	ctx, cancel := context.WithTimeoutCause(k.ctx, timeout, fmt.Errorf("not done after %s", timeout))
	defer cancel()
	if k.yield != nil {
		defer k.yield()()
	}
	tick := time.NewTicker(pollInterval)
	defer tick.Stop()
	for _, info := range list {
		for {
			ok, err := done(ctx, info)
			if err != nil && ctx.Err() == nil {
				return err
			}
			if ok {
				break
			}
			select {
			case <-ctx.Done():
				return fmt.Errorf("%s %s: %w", strings.ToLower(info.Mapping.GroupVersionKind.Kind), info.Name, context.Cause(ctx))
			case <-tick.C:
			}
		}
	}
	return nil
}
