package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

// The variables of the environment that choose hub and key.
const (
	envURL     = "BUDCLUSTER_URL"
	envKeyFile = "BUDCLUSTER_API_KEY_FILE"
	// envKey holds the key itself, for pipelines whose secrets come so.
	envKey = "BUDCLUSTER_KEY"
)

// config is the file of contexts.
type config struct {
	Current  string            `json:"currentContext,omitempty"`
	Contexts map[string]target `json:"contexts,omitempty"`
}

// target is a hub and the key for it.
type target struct {
	URL string `json:"url"`
	Key string `json:"key,omitempty"`
}

func (a *app) configFile() string {
	if a.config != "" {
		return a.config
	}
	return a.w.ConfigFile
}

// load reads the file of contexts; one that is not there is empty.
func (a *app) load() (config, error) {
	var c config
	name := a.configFile()
	if name == "" {
		return c, errors.New("there is no home folder to keep contexts in; give --config")
	}
	info, err := os.Stat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, fmt.Errorf("read contexts: %w", err)
	}
	if info.Mode().Perm()&0o077 != 0 {
		a.warn("Warning: %s holds API keys and can be read by others; run: chmod 600 %s", name, name)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return c, fmt.Errorf("read contexts: %w", err)
	}
	if err := yaml.UnmarshalStrict(text, &c); err != nil {
		return c, fmt.Errorf("read contexts: %s is not what this command writes (%w); correct or remove it", name, err)
	}
	return c, nil
}

// save replaces the file as a whole, readable by its owner only.
func (a *app) save(c config) error {
	name := a.configFile()
	text, err := yaml.Marshal(c)
	if err != nil {
		return fmt.Errorf("encode contexts: %w", err)
	}
	if err := os.MkdirAll(filepath.Dir(name), 0o700); err != nil {
		return fmt.Errorf("keep contexts: %w", err)
	}
	f, err := os.CreateTemp(filepath.Dir(name), ".config-*") // 0600 by itself
	if err != nil {
		return fmt.Errorf("keep contexts: %w", err)
	}
	defer func() { _ = os.Remove(f.Name()) }()
	_, writeErr := f.Write(text)
	if err := errors.Join(writeErr, f.Close()); err != nil {
		return fmt.Errorf("keep contexts: %w", err)
	}
	if err := os.Rename(f.Name(), name); err != nil {
		return fmt.Errorf("keep contexts: %w", err)
	}
	return nil
}

// target finds hub and key: flags, else the environment, else a context. An
// address from one place never gets the key of another, which would hand it to
// whoever listens there.
func (a *app) target() (target, error) {
	at := target{URL: a.url}
	if at.URL == "" && a.chosen == "" {
		at.URL = a.w.Env(envURL)
	}
	if at.URL == "" {
		c, err := a.load()
		if err != nil {
			return at, err
		}
		if at, err = c.pick(a.chosen); err != nil {
			return at, err
		}
	}
	key, found, err := a.givenKey()
	if err != nil {
		return at, err
	}
	if found {
		at.Key = key
	}
	if at.Key == "" {
		at.Key = a.keyFor(at.URL)
	}
	if at.Key == "" {
		return at, usagef("there is no API key for %s; give --key-file, set %s, or run: budcluster login %s", at.URL, envKeyFile, at.URL)
	}
	return at, nil
}

// keyFor is the key of the context with this very address.
func (a *app) keyFor(address string) string {
	c, err := a.load()
	if err != nil {
		return ""
	}
	for _, name := range slices.Sorted(maps.Keys(c.Contexts)) {
		if c.Contexts[name].URL == address {
			return c.Contexts[name].Key
		}
	}
	return ""
}

func (c config) pick(name string) (target, error) {
	if name == "" {
		name = c.Current
	}
	if name == "" {
		return target{}, usagef("no hub is chosen; run: budcluster login URL, or set %s and %s", envURL, envKeyFile)
	}
	t, ok := c.Contexts[name]
	if !ok {
		return t, usagef("there is no context %q; budcluster context list shows those that there are", name)
	}
	return t, nil
}

// givenKey reads the key that flags or environment name.
func (a *app) givenKey() (key string, found bool, err error) {
	file := a.key
	if file == "" && a.chosen == "" {
		file = a.w.Env(envKeyFile)
	}
	switch {
	case file == "-":
		key, err = readKey(a.w.In)
	case file != "":
		var text []byte
		if text, err = os.ReadFile(file); err == nil {
			key, err = readKey(bytes.NewReader(text))
		}
	case a.chosen == "" && a.w.Env(envKey) != "":
		return strings.TrimSpace(a.w.Env(envKey)), true, nil
	default:
		return "", false, nil
	}
	if err != nil {
		return "", false, fmt.Errorf("read API key: %w", err)
	}
	return key, true, nil
}

