package agent

import (
	"context"
	"io"

	"github.com/budecosystem/budcluster/agent/internal/install"
)

// Install puts an agent into a cluster, in conversation with the hub that
// started this process; see internal/install for the language.
func Install(ctx context.Context, in io.Reader, out io.Writer) error {
	return install.Run(ctx, install.Config{Mode: install.ModeInstall, In: in, Out: out})
}

// Uninstall removes an agent from a cluster, in the same language.
func Uninstall(ctx context.Context, in io.Reader, out io.Writer) error {
	return install.Run(ctx, install.Config{Mode: install.ModeUninstall, In: in, Out: out})
}
