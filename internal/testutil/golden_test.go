package testutil_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/internal/testutil"
)

func TestNormalise(t *testing.T) {
	t.Parallel()
	in := "id 0198c9a4-1111-7abc-8def-0123456789ab at 2026-11-23T10:00:00.123Z until 2026-11-23T10:00:00+01:00 " +
		"sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef bud1.a-b.c_d.ef budk_1_x"
	require.Equal(t, "id <uuid> at <time> until <time> <digest> <token> <token>", string(testutil.Normalise([]byte(in))))
}
