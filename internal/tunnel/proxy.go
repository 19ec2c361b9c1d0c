package tunnel

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"golang.org/x/net/http/httpproxy"

	"github.com/budecosystem/budcluster/internal/buildinfo"
)

// maxProxyAnswer bounds the head of a proxy's answer.
const maxProxyAnswer = 64 << 10

// ProxyFromConfig reads HTTPS_PROXY and NO_PROXY the way Go's own clients do:
// no proxy for loopback addresses, NO_PROXY with domains, addresses and CIDRs.
func ProxyFromConfig(httpsProxy, noProxy string) func(hostport string) (*url.URL, error) {
	if httpsProxy = strings.TrimSpace(httpsProxy); httpsProxy == "" {
		return func(string) (*url.URL, error) { return nil, nil } //nolint:nilnil // nil is no proxy
	}
	if !isProxyURL(httpsProxy) { // which httpproxy would silently take for none
		// The text may hold a password, so it is not repeated.
		return func(string) (*url.URL, error) {
			return nil, errors.New("proxy.https is not a URL; write http://host:port or https://host:port")
		}
	}
	choose := (&httpproxy.Config{HTTPSProxy: httpsProxy, NoProxy: noProxy}).ProxyFunc()
	return func(hostport string) (*url.URL, error) {
		proxy, err := choose(&url.URL{Scheme: "https", Host: hostport})
		if err != nil {
			return nil, fmt.Errorf("choose proxy: %w", err)
		}
		return proxy, nil
	}
}

// isProxyURL accepts a URL, or host:port alone.
func isProxyURL(text string) bool {
	if !strings.Contains(text, "://") {
		text = "http://" + text
	}
	u, err := url.Parse(text)
	return err == nil && u.Host != ""
}

// dialProxy reaches hostport by HTTP CONNECT. The proxy resolves the name.
func (d *Dialer) dialProxy(ctx context.Context, proxy *url.URL, hostport string, cfg *tls.Config) (*tls.Conn, error) {
	name := proxy.Redacted()
	addr, err := proxyAddress(proxy)
	if err != nil {
		return nil, err
	}
	fail := func(err error) error { return fmt.Errorf("dial hub %s through proxy %s: %w", hostport, name, err) }
	conn, err := d.eachProxyAddress(ctx, addr, func(ctx context.Context, conn net.Conn) (net.Conn, error) {
		if proxy.Scheme == "https" {
			secured, err := d.secureProxy(ctx, conn, proxy.Hostname())
			if err != nil {
				return nil, err
			}
			conn = secured
		}
		return connect(ctx, conn, proxy, hostport)
	})
	if err != nil {
		return nil, fail(err)
	}
	secured, err := secure(ctx, conn, cfg)
	if err != nil {
		_ = conn.Close()
		return nil, fail(explainDial(err, hostport))
	}
	done, _ := secured.(*tls.Conn)
	return done, nil
}

// eachProxyAddress is eachAddress with the remedies of a proxy.
func (d *Dialer) eachProxyAddress(ctx context.Context, addr string, finish func(context.Context, net.Conn) (net.Conn, error)) (net.Conn, error) {
	addresses, err := d.resolve(ctx, addr)
	if err != nil {
		return nil, fmt.Errorf("the proxy's name is not known; check proxy.https and this cluster's DNS: %w", err)
	}
	var errs []error
	for i, a := range addresses {
		conn, err := d.oneAddress(ctx, a, i == len(addresses)-1, finish)
		if err == nil {
			return conn, nil
		}
		errs = append(errs, explainProxy(err, a))
		var answered *ProxyError
		if ctx.Err() != nil || errors.As(err, &answered) {
			break // another address of the same proxy would answer the same
		}
	}
	return nil, errors.Join(errs...)
}

func explainProxy(err error, addr string) error {
	var (
		answered  *ProxyError
		record    tls.RecordHeaderError
		untrusted *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &answered):
		return err
	case errors.As(err, &record):
		return fmt.Errorf("the proxy at %s does not speak TLS; write proxy.https with http://: %w", addr, err)
	case errors.As(err, &untrusted):
		return fmt.Errorf("the proxy at %s shows a certificate that is not trusted here; give its authority in proxy.caFile: %w", addr, err)
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the proxy at %s closed the connection without an answer; check proxy.https: %w", addr, err)
	case isTimeout(err):
		return fmt.Errorf("the proxy at %s did not answer in time; check proxy.https: %w", addr, err)
	default:
		return fmt.Errorf("the proxy at %s cannot be used; check proxy.https: %w", addr, err)
	}
}

