// Command budcluster-agent runs in a Kubernetes cluster, dials the hub, reports
// what is there and makes what the hub wants.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"
)

// idleGC trades a little CPU for memory: with Go's own 100 an idle agent kept
// twice its live heap. GOGC overrides it.
const idleGC = 50

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(idleGC)
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	root := newRoot(program{env: os.Environ(), unsetenv: os.Unsetenv, hostname: os.Hostname, in: os.Stdin, out: os.Stdout, err: os.Stderr})
	err := root.ExecuteContext(ctx)
	stop()
	if err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "error: "+err.Error())
		os.Exit(1)
	}
}
