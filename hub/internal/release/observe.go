package release

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/event"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// The bounds of what an agent may report of one release.
const (
	maxCode      = 128
	maxSentence  = 4 << 10
	maxDrift     = 100
	maxOutput    = 16 << 10
	maxAllOutput = 64 << 10
)

// Observe records what the agent says of a release. What it says of an older
// generation than it has spoken of before is ignored. forget is true once the
// hub has nothing more to remember of the release: the agent may drop its own
// record then.
func (s *Service) Observe(ctx context.Context, clusterID, releaseID uuid.UUID, status Status) (forget bool, err error) {
	status = status.bounded()
	err = s.store.InTx(ctx, func(ctx context.Context) error {
		forget = false
		r, err := s.store.ReleaseLockID(ctx, clusterID, releaseID)
		if errors.Is(err, ErrNotFound) {
			// The row goes only when the agent said Removed, or when an operator
			// forgot the release: in that case the agent keeps its orphan.
			forget = status.Phase == agentv1.PhaseRemoved
			return nil
		}
		if err != nil {
			return err
		}
		if status.ObservedGeneration < r.Status.ObservedGeneration {
			return nil
		}
		if r.RemovedAt != nil && status.Phase == agentv1.PhaseRemoved && status.ObservedGeneration >= r.Generation {
			forget = true
			return s.removed(ctx, r.Release, status)
		}
		if equalStatus(status, r.Status) {
			return nil
		}
		if err := s.store.ReleaseWriteStatus(ctx, r.ID, status); err != nil {
			return err
		}
		return s.recordStatus(ctx, r.Release, status)
	})
	if err != nil {
		return false, fmt.Errorf("record status of release %s: %w", releaseID, err)
	}
	return forget, nil
}

func (s *Service) removed(ctx context.Context, r *Release, status Status) error {
	if err := s.store.ReleaseDrop(ctx, r.ID); err != nil {
		return err
	}
	message := fmt.Sprintf("release %s was removed", r.Name)
	if status.Message != "" {
		message += ": " + status.Message
	}
	s.store.WakeReleases(ctx, r.ClusterID)
	return s.record(ctx, r, event.ReleaseRemoved, "agent", message)
}

// recordStatus writes the event. Mere progress within a phase is for those who
// watch, not for the history.
func (s *Service) recordStatus(ctx context.Context, r *Release, status Status) error {
	before := r.Status
	e, err := event.Record(s.now(), event.ReleaseStatus, "agent",
		eventData{ID: r.ID, Namespace: r.Namespace, Generation: r.Generation, Chart: r.Spec.Chart, Status: &status})
	if err != nil {
		return err
	}
	e.ClusterID, e.Subject = r.ClusterID, r.Name
	e.Message = fmt.Sprintf("release %s is %s", r.Name, status.Phase)
	if status.Message != "" {
		e.Message += ": " + status.Message
	}
	// An output is what others wait for: an operator's state, say.
	e.Transient = maps.Equal(before.Outputs, status.Outputs) && before.Phase == status.Phase && before.Reason == status.Reason &&
		before.ObservedGeneration == status.ObservedGeneration && before.Attempts == status.Attempts &&
		before.Corrections == status.Corrections
	return s.store.AppendEvents(ctx, e)
}

// bounded is s without what a database cannot hold and a person cannot read.
func (s Status) bounded() Status {
	s.Phase = agentv1.Phase(clip(string(s.Phase), maxCode))
	s.Reason, s.Message, s.WaitingFor = clip(s.Reason, maxCode), clip(s.Message, maxSentence), clip(s.WaitingFor, maxSentence)
	s.ChartVersion, s.AppVersion = clip(s.ChartVersion, maxCode), clip(s.AppVersion, maxCode)
	if len(s.Drift) > maxDrift {
		s.Drift = s.Drift[:maxDrift]
	}
	s.Drift = slices.Clone(s.Drift)
	for i, d := range s.Drift {
		s.Drift[i] = Drift{Object: clip(d.Object, maxSentence), Field: clip(d.Field, maxSentence), Manager: clip(d.Manager, maxCode)}
	}
	outputs, left := make(map[string]string, len(s.Outputs)), maxAllOutput
	for _, name := range slices.Sorted(maps.Keys(s.Outputs)) {
		value := clip(s.Outputs[name], maxOutput)
		if left -= len(name) + len(value); left < 0 || len(outputs) == maxOutputs {
			break
		}
		outputs[clip(name, maxCode)] = value
	}
	if s.Outputs = outputs; len(outputs) == 0 {
		s.Outputs = nil
	}
	if s.ChangedAt != nil {
		at := s.ChangedAt.UTC()
		s.ChangedAt = &at
	}
	if s.RetryAt != nil {
		at := s.RetryAt.UTC()
		s.RetryAt = &at
	}
	return s
}

func clip(text string, most int) string {
	text = strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "")
	if len(text) <= most {
		return text
	}
	return strings.ToValidUTF8(text[:most], "")
}
