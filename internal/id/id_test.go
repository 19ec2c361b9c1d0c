package id_test

import (
	"strings"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/internal/id"
)

func TestID(t *testing.T) {
	t.Parallel()
	a, b := id.New(), id.New()
	require.Equal(t, uuid.Version(7), a.Version())
	require.Less(t, a.String(), b.String(), "ids sort by time")
	got, err := id.Parse(a.String())
	require.NoError(t, err)
	require.Equal(t, a, got)
	for _, text := range []string{
		"", "x", strings.ToUpper("ab" + a.String()[2:]), "{" + a.String() + "}", "urn:uuid:" + a.String(),
		strings.ReplaceAll(a.String(), "-", ""), a.String() + " ", strings.Repeat("a", 1<<16),
	} {
		_, err := id.Parse(text)
		require.Error(t, err)
		require.Less(t, len(err.Error()), 200)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(id.New().String())
	f.Add("urn:uuid:00000000-0000-0000-0000-000000000000")
	f.Fuzz(func(t *testing.T, text string) {
		if u, err := id.Parse(text); err == nil {
			require.Equal(t, text, u.String())
		}
	})
}
