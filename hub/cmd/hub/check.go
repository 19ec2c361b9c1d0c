package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/budecosystem/budcluster/internal/pki"
)

// check is what the command asks.
type check struct {
	url        string
	insecure   bool
	tunnel     string
	tunnelName string
	timeout    time.Duration
}

func newCheck(p program) *cobra.Command {
	var c check
	cmd := &cobra.Command{
		Use:   "check",
		Short: "Ask a running hub whether it is ready, and wait until it is",
		Long: `Asks a running hub whether it is ready, and with --tunnel also whether agents
could reach it: whether the tunnel answers, and whether its certificate is for
the name that agents dial. It asks again until both are so or the time is up,
and then says what is wrong.`,
		Example: `  # what "helm test" runs
  budcluster-hub check --url http://budcluster-hub.budcluster.svc:8080 \
    --tunnel budcluster-hub-tunnel.budcluster.svc:8443 --tunnel-name hub.example.com`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := context.WithTimeoutCause(cmd.Context(), c.timeout, fmt.Errorf("the hub was not ready within %s", c.timeout))
			defer cancel()
			return c.await(ctx, p.out)
		},
	}
	cmd.Flags().StringVar(&c.url, "url", "http://127.0.0.1:8080", "where the API listens")
	cmd.Flags().BoolVar(&c.insecure, "insecure", false, "accept any certificate of the API: nothing secret is said to it")
	cmd.Flags().StringVar(&c.tunnel, "tunnel", "", "host:port of the tunnel; empty asks only the API")
	cmd.Flags().StringVar(&c.tunnelName, "tunnel-name", "", "name that the tunnel's certificate must be for; empty is the host of --tunnel")
	cmd.Flags().DurationVar(&c.timeout, "timeout", 10*time.Second, "how long to wait")
	return cmd
}

// await asks until the answers are good; when the time is up it returns the
// last one that was not.
func (c check) await(ctx context.Context, out io.Writer) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		err := c.once(ctx, out)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("%w: %w", context.Cause(ctx), err)
		case <-tick.C:
		}
	}
}

func (c check) once(ctx context.Context, out io.Writer) error {
	answer, err := c.askReady(ctx)
	if err != nil {
		return err
	}
	if c.tunnel == "" {
		_, err = fmt.Fprintln(out, answer)
		return err
	}
	names, err := c.askTunnel(ctx)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s\ntunnel answers as %s\n", answer, strings.Join(names, ", "))
	return err
}

func (c check) askReady(ctx context.Context) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.TrimSuffix(c.url, "/")+"/readyz", nil)
	if err != nil {
		return "", fmt.Errorf("ask %s: %w", c.url, err)
	}
	client := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{
		MinVersion: tls.VersionTLS12, InsecureSkipVerify: c.insecure, //nolint:gosec // what --insecure asks for
	}}}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		return "", fmt.Errorf("ask the hub: %w", err)
	}
	defer func() { _ = resp.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(resp.Body, 64<<10))
	if err != nil {
		return "", fmt.Errorf("read the hub's answer: %w", err)
	}
	answer := strings.TrimSpace(string(body))
	if resp.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the hub answers %s: %s", resp.Status, answer)
	}
	return answer, nil
}

// askTunnel shakes hands as an agent that comes to join, and returns the names
// in the certificate. Whose CA signed it is not asked: only a join token knows.
func (c check) askTunnel(ctx context.Context) ([]string, error) {
	name := c.tunnelName
	if name == "" {
		host, _, err := net.SplitHostPort(c.tunnel)
		if err != nil {
			return nil, fmt.Errorf("--tunnel %q is not of the form host:port", c.tunnel)
		}
		name = host
	}
	dialer := tls.Dialer{Config: &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{pki.ALPNJoin}, InsecureSkipVerify: true, //nolint:gosec // see above
	}}
	conn, err := dialer.DialContext(ctx, "tcp", c.tunnel)
	if err != nil {
		return nil, fmt.Errorf("dial the tunnel: %w", err)
	}
	defer func() { _ = conn.Close() }()
	secured, ok := conn.(*tls.Conn)
	if !ok {
		return nil, errors.New("dial the tunnel: no TLS")
	}
	leaf := secured.ConnectionState().PeerCertificates[0]
	names := leaf.DNSNames
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	if err := leaf.VerifyHostname(name); err != nil {
		return nil, fmt.Errorf("the tunnel's certificate is for %s, not for %s; agents that dial it would refuse: set tunnel.address or tunnel.names",
			strings.Join(names, ", "), name)
	}
	return names, nil
}
