package footprint

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"
)

const smaps = `00400000-02030000 r-xp 00000000 fe:00 10018977                           /bin/agent
Size:              28864 kB
Rss:               25088 kB
Anonymous:             0 kB
VmFlags: rd ex mr mw me
02030000-03fb0000 r--p 01c30000 fe:00 10018977                           /bin/agent
Rss:               23168 kB
Anonymous:             4 kB
VmFlags: rd mr mw me
03fb0000-040c2000 rw-p 03bb0000 fe:00 10018977                           /bin/agent
Anonymous:             0 kB
04100000-04200000 r--p 00000000 fe:00 1                                  /lib/other
Anonymous:             0 kB
7f000000-7f100000 r--p 00000000 00:00 0
Anonymous:             0 kB
zz-yy r--p 00000000 fe:00 10018977 /bin/agent
Anonymous:             0 kB
`

func TestProgramSpans(t *testing.T) {
	t.Parallel()
	require.Equal(t, []span{{start: 0x400000, size: 0x1c30000}}, programSpans(strings.NewReader(smaps), "/bin/agent"),
		"only what is read-only, ours, and was never written")
}

// TestRelease: the program goes on after its own code was given back.
func TestRelease(t *testing.T) {
	t.Parallel()
	for range 3 {
		release()
	}
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*Every)
		defer cancel()
		require.NoError(t, Run(ctx, First, Every))
	})
}
