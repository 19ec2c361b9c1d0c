package cluster

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/client-go/tools/clientcmd"
)

func TestSlotsDoNotMeet(t *testing.T) {
	t.Parallel()
	var networks []netip.Prefix
	loopbacks := map[string]bool{}
	for s := range slot(slots) {
		for _, other := range networks {
			require.False(t, s.network().Overlaps(other), "%s and %s", s.network(), other)
		}
		networks = append(networks, s.network())
		require.False(t, loopbacks[s.loopback()])
		loopbacks[s.loopback()] = true
		require.LessOrEqual(t, len(s.veth(maxNodes)+"p"), 15, "the kernel's limit for a link's name")

		parts := []string{s.lan(), s.pods(), s.kwokPods(), s.services()}
		for i, part := range parts {
			prefix := netip.MustParsePrefix(part)
			require.True(t, s.network().Contains(prefix.Addr()), part)
			for _, other := range parts[i+1:] {
				require.False(t, prefix.Overlaps(netip.MustParsePrefix(other)), "%s and %s", part, other)
			}
		}
		for i := 1; i <= maxNodes; i++ {
			require.True(t, netip.MustParsePrefix(s.pods()).Overlaps(netip.MustParsePrefix(s.podsOf(i))), "pods of node %d", i)
			require.True(t, netip.MustParsePrefix(s.lan()).Contains(netip.MustParseAddr(s.node(i))))
		}
		require.True(t, netip.MustParsePrefix(s.services()).Contains(netip.MustParseAddr(s.dnsService())))
	}
}

func TestRoutePrefix(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"eth0\t000200C0\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0": "192.0.2.0/24",
		"eth0\t00000000\t010200C0\t0003\t0\t0\t0\t00000000\t0\t0\t0": "0.0.0.0/0",
	} {
		prefix, ok := routePrefix(line)
		require.True(t, ok)
		require.Equal(t, want, prefix.String())
	}
	for _, line := range []string{"", "Iface Destination", "eth0 x x x x x x x"} {
		_, ok := routePrefix(line)
		require.False(t, ok, line)
	}
}

func TestStateSurvives(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	self := procOf("test", os.Getpid())
	want := &state{
		Name: "x", Slot: 3, Owner: &self, Procs: []proc{{Name: "etcd", PID: 4, Start: 5}},
		Nodes: []*nodeState{{Name: "node1", Index: 1}}, Ready: true, Bin: map[string]string{"etcd": "/e"},
	}
	require.NoError(t, want.write(dir))
	got, err := readState(dir)
	require.NoError(t, err)
	require.Equal(t, want, got)

	_, err = readState(t.TempDir())
	require.True(t, missing(err))
}

func TestProcIsNotItsSuccessor(t *testing.T) {
	t.Parallel()
	self := procOf("test", os.Getpid())
	require.True(t, self.alive())
	self.Start++
	require.False(t, self.alive(), "the same number, another process")
	require.NoError(t, self.kill(), "and so it is not killed")
}

func TestKillAllWaitsForTheEnd(t *testing.T) {
	t.Parallel()
	cmd := exec.Command("sleep", "60")
	require.NoError(t, cmd.Start())
	sleeper := procOf("sleep", cmd.Process.Pid)
	require.True(t, sleeper.alive())
	require.NoError(t, killAll(t.Context(), []proc{sleeper}))
	require.False(t, sleeper.alive(), "a zombie is dead")
	require.Error(t, cmd.Wait())
}

func TestDownOfNothing(t *testing.T) {
	t.Parallel()
	require.NoError(t, Down(t.Context(), filepath.Join(t.TempDir(), "none")))
}

func TestAwaitSaysWhy(t *testing.T) {
	t.Parallel()
	reason := errors.New("the tea is cold")
	err := await(t.Context(), 10*time.Millisecond, "tea", func(context.Context) error { return reason })
	require.ErrorIs(t, err, reason)
	require.ErrorContains(t, err, "waited 10ms for tea")
	require.NoError(t, await(t.Context(), time.Second, "tea", func(context.Context) error { return nil }))
}

func TestIdentities(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	a, err := newAuthority(filepath.Join(dir, "pki"))
	require.NoError(t, err)
	require.NoError(t, a.issue(subject{file: "node1", name: "system:node:node1", organization: "system:nodes", dns: []string{"node1"}, ips: []string{"10.0.0.1"}}))
	require.NoError(t, a.kubeconfig(filepath.Join(dir, "kubeconfig"), "node1", "https://10.0.0.1:6443"))

	content, err := os.ReadFile(filepath.Join(dir, "pki", "node1.crt"))
	require.NoError(t, err)
	block, _ := pem.Decode(content)
	cert, err := x509.ParseCertificate(block.Bytes)
	require.NoError(t, err)
	require.Equal(t, "system:node:node1", cert.Subject.CommonName)
	require.Equal(t, []string{"system:nodes"}, cert.Subject.Organization)
	roots := x509.NewCertPool()
	roots.AddCert(a.cert)
	for _, name := range []string{"node1", "10.0.0.1"} {
		_, err = cert.Verify(x509.VerifyOptions{Roots: roots, DNSName: name, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}})
		require.NoError(t, err)
	}
	config, err := clientcmd.BuildConfigFromFlags("", filepath.Join(dir, "kubeconfig"))
	require.NoError(t, err)
	require.Equal(t, "https://10.0.0.1:6443", config.Host)
	require.NotEmpty(t, config.CAData)
	require.NotEmpty(t, config.KeyData)
}

func TestPreflightNamesTheFolder(t *testing.T) {
	t.Parallel()
	require.ErrorContains(t, Preflight("/var/lib/x"), "the state folder /var/lib/x is below /var/lib")
	require.NotContains(t, errorText(Preflight("/var/libx")), "state folder")
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestKubernetesIsToldItsVersion(t *testing.T) {
	t.Parallel()
	root, err := FindRoot(".")
	require.NoError(t, err)
	mod, err := os.ReadFile(filepath.Join(root, "tools", "kube", "go.mod"))
	require.NoError(t, err)
	flags, err := kubernetesVersion(mod)
	require.NoError(t, err)
	require.Regexp(t, `component-base/version\.gitVersion=v1\.\d+\.\d+ `, flags)
	require.Regexp(t, `client-go/pkg/version\.gitMinor=\d+ `, flags)
	_, err = kubernetesVersion([]byte("module x"))
	require.Error(t, err)
}

func TestWriteImage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	binary := filepath.Join(dir, "b")
	require.NoError(t, os.WriteFile(binary, []byte("#!"), 0o600))
	archive := filepath.Join(dir, "images", "b.tar")
	require.NoError(t, WriteImage(archive, HelloImage, binary, false))
	require.FileExists(t, archive)
	require.ErrorContains(t, WriteImage(archive, "Not A Name", binary, false), "image name")
}
