package agentapi

import (
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"google.golang.org/protobuf/proto"

	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// One node with a NUL in a label kept the whole inventory of a cluster out of
// PostgreSQL, which takes U+0000 neither as text nor in jsonb.
func TestCleanReachesEveryString(t *testing.T) {
	t.Parallel()
	m := &agentv1.ReportRequest{Message: &agentv1.ReportRequest_Delta{Delta: &agentv1.Delta{
		Cluster: &agentv1.ClusterFacts{StorageClasses: []*agentv1.StorageClass{{Name: "a\x00b"}}, Claims: &agentv1.Claims{LostNames: []string{"\x00"}}, Dns: &agentv1.Dns{Service: "d\x00"}},
		Nodes: []*agentv1.NodeFacts{{
			Name:      "n\x00",
			Labels:    map[string]string{"k\x00": "v", "plain": "w\x00", "same": "same"},
			Roles:     []string{"ok", "\x00"},
			Devices:   []*agentv1.Device{{Model: "\x00\x00"}},
			Capacity:  &agentv1.Resources{Extended: map[string]int64{"x\x00": 3}},
			Problems:  []string{strings.Repeat("é", maxText)},
			CreatedAt: nil,
		}},
		Removed:    []string{"gone\x00"},
		NodeEvents: []*agentv1.NodeEvent{{Uid: "\x00", Message: "low\x00"}},
	}}}
	clean(m)

	wire, err := proto.Marshal(m)
	require.NoError(t, err)
	node := m.GetDelta().GetNodes()[0]
	require.Equal(t, "n\uFFFD", node.GetName())
	require.Equal(t, map[string]string{"k\uFFFD": "v", "plain": "w\uFFFD", "same": "same"}, node.GetLabels())
	require.Equal(t, []string{"ok", "\uFFFD"}, node.GetRoles())
	require.Equal(t, int64(3), node.GetCapacity().GetExtended()["x\uFFFD"])
	require.Equal(t, "a\uFFFDb", m.GetDelta().GetCluster().GetStorageClasses()[0].GetName())
	require.Equal(t, []string{"\uFFFD"}, m.GetDelta().GetCluster().GetClaims().GetLostNames())
	require.Equal(t, "d\uFFFD", m.GetDelta().GetCluster().GetDns().GetService())
	require.Equal(t, []string{"gone\uFFFD"}, m.GetDelta().GetRemoved())
	require.Equal(t, "low\uFFFD", m.GetDelta().GetNodeEvents()[0].GetMessage())
	require.LessOrEqual(t, len(node.GetProblems()[0]), maxText+len("…"))
	require.True(t, utf8.ValidString(node.GetProblems()[0]))
	require.NotContains(t, string(wire[:40]), "n\x00")
}

func FuzzClean(f *testing.F) {
	f.Add("", "a")
	f.Add("a\x00", "\x00")
	f.Add(strings.Repeat("€", maxText), "b")
	f.Fuzz(func(t *testing.T, a, b string) {
		if !utf8.ValidString(a) || !utf8.ValidString(b) {
			t.Skip("the decoder refuses it")
		}
		m := &agentv1.NodeFacts{Name: a, Labels: map[string]string{a: b, b: a}, Roles: []string{a, b}}
		clean(m)
		for _, s := range append([]string{m.GetName()}, m.GetRoles()...) {
			require.NotContains(t, s, "\x00")
			require.True(t, utf8.ValidString(s))
		}
		for k, v := range m.GetLabels() {
			require.NotContains(t, k+v, "\x00")
		}
		again := proto.CloneOf(m)
		clean(again)
		require.True(t, proto.Equal(m, again), "cleaning twice is cleaning once")
	})
}
