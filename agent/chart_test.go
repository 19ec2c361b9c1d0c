package agent_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/budecosystem/budcluster/agent"
	"github.com/budecosystem/budcluster/internal/config"
)

// TestChartConfig: what the chart writes is what the agent reads. The golden
// renders are those that the chart's own tests compare.
func TestChartConfig(t *testing.T) {
	t.Parallel()
	renders, err := filepath.Glob("../charts/testdata/*.golden")
	require.NoError(t, err)
	require.NotEmpty(t, renders)
	for _, render := range renders {
		if name := filepath.Base(render); strings.HasPrefix(name, "hub-") || strings.HasPrefix(name, "gaudi-") { // other charts
			continue
		}
		t.Run(filepath.Base(render), func(t *testing.T) {
			t.Parallel()
			data, err := os.ReadFile(render)
			require.NoError(t, err)
			file := filepath.Join(t.TempDir(), "agent.yaml")
			for doc := range strings.SplitSeq(string(data), "\n---") {
				var cm corev1.ConfigMap
				if yaml.Unmarshal([]byte(doc), &cm) == nil && cm.Data["agent.yaml"] != "" {
					require.NoError(t, os.WriteFile(file, []byte(cm.Data["agent.yaml"]), 0o600))
				}
			}
			cfg := agent.Default()
			require.NoError(t, config.Load(&cfg, config.Source{File: file}))
			require.NoError(t, cfg.Check())
		})
	}
}
