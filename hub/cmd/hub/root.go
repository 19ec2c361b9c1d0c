package main

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/spf13/cobra"

	"github.com/budecosystem/budcluster/hub"
	"github.com/budecosystem/budcluster/internal/buildinfo"
	"github.com/budecosystem/budcluster/internal/config"
	"github.com/budecosystem/budcluster/internal/logkey"
)

// program is what the commands have of the world.
type program struct {
	env      []string
	out, err io.Writer
}

func newRoot(p program) *cobra.Command {
	root := &cobra.Command{
		Use:   "budcluster-hub",
		Short: "The hub of a fleet of Kubernetes clusters",
		Long: `The hub keeps the register, the desired state and the inventory of a fleet of
Kubernetes clusters, and speaks with the agent in each of them.

Every setting can be given in a file (--config), as an environment variable
(BUDCLUSTER_API_LISTEN for api.listen) or as a flag (--api-listen); the later
of these wins. An unknown setting is an error.`,
		Example: `  # try it out: a private PostgreSQL, an admin key, everything below ./state
  budcluster-hub serve --dev --state-dir ./state

  # run it
  BUDCLUSTER_DATABASE_URL=postgres://bud@db:5432/bud budcluster-hub serve --config /etc/budcluster/hub.yaml`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
	}
	root.SetOut(p.out)
	root.SetErr(p.err)
	root.AddCommand(newServe(p), newMigrate(p), newAdmin(p), newCheck(p), newConfig(p), newVersion(p))
	return root
}

// settings is the part of a command that reads the configuration.
type settings struct {
	file  string
	cfg   hub.Config
	level slog.LevelVar
}

// with gives a command the flags of every setting.
func (s *settings) with(cmd *cobra.Command) *cobra.Command {
	s.cfg = hub.Defaults()
	cmd.Flags().StringVar(&s.file, "config", "", "YAML file of settings")
	if err := config.Register(cmd.Flags(), &s.cfg); err != nil {
		panic(err) // two settings with one name: a bug that every test finds
	}
	return cmd
}

// load fills the configuration and has it checked.
func (s *settings) load(p program, cmd *cobra.Command, check func(hub.Config) error) (hub.Config, *slog.Logger, error) {
	err := config.Load(&s.cfg, config.Source{
		File: s.file, Env: p.env, EnvPrefix: hub.EnvPrefix, IgnoreEnv: foreignEnv(), Flags: cmd.Flags(),
	})
	if err != nil {
		return hub.Config{}, nil, fmt.Errorf("read settings: %w", err)
	}
	cfg := s.cfg.Inherit(p.env).Complete()
	if err := check(cfg); err != nil {
		return hub.Config{}, nil, fmt.Errorf("check settings: %w", err)
	}
	_ = s.level.UnmarshalText([]byte(cfg.Log.Level)) // Validate has seen it
	return cfg, newLogger(cfg.Log, p.err, &s.level), nil
}

// foreignEnv are variables with our prefix that the agent, the command line
// and the tests read.
func foreignEnv() []string {
	return []string{
		"BUDCLUSTER_AGENT_*", "BUDCLUSTER_CLI_*", "BUDCLUSTER_TEST_*", "BUDCLUSTER_E2E_*", "BUDCLUSTER_DEMO_*",
		"BUDCLUSTER_URL", "BUDCLUSTER_KEY", "BUDCLUSTER_API_KEY", "BUDCLUSTER_API_KEY_FILE", "BUDCLUSTER_CONTEXT", "BUDCLUSTER_CONFIG",
	}
}

func newLogger(l hub.Log, w io.Writer, level slog.Leveler) *slog.Logger {
	opts := &slog.HandlerOptions{Level: level}
	var h slog.Handler = slog.NewTextHandler(w, opts)
	if l.Format == "json" {
		h = slog.NewJSONHandler(w, opts)
	}
	return slog.New(logkey.Handler(h))
}

func newVersion(p program) *cobra.Command {
	return &cobra.Command{
		Use:     "version",
		Short:   "Print the version",
		Example: "  budcluster-hub version",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(p.out, "budcluster-hub %s (%s)\n", buildinfo.Version(), buildinfo.Commit())
			return err
		},
	}
}
