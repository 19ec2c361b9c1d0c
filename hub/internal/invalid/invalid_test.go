package invalid_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/invalid"
)

func TestOf(t *testing.T) {
	t.Parallel()
	a, b := invalid.New("a", "%d is wrong", 1), invalid.New("b", "wrong")
	require.Equal(t, "a: 1 is wrong", a.Error())
	require.Equal(t, []*invalid.Error{a, b}, invalid.Of(fmt.Errorf("do: %w", errors.Join(a, fmt.Errorf("deeper: %w", b)))))
	require.Empty(t, invalid.Of(errors.New("broken")))
	require.Empty(t, invalid.Of(nil))
}

func TestClip(t *testing.T) {
	t.Parallel()
	require.Equal(t, "short", invalid.Clip("short"))
	require.Equal(t, strings.Repeat("ä", 80)+"…", invalid.Clip(strings.Repeat("ä", 81)))
}
