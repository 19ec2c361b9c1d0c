package helm

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"helm.sh/helm/v3/pkg/kube"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/cli-runtime/pkg/resource"
	"k8s.io/client-go/kubernetes"
)

// State is whether an object is ready.
type State struct {
	Ready bool
	// Failed: it will not become ready by waiting, e.g. a failed Job.
	Failed bool
	// Why says what it waits for, or why it failed.
	Why string
}

// Checker judges objects with Helm's own rules, Jobs included, and says what
// an object that is not ready waits for. One rule is stricter: Helm takes a
// DaemonSet for ready when as many of its pods are missing as an update may
// take down, one by default, which on one node is all of them.
type Checker struct {
	typed   kubernetes.Interface
	checker kube.ReadyChecker
}

// NewChecker makes a Checker.
func NewChecker(typed kubernetes.Interface) *Checker {
	return &Checker{typed: typed, checker: kube.NewReadyChecker(typed, nil, kube.PausedAsReady(true), kube.CheckJobs(true))}
}

// Check judges one object of a release.
func (c *Checker) Check(ctx context.Context, obj Object) (State, error) {
	ns, name := obj.GetNamespace(), obj.GetName()
	var state State
	var err error
	switch obj.GroupVersionKind().GroupKind().String() {
	case "Job.batch":
		state, err = c.job(ctx, ns, name)
	case "Pod":
		state, err = c.pod(ctx, ns, name)
	case "DaemonSet.apps":
		state, err = c.daemonSet(ctx, obj)
	case "CustomResourceDefinition.apiextensions.k8s.io":
		return State{Ready: true}, nil // Helm's rule needs the live object; Helm waits for CRDs by itself
	default:
		state, err = c.byHelm(ctx, obj)
	}
	if apierrors.IsNotFound(err) {
		return State{Why: fmt.Sprintf("%s %s: is missing", lower(obj), name)}, nil
	}
	if err != nil {
		return State{}, fmt.Errorf("check %s %s: %w", lower(obj), name, err)
	}
	return state, nil
}

func lower(obj Object) string { return strings.ToLower(obj.GetKind()) }

func (c *Checker) byHelm(ctx context.Context, obj Object) (State, error) {
	scope := meta.RESTScopeRoot
	if obj.Namespaced {
		scope = meta.RESTScopeNamespace
	}
	ready, err := c.checker.IsReady(ctx, &resource.Info{
		Namespace: obj.GetNamespace(), Name: obj.GetName(), Object: obj.Unstructured,
		Mapping: &meta.RESTMapping{Resource: obj.Resource, GroupVersionKind: obj.GroupVersionKind(), Scope: scope},
	})
	if err != nil || ready {
		return State{Ready: ready}, err
	}
	return c.unready(ctx, obj)
}

func (c *Checker) unready(ctx context.Context, obj Object) (State, error) {
	why, err := c.why(ctx, obj.GetKind(), obj.GetNamespace(), obj.GetName())
	return State{Why: fmt.Sprintf("%s %s: %s", lower(obj), obj.GetName(), why)}, err
}

// daemonSet is ready by Helm's rule, and if at least one of its pods is.
func (c *Checker) daemonSet(ctx context.Context, obj Object) (State, error) {
	state, err := c.byHelm(ctx, obj)
	if err != nil || !state.Ready {
		return state, err
	}
	d, err := c.typed.AppsV1().DaemonSets(obj.GetNamespace()).Get(ctx, obj.GetName(), metav1.GetOptions{})
	if err != nil || d.Status.NumberReady > 0 || d.Status.DesiredNumberScheduled == 0 {
		return State{Ready: err == nil}, err
	}
	return c.unready(ctx, obj)
}

// why explains an object that Helm's rules do not call ready.
func (c *Checker) why(ctx context.Context, kind, ns, name string) (string, error) {
	switch kind {
	case "Deployment":
		d, err := c.typed.AppsV1().Deployments(ns).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		text := fmt.Sprintf("%d of %d ready", newReady(d), replicas(d.Spec.Replicas))
		return c.withPods(ctx, text, deploymentTrouble(d), ns, d.Spec.Selector)
	case "StatefulSet":
		s, err := c.typed.AppsV1().StatefulSets(ns).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		text := fmt.Sprintf("%d of %d ready", s.Status.ReadyReplicas, replicas(s.Spec.Replicas))
		return c.withPods(ctx, text, "", ns, s.Spec.Selector)
	case "DaemonSet":
		d, err := c.typed.AppsV1().DaemonSets(ns).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		text := fmt.Sprintf("%d of %d ready", d.Status.NumberReady, d.Status.DesiredNumberScheduled)
		return c.withPods(ctx, text, "", ns, d.Spec.Selector)
	case "ReplicaSet":
		r, err := c.typed.AppsV1().ReplicaSets(ns).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		text := fmt.Sprintf("%d of %d ready", r.Status.ReadyReplicas, replicas(r.Spec.Replicas))
		return c.withPods(ctx, text, "", ns, r.Spec.Selector)
	case "PersistentVolumeClaim":
		p, err := c.typed.CoreV1().PersistentVolumeClaims(ns).Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return "", err
		}
		return c.claim(ctx, p)
	case "Service":
		return "has no address of its load balancer yet", nil
	default:
		return "is not ready", nil
	}
}

