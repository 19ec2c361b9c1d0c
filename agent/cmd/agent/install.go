package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/budecosystem/budcluster/agent"
)

// newInstall makes the commands by which a hub uses this program to put the
// agent into a cluster, and to take it out.
func newInstall(p program, use, short string, do func(context.Context, io.Reader, io.Writer) error) *cobra.Command {
	return &cobra.Command{
		Use:   use,
		Short: short,
		Long: `A hub starts this command for a cluster whose kubeconfig was uploaded to it. The
request comes in on standard input, one line of JSON, and nothing of it is
written anywhere; the answers go out on standard output, a line for each stage.
By hand, install the agent with the command that the hub shows.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := noCore(); err != nil {
				return err
			}
			// A hub that was killed does not read any more; what has begun is ended.
			signal.Ignore(syscall.SIGPIPE)
			adoptKlog(slog.New(slog.DiscardHandler)) // it may quote what a server sent
			return do(cmd.Context(), p.in, p.out)
		},
	}
}

func installs(p program) []*cobra.Command {
	return []*cobra.Command{
		newInstall(p, "install", "Put the agent into a cluster, for a hub", agent.Install),
		newInstall(p, "uninstall", "Take the agent out of a cluster, for a hub", agent.Uninstall),
	}
}

// noCore keeps a crash from leaving the credential in a file.
func noCore() error {
	if err := syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}); err != nil {
		return fmt.Errorf("switch core dumps off: %w", err)
	}
	return nil
}
