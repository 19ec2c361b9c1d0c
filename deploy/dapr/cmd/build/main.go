// Command build makes the Dapr runtime of ../../runtime, once, and prints where
// it is:
//
//	go run ./deploy/dapr/cmd/build
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/budecosystem/budcluster/deploy/program"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	path, err := build(ctx)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "error:", err)
		os.Exit(1)
	}
	fmt.Println(path)
}

func build(ctx context.Context) (string, error) {
	root, err := findRoot()
	if err != nil {
		return "", err
	}
	const name = "dapr"
	// Progress goes beside the output, so that $(…) gets only the path.
	say := func(format string, args ...any) { fmt.Fprintf(os.Stderr, format+"\n", args...) }
	built, err := program.Build(ctx, program.Config{Root: root, Progress: say}, program.Program{
		Name: name, Dir: "deploy/dapr/runtime", Package: ".",
		Takes: "about 1,900 packages: 6 minutes on two free cores; done once",
	})
	return built[name], err
}

// findRoot looks for the repository at or above the current folder.
func findRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for at := dir; ; at = filepath.Dir(at) {
		if _, err := os.Stat(filepath.Join(at, "deploy", "dapr", "runtime", "go.mod")); err == nil {
			return at, nil
		}
		if at == filepath.Dir(at) {
			return "", fmt.Errorf("no folder deploy/dapr/runtime at or above %s: run this inside a clone of the repository", dir)
		}
	}
}
