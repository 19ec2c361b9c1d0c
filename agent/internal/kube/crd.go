package kube

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"
	"sigs.k8s.io/yaml"
)

// CRDVersionAnnotation holds the number of a definition's edition. It grows
// with every change, and a definition with a higher number is left alone: a
// newer agent put it there, and taking fields away would delete data.
const CRDVersionAnnotation = "budcluster.io/crd-version"

const (
	establishTimeout  = 30 * time.Second
	establishInterval = 200 * time.Millisecond
)

func crdResource() schema.GroupVersionResource {
	return schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}
}

// CRDResult says what ApplyCRD found to do.
type CRDResult string

// The results of ApplyCRD.
const (
	// CRDApplied: the definition is ours now, new or upgraded.
	CRDApplied CRDResult = "Applied"
	// CRDNewer: the cluster has a newer edition; nothing was changed.
	CRDNewer CRDResult = "Newer"
)

// ApplyCRD puts a definition into the cluster, unless a newer edition is
// there, and returns when the API server serves it.
func ApplyCRD(ctx context.Context, client dynamic.Interface, manifest []byte) (CRDResult, error) {
	want := &unstructured.Unstructured{}
	if err := yaml.Unmarshal(manifest, &want.Object); err != nil {
		return "", fmt.Errorf("decode custom resource definition: %w", err)
	}
	name := want.GetName()
	edition, err := crdEdition(want)
	if err != nil {
		return "", err
	}
	crds := client.Resource(crdResource())
	have, err := crds.Get(ctx, name, metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
	case err != nil:
		return "", fmt.Errorf("read custom resource definition %s: %w", name, err)
	default:
		// An unreadable number is somebody's edit; ours replaces it.
		if there, err := crdEdition(have); err == nil && there > edition {
			return CRDNewer, awaitEstablished(ctx, crds, name)
		}
	}
	if _, err := crds.Apply(ctx, name, want, metav1.ApplyOptions{FieldManager: FieldManager, Force: true}); err != nil {
		return "", fmt.Errorf("apply custom resource definition %s: %w", name, err)
	}
	return CRDApplied, awaitEstablished(ctx, crds, name)
}

// crdEdition reads the annotation; a definition without it is edition 0.
func crdEdition(crd *unstructured.Unstructured) (int, error) {
	text, ok := crd.GetAnnotations()[CRDVersionAnnotation]
	if !ok {
		return 0, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		return 0, fmt.Errorf("annotation %s of custom resource definition %s is %q and must be a whole number", CRDVersionAnnotation, crd.GetName(), text)
	}
	return n, nil
}

// awaitEstablished waits until the API server serves the resource.
func awaitEstablished(ctx context.Context, crds dynamic.ResourceInterface, name string) error {
	ctx, cancel := context.WithTimeoutCause(ctx, establishTimeout,
		fmt.Errorf("custom resource definition %s was not established after %s", name, establishTimeout))
	defer cancel()
	var why error
	err := wait.PollUntilContextCancel(ctx, establishInterval, true, func(ctx context.Context) (bool, error) {
		crd, err := crds.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			why = err
			return false, nil //nolint:nilerr // asked again until the time is up
		}
		established, reason := crdEstablished(crd)
		why = errors.New(reason)
		return established, nil
	})
	if err != nil {
		return fmt.Errorf("%w: %w", context.Cause(ctx), why)
	}
	return nil
}

func crdEstablished(crd *unstructured.Unstructured) (established bool, reason string) {
	conditions, _, err := unstructured.NestedSlice(crd.Object, "status", "conditions")
	if err != nil {
		return false, "its conditions cannot be read"
	}
	reason = "it has no condition yet"
	for _, c := range conditions {
		condition, ok := c.(map[string]any)
		if !ok {
			continue
		}
		switch condition["type"] {
		case "Established":
			if condition["status"] == string(metav1.ConditionTrue) {
				return true, ""
			}
		case "NamesAccepted":
			if condition["status"] == string(metav1.ConditionFalse) {
				reason = fmt.Sprint(condition["message"])
			}
		}
	}
	return false, reason
}