func readKey(r io.Reader) (string, error) {
	text, err := io.ReadAll(io.LimitReader(r, 64<<10))
	if err != nil {
		return "", err //nolint:wrapcheck // givenKey does
	}
	key := strings.TrimSpace(string(text))
	if key == "" || strings.ContainsAny(key, " \t\r\n") {
		return "", errors.New("it must be one line with the key, as it was printed when it was made")
	}
	return key, nil
}

func (a *app) login() *cobra.Command {
	var name string
	cmd := &cobra.Command{
		Use: "login URL", Short: "Keep the address of a hub and a key for it", Args: cobra.ExactArgs(1),
		Long: `Keep the address of a hub and an API key for it as a context, and use it from
now on. The key is asked for, or read from --key-file; it is never an argument,
since others on this machine could read that.`,
		Example: `  budcluster login https://hub.example.com
  budcluster login https://hub.example.com --key-file ./key --name prod
  printenv KEY | budcluster login http://localhost:8080 --key-file -`,
		RunE: func(cmd *cobra.Command, args []string) error { return a.runLogin(cmd.Context(), args[0], name) },
	}
	cmd.Flags().StringVar(&name, "name", "", "name of the context (default: the host of the URL)")
	return cmd
}

func (a *app) runLogin(ctx context.Context, address, name string) error {
	u, err := hubapi.ParseURL(address)
	if err != nil {
		return usagef("%w", err)
	}
	if name == "" {
		name = u.Hostname()
	}
	if u.Scheme == "http" && !isLoopback(u) {
		a.warn("Warning: %s is not https; the key travels where others may read it", address)
	}
	key, found, err := a.givenKey()
	if err != nil {
		return err
	}
	if !found {
		if key, err = a.askKey(); err != nil {
			return err
		}
	}
	c, err := hubapi.New(u.String(), key, hubapi.Options{})
	if err != nil {
		return usagef("%w", err)
	}
	me, err := c.WhoAmI(ctx)
	if err != nil {
		return fmt.Errorf("log in to %s: %w", u, err)
	}
	cfg, err := a.load()
	if err != nil {
		return err
	}
	if cfg.Contexts == nil {
		cfg.Contexts = map[string]target{}
	}
	cfg.Contexts[name], cfg.Current = target{URL: u.String(), Key: key}, name
	if err := a.save(cfg); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(a.w.Out, "Logged in to %s as %s (%s). The context is %q, in %s.\n", u, me.Name, me.Role, name, a.configFile())
	return nil
}

func isLoopback(u *url.URL) bool {
	h := u.Hostname()
	return h == "localhost" || h == "::1" || strings.HasPrefix(h, "127.")
}

func (a *app) askKey() (string, error) {
	if !a.w.InTerminal || a.w.ReadSecret == nil {
		return "", usagef("there is no terminal to ask for the key at; give --key-file FILE, or --key-file - to read it from the standard input")
	}
	_, _ = fmt.Fprint(a.w.Err, "API key: ")
	text, err := a.w.ReadSecret()
	_, _ = fmt.Fprintln(a.w.Err)
	if err != nil {
		return "", fmt.Errorf("read API key: %w", err)
	}
	return readKey(strings.NewReader(text))
}

func (a *app) contexts() *cobra.Command {
	list := &cobra.Command{
		Use: "list", Aliases: []string{"ls"}, Short: "List the contexts", Args: cobra.NoArgs,
		Example: "  budcluster context list",
		RunE: func(*cobra.Command, []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			return a.printer().contexts(c)
		},
	}
	use := &cobra.Command{
		Use: "use NAME", Short: "Make a context the current one", Args: cobra.ExactArgs(1), ValidArgsFunction: a.completeContexts,
		Example: "  budcluster context use prod",
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			t, err := c.pick(args[0])
			if err != nil {
				return err
			}
			c.Current = args[0]
			if err := a.save(c); err != nil {
				return err
			}
			_, _ = fmt.Fprintf(a.w.Out, "The context is %q now (%s).\n", args[0], t.URL)
			return nil
		},
	}
	show := &cobra.Command{
		Use: "show [NAME]", Short: "Show a context, without its key", Args: cobra.MaximumNArgs(1), ValidArgsFunction: a.completeContexts,
		Example: "  budcluster context show",
		RunE: func(_ *cobra.Command, args []string) error {
			c, err := a.load()
			if err != nil {
				return err
			}
			name := c.Current
			if len(args) > 0 {
				name = args[0]
			}
			if _, err := c.pick(name); err != nil {
				return err
			}
			return a.printer().contexts(config{Current: c.Current, Contexts: map[string]target{name: c.Contexts[name]}})
		},
	}
	return group("context", "Choose between hubs", list, use, show)
}

func (a *app) completeContexts(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	c, err := a.load()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return slices.Sorted(maps.Keys(c.Contexts)), cobra.ShellCompDirectiveNoFileComp
}

// completeWith completes from the hub, which must answer at once.
func (a *app) completeWith(get func(context.Context, *hubapi.Client) ([]string, error)) ([]string, cobra.ShellCompDirective) {
	c, err := a.connect()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second) //nolint:forbidigo // cobra gives none here
	defer cancel()
	names, err := get(ctx, c)
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
