package hubapi

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxAnswer bounds what is read of one answer; the largest, a page of a
// thousand nodes, is far below.
const maxAnswer = 64 << 20

// Client calls a hub's /v1.
type Client struct {
	base  *url.URL
	key   string
	http  *http.Client
	agent string
	retry time.Duration
	poll  time.Duration
}

// Options are the tunables of a Client; the zero value is good.
type Options struct {
	// HTTPClient is used instead of a plain one. It must have no Timeout, which
	// would end event streams; contexts bound every call.
	HTTPClient *http.Client
	// UserAgent names the program in the hub's log.
	UserAgent string
	// RetryBase is the first pause before a broken stream is opened again; it
	// doubles up to thirty times its size. Default 500 ms.
	RetryBase time.Duration
	// PollInterval is how often Watch and Wait look again without having been
	// woken by an event. Default 5 s.
	PollInterval time.Duration
}

// New makes a client of the hub at baseURL, e.g. https://hub.example.com:8080.
// The key may be empty for routes that need none.
func New(baseURL, key string, o Options) (*Client, error) {
	u, err := ParseURL(baseURL)
	if err != nil {
		return nil, err
	}
	if strings.ContainsAny(key, " \t\r\n") {
		return nil, errors.New("the API key contains white space; give the one line that was printed when it was made")
	}
	c := &Client{
		base:  u,
		key:   key,
		http:  o.HTTPClient,
		agent: cmp.Or(o.UserAgent, "budcluster-go"),
		retry: cmp.Or(o.RetryBase, 500*time.Millisecond),
		poll:  cmp.Or(o.PollInterval, 5*time.Second),
	}
	if c.http == nil {
		c.http = &http.Client{}
	}
	return c, nil
}

// ParseURL checks the address of a hub.
func ParseURL(s string) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil, u.Host == "", u.Scheme != "http" && u.Scheme != "https":
		return nil, fmt.Errorf("hub URL %q is not an http or https address; give it as https://host:port", s)
	case u.User != nil:
		return nil, errors.New("hub URL holds a user name or password; leave them out and use an API key")
	case u.RawQuery != "" || u.Fragment != "":
		return nil, fmt.Errorf("hub URL %q holds a query or fragment; give it as https://host:port", s)
	}
	u.Path = strings.TrimRight(u.Path, "/")
	return u, nil
}

// URL is the hub's address.
func (c *Client) URL() string { return c.base.String() }

// request is one call.
type request struct {
	method string
	path   []string // segments below /v1, escaped by us
	query  url.Values
	header http.Header
	body   any       // encoded as JSON
	raw    io.Reader // sent as it is; header names its type
}

// do calls and decodes the answer into out, which may be nil.
func (c *Client) do(ctx context.Context, r request, out any) (*http.Response, error) {
	resp, err := c.open(ctx, r)
	if err != nil {
		return nil, err
	}
	defer drain(resp.Body)
	if out == nil || resp.StatusCode == http.StatusNoContent {
		return resp, nil
	}
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, &UnreachableError{URL: c.URL(), Err: fmt.Errorf("read answer: %w", err)}
	}
	if err := json.Unmarshal(body, out); err != nil {
		return nil, fmt.Errorf("decode answer of %s %s: %w", r.method, resp.Request.URL.Path, err)
	}
	return resp, nil
}

// open calls and returns a successful answer unread.
func (c *Client) open(ctx context.Context, r request) (*http.Response, error) {
	req, err := c.newRequest(ctx, r)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return nil, fmt.Errorf("%s %s: %w", req.Method, req.URL.Path, cause)
		}
		return nil, &UnreachableError{URL: c.URL(), Err: withoutURL(err)}
	}
	if resp.StatusCode >= http.StatusMultipleChoices {
		defer drain(resp.Body)
		return nil, readProblem(resp)
	}
	return resp, nil
}

func (c *Client) newRequest(ctx context.Context, r request) (*http.Request, error) {
	body := r.raw
	if r.body != nil {
		b, err := json.Marshal(r.body)
		if err != nil {
			return nil, fmt.Errorf("encode request: %w", err)
		}
		body = bytes.NewReader(b)
	}
	u := *c.base
	segments := make([]string, 0, len(r.path))
	for _, s := range r.path {
		segments = append(segments, url.PathEscape(s))
	}
	escaped := u.EscapedPath() + "/v1/" + strings.Join(segments, "/")
	plain, err := url.PathUnescape(escaped)
	if err != nil {
		return nil, fmt.Errorf("make request path: %w", err)
	}
	u.Path, u.RawPath, u.RawQuery = plain, escaped, r.query.Encode()
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), body)
	if err != nil {
		return nil, fmt.Errorf("make request: %w", err)
	}
	maps.Copy(req.Header, r.header)
	if r.body != nil {
		req.Header.Set("Content-Type", "application/json")
	}
	if req.Header.Get("Accept") == "" {
		req.Header.Set("Accept", "application/json, application/problem+json")
	}
	req.Header.Set("User-Agent", c.agent)
	if c.key != "" {
		req.Header.Set("Authorization", "Bearer "+c.key)
	}
	return req, nil
}

// withoutURL drops net/http's own "Get \"https://…\": " in front of the cause.
func withoutURL(err error) error {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		return ue.Err
	}
	return err
}

// drain lets the connection be used again.
func drain(body io.ReadCloser) {
	_, _ = io.Copy(io.Discard, io.LimitReader(body, 64<<10))
	_ = body.Close()
}

func setInt(q url.Values, key string, n int64) {
	if n != 0 {
		q.Set(key, strconv.FormatInt(n, 10))
	}
}

func setString(q url.Values, key, s string) {
	if s != "" {
		q.Set(key, s)
	}
}
