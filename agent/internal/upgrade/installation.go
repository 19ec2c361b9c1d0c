package upgrade

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"

	appsv1 "k8s.io/api/apps/v1"
	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"

	"github.com/budecosystem/budcluster/agent/internal/helm"
)

// Installation is the agent as it lies in its cluster; it implements Cluster.
type Installation struct {
	Typed kubernetes.Interface
	// Namespace, Pod, Deployment and Release name this agent.
	Namespace, Pod, Deployment, Release string
}

// Hash implements Cluster.
func (i *Installation) Hash(ctx context.Context) (string, error) {
	pod, err := i.Typed.CoreV1().Pods(i.Namespace).Get(ctx, i.Pod, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("look at the agent's own pod: %w", err)
	}
	return pod.Labels[appsv1.DefaultDeploymentUniqueLabelKey], nil
}

// NewRuns implements Cluster.
func (i *Installation) NewRuns(ctx context.Context, hash string) (bool, error) {
	pods, err := i.Typed.CoreV1().Pods(i.Namespace).List(ctx, metav1.ListOptions{
		LabelSelector: "app.kubernetes.io/component=agent,app.kubernetes.io/instance=" + i.Release,
	})
	if err != nil {
		return false, fmt.Errorf("look for the new agent's pod: %w", err)
	}
	for n := range pods.Items {
		if p := &pods.Items[n]; p.DeletionTimestamp == nil && p.Labels[appsv1.DefaultDeploymentUniqueLabelKey] != hash && running(p) {
			return true, nil
		}
	}
	return false, nil
}

func running(p *corev1.Pod) bool {
	for _, s := range p.Status.ContainerStatuses {
		if s.State.Running != nil {
			return true
		}
	}
	return false
}

// Template implements Cluster.
func (i *Installation) Template(ctx context.Context) (string, error) {
	d, err := i.Typed.AppsV1().Deployments(i.Namespace).Get(ctx, i.Deployment, metav1.GetOptions{})
	if err != nil {
		return "", fmt.Errorf("look at the agent's own deployment: %w", err)
	}
	data, err := json.Marshal(d.Spec.Template)
	if err != nil {
		return "", fmt.Errorf("encode the agent's own deployment: %w", err)
	}
	sum := sha256.Sum256(data)
	return hex.EncodeToString(sum[:]), nil
}

// Trouble implements Cluster.
func (i *Installation) Trouble(ctx context.Context) string {
	u := &unstructured.Unstructured{}
	u.SetAPIVersion("apps/v1")
	u.SetKind("Deployment")
	u.SetNamespace(i.Namespace)
	u.SetName(i.Deployment)
	state, err := helm.NewChecker(i.Typed).Check(ctx, helm.Object{
		Unstructured: u, Resource: appsv1.SchemeGroupVersion.WithResource("deployments"), Namespaced: true, Known: true,
	})
	if err != nil {
		return ""
	}
	return state.Why
}

// Allowed implements Cluster.
func (i *Installation) Allowed(ctx context.Context) (missing string, err error) {
	for _, r := range []authorizationv1.ResourceAttributes{
		{Namespace: i.Namespace, Group: "apps", Resource: "deployments", Verb: "patch"},
		{Namespace: i.Namespace, Resource: "services", Verb: "patch"},
		{Namespace: i.Namespace, Resource: "serviceaccounts", Verb: "patch"},
		{Namespace: i.Namespace, Resource: "secrets", Verb: "create"},
		{Group: "rbac.authorization.k8s.io", Resource: "clusterroles", Verb: "patch"},
	} {
		review, err := i.Typed.AuthorizationV1().SelfSubjectAccessReviews().Create(ctx, &authorizationv1.SelfSubjectAccessReview{
			Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &r},
		}, metav1.CreateOptions{})
		if err != nil {
			return "", fmt.Errorf("ask for the agent's own rights: %w", err)
		}
		if !review.Status.Allowed {
			return r.Verb + " " + r.Resource, nil
		}
	}
	return "", nil
}
