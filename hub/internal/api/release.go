package api

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"strings"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/internal/chart"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/hub/internal/release"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// ReleasesInput chooses releases.
type ReleasesInput struct {
	PageInput
	Phase string `query:"phase" doc:"Only releases in this phase, e.g. Failed."`
}

type clusterReleasesInput struct {
	ClusterInput
	ReleasesInput
}

func (s *Server) listReleases(ctx context.Context, in *ReleasesInput) (*body[hubapi.List[hubapi.Release]], error) {
	return s.releases(ctx, release.Filter{Phase: agentv1.Phase(in.Phase)}, in.PageInput)
}

func (s *Server) listClusterReleases(ctx context.Context, in *clusterReleasesInput) (*body[hubapi.List[hubapi.Release]], error) {
	c, err := s.cfg.Clusters.Get(ctx, in.Cluster)
	if err != nil {
		return nil, err
	}
	return s.releases(ctx, release.Filter{ClusterID: &c.ID, Phase: agentv1.Phase(in.Phase)}, in.PageInput)
}

func (s *Server) releases(ctx context.Context, f release.Filter, p PageInput) (*body[hubapi.List[hubapi.Release]], error) {
	releases, next, err := s.cfg.Releases.List(ctx, f, p.page())
	if err != nil {
		return nil, err
	}
	return listedIn(ctx, s, releases, next, func(r *release.Release) uuid.UUID { return r.ClusterID }, releaseOut)
}

// ReleaseInput names a release.
type ReleaseInput struct {
	ClusterInput
	Release string `path:"release"`
}

// releaseAnswer is a release with its generation as ETag.
type releaseAnswer struct {
	Status int
	ETag   string `header:"ETag" doc:"The release's generation, for If-Match."`
	Body   hubapi.Release
}

func (s *Server) getRelease(ctx context.Context, in *ReleaseInput) (*releaseAnswer, error) {
	c, err := s.cfg.Clusters.Get(ctx, in.Cluster)
	if err != nil {
		return nil, err
	}
	r, err := s.cfg.Releases.Get(ctx, c.ID, in.Release)
	if err != nil {
		return nil, err
	}
	return answerRelease(http.StatusOK, r, clusterRef(c, s.now())), nil
}

func answerRelease(status int, r *release.Release, ref hubapi.ClusterRef) *releaseAnswer {
	return &releaseAnswer{Status: status, ETag: `"` + strconv.FormatInt(r.Generation, 10) + `"`, Body: releaseOut(r, ref)}
}

type applyReleaseInput struct {
	ReleaseInput
	IfMatch     string `header:"If-Match" doc:"The generation that the release must be at, as its ETag says."`
	IfNoneMatch string `header:"If-None-Match" doc:"* when there must be no such release."`
	Body        hubapi.ReleaseRequest
}

func (s *Server) applyRelease(ctx context.Context, in *applyReleaseInput) (*releaseAnswer, error) {
	req, err := in.request()
	if err != nil {
		return nil, err
	}
	c, err := s.cfg.Clusters.Get(ctx, in.Cluster)
	if err != nil {
		return nil, err
	}
	m, err := s.cfg.Charts.Resolve(ctx, actor(ctx), chart.Source(in.Body.Chart))
	if err != nil {
		return nil, err
	}
	req.Spec.Chart = release.Chart{Digest: m.Digest, Name: m.Name, Version: m.Version}
	r, created, err := s.cfg.Releases.Apply(ctx, actor(ctx), c.ID, req)
	if err != nil {
		return nil, err
	}
	status := http.StatusOK
	if created {
		status = http.StatusCreated
	}
	return answerRelease(status, r, clusterRef(c, s.now())), nil
}

// request is the rule's form of what was asked, but for the chart.
func (in *applyReleaseInput) request() (release.Request, error) {
	b := in.Body
	timeout, timeoutErr := duration("timeout", b.Timeout)
	generation, matchErr := in.precondition()
	if err := errors.Join(timeoutErr, matchErr, chart.Source(b.Chart).Check()); err != nil {
		return release.Request{}, err
	}
	spec := release.Spec{
		Values: present(b.Values), SecretValues: present(b.SecretValues),
		CreateNamespace: b.CreateNamespace == nil || *b.CreateNamespace,
		Timeout:         timeout, Remediation: release.Remediation(b.Remediation), MaxAttempts: b.MaxAttempts,
		Drift: release.DriftPolicy(b.Drift), Adoption: release.AdoptionPolicy(b.Adoption),
	}
	spec.Leftovers, spec.NodeMarks = b.Leftovers, b.NodeMarks
	for _, o := range b.Outputs {
		spec.Outputs = append(spec.Outputs, release.Output(o))
	}
	return release.Request{Name: in.Release, Namespace: b.Namespace, Spec: spec, IfGeneration: generation}, nil
}

