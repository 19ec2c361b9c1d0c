package kube

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/budecosystem/budcluster/internal/buildinfo"
)

// Events speaks to the people on site: what `kubectl describe pod` and
// `kubectl get events` show. The same thing said again counts up one Event.
type Events struct {
	Client    kubernetes.Interface
	Namespace string
	// Pod is the name of the agent's pod; empty outside a cluster, and then
	// nothing is said.
	Pod string
	Now func() time.Time
}

// Warn records that something needs a human. Reason is CamelCase.
func (e *Events) Warn(ctx context.Context, reason, message string) error {
	return e.record(ctx, corev1.EventTypeWarning, reason, message)
}

// Note records that something worth knowing happened.
func (e *Events) Note(ctx context.Context, reason, message string) error {
	return e.record(ctx, corev1.EventTypeNormal, reason, message)
}

func (e *Events) record(ctx context.Context, kind, reason, message string) error {
	if e.Pod == "" {
		return nil
	}
	sum := sha256.Sum256([]byte(reason + "\x00" + message))
	name := e.Pod + "." + hex.EncodeToString(sum[:6])
	now := metav1.NewTime(e.Now())
	events := e.Client.CoreV1().Events(e.Namespace)
	old, err := events.Get(ctx, name, metav1.GetOptions{})
	if err == nil {
		old.Count++
		old.LastTimestamp = now
		if _, err := events.Update(ctx, old, metav1.UpdateOptions{}); err != nil {
			return fmt.Errorf("count event %s: %w", reason, err)
		}
		return nil
	}
	if !apierrors.IsNotFound(err) {
		return fmt.Errorf("look for event %s: %w", reason, err)
	}
	_, err = events.Create(ctx, &corev1.Event{
		ObjectMeta:          metav1.ObjectMeta{Name: name, Namespace: e.Namespace},
		InvolvedObject:      e.involved(ctx),
		Reason:              reason,
		Message:             message,
		Type:                kind,
		Source:              corev1.EventSource{Component: "budcluster-agent"},
		ReportingController: "budcluster.io/agent",
		ReportingInstance:   e.Pod + "/" + buildinfo.Version(),
		FirstTimestamp:      now,
		LastTimestamp:       now,
		Count:               1,
	}, metav1.CreateOptions{})
	if err != nil {
		return fmt.Errorf("record event %s: %w", reason, err)
	}
	return nil
}

// involved names our pod. With its UID `kubectl describe pod` finds the Event;
// without, `kubectl get events` still shows it.
func (e *Events) involved(ctx context.Context) corev1.ObjectReference {
	ref := corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: e.Namespace, Name: e.Pod}
	pod, err := e.Client.CoreV1().Pods(e.Namespace).Get(ctx, e.Pod, metav1.GetOptions{})
	if err == nil {
		ref.UID = pod.UID
	}
	return ref
}
