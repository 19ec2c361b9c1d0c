package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/internal/buildinfo"
)

// World is what a command sees of the machine.
type World struct {
	In       io.Reader
	Out, Err io.Writer
	// InTerminal and ErrTerminal say whether a person sits there; OutTerminal
	// whether colours make sense.
	InTerminal, OutTerminal, ErrTerminal bool
	// Width is that of the terminal; 0 when unknown.
	Width int
	// Env looks up a variable of the environment.
	Env func(string) string
	// ConfigFile is where contexts are kept, unless --config says otherwise.
	ConfigFile string
	// ReadSecret reads a line from the terminal without showing it.
	ReadSecret func() (string, error)
	// Now is time.Now when nil.
	Now func() time.Time
}

// Run runs one command line and returns the exit status.
func Run(ctx context.Context, args []string, w World) int {
	root := newRoot(&w) //nolint:contextcheck // completions get no context from cobra
	root.SetArgs(args)
	err := root.ExecuteContext(ctx)
	if err == nil {
		return ExitOK
	}
	if ctx.Err() != nil { // Ctrl-C, which needs no explanation
		return ExitInterrupted
	}
	status := exitStatus(err)
	_, _ = fmt.Fprintln(w.Err, "Error: "+explain(err))
	if status == ExitUsage {
		_, _ = fmt.Fprintln(w.Err, "Run the command with --help to see how it is used.")
	}
	return status
}

// app is what all commands share.
type app struct {
	w      *World
	config string // file
	chosen string // --context
	url    string
	key    string // file
	output string
}

func newRoot(w *World) *cobra.Command {
	if w.Now == nil {
		w.Now = time.Now
	}
	a := &app{w: w}
	root := &cobra.Command{
		Use:   "budcluster",
		Short: "See and change a fleet of Kubernetes clusters through its hub",
		Long: `budcluster talks to a BudCluster hub: it shows the clusters, nodes and
accelerators of a fleet, and says which Helm releases are wanted where.

The hub and the key come from --url and --key-file, else from the environment
(BUDCLUSTER_URL, and BUDCLUSTER_API_KEY_FILE or BUDCLUSTER_KEY), else from the
context that "budcluster login" made.

` + exitHelp,
		Example: `  budcluster login https://hub.example.com
  budcluster cluster create frankfurt
  budcluster node list
  budcluster release apply web --cluster frankfurt --namespace web --chart ./web --wait`,
		Version:       buildinfo.Version(),
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	root.SetIn(w.In)
	root.SetOut(w.Out)
	root.SetErr(w.Err)
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return &usageError{err: err} })
	f := root.PersistentFlags()
	f.StringVar(&a.config, "config", "", "file that keeps contexts (default ~/.config/budcluster/config.yaml)")
	f.StringVar(&a.chosen, "context", "", "context to use instead of the current one")
	f.StringVar(&a.url, "url", "", "address of the hub")
	f.StringVar(&a.key, "key-file", "", "file that holds the API key; - reads it from the standard input")
	f.StringVarP(&a.output, "output", "o", "table", "table, wide, json, yaml or name")
	must(root.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "wide", "json", "yaml", "name"}, cobra.ShellCompDirectiveNoFileComp)))
	must(root.RegisterFlagCompletionFunc("context", a.completeContexts))
	root.AddCommand(
		a.login(), a.contexts(), a.clusters(), a.tokens(), a.nodes(), a.devices(), a.charts(), a.releases(), a.components(), a.workflows(), a.events(), a.keys(), a.webhooks(), a.messages(), a.version(),
	)
	root.PersistentPreRunE = func(cmd *cobra.Command, _ []string) error {
		// cobra looks at these later, and its errors are not ours.
		if err := errors.Join(cmd.ValidateRequiredFlags(), cmd.ValidateFlagGroups()); err != nil {
			return &usageError{err: err}
		}
		return a.checkOutput()
	}
	wrapArgs(root)
	return root
}

// must is for what can only fail by a mistake in this package.
func must(err error) {
	if err != nil {
		panic(err)
	}
}

// wrapArgs makes wrong arguments usage errors, and an unknown subcommand one,
// too, instead of silence.
func wrapArgs(cmd *cobra.Command) {
	check := cmd.Args
	switch {
	case check != nil:
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if err := check(cmd, args); err != nil {
				return usagef("%s: %w", cmd.CommandPath(), err)
			}
			return nil
		}
	case cmd.HasSubCommands():
		cmd.Args = func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 {
				return usagef("%s: there is no command %q", cmd.CommandPath(), args[0])
			}
			return nil
		}
	}
	for _, sub := range cmd.Commands() {
		wrapArgs(sub)
	}
}

// group is a command that only holds others.
func group(use, short string, subs ...*cobra.Command) *cobra.Command {
	g := &cobra.Command{
		Use: use, Short: short, Example: subs[0].Example,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	g.AddCommand(subs...)
	return g
}

// connect makes the client of the hub that is meant.
func (a *app) connect() (*hubapi.Client, error) {
	at, err := a.target()
	if err != nil {
		return nil, err
	}
	c, err := hubapi.New(at.URL, at.Key, hubapi.Options{UserAgent: "budcluster/" + buildinfo.Version()})
	if err != nil {
		return nil, usagef("%w", err)
	}
	return c, nil
}

// warn says something beside the output.
func (a *app) warn(format string, args ...any) {
	_, _ = fmt.Fprintf(a.w.Err, format+"\n", args...)
}

// confirm asks before something is lost. Without a terminal to ask at, --yes is
// needed.
func (a *app) confirm(yes bool, question string) error {
	if yes {
		return nil
	}
	if !a.w.InTerminal {
		return usagef("%s Give --yes to confirm", question)
	}
	_, _ = fmt.Fprintf(a.w.Err, "%s [y/N] ", question)
	var answer string
	_, _ = fmt.Fscanln(a.w.In, &answer)
	switch strings.ToLower(answer) {
	case "y", "yes":
		return nil
	default:
		return errors.New("nothing was done")
	}
}

func (a *app) version() *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Show the version of this command and of the hub", Args: cobra.NoArgs,
		Example: "  budcluster version",
		RunE: func(cmd *cobra.Command, _ []string) error {
			p := a.printer()
			_, _ = fmt.Fprintf(p.out, "budcluster %s (%s)\n", buildinfo.Version(), buildinfo.Commit())
			c, err := a.connect()
			if err != nil {
				return nil //nolint:nilerr // no hub is known yet, and our own version was shown
			}
			me, err := c.WhoAmI(cmd.Context())
			if err != nil {
				a.warn("hub: %s", explain(err))
				return nil
			}
			_, _ = fmt.Fprintf(p.out, "hub        %s (%s)\n", me.HubVersion, c.URL())
			return nil
		},
	}
}
