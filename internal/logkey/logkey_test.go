package logkey_test

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"log/slog"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/internal/logkey"
)

func TestContextAttributesAreLogged(t *testing.T) {
	t.Parallel()
	var buf bytes.Buffer
	log := slog.New(logkey.Handler(slog.NewTextHandler(&buf, nil))).With(slog.String(logkey.Component, "x")).WithGroup("g")
	ctx := logkey.With(t.Context(), slog.String(logkey.ClusterID, "c1"))
	other := logkey.With(ctx, slog.String(logkey.RequestID, "r1"))
	log.InfoContext(other, "m", slog.Int(logkey.Count, 1))
	require.Contains(t, buf.String(), "component=x")
	require.Contains(t, buf.String(), "cluster_id=c1")
	require.Contains(t, buf.String(), "request_id=r1")
	buf.Reset()
	log.InfoContext(ctx, "m")
	require.NotContains(t, buf.String(), "request_id")
	buf.Reset()
	log.InfoContext(t.Context(), "m")
	require.NotContains(t, buf.String(), "cluster_id")
}

// One word, one key; all of them snake case.
func TestKeysAreUniqueAndSnakeCase(t *testing.T) {
	t.Parallel()
	file, err := parser.ParseFile(token.NewFileSet(), "logkey.go", nil, 0)
	require.NoError(t, err)
	seen := map[string]bool{}
	ast.Inspect(file, func(n ast.Node) bool {
		lit, ok := n.(*ast.BasicLit)
		if !ok || lit.Kind != token.STRING {
			return true
		}
		require.Regexp(t, regexp.MustCompile(`^"[a-z]+(_[a-z]+)*"$`), lit.Value)
		require.False(t, seen[lit.Value], "%s twice", lit.Value)
		seen[lit.Value] = true
		return true
	})
	require.NotEmpty(t, seen)
}
