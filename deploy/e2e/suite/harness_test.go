//go:build e2e

package suite_test

import (
	"bufio"
	"context"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/deploy/e2e/cluster"
)

// TestHarnessLeavesNothing kills the process that brought up a second cluster,
// beside the one of these tests, and clears up after it.
func TestHarnessLeavesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	program := filepath.Join(t.TempDir(), "cluster")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", program, "../cmd/cluster")
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	before := links(t)

	up := exec.CommandContext(t.Context(), program, "up", "--foreground", "--nodes", "1", "--state-dir", dir, "--name", "second")
	up.Stderr = os.Stderr
	stdout, err := up.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, up.Start())
	line, err := bufio.NewReader(stdout).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "export KUBECONFIG="+dir)
	second, err := cluster.Attach(dir)
	require.NoError(t, err)
	require.NotEqual(t, env.cluster.Address(), second.Address(), "two clusters do not share a network")
	require.NotEqual(t, before, links(t))
	require.NotEmpty(t, processesOf(t, dir))

	require.NoError(t, up.Process.Kill())
	_ = up.Wait()
	await(t, 20*time.Second, "its processes to die with it", func(context.Context) error {
		if left := processesOf(t, dir); len(left) > 0 {
			return &leftOverError{left}
		}
		return nil
	})
	out, err = exec.CommandContext(t.Context(), program, "down", "--state-dir", dir).CombinedOutput()
	require.NoError(t, err, "%s", out)
	require.Equal(t, before, links(t))
	require.NoDirExists(t, dir)
	groups, err := filepath.Glob("/sys/fs/cgroup/*/bud*-node*")
	require.NoError(t, err)
	for _, group := range groups {
		require.True(t, strings.HasPrefix(filepath.Base(group), ownGroups(t)), "%s is left", group)
	}
	proved(t, "a killed harness takes its cluster along, and `down` leaves no process, link, control group or file")
}

type leftOverError struct{ processes []string }

func (l *leftOverError) Error() string { return "still there: " + strings.Join(l.processes, "; ") }

func links(t *testing.T) []string {
	t.Helper()
	all, err := net.Interfaces()
	require.NoError(t, err)
	var names []string
	for _, link := range all {
		if strings.HasPrefix(link.Name, "bud") {
			names = append(names, link.Name)
		}
	}
	return names
}

// ownGroups is the prefix of the control groups of these tests' own cluster.
func ownGroups(t *testing.T) string {
	t.Helper()
	all, err := net.Interfaces()
	require.NoError(t, err)
	for _, link := range all {
		addresses, err := link.Addrs()
		require.NoError(t, err)
		for _, address := range addresses {
			if strings.HasPrefix(address.String(), env.cluster.Address()+"/") {
				return link.Name + "-"
			}
		}
	}
	t.Fatal("no bridge with this cluster's address")
	return ""
}

func processesOf(t *testing.T, dir string) []string {
	t.Helper()
	var found []string
	for line := range strings.Lines(commandLines(t)) {
		if strings.Contains(line, dir) && !strings.Contains(line, "\x00down\x00") {
			found = append(found, strings.ReplaceAll(line, "\x00", " "))
		}
	}
	return found
}
