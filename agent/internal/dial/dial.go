// Package dial finds a hub and understands its no.
//
// A hub has several addresses; each attempt goes through all of them in a new
// random order, so that agents spread over the replicas and one dead address
// costs a timeout and no more. What the hub refuses for good is a *RefusedError:
// trying again changes nothing until a human acts.
package dial

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"

	"github.com/budecosystem/budcluster/internal/logkey"
)

// Dialer opens one TLS connection, and its errors name the address;
// *tunnel.Dialer does.
type Dialer interface {
	Dial(ctx context.Context, hostport string, cfg *tls.Config) (*tls.Conn, error)
}

// TLS makes the TLS configuration for a hub of that name.
type TLS func(serverName string) (*tls.Config, error)

// Config is what a Hub needs.
type Config struct {
	// Addresses are host:port.
	Addresses []string
	// ServerName is the name the hub's certificate must have; empty means the
	// host of each address.
	ServerName string
	Dialer     Dialer
	Logger     *slog.Logger
}

// Hub is where the hub can be reached.
type Hub struct{ cfg Config }

// New checks the addresses. It dials nothing.
func New(cfg Config) (*Hub, error) {
	if len(cfg.Addresses) == 0 {
		return nil, errors.New("hub.addresses is empty: name at least one host:port of the hub's tunnel")
	}
	for _, a := range cfg.Addresses {
		if _, _, err := net.SplitHostPort(a); err != nil {
			return nil, fmt.Errorf("hub.addresses has %q, which is not host:port, e.g. hub.example.com:8443", a)
		}
	}
	return &Hub{cfg: cfg}, nil
}

// Dial connects to the first address that answers. The errors of all are
// joined, so that the last one does not hide the first one's reason.
func (h *Hub) Dial(ctx context.Context, config TLS) (*tls.Conn, error) {
	var errs []error
	for _, i := range rand.Perm(len(h.cfg.Addresses)) { //nolint:gosec // spreads load, hides nothing
		address := h.cfg.Addresses[i]
		conn, err := h.dialOne(ctx, address, config)
		if err == nil {
			return conn, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		h.cfg.Logger.DebugContext(ctx, "hub address did not answer", slog.String(logkey.Addr, address), slog.Any(logkey.Error, err))
		errs = append(errs, err)
	}
	return nil, errors.Join(errs...)
}

func (h *Hub) dialOne(ctx context.Context, address string, config TLS) (*tls.Conn, error) {
	name := h.cfg.ServerName
	if name == "" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			return nil, err
		}
		name = host
	}
	cfg, err := config(name)
	if err != nil {
		return nil, err
	}
	return h.cfg.Dialer.Dial(ctx, address, cfg)
}
