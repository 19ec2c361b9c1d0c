package agent

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// serveHTTP answers the kubelet and Prometheus.
func (a *Agent) serveHTTP(ctx context.Context) error {
	ln := a.opts.Listener
	if ln == nil {
		var err error
		if ln, err = (&net.ListenConfig{}).Listen(ctx, "tcp", a.cfg.Listen); err != nil {
			return fmt.Errorf("listen on %s (listen): %w", a.cfg.Listen, err)
		}
	}
	server := &http.Server{Handler: a.Handler(), ReadHeaderTimeout: 5 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	stop := context.AfterFunc(ctx, func() { _ = server.Close() })
	defer stop()
	if err := server.Serve(ln); err != nil && !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve http: %w", err)
	}
	return nil
}

// Handler is what the agent answers by HTTP.
func (a *Agent) Handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		ready, why := a.Ready()
		if !ready {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_, _ = fmt.Fprintln(w, why)
	})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		all := prometheus.Gatherers{a.registry}
		if l := a.leading.Load(); l != nil {
			all = append(all, l.registry)
		}
		promhttp.HandlerFor(all, promhttp.HandlerOpts{}).ServeHTTP(w, r)
	})
	return mux
}

// Ready says whether the agent does what it should, and why not. A standby is
// ready once it knows who leads.
func (a *Agent) Ready() (bool, string) {
	if a.upgrades.Unproven() {
		return false, "not ready: this agent is new here and has not reached the hub yet"
	}
	if a.leading.Load() == nil {
		if a.elector != nil {
			if a.elector.Aside() {
				return true, "ok: standing aside for a new agent"
			}
			if holder := a.elector.Other(); holder != "" {
				return true, "ok: standing by, " + holder + " leads"
			}
		}
		return false, "not ready: waiting for the lease"
	}
	lines := a.board.List()
	if len(lines) == 0 {
		return true, "ok: leading, connected to the hub"
	}
	var b strings.Builder
	b.WriteString("not ready:")
	for _, line := range lines {
		fmt.Fprintf(&b, "\n%s since %s: %s", line.Reason, line.Since.UTC().Format(time.RFC3339), line.Message)
	}
	return false, b.String()
}
