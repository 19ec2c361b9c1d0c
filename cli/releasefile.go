package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"sigs.k8s.io/yaml"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

// releaseFile is what --file holds: a release as it is wanted. A key that it
// does not know is an error.
type releaseFile struct {
	Name      string          `json:"name"`
	Cluster   string          `json:"cluster,omitempty"`
	Namespace string          `json:"namespace"`
	Chart     chartFileSource `json:"chart"`
	Values    map[string]any  `json:"values,omitempty"`
	// SecretValues is for values that come from elsewhere; a file that is kept
	// in version control should hold none.
	SecretValues    map[string]any  `json:"secretValues,omitempty"`
	CreateNamespace *bool           `json:"createNamespace,omitempty"`
	Timeout         string          `json:"timeout,omitempty"`
	Remediation     string          `json:"remediation,omitempty"`
	MaxAttempts     int             `json:"maxAttempts,omitempty"`
	Drift           string          `json:"drift,omitempty"`
	Adoption        string          `json:"adoption,omitempty"`
	Outputs         []hubapi.Output `json:"outputs,omitempty"`
}

// chartFileSource is hubapi.ChartSource, but that path is a folder or .tgz
// beside the file; one at the hub is hubPath.
type chartFileSource struct {
	Path       string `json:"path,omitempty"`
	HubPath    string `json:"hubPath,omitempty"`
	Digest     string `json:"digest,omitempty"`
	Repository string `json:"repository,omitempty"`
	Name       string `json:"name,omitempty"`
	OCI        string `json:"oci,omitempty"`
	Version    string `json:"version,omitempty"`
}

// readReleaseFile reads a file, or the standard input when it is "-".
func (a *app) readReleaseFile(name string) (releaseFile, error) {
	var f releaseFile
	var raw []byte
	var err error
	if name == "-" {
		raw, err = io.ReadAll(io.LimitReader(a.w.In, 4<<20))
	} else {
		raw, err = os.ReadFile(name)
	}
	if err != nil {
		return f, fmt.Errorf("release file %s: %w", name, reason(err))
	}
	if len(bytes.TrimSpace(raw)) == 0 {
		return f, usagef("release file %s is empty; budcluster release apply --help shows what one holds", name)
	}
	if err := yaml.UnmarshalStrict(raw, &f, yamlNumbers); err != nil {
		return f, usagef("release file %s is not one: %s; correct it", name, clipped(err.Error(), 200))
	}
	if f.Chart.Path != "" && !filepath.IsAbs(f.Chart.Path) && name != "-" {
		f.Chart.Path = filepath.Join(filepath.Dir(name), f.Chart.Path)
	}
	return f, nil
}

// source makes what the hub understands; a chart that lies here is pushed.
func (s chartFileSource) source(ctx context.Context, c *hubapi.Client) (hubapi.ChartSource, error) {
	out := hubapi.ChartSource{
		Digest: s.Digest, Path: s.HubPath, Repository: s.Repository, Name: s.Name, OCI: s.OCI, Version: s.Version,
	}
	if s.Path == "" {
		return out, nil
	}
	if out != (hubapi.ChartSource{}) {
		return out, usagef("the release file's chart holds path and more beside it; keep the one that is meant")
	}
	pushed, err := pushChart(ctx, c, s.Path)
	out.Digest = pushed.Digest
	return out, err
}

// request makes what the hub understands, but for the chart.
func (f releaseFile) request() (hubapi.ReleaseRequest, error) {
	r := hubapi.ReleaseRequest{
		Namespace: f.Namespace, CreateNamespace: f.CreateNamespace, Timeout: f.Timeout, Remediation: f.Remediation,
		MaxAttempts: f.MaxAttempts, Drift: f.Drift, Adoption: f.Adoption, Outputs: f.Outputs,
	}
	var err error
	if r.Values, err = object(f.Values); err != nil {
		return r, fmt.Errorf("encode values: %w", err)
	}
	if r.SecretValues, err = object(f.SecretValues); err != nil {
		return r, fmt.Errorf("encode secret values: %w", err)
	}
	return r, nil
}

// object is nil for no object at all, which is not the same as an empty one.
func object(m map[string]any) (json.RawMessage, error) {
	if m == nil {
		return nil, nil
	}
	return json.Marshal(m)
}
