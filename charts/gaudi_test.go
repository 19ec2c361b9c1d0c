package charts_test

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"

	"github.com/budecosystem/budcluster/internal/testutil"
)

const gaudi = "gaudi-device-plugin"

// TestGaudiRenders: with the values that the hub plans, what an agent applies.
func TestGaudiRenders(t *testing.T) {
	t.Parallel()
	for _, distribution := range []string{"kubernetes", "openshift"} {
		t.Run(distribution, func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile("../hub/internal/component/testdata/values/" + distribution + "/intel-gaudi.golden")
			require.NoError(t, err)
			given := values(t, string(text))
			for _, m := range lint.All(gaudi, given, "habana-system", true).Messages {
				require.LessOrEqual(t, m.Severity, support.InfoSev, m.Error())
			}
			c, err := loader.LoadDir(gaudi)
			require.NoError(t, err)
			all, err := chartutil.ToRenderValues(c, given, chartutil.ReleaseOptions{Name: "intel-gaudi", Namespace: "habana-system", IsInstall: true}, nil)
			require.NoError(t, err)
			rendered, err := engine.Render(c, all)
			require.NoError(t, err)
			var out bytes.Buffer
			for _, file := range sorted(rendered) {
				if strings.HasSuffix(file, ".yaml") && strings.TrimSpace(rendered[file]) != "" {
					fmt.Fprintf(&out, "--- # %s\n%s\n", strings.TrimPrefix(file, gaudi+"/templates/"), strings.TrimSpace(rendered[file]))
				}
			}
			for _, o := range objects(t, rendered) {
				require.NotEmpty(t, o.GetKind())
			}
			testutil.Golden(t, "gaudi-"+distribution, out.Bytes())
		})
	}
}

// TestGaudiRefusesWhatItDoesNotKnow: a mistyped value would otherwise leave a
// privileged pod on every node.
func TestGaudiRefusesWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	c, err := loader.LoadDir(gaudi)
	require.NoError(t, err)
	for _, text := range []string{"nodeselector: {}", "image: {tags: x}", "openshift: maybe"} {
		_, err := chartutil.ToRenderValues(c, values(t, text), chartutil.ReleaseOptions{Name: "x", Namespace: "y"}, nil)
		require.Error(t, err, text)
	}
}
