package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/budecosystem/budcluster/agent"
	"github.com/budecosystem/budcluster/internal/buildinfo"
	"github.com/budecosystem/budcluster/internal/config"
)

// program is what the commands have of the world.
type program struct {
	env      []string
	unsetenv func(string) error
	hostname func() (string, error)
	in       io.Reader
	out, err io.Writer
}

func newRoot(p program) *cobra.Command {
	run := newRun(p)
	root := &cobra.Command{
		Use:   "budcluster-agent",
		Short: "The agent of one Kubernetes cluster",
		Long: `The agent dials out to its hub, reports what the cluster has, and makes the
releases that the hub wants. Nothing has to reach it from outside.

Every setting can be given in a file (--config), as an environment variable
(BUDCLUSTER_AGENT_HUB_ADDRESSES for hub.addresses) or as a flag
(--hub-addresses); the later of these wins. An unknown setting is an error.`,
		Example: `  # in a cluster, as the chart does it
  budcluster-agent run --config /etc/budcluster/agent.yaml

  # from a workstation, against the cluster of a kubeconfig
  budcluster-agent run --kubeconfig ~/.kube/config --hub-addresses hub.example.com:8443 --token-file ./token`,
		SilenceUsage:  true,
		SilenceErrors: true,
		Args:          cobra.NoArgs,
		RunE:          run.RunE, // without a sub-command
	}
	root.Flags().AddFlagSet(run.Flags())
	root.SetOut(p.out)
	root.SetErr(p.err)
	root.AddCommand(run, newCheck(p), newVersion(p))
	root.AddCommand(installs(p)...)
	return root
}

func newRun(p program) *cobra.Command {
	cfg := agent.Default()
	var file string
	cmd := &cobra.Command{
		Use:   "run",
		Short: "Run the agent",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			err := config.Load(&cfg, config.Source{
				File: file, Env: p.env, EnvPrefix: agent.EnvPrefix, Flags: cmd.Flags(),
				// What the kubelet adds for a Service called budcluster-agent.
				IgnoreEnv: []string{"BUDCLUSTER_AGENT_PORT*", "BUDCLUSTER_AGENT_SERVICE_*"},
			})
			if err != nil {
				return fmt.Errorf("read settings: %w", err)
			}
			if err := p.complete(&cfg); err != nil {
				return err
			}
			log := newLogger(cfg.Log, p.err)
			adoptKlog(log)
			a, err := agent.New(cfg, agent.Options{Logger: log})
			if err != nil {
				return err
			}
			return a.Run(cmd.Context())
		},
	}
	cmd.Flags().StringVar(&file, "config", "", "YAML file of settings")
	if err := config.Register(cmd.Flags(), &cfg); err != nil {
		panic(err) // two settings with one name: a bug that every test finds
	}
	return cmd
}

// complete takes from the process's surroundings what was not set.
//
// HTTPS_PROXY is the way to the hub only. In a cluster the API server is next
// door, and client-go would take the same variable and go to it through the
// site's proxy; so the variables are read and then removed.
func (p program) complete(cfg *agent.Config) error {
	env := map[string]string{}
	for _, kv := range p.env {
		key, value, _ := strings.Cut(kv, "=")
		env[key] = value
	}
	inCluster := cfg.Kubeconfig == "" && env["KUBERNETES_SERVICE_HOST"] != ""
	for _, name := range []string{"HTTPS_PROXY", "https_proxy"} {
		if cfg.Proxy.HTTPS == "" {
			cfg.Proxy.HTTPS = env[name]
		}
	}
	for _, name := range []string{"NO_PROXY", "no_proxy"} {
		if cfg.Proxy.No == "" {
			cfg.Proxy.No = env[name]
		}
	}
	if !inCluster {
		return nil
	}
	for _, name := range []string{"HTTPS_PROXY", "https_proxy", "HTTP_PROXY", "http_proxy"} {
		if err := p.unsetenv(name); err != nil {
			return fmt.Errorf("remove %s from the environment: %w", name, err)
		}
	}
	if cfg.PodName != "" {
		return nil
	}
	name, err := p.hostname() // in a pod, its name
	if err != nil {
		return fmt.Errorf("podName is not set and the host has no name: %w", err)
	}
	cfg.PodName = name
	return nil
}

func newLogger(cfg agent.LogConfig, w io.Writer) *slog.Logger {
	level := slog.LevelInfo
	_ = level.UnmarshalText([]byte(cfg.Level)) // checked by agent.New
	opts := &slog.HandlerOptions{Level: level}
	if cfg.Format == "text" {
		return slog.New(slog.NewTextHandler(w, opts))
	}
	return slog.New(slog.NewJSONHandler(w, opts))
}

func newCheck(p program) *cobra.Command {
	var url string
	var timeout time.Duration
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Ask a running agent whether it is ready, and wait until it is",
		Example: `  # what "helm test" runs
  budcluster-agent check --url http://budcluster-agent.budcluster-system.svc:8080 --timeout 60s`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), timeout, fmt.Errorf("the agent was not ready within %s", timeout))
			defer cancel()
			answer, err := awaitReady(ctx, strings.TrimSuffix(url, "/")+"/readyz")
			if err != nil {
				return err
			}
			_, err = fmt.Fprintln(p.out, answer)
			return err
		},
	}
	cmd.Flags().StringVar(&url, "url", "http://127.0.0.1:8080", "where the agent listens")
	cmd.Flags().DurationVar(&timeout, "timeout", 10*time.Second, "how long to wait")
	return cmd
}

// awaitReady asks until the answer is yes; when the time is up it returns the
// last no.
func awaitReady(ctx context.Context, url string) (string, error) {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		answer, ready, err := askReady(ctx, url)
		if ready {
			return answer, nil
		}
		if err == nil {
			err = errors.New(answer)
		}
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

func askReady(ctx context.Context, url string) (answer string, ready bool, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", false, fmt.Errorf("ask %s: %w", url, err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", false, fmt.Errorf("ask the agent: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return "", false, fmt.Errorf("read the agent's answer: %w", err)
	}
	return strings.TrimSpace(string(body)), resp.StatusCode == http.StatusOK, nil
}

func newVersion(p program) *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Show which build this is",
		Args:  cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintf(p.out, "budcluster-agent %s (%s)\n", buildinfo.Version(), buildinfo.Commit())
			return err
		},
	}
}
