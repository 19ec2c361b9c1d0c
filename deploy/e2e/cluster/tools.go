package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"

	"github.com/budecosystem/budcluster/deploy/program"
)

// BuildConfig says where the sources are and where the binaries go.
type BuildConfig struct {
	// Root is the folder of this Go module (see FindRoot).
	Root string
	// CacheDir is where binaries are kept between runs. Default: budcluster
	// below the user's cache folder.
	CacheDir string
	// Prebuilt is a folder with binaries to use instead of building them; what
	// it lacks is built.
	Prebuilt string
	// Only names the programs to make; empty is all of them.
	Only []string
	// Progress hears what is being done and why it takes long.
	Progress func(format string, args ...any)
}

// Binaries are the programs of the cluster, by name.
type Binaries struct {
	paths map[string]string
}

// Path returns the file of a program, or panics: names are this package's.
func (b Binaries) Path(name string) string {
	path, ok := b.paths[name]
	if !ok {
		panic("cluster: no binary called " + name)
	}
	return path
}

func programs() []program.Program {
	return []program.Program{
		{
			Name: "kube", Dir: "tools/kube", Package: ".", LinkFlags: kubernetesVersion,
			Sources: []string{"tools/kube/go.mod", "tools/kube/go.sum", "tools/kube/main.go"},
			Takes:   "all of Kubernetes, about 2,000 packages: 7 minutes on two free cores; done once",
		},
		{Name: "etcd", Dir: "tools/etcd", Package: "go.etcd.io/etcd/server/v3", Takes: "half a minute"},
		{Name: "coredns", Dir: "tools/coredns", Package: ".", Takes: "a minute"},
		{Name: "kwok", Dir: "tools/kwok", Package: "sigs.k8s.io/kwok/cmd/kwok", Takes: "a minute and a half"},
		{Name: "helm", Dir: "tools/helm", Package: "helm.sh/helm/v3/cmd/helm", Takes: "a minute"},
		{Name: "fakegpu", Dir: "tools/kube", Package: "./fakegpu", Sources: []string{"tools/kube/go.mod", "tools/kube/fakegpu"}},
		{Name: "pause", Dir: ".", Package: "./images/pause", Sources: []string{"images/pause"}},
		{Name: "hello", Dir: ".", Package: "./images/hello", Sources: []string{"images/hello"}},
		{Name: "standin", Dir: ".", Package: "./images/standin", Sources: []string{"images/standin"}},
		{Name: "nodeinit", Dir: ".", Package: "./cmd/nodeinit", Sources: []string{"cmd/nodeinit"}},
	}
}

// FindRoot looks for this module's folder at or above dir, or below it where
// the repository's root is.
func FindRoot(dir string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	for at := dir; ; at = filepath.Dir(at) {
		for _, root := range []string{at, filepath.Join(at, "deploy", "e2e")} {
			if _, err := os.Stat(filepath.Join(root, "tools", "kube", "go.mod")); err == nil {
				return root, nil
			}
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("no folder deploy/e2e at or above %s: run this inside a clone of the repository", dir)
		}
	}
}

// CacheDir returns the folder for what is kept between runs.
func CacheDir() (string, error) { return program.CacheDir() }

// Build makes the programs that are missing.
func Build(ctx context.Context, cfg BuildConfig) (Binaries, error) {
	for _, name := range cfg.Only {
		if !slices.ContainsFunc(programs(), func(p program.Program) bool { return p.Name == name }) {
			return Binaries{}, fmt.Errorf("there is no program called %q among those of a cluster", name)
		}
	}
	wanted := slices.DeleteFunc(programs(), func(p program.Program) bool { return len(cfg.Only) > 0 && !slices.Contains(cfg.Only, p.Name) })
	paths, err := program.Build(ctx, program.Config{Root: cfg.Root, CacheDir: cfg.CacheDir, Prebuilt: cfg.Prebuilt, Progress: cfg.Progress}, wanted...)
	return Binaries{paths: paths}, err
}

// kubernetesVersion tells Kubernetes its version: without that the server
// calls itself v0.0.0, and charts with a kubeVersion refuse it.
func kubernetesVersion(mod []byte) (string, error) {
	found := regexp.MustCompile(`k8s\.io/kubernetes (v(\d+)\.(\d+)\.\d+)`).FindSubmatch(mod)
	if found == nil {
		return "", fmt.Errorf("no version of k8s.io/kubernetes")
	}
	var flags string
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		flags += fmt.Sprintf(" -X %[1]s.gitVersion=%[2]s -X %[1]s.gitMajor=%[3]s -X %[1]s.gitMinor=%[4]s -X %[1]s.gitTreeState=clean",
			pkg, found[1], found[2], found[3])
	}
	return flags, nil
}