func replicas(n *int32) int32 {
	if n == nil {
		return 1
	}
	return *n
}

// newReady counts the ready pods of the newest template. In the middle of an
// upgrade readyReplicas counts the old ones, too.
func newReady(d *appsv1.Deployment) int32 {
	if d.Status.ObservedGeneration != d.Generation {
		return 0
	}
	return min(d.Status.ReadyReplicas, max(0, d.Status.UpdatedReplicas-d.Status.UnavailableReplicas))
}

func deploymentTrouble(d *appsv1.Deployment) string {
	for _, cond := range d.Status.Conditions {
		if cond.Type == appsv1.DeploymentReplicaFailure && cond.Status == corev1.ConditionTrue {
			return cond.Message
		}
	}
	return ""
}

func (c *Checker) claim(ctx context.Context, p *corev1.PersistentVolumeClaim) (string, error) {
	text := "is " + strings.ToLower(cmp.Or(string(p.Status.Phase), "pending"))
	event, err := c.lastWarning(ctx, p.Namespace, string(p.UID))
	if err != nil || event == "" {
		return text, err
	}
	return text + ": " + event, nil
}

// withPods adds the worst that the pods behind an object say.
func (c *Checker) withPods(ctx context.Context, text, trouble, ns string, selector *metav1.LabelSelector) (string, error) {
	if trouble != "" {
		return text + ": " + trouble, nil
	}
	pods, err := c.pods(ctx, ns, selector)
	if err != nil {
		return "", err
	}
	if why := worst(pods); why != "" {
		text += ": " + why
	}
	return text, nil
}

func (c *Checker) pods(ctx context.Context, ns string, selector *metav1.LabelSelector) ([]corev1.Pod, error) {
	if selector == nil {
		return nil, nil
	}
	list, err := c.typed.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(selector)})
	if err != nil {
		return nil, fmt.Errorf("list pods: %w", err)
	}
	return list.Items, nil
}

// job judges a Job: complete is ready; failed stays failed.
func (c *Checker) job(ctx context.Context, ns, name string) (State, error) {
	job, err := c.typed.BatchV1().Jobs(ns).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return State{}, err
	}
	for _, cond := range job.Status.Conditions {
		if cond.Status != corev1.ConditionTrue {
			continue
		}
		switch cond.Type {
		case batchv1.JobComplete, batchv1.JobSuccessCriteriaMet:
			return State{Ready: true}, nil
		case batchv1.JobFailed, batchv1.JobFailureTarget:
			why := strings.TrimSuffix(cmp.Or(cond.Reason, "Failed")+": "+cond.Message, ": ")
			why, err := c.withPods(ctx, why, "", ns, job.Spec.Selector)
			return State{Failed: true, Why: fmt.Sprintf("job %s: failed: %s", name, why)}, err
		case batchv1.JobSuspended:
			return State{Why: fmt.Sprintf("job %s: is suspended", name)}, nil
		}
	}
	wanted := int32(1)
	if job.Spec.Completions != nil {
		wanted = *job.Spec.Completions
	}
	text, err := c.withPods(ctx, fmt.Sprintf("%d of %d complete", job.Status.Succeeded, wanted), "", ns, job.Spec.Selector)
	return State{Why: fmt.Sprintf("job %s: %s", name, text)}, err
}

// pod judges a pod that the chart made itself.
func (c *Checker) pod(ctx context.Context, ns, name string) (State, error) {
	pod, err := c.typed.CoreV1().Pods(ns).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return State{}, err
	}
	why := cmp.Or(worst([]corev1.Pod{*pod}), "is not ready")
	switch {
	case pod.Status.Phase == corev1.PodSucceeded || podReady(pod):
		return State{Ready: true}, nil
	case pod.Status.Phase == corev1.PodFailed:
		return State{Failed: true, Why: fmt.Sprintf("pod %s: failed: %s", name, why)}, nil
	default:
		return State{Why: fmt.Sprintf("pod %s: %s", name, why)}, nil
	}
}

// hookPod judges a hook's pod: only success ends it.
func (c *Checker) hookPod(ctx context.Context, ns, name string) (State, error) {
	pod, err := c.typed.CoreV1().Pods(ns).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return State{}, err
	}
	state, err := c.pod(ctx, ns, name)
	state.Ready = pod.Status.Phase == corev1.PodSucceeded
	return state, err
}

func podReady(pod *corev1.Pod) bool {
	return slices.ContainsFunc(pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
	})
}

// lastWarning returns the newest warning event about an object.
func (c *Checker) lastWarning(ctx context.Context, ns, uid string) (string, error) {
	list, err := c.typed.CoreV1().Events(ns).List(ctx, metav1.ListOptions{
		FieldSelector: "involvedObject.uid=" + uid + ",type=" + corev1.EventTypeWarning, Limit: 20,
	})
	if err != nil {
		return "", fmt.Errorf("list events: %w", err)
	}
	var newest *corev1.Event
	for i := range list.Items {
		if e := &list.Items[i]; newest == nil || e.LastTimestamp.After(newest.LastTimestamp.Time) {
			newest = e
		}
	}
	if newest == nil {
		return "", nil
	}
	return newest.Message, nil
}
