package gateway

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// 5,000 agents that leave a draining hub come back over half a minute.
func TestSlotsSpreadTheReturn(t *testing.T) {
	t.Parallel()
	g := &Gateway{}
	const n = 5000
	perSecond := map[int]int{}
	for i := range n {
		after := g.slot(i, n).after
		require.GreaterOrEqual(t, after, returnAfter)
		require.LessOrEqual(t, after, returnAfter+n/returnRate*time.Second+time.Second)
		perSecond[int(after/time.Second)]++
	}
	for second, agents := range perSecond {
		require.LessOrEqual(t, agents, 2*returnRate, "in second %d", second)
	}
}

func TestEveryReasonHasASentence(t *testing.T) {
	t.Parallel()
	said := map[string]string{}
	for _, r := range reasons() {
		require.Empty(t, said[sentence(r)], "%s says the same as %s", r, said[sentence(r)])
		said[sentence(r)] = r
	}
}
