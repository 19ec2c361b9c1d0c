package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/budecosystem/budcluster/hub"
	"github.com/budecosystem/budcluster/internal/secret"
)

func newServe(p program) *cobra.Command {
	var s settings
	return s.with(&cobra.Command{
		Use:   "serve",
		Short: "Run the hub",
		Long: `Runs the hub until it is told to stop. SIGTERM and SIGINT end it in order: no
new agents, the present ones are told when to come back, then the API, then
the database.

With --dev it starts a PostgreSQL of its own from the installed binaries, keeps
everything below the state folder, listens with its API on localhost only, and
prints the first admin key once.`,
		Example: `  budcluster-hub serve --dev --state-dir ./state
  budcluster-hub serve --config /etc/budcluster/hub.yaml
  BUDCLUSTER_DATABASE_URL_FILE=/run/secrets/db budcluster-hub serve --tunnel-address hub.example.com:8443`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := s.load(p, cmd, hub.Config.Validate)
			if err != nil {
				return err
			}
			h, err := hub.New(cfg, hub.Options{Logger: log, Level: &s.level, Out: p.out})
			if err != nil {
				return err
			}
			return h.Run(cmd.Context())
		},
	})
}

func newMigrate(p program) *cobra.Command {
	var s settings
	return s.with(&cobra.Command{
		Use:   "migrate",
		Short: "Bring the database to this version",
		Long: `Brings the database's schema to the one that this version of the hub needs.
serve does the same when it starts; run this before it where the hub's own
database role may not change the schema.`,
		Example: "  BUDCLUSTER_DATABASE_URL=postgres://owner@db:5432/bud budcluster-hub migrate",
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := s.load(p, cmd, hub.Config.ValidateDatabase)
			if err != nil {
				return err
			}
			if err := hub.Migrate(cmd.Context(), cfg, log); err != nil {
				return err
			}
			_, err = fmt.Fprintln(p.out, "the database is up to date")
			return err
		},
	})
}

func newAdmin(p program) *cobra.Command {
	admin := &cobra.Command{
		Use:     "admin",
		Short:   "Do what needs no API key",
		Example: "  budcluster-hub admin create-key --name alice --role admin",
		Args:    cobra.NoArgs,
	}
	admin.AddCommand(newCreateKey(p), newCreateEncryptionKey(p))
	return admin
}

func newCreateKey(p program) *cobra.Command {
	var (
		s          settings
		name, role string
	)
	cmd := s.with(&cobra.Command{
		Use:   "create-key",
		Short: "Make an API key and print it once",
		Long: `Makes an API key and prints it on standard output. It is shown this once and
stored as a hash only. Use it to get the first key of a hub; with that one,
more are made by 'budcluster key create'.`,
		Example: `  budcluster-hub admin create-key --name alice --role admin --config /etc/budcluster/hub.yaml

  # the private database of a hub that runs with --dev
  budcluster-hub admin create-key --name alice --role admin --dev --state-dir ./state`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, log, err := s.load(p, cmd, hub.Config.ValidateDatabase)
			if err != nil {
				return err
			}
			key, err := hub.CreateKey(cmd.Context(), cfg, log, hub.NewKey{Name: name, Role: role})
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(p.out, key.Reveal())
			return err
		},
	})
	cmd.Flags().StringVar(&name, "name", "", "whose key it is; shown in events")
	cmd.Flags().StringVar(&role, "role", "admin", "viewer, operator or admin")
	_ = cmd.MarkFlagRequired("name")
	return cmd
}

func newCreateEncryptionKey(p program) *cobra.Command {
	return &cobra.Command{
		Use:   "create-encryption-key",
		Short: "Make the key that seals a hub's secrets, and print it",
		Long: `Makes the key that seals the CA's private key and all secret values, and prints
it on standard output. A hub makes one by itself where it may write to
cryptoKeysDir; this is for hubs that are given theirs, such as the replicas in
a cluster that mount one Secret. The file's name is kek.json. Keep a copy: what
it sealed cannot be read without it.`,
		Example: `  budcluster-hub admin create-encryption-key |
    kubectl -n budcluster create secret generic hub-key --from-file=kek.json=/dev/stdin`,
		Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			key, err := secret.NewKeyset()
			if err != nil {
				return err //nolint:wrapcheck // a sentence already
			}
			_, err = fmt.Fprintln(p.out, strings.TrimSpace(string(key)))
			return err
		},
	}
}

func newConfig(p program) *cobra.Command {
	return &cobra.Command{
		Use:     "default-config",
		Short:   "Print every setting with its default, as YAML",
		Example: "  budcluster-hub default-config > hub.yaml",
		Args:    cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := p.out.Write(document(hub.Defaults()))
			return err
		},
	}
}
