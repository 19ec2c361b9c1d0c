package kube

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"

	"github.com/budecosystem/budcluster/internal/buildinfo"
)

// Events speaks to the people on site: what `kubectl describe pod` and
// `kubectl get events` show. The same thing said again counts up one Event.
type Events struct {
	cfg EventsConfig

	mu   sync.Mutex // guards said
	said map[string]int32
}

// EventsConfig is what Events need.
type EventsConfig struct {
	Client    kubernetes.Interface
	Namespace string
	// Pod is the name of the agent's pod; empty outside a cluster, and then
	// nothing is said.
	Pod string
	Now func() time.Time
}

// NewEvents makes a speaker. It may create and patch events, and read its pod.
func NewEvents(cfg EventsConfig) *Events {
	return &Events{cfg: cfg, said: map[string]int32{}}
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
	if e.cfg.Pod == "" {
		return nil
	}
	sum := sha256.Sum256([]byte(reason + "\x00" + message))
	name := e.cfg.Pod + "." + hex.EncodeToString(sum[:6])
	now := metav1.NewTime(e.cfg.Now())
	e.mu.Lock()
	e.said[name]++
	count := e.said[name]
	e.mu.Unlock()
	events := e.cfg.Client.CoreV1().Events(e.cfg.Namespace)
	_, err := events.Create(ctx, &corev1.Event{
		ObjectMeta:          metav1.ObjectMeta{Name: name, Namespace: e.cfg.Namespace},
		InvolvedObject:      e.involved(ctx),
		Reason:              reason,
		Message:             message,
		Type:                kind,
		Source:              corev1.EventSource{Component: FieldManager},
		ReportingController: "budcluster.io/agent",
		ReportingInstance:   e.cfg.Pod + "/" + buildinfo.Version(),
		FirstTimestamp:      now,
		LastTimestamp:       now,
		Count:               count,
	}, metav1.CreateOptions{})
	if apierrors.IsAlreadyExists(err) {
		patch := fmt.Sprintf(`{"count":%d,"lastTimestamp":%q}`, count, now.UTC().Format(time.RFC3339))
		_, err = events.Patch(ctx, name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	}
	if err != nil {
		return fmt.Errorf("record event %s: %w", reason, err)
	}
	return nil
}

// involved names our pod. With its UID `kubectl describe pod` finds the Event;
// without, `kubectl get events` still shows it.
func (e *Events) involved(ctx context.Context) corev1.ObjectReference {
	ref := corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: e.cfg.Namespace, Name: e.cfg.Pod}
	pod, err := e.cfg.Client.CoreV1().Pods(e.cfg.Namespace).Get(ctx, e.cfg.Pod, metav1.GetOptions{})
	if err == nil {
		ref.UID = pod.UID
	}
	return ref
}
