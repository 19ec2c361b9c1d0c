package cluster

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
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

// program is one binary and what it is made from.
type program struct {
	name    string
	dir     string // below Root: where the module is, and what the hash is over
	pkg     string
	hash    []string // folders or files, below Root, whose content decides whether to build anew; default dir
	version string   // module whose version is linked in, as Kubernetes wants it
	takes   string   // said before building, when it is long
}

func programs() []program {
	return []program{
		{
			name: "kube", dir: "tools/kube", pkg: ".", version: "k8s.io/kubernetes",
			hash:  []string{"tools/kube/go.mod", "tools/kube/go.sum", "tools/kube/main.go"},
			takes: "all of Kubernetes, about 2,000 packages: 7 minutes on two free cores; done once",
		},
		{name: "etcd", dir: "tools/etcd", pkg: "go.etcd.io/etcd/server/v3", takes: "half a minute"},
		{name: "coredns", dir: "tools/coredns", pkg: ".", takes: "a minute"},
		{name: "kwok", dir: "tools/kwok", pkg: "sigs.k8s.io/kwok/cmd/kwok", takes: "a minute and a half"},
		{name: "helm", dir: "tools/helm", pkg: "helm.sh/helm/v3/cmd/helm", takes: "a minute"},
		{name: "fakegpu", dir: "tools/kube", pkg: "./fakegpu", hash: []string{"tools/kube/go.mod", "tools/kube/fakegpu"}},
		{name: "pause", dir: ".", pkg: "./images/pause", hash: []string{"images/pause"}},
		{name: "hello", dir: ".", pkg: "./images/hello", hash: []string{"images/hello"}},
		{name: "standin", dir: ".", pkg: "./images/standin", hash: []string{"images/standin"}},
		{name: "nodeinit", dir: ".", pkg: "./cmd/nodeinit", hash: []string{"cmd/nodeinit"}},
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
func CacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a cache folder: %w (set HOME or XDG_CACHE_HOME)", err)
	}
	return filepath.Join(dir, "budcluster"), nil
}

// Build makes the programs that are missing. Only one build runs at a time on
// a machine; others wait for it and then find its work.
func Build(ctx context.Context, cfg BuildConfig) (Binaries, error) {
	if cfg.CacheDir == "" {
		dir, err := CacheDir()
		if err != nil {
			return Binaries{}, err
		}
		cfg.CacheDir = dir
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string, ...any) {}
	}
	bin := filepath.Join(cfg.CacheDir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return Binaries{}, err
	}
	for _, name := range cfg.Only {
		if !slices.ContainsFunc(programs(), func(p program) bool { return p.name == name }) {
			return Binaries{}, fmt.Errorf("there is no program called %q among those of a cluster", name)
		}
	}
	unlock, err := lock(ctx, filepath.Join(bin, ".lock"), func() {
		cfg.Progress("another build of the cluster's programs is running: waiting for it")
	})
	if err != nil {
		return Binaries{}, err
	}
	defer unlock()
	built := Binaries{paths: map[string]string{}}
	for _, p := range programs() {
		if len(cfg.Only) > 0 && !slices.Contains(cfg.Only, p.name) {
			continue
		}
		path, err := p.ensure(ctx, cfg, bin)
		if err != nil {
			return Binaries{}, err
		}
		built.paths[p.name] = path
	}
	return built, nil
}

// ensure returns the program's file, building it when it is not there.
func (p program) ensure(ctx context.Context, cfg BuildConfig, bin string) (string, error) {
	if cfg.Prebuilt != "" {
		path := filepath.Join(cfg.Prebuilt, p.name)
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return filepath.Abs(path)
		}
	}
	sum, err := p.digest(cfg.Root)
	if err != nil {
		return "", fmt.Errorf("read the sources of %s: %w", p.name, err)
	}
	path := filepath.Join(bin, p.name+"-"+sum)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	started := time.Now()
	cfg.Progress("building %s%s", p.name, note(p.takes))
	if err := p.build(ctx, cfg, path); err != nil {
		return "", fmt.Errorf("build %s: %w", p.name, err)
	}
	cfg.Progress("built %s in %s", p.name, time.Since(started).Round(time.Second))
	return path, nil
}

func note(takes string) string {
	if takes == "" {
		return ""
	}
	return " (" + takes + ")"
}

