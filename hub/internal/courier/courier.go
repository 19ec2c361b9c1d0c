// Package courier posts messages to other people's servers. Whoever names such
// a server must not be able to make the hub reach into its own network by it.
//
//	Post ── resolve ── allowed address? ── dial that address ── TLS ── status
//
// The check is made of each address just before it is dialed, so that a name
// that leads elsewhere the second time gains nothing. Redirects are not
// followed, a proxy of the environment is not used, and of an answer nothing
// is kept but its status.
package courier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"syscall"
	"time"

	"github.com/budecosystem/budcluster/hub/internal/webhook"
)

// maxAnswer is how much of an answer is read, so that its connection can be
// used again.
const maxAnswer = 64 << 10

// Config makes a Courier.
type Config struct {
	// Allow is nil for an address that may be dialed.
	Allow func(netip.Addr) error
	// UserAgent names the sender.
	UserAgent string
	// Transport, when not nil, changes the transport: a test's certificates.
	Transport func(*http.Transport)
}

// Courier posts.
type Courier struct {
	client *http.Client
	agent  string
}

var _ webhook.Poster = (*Courier)(nil)

// New checks cfg and makes a Courier.
func New(cfg Config) (*Courier, error) {
	if cfg.Allow == nil || cfg.UserAgent == "" {
		return nil, errors.New("courier: a check of addresses and a name of the sender are needed")
	}
	dialer := &net.Dialer{Timeout: 5 * time.Second, Control: func(_, address string, _ syscall.RawConn) error {
		to, err := netip.ParseAddrPort(address)
		if err != nil {
			return fmt.Errorf("read address %s: %w", address, err)
		}
		return cfg.Allow(to.Addr())
	}}
	transport := &http.Transport{
		DialContext: dialer.DialContext, ForceAttemptHTTP2: true, MaxIdleConns: 100, MaxIdleConnsPerHost: 2, IdleConnTimeout: 90 * time.Second,
		TLSHandshakeTimeout: 5 * time.Second, MaxResponseHeaderBytes: 64 << 10,
	}
	if cfg.Transport != nil {
		cfg.Transport(transport)
	}
	return &Courier{agent: cfg.UserAgent, client: &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}}, nil
}

// Post sends one message of JSON and returns the status of the answer.
func (c *Courier) Post(ctx context.Context, p webhook.Post) (int, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, p.URL, bytes.NewReader(p.Body))
	if err != nil {
		return 0, errors.New("the address cannot be read")
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("User-Agent", c.agent)
	for name, value := range p.Header {
		req.Header.Set(name, value)
	}
	resp, err := c.client.Do(req)
	if err != nil {
		return 0, why(ctx, err)
	}
	_, _ = io.Copy(io.Discard, io.LimitReader(resp.Body, maxAnswer)) // only for the next use of the connection
	_ = resp.Body.Close()
	return resp.StatusCode, nil
}

// why says what went wrong without the address, whose path may be a secret.
func why(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	if wrapped, ok := errors.AsType[*url.Error](err); ok {
		return wrapped.Err
	}
	return err
}
