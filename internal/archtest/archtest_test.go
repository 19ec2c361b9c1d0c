package archtest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/budecosystem/budcluster"

// file is one Go file of this module.
type file struct {
	path    string // from the root, with slashes
	dir     string
	pkg     string
	test    bool
	made    bool // generated
	comment bool // has a package comment
	imports []string
}

// tree parses every Go file of the module. Folders with a go.mod of their own
// are other modules.
func tree(t *testing.T) []file {
	t.Helper()
	root := os.DirFS("../..")
	var files []file
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			base := path.Base(name)
			if name != "." && (base[0] == '.' || base[0] == '_' || base == "testdata" || base == "bin" || base == "dist") {
				return fs.SkipDir
			}
			if _, err := fs.Stat(root, path.Join(name, "go.mod")); err == nil && name != "." {
				return fs.SkipDir
			}
			return nil
		}
		if path.Ext(name) != ".go" {
			return nil
		}
		text, err := fs.ReadFile(root, name)
		if err != nil {
			return err
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), name, text, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		f := file{
			path: name, dir: path.Dir(name), pkg: parsed.Name.Name, test: strings.HasSuffix(name, "_test.go"),
			made: ast.IsGenerated(parsed), comment: parsed.Doc != nil,
		}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			f.imports = append(f.imports, imported)
		}
		files = append(files, f)
		return nil
	})
	require.NoError(t, err)
	require.Greater(t, len(files), 50, "the tree was not found")
	return files
}

// under reports whether p is one of the folders or below one. A folder of
// another module is given by its import path.
func under(p string, folders ...string) bool {
	return slices.ContainsFunc(folders, func(f string) bool { return p == f || strings.HasPrefix(p, f+"/") })
}

// ours gives the folder that an import of this module names.
func ours(imported string) (string, bool) {
	if imported == module {
		return ".", true
	}
	return strings.CutPrefix(imported, module+"/")
}

// The packages of the hub by what they are.
func rules() []string {
	return []string{
		"hub/internal/access",
		"hub/internal/cluster",
		"hub/internal/component",
		"hub/internal/enroll",
		"hub/internal/event",
		"hub/internal/inventory",
		"hub/internal/mirror",
		"hub/internal/notify",
		"hub/internal/release",
		"hub/internal/webhook",
		"hub/internal/workflow",
	}
}

func edges() []string {
	return []string{
		"hub/internal/agentapi",
		"hub/internal/api",
		"hub/internal/bootstrap",
		"hub/internal/courier",
		"hub/internal/dapr",
		"hub/internal/engine",
		"hub/internal/gateway",
		"hub/internal/pg",
		"hub/internal/platform",
		"hub/internal/store",
		"hub/internal/web",
	}
}

// TestArrows: every arrow that must not be drawn.
func TestArrows(t *testing.T) {
	t.Parallel()
	for _, f := range tree(t) {
		for _, imported := range f.imports {
			to, own := ours(imported)
			refuse := func(why string) { t.Errorf("%s imports %s: %s", f.path, imported, why) }
			if own {
				switch {
				case under(f.dir, "internal") && under(to, "hub", "agent", "cli", "charts"):
					refuse("internal/ knows neither hub nor agent")
				case under(f.dir, "proto") && !under(to, "proto") && !f.test:
					refuse("proto/ imports nothing of ours")
				case under(f.dir, "agent") && under(to, "hub", "cli"):
					refuse("agent and hub meet only in proto/ and internal/")
				case under(f.dir, "hub") && under(to, "agent", "cli"):
					refuse("agent and hub meet only in proto/ and internal/")
				case under(f.dir, "cli") && !f.test && (under(to, "agent") || under(to, "hub") && !under(to, "hub/hubapi")):
					refuse("the command line uses /v1 by hub/hubapi and nothing else of the hub")
				case under(to, "hub/internal/store/sqlcgen") && !under(f.dir, "hub/internal/store"):
					refuse("generated rows never leave the store")
				}
			}
			if under(f.dir, rules()...) && !f.test {
				switch {
				case own && under(to, edges()...):
					refuse("rules import no edge; they declare the small interface that they need")
				case under(imported, "net/http", "google.golang.org/grpc", "github.com/jackc/pgx/v5", "database/sql"):
					refuse("rules know neither HTTP nor gRPC nor SQL")
				}
			}
		}
	}
}

// TestHubKnowsNoKubernetes: the hub has no way into a cluster but the tunnel,
// and the command line none but the hub.
func TestHubKnowsNoKubernetes(t *testing.T) {
	t.Parallel()
	for _, f := range tree(t) {
		if !under(f.dir, "hub", "cli") {
			continue
		}
		for _, imported := range f.imports {
			if under(imported, "k8s.io/client-go", "k8s.io/apimachinery", "k8s.io/api") {
				t.Errorf("%s imports %s: the hub holds no cluster's credential, so it needs no client", f.path, imported)
			}
		}
	}
}

