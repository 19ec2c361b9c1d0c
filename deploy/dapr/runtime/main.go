// Command dapr is the Dapr runtime in one file: sidecar, placement and
// scheduler, chosen by the name under which it is started, or by its first
// argument. It has the components that this repository uses and no others:
// the released daprd links about 140 with the SDKs of every cloud.
package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	placement "github.com/dapr/dapr/cmd/placement/app"
	scheduler "github.com/dapr/dapr/cmd/scheduler/app"
)

func main() {
	roles := map[string]func(){"daprd": sidecar, "placement": placement.Run, "scheduler": scheduler.Run}
	name := filepath.Base(os.Args[0])
	if roles[name] == nil && len(os.Args) > 1 {
		name, os.Args = os.Args[1], os.Args[1:] // the roles read their flags from there
	}
	run := roles[name]
	if run == nil {
		fmt.Fprintf(os.Stderr, "usage: dapr {%s} ...\n", strings.Join(slices.Sorted(maps.Keys(roles)), "|"))
		os.Exit(2)
	}
	run()
}
