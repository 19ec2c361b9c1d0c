package equip

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/chart"
	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/component"
	"github.com/budecosystem/budcluster/hub/internal/release"
	"github.com/budecosystem/budcluster/internal/chartfile"
	"github.com/budecosystem/budcluster/internal/facts"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// Look is one component of a cluster at one moment.
type Look struct {
	component.Item
	// Release is what this hub wants there for it; nil when nothing. It may be a
	// tombstone.
	Release *release.Release
	// Before is what was there before a release that is yet to be.
	Before []facts.Presence
	// Connected: the agent is there.
	Connected bool
	// Again has Put make the agent try anew what it has given up.
	Again    bool
	observed component.Observation
	entry    *component.Component
}

// Look plans the cluster anew and returns what the plan says of one component.
// The wishes given replace those that are stored.
func (s *Service) Look(ctx context.Context, clusterID uuid.UUID, name string, wishes map[string]component.Wish) (*Look, error) {
	entry, err := s.cfg.Catalogue.Component(name)
	if err != nil {
		return nil, err //nolint:wrapcheck // a sentence already
	}
	st, err := s.read(ctx, clusterID, wishes)
	if err != nil {
		return nil, err
	}
	item, _ := st.item(name)
	now := s.cfg.Now()
	l := &Look{
		Item: item, Release: st.releases[name], Before: st.input.Presence, entry: entry,
		Connected: st.cluster.State(now) == cluster.StateConnected,
		observed:  component.Observation{Nodes: st.input.Nodes, Now: now},
	}
	return l, nil
}

// Settled says what the agent has done with the release that is wanted now.
// Until it has, message says how far it is.
func (l *Look) Settled() (done, failed bool, reason, message string) {
	st := l.Release.Status
	switch {
	case st.ObservedGeneration != l.Release.Generation:
		message = "waiting for the agent to take it"
		if !l.Connected {
			message = "waiting for the agent, which is not connected"
		}
	case st.Phase == agentv1.PhaseReady, st.Phase == agentv1.PhaseDrifted, st.Phase == agentv1.PhaseAdopted:
		return true, false, "", st.Message
	case st.Phase == agentv1.PhaseFailed && st.RetryAt == nil:
		return false, true, st.Reason, failure(st)
	default:
		message = progress(st)
	}
	return false, false, "", message
}

// GivenUp reports whether the agent tries no more.
func (l *Look) GivenUp() bool {
	_, failed, _, _ := l.Settled()
	return failed
}

// failure is the agent's sentence with the pod's own reason.
func failure(st release.Status) string {
	if st.WaitingFor == "" || strings.Contains(st.Message, st.WaitingFor) {
		return st.Message
	}
	return st.Message + ": " + st.WaitingFor
}

func progress(st release.Status) string {
	text := string(st.Phase)
	if st.Total > 0 {
		text = fmt.Sprintf("%s, %d of %d ready", text, st.Ready, st.Total)
	}
	switch {
	case st.WaitingFor != "":
		text += ": " + st.WaitingFor
	case st.Message != "":
		text += ": " + st.Message
	}
	return text
}

// Judge asks whether the component is ready beyond its release, since it was
// ready or adopted.
func (l *Look) Judge(since time.Time) component.Judgement {
	o := l.observed
	o.Since = since
	if l.Release == nil || l.Action == component.ActionAdopt {
		o.Adopted = true
	} else {
		o.Outputs = l.Release.Status.Outputs
		o.Adopted = l.Release.Status.Phase == agentv1.PhaseAdopted
		if at := l.Release.Status.ChangedAt; at != nil && at.After(since) {
			o.Since = *at
		}
	}
	return l.entry.Judge(o)
}

// Limit is the longest that the component may take from the first look on.
func (s *Service) Limit(name string) time.Duration {
	entry, err := s.cfg.Catalogue.Component(name)
	if err != nil {
		return 0
	}
	limit := time.Duration(entry.Timeout)
	for _, r := range entry.Ready {
		limit += time.Duration(r.Within)
	}
	return limit + slack
}

const (
	// slack is what a step may take beyond the component: the way to the agent
	// and back, a download of the chart.
	slack = 2 * time.Minute
	// attempts is how often the agent tries one component.
	attempts = 3
)