// TestEdgesDoNotMeet: edges do not import edges, hub.go joins them. The
// exceptions are halves of one edge.
func TestEdgesDoNotMeet(t *testing.T) {
	t.Parallel()
	allowed := map[string]string{
		"hub/internal/store":    "hub/internal/pg",      // both are SQL: pg is the pool and the listener
		"hub/internal/agentapi": "hub/internal/gateway", // both are the tunnel: what is said on it, and who holds it
	}
	for _, f := range tree(t) {
		from := slices.IndexFunc(edges(), func(e string) bool { return under(f.dir, e) })
		if from < 0 || f.test {
			continue
		}
		for _, imported := range f.imports {
			to, own := ours(imported)
			if !own || under(to, edges()[from]) || under(to, allowed[edges()[from]]) {
				continue
			}
			if under(to, edges()...) {
				t.Errorf("%s imports %s: an edge does not import another; hub.go joins them", f.path, imported)
			}
		}
	}
}

// TestDoors: each dangerous library has one door.
func TestDoors(t *testing.T) {
	t.Parallel()
	doors := []struct {
		library string
		behind  []string
		tests   bool // tests elsewhere may use it
	}{
		{library: "github.com/jackc/pgx/v5", behind: []string{"hub/internal/store", "hub/internal/pg"}, tests: true},
		{library: "database/sql", behind: []string{"hub/internal/store", "hub/internal/pg"}, tests: true},
		{library: "helm.sh/helm/v3", behind: []string{"agent/internal/helm"}, tests: true},
		{library: "github.com/NVIDIA/go-nvml", behind: []string{"agent/internal/gpu/nvml"}},
		{library: "github.com/hashicorp/yamux", behind: []string{"internal/tunnel"}},
		{library: "github.com/prometheus/prometheus", behind: []string{"agent/internal/hami"}},
		{library: "os/exec", behind: []string{"hub/internal/pg", "hub/internal/bootstrap", "hub/internal/engine/enginetest", "hub/internal/dapr/daprtest", "agent/agenttest", "agent/internal/gpu/nvml/nvmltest", "deploy"}, tests: true},
		{library: "golang.org/x/sync/errgroup", behind: []string{"internal/run"}},
		{library: "github.com/tink-crypto/tink-go/v2", behind: []string{"internal/secret"}},
		{library: "github.com/pkg/errors"},
		{library: "github.com/sirupsen/logrus"},
		{library: "go.uber.org/zap"},
		{library: "github.com/lib/pq"},
		{library: "math/rand"},
	}
	for _, f := range tree(t) {
		for _, imported := range f.imports {
			for _, door := range doors {
				if imported == "math/rand/v2" || !under(imported, door.library) || under(f.dir, door.behind...) || (door.tests && f.test) {
					continue
				}
				t.Errorf("%s imports %s, whose only door is %q", f.path, imported, door.behind)
			}
		}
	}
}

// TestTestCodeStaysInTests: helpers for tests live in packages named xtest, or
// in testutil.
func TestTestCodeStaysInTests(t *testing.T) {
	t.Parallel()
	for _, f := range tree(t) {
		if f.test || strings.HasSuffix(path.Base(f.dir), "test") || f.dir == "internal/testutil" || under(f.dir, "deploy") {
			continue
		}
		for _, imported := range f.imports {
			base := path.Base(imported)
			_, own := ours(imported)
			if imported == "testing" || under(imported, "github.com/stretchr/testify") || (own && (base == "testutil" || strings.HasSuffix(base, "test"))) {
				t.Errorf("%s imports %s: keep what is for tests in a package named xtest", f.path, imported)
			}
		}
	}
}

// TestPackageComments: every package has exactly one.
func TestPackageComments(t *testing.T) {
	t.Parallel()
	comments := map[string][]string{}
	for _, f := range tree(t) {
		if f.test {
			continue
		}
		if _, known := comments[f.dir]; !known {
			comments[f.dir] = nil
		}
		if f.comment && !f.made {
			comments[f.dir] = append(comments[f.dir], f.path)
		}
	}
	for dir, files := range comments {
		if len(files) != 1 && !onlyGenerated(t, dir) {
			t.Errorf("package %s has %d package comments, not one: %q", dir, len(files), files)
		}
	}
}

func onlyGenerated(t *testing.T, dir string) bool {
	t.Helper()
	for _, f := range tree(t) {
		if f.dir == dir && !f.test && !f.made {
			return false
		}
	}
	return true
}

// TestTheRulesBite: the helpers above would notice.
func TestTheRulesBite(t *testing.T) {
	t.Parallel()
	require.True(t, under("hub/internal/store/sqlcgen", "hub/internal/store"))
	require.False(t, under("hub/internal/storetest", "hub/internal/store"))
	require.False(t, under("hubris", "hub"))
	to, own := ours(module + "/hub/internal/api")
	require.True(t, own)
	require.True(t, under(to, edges()...))
	_, own = ours(module + "-other/x")
	require.False(t, own)
}
