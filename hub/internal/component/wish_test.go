package component_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/component"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
)

func TestWishCheck(t *testing.T) {
	t.Parallel()
	digest := "sha256:" + strings.Repeat("0", 64)
	for name, c := range map[string]struct {
		wish  component.Wish
		field string // that is refused; empty when none is
	}{
		"nothing":            {component.Wish{}, ""},
		"all":                {component.Wish{Wanted: component.WantYes, Version: "v26.3.3-rc.1+7", Digest: digest, Values: map[string]any{"a": []any{"x", 1.5, nil, true}}}, ""},
		"an unknown wish":    {component.Wish{Wanted: "maybe"}, "c.wanted"},
		"a bell for version": {component.Wish{Version: "1\x00\a"}, "c.version"},
		"words for version":  {component.Wish{Version: "the newest"}, "c.version"},
		"a long version":     {component.Wish{Version: strings.Repeat("1", 80)}, "c.version"},
		"a short digest":     {component.Wish{Digest: "sha256:00"}, "c.digest"},
		"NUL in a value":     {component.Wish{Values: map[string]any{"a": map[string]any{"b": []any{"x\x00"}}}}, "c.values"},
		"NUL in a key":       {component.Wish{Values: map[string]any{"a\x00": 1}}, "c.values"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			found := invalid.Of(c.wish.Check("c"))
			if c.field == "" {
				require.Empty(t, found)
				return
			}
			require.Len(t, found, 1)
			require.Equal(t, c.field, found[0].Field)
		})
	}
	require.Equal(t, "version", invalid.Of(component.Wish{Version: "x"}.Check(""))[0].Field)
}
