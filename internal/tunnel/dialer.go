package tunnel

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/url"
	"slices"
	"strconv"
	"time"
)

const (
	// DefaultDialTimeout bounds one Dial with everything in it.
	DefaultDialTimeout = 20 * time.Second
	// perAddress is what one address may take of it while others remain.
	perAddress = 5 * time.Second
	// unacknowledged is when the kernel gives a connection up: the time in
	// which the control stream notices a vanished peer too.
	unacknowledged = 25 * time.Second
)

// Resolver finds the addresses of a host; *net.Resolver is one.
type Resolver interface {
	LookupHost(ctx context.Context, host string) ([]string, error)
}

// Dialer makes the agent's connections to the hub.
type Dialer struct {
	// ProxyURL gives the proxy for a hub's host:port, nil for none.
	// ProxyFromConfig makes one. May be nil.
	ProxyURL func(hostport string) (*url.URL, error)
	// ProxyCA are the authorities to trust for an HTTPS proxy, nil for the
	// system's.
	ProxyCA *x509.CertPool
	// Resolver is the system's by default.
	Resolver Resolver
	// NetDial is a net.Dialer's by default. It gets IP addresses.
	NetDial func(ctx context.Context, network, addr string) (net.Conn, error)
	// Timeout is DefaultDialTimeout by default.
	Timeout time.Duration
}

// Dial connects to hostport, through the proxy if there is one for it, and
// secures the connection. Every address that the name resolves to is tried, in
// random order, until one works. Errors are sentences.
func (d *Dialer) Dial(ctx context.Context, hostport string, cfg *tls.Config) (*tls.Conn, error) {
	if _, err := checkHostPort(hostport); err != nil {
		return nil, err
	}
	timeout := cmp.Or(d.Timeout, DefaultDialTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("over %s: %w", timeout, context.DeadlineExceeded))
	defer cancel()
	var proxy *url.URL
	if d.ProxyURL != nil {
		var err error
		if proxy, err = d.ProxyURL(hostport); err != nil {
			return nil, fmt.Errorf("dial hub %s: %w", hostport, err)
		}
	}
	if proxy != nil {
		return d.dialProxy(ctx, proxy, hostport, cfg)
	}
	conn, err := d.eachAddress(ctx, hostport, func(ctx context.Context, conn net.Conn) (net.Conn, error) {
		return secure(ctx, conn, cfg)
	})
	if err != nil {
		return nil, fmt.Errorf("dial hub %s: %w", hostport, err)
	}
	secured, _ := conn.(*tls.Conn)
	return secured, nil
}

// eachAddress dials the addresses of hostport until one connects and finish
// succeeds on it: behind a name there may be a dead replica that still accepts
// connections.
func (d *Dialer) eachAddress(ctx context.Context, hostport string, finish func(context.Context, net.Conn) (net.Conn, error)) (net.Conn, error) {
	addresses, err := d.resolve(ctx, hostport)
	if err != nil {
		return nil, explainDial(err, hostport)
	}
	var errs []error
	for i, addr := range addresses {
		conn, err := d.oneAddress(ctx, addr, i == len(addresses)-1, finish)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, explainDial(err, addr))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, errors.Join(errs...)
}

func (d *Dialer) oneAddress(ctx context.Context, addr string, last bool, finish func(context.Context, net.Conn) (net.Conn, error)) (net.Conn, error) {
	if !last {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, perAddress)
		defer cancel()
	}
	dial := d.NetDial
	if dial == nil {
		dial = (&net.Dialer{}).DialContext
	}
	conn, err := dial(ctx, "tcp", addr)
	if err != nil {
		return nil, err //nolint:wrapcheck // explained by the caller
	}
	userTimeout(conn, unacknowledged)
	done, err := finish(ctx, conn)
	if err != nil {
		_ = conn.Close()
		return nil, err
	}
	return done, nil
}

func (d *Dialer) resolve(ctx context.Context, hostport string) ([]string, error) {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil {
		return nil, fmt.Errorf("address %q is not of the form host:port: %w", hostport, err)
	}
	if net.ParseIP(host) != nil {
		return []string{hostport}, nil
	}
	var resolver Resolver = net.DefaultResolver
	if d.Resolver != nil {
		resolver = d.Resolver
	}
	hosts, err := resolver.LookupHost(ctx, host)
	if err != nil {
		return nil, err //nolint:wrapcheck // explained by the caller
	}
	if len(hosts) == 0 {
		return nil, &net.DNSError{Err: "no addresses", Name: host, IsNotFound: true}
	}
	addresses := slices.Clone(hosts)
	//nolint:gosec // the order is no secret
	rand.Shuffle(len(addresses), func(i, j int) { addresses[i], addresses[j] = addresses[j], addresses[i] })
	for i, a := range addresses {
		addresses[i] = net.JoinHostPort(a, port)
	}
	return addresses, nil
}

// secure does the TLS handshake of the tunnel itself.
func secure(ctx context.Context, conn net.Conn, cfg *tls.Config) (net.Conn, error) {
	secured := tls.Client(conn, cfg)
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, err //nolint:wrapcheck // explained by the caller
	}
	// A server that ignores the protocol list is no hub, even if it has the
	// right certificate.
	if got := secured.ConnectionState().NegotiatedProtocol; len(cfg.NextProtos) > 0 && got == "" {
		return nil, errors.New("the peer is not the hub's tunnel, though it has the hub's certificate; check hub.addresses")
	}
	return secured, nil
}

func checkHostPort(hostport string) (host string, err error) {
	host, port, err := net.SplitHostPort(hostport)
	if err != nil || host == "" {
		return "", fmt.Errorf("hub address %q is not of the form host:port, for example hub.example.com:8443", hostport)
	}
	if n, err := strconv.Atoi(port); err != nil || n < 1 || n > 65535 {
		return "", fmt.Errorf("hub address %q has no port between 1 and 65535, for example hub.example.com:8443", hostport)
	}
	return host, nil
}