func (p program) build(ctx context.Context, cfg BuildConfig, path string) error {
	flags, err := p.linkFlags(filepath.Join(cfg.Root, p.dir))
	if err != nil {
		return err
	}
	partial := path + ".partial"
	defer func() { _ = os.Remove(partial) }()
	cmd := exec.CommandContext(ctx, "go", "build", "-v", "-ldflags="+flags, "-o", partial, p.pkg)
	cmd.Dir = filepath.Join(cfg.Root, p.dir)
	// The same flags as the project's own builds, so that they share one build
	// cache: with others, client-go alone would be compiled twice.
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=-trimpath -buildvcs=false", "GOWORK=off")
	// With -v, go names every package it compiles: that is the progress.
	stderr, err := cmd.StderrPipe()
	if err != nil {
		return err
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	var compiled atomic.Int64
	done := make(chan struct{})
	go report(done, cfg, p.name, &compiled)
	said := listen(stderr, &compiled)
	err = cmd.Wait()
	close(done)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, said)
	}
	return os.Rename(partial, path)
}

// listen counts the packages compiled and keeps what else go said.
func listen(stderr interface{ Read([]byte) (int, error) }, compiled *atomic.Int64) string {
	var said bytes.Buffer
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		if line := lines.Text(); strings.ContainsAny(line, " #:") {
			said.WriteString(line + "\n")
			continue
		}
		compiled.Add(1)
	}
	return said.String()
}

func report(done <-chan struct{}, cfg BuildConfig, name string, compiled *atomic.Int64) {
	started, tick := time.Now(), time.NewTicker(20*time.Second)
	defer tick.Stop()
	for {
		select {
		case <-done:
			return
		case <-tick.C:
			cfg.Progress("still building %s: %d packages compiled in %s", name, compiled.Load(), time.Since(started).Round(time.Second))
		}
	}
}

// linkFlags strips the binary and tells Kubernetes its version: without that
// the server calls itself v0.0.0, and charts with a kubeVersion refuse it.
func (p program) linkFlags(dir string) (string, error) {
	flags := "-s -w"
	if p.version == "" {
		return flags, nil
	}
	mod, err := os.ReadFile(filepath.Join(dir, "go.mod"))
	if err != nil {
		return "", err
	}
	found := regexp.MustCompile(regexp.QuoteMeta(p.version) + ` (v(\d+)\.(\d+)\.\d+)`).FindSubmatch(mod)
	if found == nil {
		return "", fmt.Errorf("no version of %s in %s/go.mod", p.version, dir)
	}
	for _, pkg := range []string{"k8s.io/component-base/version", "k8s.io/client-go/pkg/version"} {
		flags += fmt.Sprintf(" -X %[1]s.gitVersion=%[2]s -X %[1]s.gitMajor=%[3]s -X %[1]s.gitMinor=%[4]s -X %[1]s.gitTreeState=clean",
			pkg, found[1], found[2], found[3])
	}
	return flags, nil
}

// digest is over the sources that decide what the binary is.
func (p program) digest(root string) (string, error) {
	sum := sha256.New()
	sum.Write([]byte(strings.Join([]string{p.name, p.pkg, runtime.Version(), runtime.GOARCH}, " ")))
	sources := p.hash
	if len(sources) == 0 {
		sources = []string{p.dir}
	}
	for _, source := range sources {
		err := filepath.WalkDir(filepath.Join(root, source), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			name, _ := filepath.Rel(root, path)
			sum.Write(fmt.Appendf(nil, "\n%s %d\n", name, len(content)))
			sum.Write(content)
			return nil
		})
		if err != nil {
			return "", err
		}
	}
	return hex.EncodeToString(sum.Sum(nil))[:12], nil
}

// lock takes an exclusive lock on a file; the kernel frees it with the process.
func lock(ctx context.Context, path string, waiting func()) (func(), error) {
	file, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	retry := time.NewTicker(200 * time.Millisecond)
	defer retry.Stop()
	for first := true; ; first = false {
		err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
		if err == nil {
			return func() { _ = file.Close() }, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) {
			_ = file.Close()
			return nil, fmt.Errorf("lock %s: %w", path, err)
		}
		if first && waiting != nil {
			waiting()
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			_ = file.Close()
			return nil, context.Cause(ctx)
		}
	}
}
