package install

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"syscall"
	"time"

	"k8s.io/client-go/rest"

	"github.com/budecosystem/budcluster/internal/buildinfo"
	"github.com/budecosystem/budcluster/internal/kubeconfig"
)

const (
	dialTimeout    = 10 * time.Second
	requestTimeout = 20 * time.Second
	// maxAnswer bounds one answer: the discovery of a cluster with hundreds of
	// custom resources has a few MiB.
	maxAnswer = 64 << 20
)

// addressError is an address that must not be dialed.
type addressError struct{ why string }

// Error reads on from the server.
func (e *addressError) Error() string { return e.why }

// redirectError is a server that sends us elsewhere.
type redirectError struct{ code int }

// Error does not repeat where to.
func (e *redirectError) Error() string {
	return fmt.Sprintf("it answered with a redirection (%d)", e.code)
}

// access makes the client configuration. All clients share one transport:
// client-go would make a pool of connections for each.
func access(c *kubeconfig.Config, allowed kubeconfig.Addresses) (*rest.Config, error) {
	tc := &tls.Config{MinVersion: tls.VersionTLS12, ServerName: c.ServerName, InsecureSkipVerify: c.Insecure} //nolint:gosec // asked for, and said
	if len(c.AuthorityPEM) > 0 {
		tc.RootCAs = x509.NewCertPool()
		tc.RootCAs.AppendCertsFromPEM(c.AuthorityPEM)
	}
	if len(c.ClientCertificatePEM) > 0 {
		pair, err := tls.X509KeyPair(c.ClientCertificatePEM, []byte(c.ClientKeyPEM.Reveal()))
		if err != nil {
			return nil, fmt.Errorf("use the client certificate of the kubeconfig: its key does not fit")
		}
		tc.Certificates = []tls.Certificate{pair}
	}
	dialer := &net.Dialer{Timeout: dialTimeout, KeepAlive: 15 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		at, err := netip.ParseAddrPort(address)
		if err != nil {
			return &addressError{"leads to an address that is none"}
		}
		if err := allowed.Check(at.Addr()); err != nil {
			return &addressError{err.Error()}
		}
		return nil
	}}
	return &rest.Config{
		Host: c.Server, BearerToken: c.Token.Reveal(),
		UserAgent: "budcluster-installer/" + buildinfo.Version(), QPS: 50, Burst: 100,
		Timeout: requestTimeout, WarningHandler: rest.NoWarnings{},
		Transport: &wary{next: &http.Transport{
			DialContext: dialer.DialContext, TLSClientConfig: tc, ForceAttemptHTTP2: true,
			TLSHandshakeTimeout: dialTimeout, IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: 64 << 10,
		}},
	}, nil
}

// wary refuses redirections, after which the credential would go to a server
// that the file does not name, and bounds answers.
type wary struct{ next http.RoundTripper }

// RoundTrip implements http.RoundTripper.
func (w *wary) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := w.next.RoundTrip(req)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 && resp.StatusCode < 400 && resp.StatusCode != http.StatusNotModified {
		_ = resp.Body.Close()
		return nil, &redirectError{code: resp.StatusCode}
	}
	resp.Body = &bounded{Reader: io.LimitReader(resp.Body, maxAnswer), Closer: resp.Body}
	return resp, nil
}

type bounded struct {
	io.Reader
	io.Closer
}

// patience is a context for one question.
func patience(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, requestTimeout, fmt.Errorf("the API server did not answer within %s", requestTimeout))
}
