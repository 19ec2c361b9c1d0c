package standin_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/yaml"

	"github.com/budecosystem/budcluster/deploy/e2e/standin"
	"github.com/budecosystem/budcluster/internal/chartfile"
)

// TestRepository: every chart is in the index with the digest of its file, and
// in the overlay with the same.
func TestRepository(t *testing.T) {
	t.Parallel()
	dir, overlay := t.TempDir(), t.TempDir()
	charts, err := standin.Write(dir)
	require.NoError(t, err)
	require.NoError(t, standin.Catalogue(overlay, "http://charts.test:8080", charts))
	var names []string
	for _, c := range charts {
		names = append(names, c.Component)
		tgz, err := os.ReadFile(filepath.Join(dir, c.Name+"-"+c.Version+".tgz"))
		require.NoError(t, err)
		info, err := chartfile.Inspect(tgz)
		require.NoError(t, err)
		require.Equal(t, c.Name, info.Name)
		require.Equal(t, c.Digest, chartfile.Digest(tgz))

		text, err := os.ReadFile(filepath.Join(overlay, c.Component+".yaml"))
		require.NoError(t, err)
		var entry struct {
			Name  string
			Chart map[string]any
		}
		require.NoError(t, yaml.UnmarshalStrict(text, &entry))
		require.Equal(t, c.Component, entry.Name)
		require.Equal(t, c.Digest, entry.Chart["digest"])
	}
	require.ElementsMatch(t, standin.Names(), names)

	text, err := os.ReadFile(filepath.Join(dir, "index.yaml"))
	require.NoError(t, err)
	var index struct {
		Entries map[string][]struct{ Version, Digest string }
	}
	require.NoError(t, yaml.Unmarshal(text, &index))
	require.Len(t, index.Entries, len(charts))
	for _, c := range charts {
		require.Equal(t, c.Version, index.Entries[c.Name][0].Version)
		require.Equal(t, c.Digest, "sha256:"+index.Entries[c.Name][0].Digest)
	}
}
