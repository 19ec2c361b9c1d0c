package kube

import (
	"cmp"
	"context"
	"fmt"
	"strconv"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
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
// there, and returns when the API server serves it. One that is on its way out,
// as after an agent that was removed a moment ago, is waited for and put back.
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
	ctx, cancel := context.WithTimeoutCause(ctx, establishTimeout,
		fmt.Errorf("custom resource definition %s was not established after %s", name, establishTimeout))
	defer cancel()
	crds := client.Resource(crdResource())
	var (
		result  CRDResult
		applied types.UID
		why     string
	)
	err = wait.PollUntilContextCancel(ctx, establishInterval, true, func(ctx context.Context) (established bool, err error) {
		have, err := crds.Get(ctx, name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err):
			have = &unstructured.Unstructured{}
		case err != nil:
			return false, fmt.Errorf("read custom resource definition %s: %w", name, err)
		case have.GetDeletionTimestamp() != nil:
			why = "it is being deleted, and that waits for the last of its objects"
			return false, nil
		}
		// An unreadable number is somebody's edit; ours replaces it.
		if there, err := crdEdition(have); err == nil && there > edition {
			result = CRDNewer
		} else if result = CRDApplied; applied == "" || applied != have.GetUID() {
			have, err = crds.Apply(ctx, name, want, metav1.ApplyOptions{FieldManager: FieldManager, Force: true})
			if err != nil {
				return false, fmt.Errorf("apply custom resource definition %s: %w", name, err)
			}
			applied = have.GetUID()
		}
		established, why = crdEstablished(have)
		return established && have.GetDeletionTimestamp() == nil, nil
	})
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("%w: %s", context.Cause(ctx), cmp.Or(why, err.Error()))
	}
	if err != nil {
		return "", err
	}
	return result, nil
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
