package dapr

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/budecosystem/budcluster/internal/logkey"
	"github.com/budecosystem/budcluster/internal/secret"
)

// tokenHeader authenticates in both directions: our calls to the sidecar, and
// the sidecar's to us.
const tokenHeader = "Dapr-Api-Token" //nolint:gosec // a header's name

const (
	// DefaultTimeout bounds one call.
	DefaultTimeout = 30 * time.Second
	// DefaultStartTimeout bounds how long a call waits for a sidecar that has
	// never answered.
	DefaultStartTimeout = 60 * time.Second
	// MaxBody is what a sidecar takes in one request, unless it was started with
	// a larger --max-body-size.
	MaxBody = 4 << 20
	// dialTimeout bounds a connection's begin: the sidecar is on this machine.
	dialTimeout = 5 * time.Second
	// maxAnswer bounds what is read of one answer.
	maxAnswer = 64 << 20
)

// Config says where the sidecar is.
type Config struct {
	// Address of its HTTP API, host:port.
	Address string
	// Token that it wants to see, DAPR_API_TOKEN on its side; empty if none.
	Token secret.String
	Log   *slog.Logger

	// Timeout of one call. Default: DefaultTimeout.
	Timeout time.Duration
	// StartTimeout is how long calls wait for a sidecar that has never answered.
	// Default: DefaultStartTimeout.
	StartTimeout time.Duration
	// Dial opens connections, instead of TCP. May be nil.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
}

// Client calls one sidecar. It is safe for concurrent use.
type Client struct {
	address string
	token   secret.String
	log     *slog.Logger
	http    *http.Client
	timeout time.Duration
	start   time.Duration
	up      atomic.Bool // the sidecar has answered once
}

// New makes a client; nothing is called yet.
func New(cfg Config) (*Client, error) {
	host, port, err := net.SplitHostPort(cfg.Address)
	if err != nil || host == "" || port == "" {
		return nil, fmt.Errorf("dapr.httpAddress %q is not host:port; give the sidecar's HTTP address, such as 127.0.0.1:3500", cfg.Address)
	}
	if strings.ContainsAny(cfg.Token.Reveal(), " \t\r\n") {
		return nil, errors.New("dapr.apiTokenFile holds white space inside the token; it must hold the token alone")
	}
	if cfg.Log == nil {
		return nil, errors.New("dapr: no logger")
	}
	if cfg.Dial == nil {
		cfg.Dial = (&net.Dialer{Timeout: dialTimeout}).DialContext // the transport does not end a dial when the call ends
	}
	transport := &http.Transport{ // no proxy: the sidecar is beside us
		DialContext:         cfg.Dial,
		MaxIdleConnsPerHost: 16,
		IdleConnTimeout:     90 * time.Second,
	}
	return &Client{
		address: cfg.Address,
		token:   cfg.Token,
		log:     cfg.Log,
		http:    &http.Client{Transport: transport, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }},
		timeout: cmp.Or(cfg.Timeout, DefaultTimeout),
		start:   cmp.Or(cfg.StartTimeout, DefaultStartTimeout),
	}, nil
}

// Close drops idle connections. Calls that run are ended by their contexts.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// call is one request and the words for its errors.
type call struct {
	doing  string // "publish to topic x of pubsub y"
	method string
	path   []string // segments below /v1.0, escaped by us
	query  url.Values
	header http.Header
	body   []byte
}

// answer is what came back, read to its end.
type answer struct {
	status int
	header http.Header
	body   []byte
}

// do waits for a sidecar that has never answered, calls it, and makes any
// answer but 2xx an *Error.
func (c *Client) do(ctx context.Context, r call) (answer, error) {
	if len(r.body) > MaxBody {
		return answer{}, fmt.Errorf("%s: %d bytes are more than the %d that a sidecar takes in one request", r.doing, len(r.body), MaxBody)
	}
	if err := c.awaitStart(ctx); err != nil {
		return answer{}, fmt.Errorf("%s: %w", r.doing, err)
	}
	got, err := c.send(ctx, r)
	if err != nil {
		return answer{}, fmt.Errorf("%s: %w", r.doing, err)
	}
	if got.status/100 != 2 {
		return answer{}, fmt.Errorf("%s: %w", r.doing, c.refusal(got))
	}
	return got, nil
}

