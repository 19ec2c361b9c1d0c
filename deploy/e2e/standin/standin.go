// Package standin holds charts that have the names, objects, keys and rights
// of the real charts of components, and a program in place of their images: so
// that order, readiness, failure and removal of components can be tried on a
// cluster without a registry and without their hardware.
//
//	charts/<real name> ── Write ──► folder with index.yaml ── served over HTTP ──► hub
//	                                     │
//	                       Catalogue ────┴► <component>.yaml: repository and digest, laid over the hub's catalogue
//
// What is as in the real ones: names and versions of charts, kinds and names of
// objects, labels by which others find them, values (a part of the keys, with
// the same defaults), rules of roles, custom resource definitions by name and
// place, hooks, and what an uninstall leaves behind. What is not: schemas of
// the definitions (they take anything), and the work. What each part does
// instead is told by images/standin, and what a node pretends to have by its
// annotations.
package standin

import (
	"embed"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"sigs.k8s.io/yaml"

	"github.com/budecosystem/budcluster/internal/chartfile"
)

//go:embed all:charts
var files embed.FS

// components are those of the hub's catalogue that a chart stands in for.
func components() map[string]string {
	return map[string]string{
		"node-feature-discovery": "nfd",
		"gpu-operator":           "nvidia-gpu-operator",
		"hami":                   "hami",
		"kube-prometheus-stack":  "prometheus-stack",
		"amd-gpu":                "amd-gpu",
		"scaler":                 "scaler",
	}
}

// Chart is one chart of the repository.
type Chart struct {
	// Component is the entry of the hub's catalogue that installs it.
	Component string
	Name      string
	Version   string
	Digest    string
}

// Write makes a folder into a repository: packed charts and their index.
func Write(dir string) ([]Chart, error) {
	folders, err := fs.ReadDir(files, "charts")
	if err != nil {
		return nil, err
	}
	type version struct {
		APIVersion string   `json:"apiVersion"`
		Name       string   `json:"name"`
		Version    string   `json:"version"`
		AppVersion string   `json:"appVersion"`
		Digest     string   `json:"digest"`
		URLs       []string `json:"urls"`
	}
	entries := map[string][]version{}
	var charts []Chart
	for _, folder := range folders {
		source, err := fs.Sub(files, "charts/"+folder.Name())
		if err != nil {
			return nil, err
		}
		tgz, info, err := chartfile.Pack(source)
		if err != nil {
			return nil, fmt.Errorf("pack %s: %w", folder.Name(), err)
		}
		file := info.Name + "-" + info.Version + ".tgz"
		if err := os.WriteFile(filepath.Join(dir, file), tgz, 0o644); err != nil {
			return nil, err
		}
		digest := chartfile.Digest(tgz)
		entries[info.Name] = []version{{"v2", info.Name, info.Version, info.AppVersion, digest[len("sha256:"):], []string{file}}}
		charts = append(charts, Chart{Component: components()[info.Name], Name: info.Name, Version: info.Version, Digest: digest})
	}
	return charts, writeYAML(filepath.Join(dir, "index.yaml"), map[string]any{"apiVersion": "v1", "entries": entries})
}

// Catalogue writes, into a folder that the hub lays over its catalogue, where
// the charts are: the repository is served at url.
func Catalogue(dir, url string, charts []Chart) error {
	for _, c := range charts {
		err := writeYAML(filepath.Join(dir, c.Component+".yaml"), map[string]any{
			"name": c.Component,
			"chart": map[string]any{
				"repository": url, "oci": nil, "name": c.Name, "version": c.Version, "digest": c.Digest, "unverified": nil,
			},
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// Names lists the components that have a stand-in.
func Names() []string {
	var names []string
	for _, component := range components() {
		names = append(names, component)
	}
	slices.Sort(names)
	return names
}

func writeYAML(path string, v any) error {
	text, err := yaml.Marshal(v)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o644)
}