// present is nil for what was left out, also when it was written as null.
func present(raw json.RawMessage) json.RawMessage {
	if t := bytes.TrimSpace(raw); len(t) == 0 || string(t) == "null" {
		return nil
	}
	return raw
}

// precondition reads If-Match and If-None-Match.
func (in *applyReleaseInput) precondition() (*int64, error) {
	if in.IfNoneMatch != "" {
		if in.IfNoneMatch != "*" || in.IfMatch != "" {
			return nil, invalid.New("If-None-Match", "%q is not known here; use * to ask that the release be new, and then no If-Match", invalid.Clip(in.IfNoneMatch))
		}
		return new(int64), nil
	}
	if in.IfMatch == "" {
		return nil, nil
	}
	n, err := strconv.ParseInt(strings.Trim(strings.TrimPrefix(in.IfMatch, "W/"), `"`), 10, 64)
	if err != nil || n < 0 {
		return nil, invalid.New("If-Match", "%q is not a generation; give the release's ETag as it was answered", invalid.Clip(in.IfMatch))
	}
	return &n, nil
}

type deleteReleaseInput struct {
	ReleaseInput
	Forget bool `query:"forget" doc:"Drop it at the hub at once and leave what is in the cluster alone."`
}

func (s *Server) deleteRelease(ctx context.Context, in *deleteReleaseInput) (*releaseAnswer, error) {
	c, err := s.cfg.Clusters.Get(ctx, in.Cluster)
	if err != nil {
		return nil, err
	}
	r, err := s.cfg.Releases.Delete(ctx, actor(ctx), c.ID, in.Release, in.Forget)
	if err != nil {
		return nil, err
	}
	return answerRelease(http.StatusOK, r, clusterRef(c, s.now())), nil
}

func releaseOut(r *release.Release, ref hubapi.ClusterRef) hubapi.Release {
	spec, st := r.Spec, r.Status
	out := hubapi.Release{
		ID: r.ID.String(), Cluster: ref, Name: r.Name, Namespace: r.Namespace,
		Generation: r.Generation, Digest: r.Digest, CreatedAt: r.CreatedAt, UpdatedAt: r.UpdatedAt, DeletedAt: r.RemovedAt,
		Spec: hubapi.ReleaseSpec{
			Chart: hubapi.ChartRef(spec.Chart), Values: spec.Values, CreateNamespace: spec.CreateNamespace,
			Timeout: spec.Timeout.String(), Remediation: string(spec.Remediation), MaxAttempts: spec.MaxAttempts,
			Drift: string(spec.Drift), Adoption: string(spec.Adoption),
		},
		Status: hubapi.ReleaseStatus{
			ObservedGeneration: st.ObservedGeneration, Phase: hubapi.Phase(st.Phase), Reason: st.Reason, Message: st.Message,
			Ready: st.Ready, Total: st.Total, WaitingFor: st.WaitingFor, ChartVersion: st.ChartVersion, AppVersion: st.AppVersion,
			Revision: st.Revision, Owned: st.Owned, Outputs: st.Outputs, Attempts: st.Attempts, Corrections: st.Corrections,
			ChangedAt: st.ChangedAt, RetryAt: st.RetryAt,
		},
	}
	if out.Status.Phase == "" {
		out.Status.Phase = hubapi.PhasePending // nothing was said yet
	}
	out.Spec.Leftovers, out.Spec.NodeMarks = spec.Leftovers, spec.NodeMarks
	for _, o := range spec.Outputs {
		out.Spec.Outputs = append(out.Spec.Outputs, hubapi.Output(o))
	}
	for _, d := range st.Drift {
		out.Status.Drift = append(out.Status.Drift, hubapi.Drift(d))
	}
	return out
}