// send is one exchange, whatever its status.
func (c *Client) send(ctx context.Context, r call) (answer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.timeout, fmt.Errorf("the sidecar did not answer in %s", c.timeout))
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, r.method, c.target(r), bytes.NewReader(r.body))
	if err != nil {
		return answer{}, err
	}
	if r.header != nil {
		request.Header = r.header
	}
	if token := c.token.Reveal(); token != "" {
		request.Header.Set(tokenHeader, token)
	}
	response, err := c.http.Do(request)
	if err != nil {
		return answer{}, c.unreachable(ctx, err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer+1))
	if err != nil {
		return answer{}, c.unreachable(ctx, err)
	}
	if len(body) > maxAnswer {
		return answer{}, fmt.Errorf("the sidecar answered with more than %d bytes", maxAnswer)
	}
	return answer{status: response.StatusCode, header: response.Header, body: body}, nil
}

// target is the call's URL; whatever stands in a segment stays in it.
func (c *Client) target(r call) string {
	var target strings.Builder
	target.WriteString("http://" + c.address + "/v1.0")
	for _, segment := range r.path {
		target.WriteString("/" + url.PathEscape(segment))
	}
	if len(r.query) > 0 {
		target.WriteString("?" + r.query.Encode())
	}
	return target.String()
}

// decode reads an answer's JSON.
func decode(r call, got answer, into any) error {
	if len(got.body) == 0 {
		return nil // nothing found
	}
	if err := json.Unmarshal(got.body, into); err != nil {
		return fmt.Errorf("%s: read the sidecar's answer: %w", r.doing, shapeOf(err))
	}
	return nil
}

// shapeOf keeps what was wrong with a document and drops what stood in it,
// which may be a secret.
func shapeOf(err error) error {
	if mistyped, ok := errors.AsType[*json.UnmarshalTypeError](err); ok {
		kind, _, _ := strings.Cut(mistyped.Value, " ") // after it may come the number itself
		return fmt.Errorf("a JSON %s stands where none belongs, at byte %d", kind, mistyped.Offset)
	}
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("not JSON, at byte %d", syntax.Offset)
	}
	return errors.New("not the JSON that was expected")
}

// awaitStart lets the first calls wait until the sidecar is there. Both start
// together, and the sidecar loads its components meanwhile.
func (c *Client) awaitStart(ctx context.Context) error {
	if c.up.Load() {
		return nil
	}
	starting, cancel := context.WithTimeoutCause(ctx, c.start, fmt.Errorf("the sidecar at %s was not ready in %s", c.address, c.start))
	defer cancel()
	err := c.Wait(starting)
	if err != nil && ctx.Err() == nil && !errors.Is(err, ErrUnreachable) {
		return fmt.Errorf("%w: %w", ErrUnreachable, err) // it answers, but not yet what it is for
	}
	return err
}

// Wait returns when the sidecar can be called: its components are loaded. It
// does not want the sidecar to have found this program's own port, which may
// open later.
func (c *Client) Wait(ctx context.Context) error {
	const first, most = 20 * time.Millisecond, time.Second
	pause := time.NewTimer(0)
	defer pause.Stop()
	var last error
	said := false
	for between := first; ; between = min(2*between, most) {
		select {
		case <-ctx.Done():
			if last == nil {
				return context.Cause(ctx)
			}
			return fmt.Errorf("%w: %w", context.Cause(ctx), last)
		case <-pause.C:
		}
		got, err := c.send(ctx, call{method: http.MethodGet, path: []string{"healthz", "outbound"}})
		switch {
		case err != nil:
			if ctx.Err() == nil || last == nil { // else it says no more than that the waiting is over
				last = err
			}
		case got.status/100 != 2:
			last = c.refusal(got)
		default:
			if !c.up.Swap(true) {
				c.log.InfoContext(ctx, "sidecar is ready", slog.String(logkey.Addr, c.address))
			}
			return nil
		}
		if !said && between == most {
			said = true
			c.log.WarnContext(ctx, "sidecar is not ready; waiting for it", slog.String(logkey.Addr, c.address), slog.Any(logkey.Error, last))
		}
		pause.Reset(between)
	}
}