// Put makes the component's release be as the plan says, with the chart that
// Chart gave, and reports whether it was not wanted before. It fails with
// release.ErrConflict if somebody has changed the release since the look.
func (s *Service) Put(ctx context.Context, actor string, clusterID uuid.UUID, l *Look, meta chart.Meta) (r *release.Release, made bool, err error) {
	spec := release.Spec{
		Chart: release.Chart{Digest: meta.Digest}, Values: l.Values, CreateNamespace: true, Timeout: time.Duration(l.Timeout),
		Remediation: release.RemediationKeep, MaxAttempts: attempts, Component: l.Component,
		Leftovers: l.entry.Leftovers(l.Namespace, l.Before), NodeMarks: l.entry.Removal.Nodes,
	}
	for _, out := range l.Outputs {
		spec.Outputs = append(spec.Outputs, release.Output{Name: out.Name, APIVersion: out.APIVersion, Kind: out.Kind, Object: out.Object, JSONPath: out.JSONPath})
	}
	var seen int64
	if have := l.Release; have != nil {
		seen = have.Generation
		if have.RemovedAt == nil { // what was there before the first time still was
			spec.Leftovers, spec.NodeMarks = have.Spec.Leftovers, have.Spec.NodeMarks
			spec.Remediation = release.RemediationRollback
		}
	}
	return s.cfg.Releases.Apply(ctx, actor, clusterID, release.Request{ //nolint:wrapcheck // a sentence already
		Name: l.Item.Release, Namespace: l.Namespace, Spec: spec, Again: l.Again, IfGeneration: &seen,
	})
}

// Chart gets the chart that the plan names, and refuses another under its name.
// It may have to be downloaded. A published chart whose digest nobody could say
// is pinned by its first download.
func (s *Service) Chart(ctx context.Context, actor string, l *Look) (chart.Meta, error) {
	c, pinned := l.Chart, l.Chart.Digest
	if pinned == "" && c.Builtin == "" {
		var err error
		if pinned, err = s.cfg.Store.ChartPin(ctx, c); err != nil {
			return chart.Meta{}, fmt.Errorf("look up the digest of chart %s: %w", c.Name, err)
		}
	}
	if pinned != "" {
		meta, err := s.cfg.Charts.Meta(ctx, pinned)
		if err == nil || !errors.Is(err, chart.ErrNotFound) {
			return meta, err //nolint:wrapcheck // a sentence already
		}
	}
	meta, err := s.fetch(ctx, actor, c)
	if err != nil {
		return chart.Meta{}, fmt.Errorf("get the chart of %s: %w", l.Title, err)
	}
	if pinned == "" && c.Builtin == "" {
		if pinned, err = s.cfg.Store.ChartPinPut(ctx, c, meta.Digest, s.cfg.Now().UTC()); err != nil {
			return chart.Meta{}, fmt.Errorf("keep the digest of chart %s: %w", c.Name, err)
		}
	}
	if pinned != "" && meta.Digest != pinned {
		return chart.Meta{}, &DigestError{Title: l.Title, Chart: c, Got: meta.Digest, Want: pinned}
	}
	return meta, nil
}

func (s *Service) fetch(ctx context.Context, actor string, c component.Chart) (chart.Meta, error) {
	if c.Builtin != "" {
		return s.builtin(ctx, actor, c.Builtin)
	}
	src := chart.Source{Repository: c.Repository, OCI: c.OCI, Version: c.Version}
	if c.Repository != "" {
		src.Name = c.Name
	}
	return s.cfg.Charts.Resolve(ctx, actor, src) //nolint:wrapcheck // a sentence already
}

// builtin packs a chart that this program carries, and stores it. Both are done
// once: its digest is then known.
func (s *Service) builtin(ctx context.Context, actor, name string) (chart.Meta, error) {
	if digest, known := s.packed.Load(name); known {
		meta, err := s.cfg.Charts.Meta(ctx, digest.(string)) //nolint:forcetypeassert // see packed
		if err == nil || !errors.Is(err, chart.ErrNotFound) {
			return meta, err //nolint:wrapcheck // a sentence already
		}
	}
	dir, err := s.cfg.Builtin(name)
	if err != nil {
		return chart.Meta{}, fmt.Errorf("open built-in chart %s: %w", name, err)
	}
	tgz, _, err := chartfile.Pack(dir)
	if err != nil {
		return chart.Meta{}, fmt.Errorf("pack built-in chart %s: %w", name, err)
	}
	meta, err := s.cfg.Charts.Put(ctx, actor, tgz)
	if err == nil {
		s.packed.Store(name, meta.Digest)
	}
	return meta, err //nolint:wrapcheck // a sentence already
}

// DigestError says that a chart is not the one that the catalogue pins, or the
// hub since its first download.
type DigestError struct {
	Title     string
	Chart     component.Chart
	Got, Want string
}

// Error names both digests and the remedy.
func (e *DigestError) Error() string {
	pinned := "the catalogue pins"
	if e.Chart.Digest == "" {
		pinned = "the first download had"
	}
	return fmt.Sprintf("the chart of %s %s has digest %s where %s %s; if the publisher really replaced it, set the digest in the hub's componentsDir",
		e.Title, e.Chart.Version, e.Got, pinned, e.Want)
}
