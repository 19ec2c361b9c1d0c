package release

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/util/jsonpath"

	"github.com/budecosystem/budcluster/agent/api/v1alpha1"
	"github.com/budecosystem/budcluster/agent/internal/helm"
)

const (
	// maxOutput bounds one output; a Job's termination message has 4 KiB.
	maxOutput = 16 << 10
	// outputResult is the name of a Job's result.
	outputResult = "result"
)

// reporter reads what a release has to report.
type reporter struct {
	typed   kubernetes.Interface
	dynamic dynamic.Interface
	kinds   *helm.Kinds
}

// outputs evaluates the spec's outputs, and the results of finished Jobs.
// What is not there yet is left out; only a wrong request is an error.
func (r *reporter) outputs(ctx context.Context, namespace string, wanted []v1alpha1.Output, objects []helm.Object) (map[string]string, error) {
	out := map[string]string{}
	var errs []error
	for _, o := range wanted {
		text, err := r.output(ctx, namespace, o, objects)
		if err != nil {
			errs = append(errs, fmt.Errorf("output %s: %w", o.Name, err))
			continue
		}
		if text != "" {
			out[o.Name] = text
		}
	}
	results, err := r.results(ctx, objects)
	if err != nil {
		errs = append(errs, err)
	}
	for name, text := range results {
		if _, taken := out[name]; !taken {
			out[name] = text
		}
	}
	if len(out) == 0 {
		out = nil
	}
	return out, errors.Join(errs...)
}

func (r *reporter) output(ctx context.Context, namespace string, o v1alpha1.Output, objects []helm.Object) (string, error) {
	gv, err := schema.ParseGroupVersion(o.APIVersion)
	if err != nil {
		return "", fmt.Errorf("apiVersion %q: %w", o.APIVersion, err)
	}
	gvk := gv.WithKind(o.Kind)
	if gvk.GroupKind() == (schema.GroupKind{Kind: "Secret"}) {
		return "", errors.New("a Secret is never reported")
	}
	path := jsonpath.New(o.Name).AllowMissingKeys(true)
	if err := path.Parse(o.JSONPath); err != nil {
		return "", fmt.Errorf("jsonPath %q: %w", o.JSONPath, err)
	}
	gvr, namespaced, ok, err := r.kinds.Resource(ctx, gvk)
	if err != nil || !ok {
		return "", err
	}
	if !namespaced {
		own := func(obj helm.Object) bool {
			return obj.GroupVersionKind().GroupKind() == gvk.GroupKind() && obj.GetName() == o.Object
		}
		if !slices.ContainsFunc(objects, own) {
			return "", fmt.Errorf("%s %s has no namespace and is not of this release; only what is its own, or in its namespace, is reported", o.Kind, o.Object)
		}
		namespace = ""
	}
	live, err := r.dynamic.Resource(gvr).Namespace(namespace).Get(ctx, o.Object, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	var buf bytes.Buffer
	if err := path.Execute(&buf, live.Object); err != nil {
		return "", fmt.Errorf("jsonPath %q: %w", o.JSONPath, err)
	}
	return clip(buf.String()), nil
}

func clip(s string) string {
	if len(s) > maxOutput {
		s = strings.ToValidUTF8(s[:maxOutput], "")
	}
	return s
}

// results reads what Jobs left in their termination message: "result" of the
// only Job, "result-<name>" of each when there are several.
func (r *reporter) results(ctx context.Context, objects []helm.Object) (map[string]string, error) {
	var jobs []helm.Object
	for _, obj := range objects {
		if obj.GroupVersionKind().GroupKind().String() == "Job.batch" {
			jobs = append(jobs, obj)
		}
	}
	out := map[string]string{}
	for _, obj := range jobs {
		text, err := r.result(ctx, obj.GetNamespace(), obj.GetName())
		if err != nil {
			return nil, fmt.Errorf("result of job %s: %w", obj.GetName(), err)
		}
		name := outputResult
		if len(jobs) > 1 {
			name += "-" + obj.GetName()
		}
		if text != "" {
			out[name] = text
		}
	}
	return out, nil
}

func (r *reporter) result(ctx context.Context, namespace, name string) (string, error) {
	job, err := r.typed.BatchV1().Jobs(namespace).Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	if job.Spec.Selector == nil {
		return "", nil
	}
	pods, err := r.typed.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(job.Spec.Selector)})
	if err != nil {
		return "", err
	}
	for i := range pods.Items {
		if pods.Items[i].Status.Phase != corev1.PodSucceeded {
			continue
		}
		for _, c := range pods.Items[i].Status.ContainerStatuses {
			if t := c.State.Terminated; t != nil && t.Message != "" {
				return clip(t.Message), nil
			}
		}
	}
	return "", nil
}