func proxyAddress(proxy *url.URL) (string, error) {
	port := proxy.Port()
	switch {
	case proxy.Hostname() == "":
		return "", errors.New("proxy.https names no host; write http://host:port or https://host:port")
	case proxy.Scheme != "http" && proxy.Scheme != "https":
		return "", fmt.Errorf("proxy.https has the scheme %q; only http and https proxies are supported", proxy.Scheme)
	case port == "" && proxy.Scheme == "https":
		port = "443"
	case port == "":
		port = "80"
	}
	return net.JoinHostPort(proxy.Hostname(), port), nil
}

func (d *Dialer) secureProxy(ctx context.Context, conn net.Conn, name string) (net.Conn, error) {
	secured := tls.Client(conn, &tls.Config{
		ServerName: name, RootCAs: d.ProxyCA, NextProtos: []string{"http/1.1"}, MinVersion: tls.VersionTLS12,
	})
	if err := secured.HandshakeContext(ctx); err != nil {
		return nil, err //nolint:wrapcheck // explained by the caller
	}
	return secured, nil
}

// ProxyError is a proxy's answer other than 200.
type ProxyError struct {
	// Code is the HTTP status.
	Code int
	// Target is the hub's host:port.
	Target string
	// Authenticated says that credentials were sent.
	Authenticated bool
}

// Error says who has to do what.
func (e *ProxyError) Error() string {
	status := strings.TrimSpace(fmt.Sprintf("%d %s", e.Code, http.StatusText(e.Code)))
	switch {
	case e.Code == http.StatusProxyAuthRequired && e.Authenticated:
		return fmt.Sprintf("the proxy refuses the user name or password (%s); check proxy.credentialsFile", status)
	case e.Code == http.StatusProxyAuthRequired:
		return fmt.Sprintf("the proxy wants a user name and password (%s); give them in proxy.credentialsFile", status)
	case e.Code == http.StatusForbidden, e.Code == http.StatusMethodNotAllowed:
		return fmt.Sprintf("the proxy does not allow CONNECT to %s (%s); have its owner allow that, or list the host in proxy.no", e.Target, status)
	case e.Code == http.StatusBadGateway, e.Code == http.StatusGatewayTimeout, e.Code == http.StatusServiceUnavailable, e.Code == http.StatusNotFound:
		return fmt.Sprintf("the proxy cannot reach %s (%s); check hub.addresses and the proxy's own network", e.Target, status)
	default:
		return fmt.Sprintf("the proxy answered CONNECT to %s with %s; check that proxy.https is a forward proxy", e.Target, status)
	}
}

// connect asks the proxy for a way to hostport.
func connect(ctx context.Context, conn net.Conn, proxy *url.URL, hostport string) (net.Conn, error) {
	// A context that ends makes the exchange fail, and so the whole dial.
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var head strings.Builder
	fmt.Fprintf(&head, "CONNECT %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: budcluster-agent/%s\r\n", hostport, hostport, buildinfo.Version())
	if proxy.User != nil {
		password, _ := proxy.User.Password()
		fmt.Fprintf(&head, "Proxy-Authorization: Basic %s\r\n",
			base64.StdEncoding.EncodeToString([]byte(proxy.User.Username()+":"+password)))
	}
	head.WriteString("\r\n")
	if _, err := io.WriteString(conn, head.String()); err != nil {
		return nil, fmt.Errorf("ask the proxy: %w", err)
	}
	limited := &io.LimitedReader{R: conn, N: maxProxyAnswer}
	reader := bufio.NewReader(limited)
	resp, err := http.ReadResponse(reader, &http.Request{Method: http.MethodConnect})
	if err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx) //nolint:wrapcheck // explained by the caller
		}
		return nil, fmt.Errorf("read the proxy's answer: %w", err)
	}
	_ = resp.Body.Close() // empty: whatever follows a CONNECT belongs to the tunnel
	if resp.StatusCode != http.StatusOK {
		return nil, &ProxyError{Code: resp.StatusCode, Target: hostport, Authenticated: proxy.User != nil}
	}
	if reader.Buffered() > 0 {
		return nil, errors.New("the proxy sent data after its answer and before the hub was asked anything")
	}
	return conn, nil
}
