package release

import (
	"context"
	"log/slog"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/budecosystem/budcluster/agent/api/v1alpha1"
	"github.com/budecosystem/budcluster/internal/logkey"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// event tells the people on site what happened to a release. It is best
// effort: the status is what counts.
func (m *Manager) event(ctx context.Context, cr *v1alpha1.Release, s v1alpha1.ReleaseStatus) {
	kind := corev1.EventTypeNormal
	switch s.Phase {
	case agentv1.PhaseFailed, agentv1.PhaseDrifted, agentv1.PhaseLocked, agentv1.PhaseRollingBack:
		kind = corev1.EventTypeWarning
	default:
	}
	message := s.Message
	if message == "" {
		message = string(s.Phase)
	}
	now := metav1.NewTime(m.now())
	_, err := m.typed.CoreV1().Events(m.namespace).Create(ctx, &corev1.Event{
		ObjectMeta: metav1.ObjectMeta{GenerateName: cr.Name + ".", Namespace: m.namespace},
		InvolvedObject: corev1.ObjectReference{
			APIVersion: v1alpha1.APIVersion(), Kind: v1alpha1.Kind, Namespace: cr.Namespace, Name: cr.Name, UID: cr.UID, ResourceVersion: cr.ResourceVersion,
		},
		Reason: s.Reason, Message: message, Type: kind, Count: 1, FirstTimestamp: now, LastTimestamp: now,
		Source: corev1.EventSource{Component: managedBy}, ReportingController: "budcluster.io/agent",
	}, metav1.CreateOptions{})
	if err != nil {
		m.log.DebugContext(ctx, "event is not written", slog.String(logkey.Release, cr.Name), slog.Any(logkey.Error, err))
	}
}
