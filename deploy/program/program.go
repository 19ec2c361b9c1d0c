// Package program builds the programs of others that tests and development
// need (Kubernetes, Dapr, …) from their pinned sources, once:
//
//	Program ─► digest of its sources ─► CACHE/bin/NAME-DIGEST there? ─ yes ─► its path
//	                                                 │ no
//	                                                 └► go build, as the owner of a lock
//
// A program is made anew when its own sources, its go.mod or the version of Go
// changed, and then under another name: who runs the old one is not disturbed.
package program

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Program is one binary and what it is made from.
type Program struct {
	Name string
	// Dir is the folder of its module, below Config.Root.
	Dir string
	// Package is what go build is given in Dir.
	Package string
	// Sources are the folders or files, below Config.Root, whose content decides
	// whether to build anew. Default: Dir.
	Sources []string
	// LinkFlags gives what the linker is told beside stripping the binary, from
	// the text of the module's go.mod. May be nil.
	LinkFlags func(mod []byte) (string, error)
	// Takes is said before building, when that is long.
	Takes string
}

// Config says where the sources are and where the binaries go.
type Config struct {
	// Root is the folder that Program's paths begin at.
	Root string
	// CacheDir is where binaries are kept between runs. Default: see CacheDir.
	CacheDir string
	// Prebuilt is a folder with binaries to use instead of building them; what
	// it lacks is built.
	Prebuilt string
	// Progress hears what is being done and why it takes long. May be nil.
	Progress func(format string, args ...any)
}

// CacheDir returns the folder for what is kept between runs: budcluster below
// the user's cache folder.
func CacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find a cache folder: %w (set HOME or XDG_CACHE_HOME)", err)
	}
	return filepath.Join(dir, "budcluster"), nil
}

// Build makes those of the programs that are missing, in their order, and
// returns the file of each by its name. Each program is built by one process at
// a time on a machine; others wait for it and then find its work.
func Build(ctx context.Context, cfg Config, programs ...Program) (map[string]string, error) {
	if cfg.CacheDir == "" {
		dir, err := CacheDir()
		if err != nil {
			return nil, err
		}
		cfg.CacheDir = dir
	}
	if cfg.Progress == nil {
		cfg.Progress = func(string, ...any) {}
	}
	bin := filepath.Join(cfg.CacheDir, "bin")
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return nil, err
	}
	built := map[string]string{}
	for _, p := range programs {
		path, err := p.ensure(ctx, cfg, bin)
		if err != nil {
			return nil, err
		}
		built[p.Name] = path
	}
	return built, nil
}

// ensure returns the program's file, building it when it is not there.
func (p Program) ensure(ctx context.Context, cfg Config, bin string) (string, error) {
	if cfg.Prebuilt != "" {
		path := filepath.Join(cfg.Prebuilt, p.Name)
		if info, err := os.Stat(path); err == nil && info.Mode()&0o111 != 0 {
			return filepath.Abs(path)
		}
	}
	sum, err := p.Digest(cfg.Root)
	if err != nil {
		return "", fmt.Errorf("read the sources of %s: %w", p.Name, err)
	}
	path := filepath.Join(bin, p.Name+"-"+sum)
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	unlock, err := lock(ctx, filepath.Join(bin, ".lock-"+p.Name), func() {
		cfg.Progress("another build of %s is running: waiting for it", p.Name)
	})
	if err != nil {
		return "", err
	}
	defer unlock()
	if _, err := os.Stat(path); err == nil {
		return path, nil // the other one made it
	}
	started := time.Now()
	cfg.Progress("building %s%s", p.Name, note(p.Takes))
	if err := p.build(ctx, cfg, path); err != nil {
		return "", fmt.Errorf("build %s: %w", p.Name, err)
	}
	cfg.Progress("built %s in %s", p.Name, time.Since(started).Round(time.Second))
	return path, nil
}

func note(takes string) string {
	if takes == "" {
		return ""
	}
	return " (" + takes + ")"
}

// Digest is over the sources that decide what the binary is.
func (p Program) Digest(root string) (string, error) {
	sum := sha256.New()
	sum.Write([]byte(strings.Join([]string{p.Name, p.Package, runtime.Version(), runtime.GOARCH}, " ")))
	sources := p.Sources
	if len(sources) == 0 {
		sources = []string{p.Dir}
	}
	for _, source := range sources {
		err := filepath.WalkDir(filepath.Join(root, source), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			content, err := os.ReadFile(path) //nolint:gosec // a file of this repository
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
