package main

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// demo is one demo, found again by what it recorded.
type demo struct {
	root, repo string // of the harness's module, and of the repository
	dir        string // .budcluster in the repository
	kubeconfig string // of the user's own cluster; empty: none
	prebuilt   string
	// image of the sample in the user's own cluster; empty: one that every
	// cluster with a way to the internet can pull.
	image   string
	environ []string
	record  record
}

// record is what down needs to know.
type record struct {
	// Kubeconfig of the cluster that the agent is installed in.
	Kubeconfig string `json:"kubeconfig,omitempty"`
	// Own says that the cluster is the harness's, to be taken down with the demo.
	Own bool `json:"own"`
	// ClusterDir is the own cluster's state folder.
	ClusterDir string `json:"clusterDir,omitempty"`
	// Charts is where the repository of charts listens.
	Charts    string `json:"charts,omitempty"`
	ChartsPID int    `json:"chartsPid,omitempty"`

	HubDir string `json:"hubDir"`
	HubPID int    `json:"hubPid,omitempty"`
	API    string `json:"api,omitempty"`
	Tunnel string `json:"tunnel,omitempty"`
	Helm   string `json:"helm,omitempty"`
}

// environ is this environment without settings of hub, agent or command line.
func environ() []string {
	var kept []string
	for _, variable := range os.Environ() {
		if !strings.HasPrefix(variable, "BUDCLUSTER_") {
			kept = append(kept, variable)
		}
	}
	return kept
}

func (d *demo) open() error {
	repo, err := filepath.Abs(d.repo)
	if err != nil {
		return err
	}
	d.repo = repo
	d.dir = filepath.Join(repo, ".budcluster")
	content, err := os.ReadFile(d.file())
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if err := json.Unmarshal(content, &d.record); err != nil {
		return fmt.Errorf("read %s: %w", d.file(), err)
	}
	return nil
}

func (d *demo) file() string { return filepath.Join(d.dir, "demo.json") }

func (d *demo) save() error {
	if err := os.MkdirAll(d.dir, 0o755); err != nil {
		return err
	}
	content, err := json.MarshalIndent(d.record, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(d.file(), content, 0o600)
}

// hubDir is where the hub keeps its state: in .budcluster, unless the private
// PostgreSQL, which does not run as root, could not get there.
func (d *demo) hubDir() string {
	if os.Geteuid() == 0 {
		for parent := d.repo; ; parent = filepath.Dir(parent) {
			if info, err := os.Stat(parent); err == nil && info.Mode()&0o001 == 0 {
				return fmt.Sprintf("/var/tmp/budcluster-demo-%x", sha256.Sum256([]byte(d.repo)))[:42]
			}
			if parent == filepath.Dir(parent) {
				break
			}
		}
	}
	return filepath.Join(d.dir, "hub")
}
