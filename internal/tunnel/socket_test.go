package tunnel_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/budecosystem/budcluster/internal/pki"
	"github.com/budecosystem/budcluster/internal/tunnel"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// names is a resolver for tests.
type names map[string][]string

func (n names) LookupHost(_ context.Context, host string) ([]string, error) {
	if addrs, ok := n[host]; ok {
		return addrs, nil
	}
	return nil, &net.DNSError{Err: "no such host", Name: host, IsNotFound: true}
}

var local = names{hubName: {"127.0.0.1"}, "proxy.example.com": {"127.0.0.1"}}

// hub is an acceptor with gRPC servers of both lanes behind it.
type hub struct {
	addr     string // hub.example.com:port
	port     string
	logs     *logs
	sessions atomic.Int64
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	require.NoError(t, err)
	return ln
}

func startHub(t *testing.T, w *world, tune func(*tunnel.AcceptorConfig)) *hub {
	t.Helper()
	h := &hub{logs: &logs{}}
	control, join := tunnel.NewFanIn(), tunnel.NewFanIn()
	controlServer, joinServer := newServer(), newServer()
	var wg sync.WaitGroup
	wg.Go(func() { _ = controlServer.Serve(control) })
	wg.Go(func() { _ = joinServer.Serve(join) })
	cfg := tunnel.AcceptorConfig{
		TLS: w.server(), Logger: h.logs.logger(),
		Control: func(ctx context.Context, conn *tls.Conn) {
			session, err := tunnel.Server(conn, tunnel.Options{})
			if err != nil {
				return
			}
			h.sessions.Add(1)
			_ = control.Serve(ctx, session)
			_ = session.Close()
			h.sessions.Add(-1)
		},
		Join: func(_ context.Context, conn *tls.Conn) {
			if join.Push(conn) != nil {
				_ = conn.Close()
			}
		},
	}
	if tune != nil {
		tune(&cfg)
	}
	acceptor, err := tunnel.NewAcceptor(cfg)
	require.NoError(t, err)
	ln := listen(t)
	_, h.port, err = net.SplitHostPort(ln.Addr().String())
	require.NoError(t, err)
	h.addr = net.JoinHostPort(hubName, h.port)
	ctx, cancel := context.WithCancel(context.Background())
	wg.Go(func() { _ = acceptor.Serve(ctx, ln) })
	t.Cleanup(func() {
		cancel()
		controlServer.Stop()
		joinServer.Stop()
		wg.Wait()
	})
	return h
}

func inspect(t *testing.T, s *tunnel.Session) error {
	t.Helper()
	conn, err := s.ClientConn(tunnel.LaneControl)
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	_, err = agentv1.NewAgentServiceClient(conn).Inspect(ctx, &agentv1.InspectRequest{})
	return err
}

func dial(t *testing.T, d *tunnel.Dialer, h *hub, cfg *tls.Config) *tunnel.Session {
	t.Helper()
	conn, err := d.Dial(t.Context(), h.addr, cfg)
	require.NoError(t, err)
	session, err := tunnel.Client(conn, tunnel.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { _ = session.Close() })
	return session
}

func TestDialDirect(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := startHub(t, w, nil)
	session := dial(t, &tunnel.Dialer{Resolver: local}, h, w.agent(t))
	require.NoError(t, inspect(t, session))
	require.Equal(t, "hub hub-0", session.Peer().Subject.CommonName)
}

// Every address of the name is tried: one that refuses, and one that accepts
// and then says nothing.
func TestDialTriesEveryAddress(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := startHub(t, w, nil)
	var tried sync.Map
	d := &tunnel.Dialer{
		Resolver: names{hubName: {"192.0.2.1", "192.0.2.2", "127.0.0.1"}},
		NetDial: func(ctx context.Context, network, addr string) (net.Conn, error) {
			host, _, _ := net.SplitHostPort(addr)
			tried.Store(host, true)
			switch host {
			case "192.0.2.1":
				return nil, &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
			case "192.0.2.2":
				a, b := net.Pipe()
				_ = b.Close() // accepts, and hangs up in the handshake
				return a, nil
			default:
				return (&net.Dialer{}).DialContext(ctx, network, addr)
			}
		},
	}
	for range 20 { // the order is random
		conn, err := d.Dial(t.Context(), h.addr, w.agent(t))
		require.NoError(t, err)
		require.NoError(t, conn.Close())
	}
	for _, host := range []string{"192.0.2.1", "192.0.2.2", "127.0.0.1"} {
		_, ok := tried.Load(host)
		require.True(t, ok, host)
	}
}

func TestDialErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := startHub(t, w, nil)
	closed := listen(t)
	require.NoError(t, closed.Close())
	_, closedPort, err := net.SplitHostPort(closed.Addr().String())
	require.NoError(t, err)
	web := listen(t)
	server := &http.Server{Handler: http.NotFoundHandler(), ReadHeaderTimeout: time.Second}
	go func() { _ = server.Serve(web) }()
	t.Cleanup(func() { _ = server.Close() })
	_, webPort, err := net.SplitHostPort(web.Addr().String())
	require.NoError(t, err)
	silent := listen(t) // accepts in the kernel, never answers
	t.Cleanup(func() { _ = silent.Close() })
	_, silentPort, err := net.SplitHostPort(silent.Addr().String())
	require.NoError(t, err)
	named := func(name string) *tls.Config {
		cfg, err := pki.AgentConfig(w.cluster(t, time.Now()), w.ca.CertificatePEM(), name)
		require.NoError(t, err)
		return cfg
	}
	for name, tc := range map[string]struct {
		addr string
		cfg  *tls.Config
		says []string
	}{
		"no port":        {"hub.example.com", w.agent(t), []string{"host:port"}},
		"odd port":       {"hub.example.com:https", w.agent(t), []string{"port between"}},
		"unknown name":   {"nowhere.example.com:8443", w.agent(t), []string{"nowhere.example.com", "DNS"}},
		"nobody listens": {hubName + ":" + closedPort, w.agent(t), []string{"nothing listens", "hub.addresses"}},
		"plain HTTP":     {hubName + ":" + webPort, w.agent(t), []string{"plain HTTP", "8443"}},
		"no answer":      {hubName + ":" + silentPort, w.agent(t), []string{"did not answer in time", "proxy.https"}},
		"wrong pin":      {h.addr, pki.JoinConfig(newWorld(t).ca.Pin(), hubName, nil), []string{"not the one of the join token", "BudCluster CA"}},
		"wrong name":     {h.addr, named("other.example.com"), []string{hubName, "other.example.com", "tunnel.names"}},
		"foreign hub":    {h.addr, newWorld(t).agent(t), []string{"issued by", "inspects TLS"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := &tunnel.Dialer{Resolver: local, Timeout: time.Second}
			_, err := d.Dial(t.Context(), tc.addr, tc.cfg)
			for _, part := range tc.says {
				require.ErrorContains(t, err, part)
			}
		})
	}
}

// TLS 1.3's client is done before the hub has judged its certificate: the
// judgement is the session's error.
func TestHubJudgesTheCertificate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for name, tc := range map[string]struct {
		cert       tls.Certificate
		agent, hub string // what each side is told
	}{
		"expired": {w.cluster(t, time.Now().Add(-48*time.Hour)), "refused this agent's certificate as expired", "expired at"},
		"foreign": {newWorld(t).cluster(t, time.Now()), "not from its authority", "not by this hub's authority"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := startHub(t, w, nil)
			cfg, err := pki.AgentConfig(tc.cert, w.ca.CertificatePEM(), hubName)
			require.NoError(t, err)
			session := dial(t, &tunnel.Dialer{Resolver: local}, h, cfg)
			<-session.Done()
			require.ErrorContains(t, session.Err(), tc.agent)
			require.Equal(t, codes.Unavailable, status.Code(inspect(t, session)))
			h.logs.wait(t, tc.hub)
		})
	}
}

func TestJoinLane(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := startHub(t, w, nil)
	renew := func(cert *tls.Certificate) (*agentv1.Identity, error) {
		conn, err := (&tunnel.Dialer{Resolver: local}).Dial(t.Context(), h.addr, pki.JoinConfig(w.ca.Pin(), hubName, cert))
		require.NoError(t, err)
		client, err := tunnel.JoinClientConn(conn)
		require.NoError(t, err)
		defer func() { _ = client.Close() }()
		answer, err := agentv1.NewEnrollServiceClient(client).Renew(t.Context(), &agentv1.RenewRequest{})
		return answer.GetIdentity(), err
	}
	got, err := renew(nil)
	require.NoError(t, err)
	require.Equal(t, tunnel.LaneJoin, got.GetClusterName())
	require.Empty(t, got.GetClusterId())

	old := w.cluster(t, time.Now().Add(-48*time.Hour))
	got, err = renew(&old)
	require.NoError(t, err)
	require.Equal(t, old.Leaf.Subject.CommonName, got.GetClusterId())

	foreign := newWorld(t).cluster(t, time.Now())
	_, err = renew(&foreign)
	require.Equal(t, codes.Unavailable, status.Code(err))
	require.ErrorContains(t, err, "not from its authority")
}

// Only so many connections of the join lane are taken, and the place of one
// that was closed is free again.
func TestJoinLaneIsBounded(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := startHub(t, w, func(c *tunnel.AcceptorConfig) { c.MaxJoins = 1 })
	d := &tunnel.Dialer{Resolver: local}
	join := func() *tls.Conn {
		conn, err := d.Dial(t.Context(), h.addr, pki.JoinConfig(w.ca.Pin(), hubName, nil))
		require.NoError(t, err)
		return conn
	}
	first := join()
	client, err := tunnel.JoinClientConn(first)
	require.NoError(t, err)
	_, err = agentv1.NewEnrollServiceClient(client).Renew(t.Context(), &agentv1.RenewRequest{})
	require.NoError(t, err)

	second := join()
	_, _ = io.Copy(io.Discard, second) // ends although nobody says anything
	require.NoError(t, second.Close())
	h.logs.wait(t, "too many connections on the join lane")
	_, err = agentv1.NewEnrollServiceClient(client).Renew(t.Context(), &agentv1.RenewRequest{})
	require.NoError(t, err, "the first goes on")
	require.NoError(t, client.Close())
}

// A connection of the join lane ends by itself, whatever it does.
func TestJoinLaneLifetime(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := startHub(t, w, func(c *tunnel.AcceptorConfig) { c.JoinLifetime = 50 * time.Millisecond })
	conn, err := (&tunnel.Dialer{Resolver: local}).Dial(t.Context(), h.addr, pki.JoinConfig(w.ca.Pin(), hubName, nil))
	require.NoError(t, err)
	_, _ = io.Copy(io.Discard, conn)
	require.NoError(t, conn.Close())
}

// What is no agent costs the hub little, gets an answer if it can read one, and
// keeps nobody out.
func TestStrangers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := startHub(t, w, func(c *tunnel.AcceptorConfig) { c.HandshakeTimeout = 200 * time.Millisecond })
	knock := func(send string) string {
		conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", "127.0.0.1:"+h.port)
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		require.NoError(t, conn.SetDeadline(time.Now().Add(10*time.Second)))
		_, err = io.WriteString(conn, send)
		require.NoError(t, err)
		answer, _ := io.ReadAll(conn)
		return string(answer)
	}
	require.Contains(t, knock("GET / HTTP/1.1\r\nHost: hub\r\n\r\n"), "BudCluster agents")
	h.logs.wait(t, "plain HTTP")
	knock("\x00\x01garbage\r\n\r\n............")

	start := time.Now()
	loris := make(chan string)
	go func() { loris <- knock("\x16\x03\x01") }()
	session := dial(t, &tunnel.Dialer{Resolver: local}, h, w.agent(t))
	require.NoError(t, inspect(t, session))
	<-loris
	require.Less(t, time.Since(start), 5*time.Second)

	// A browser that speaks TLS but none of our protocols.
	browser := &tls.Config{InsecureSkipVerify: true, NextProtos: []string{"h2", "http/1.1"}, ServerName: hubName}
	_, err := (&tunnel.Dialer{Resolver: local}).Dial(t.Context(), h.addr, browser)
	require.ErrorContains(t, err, "does not speak this agent's version")
}

// Over the admission rate a connection is closed before any TLS.
func TestAdmissionRate(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := startHub(t, w, func(c *tunnel.AcceptorConfig) { c.Handshakes = rate.NewLimiter(rate.Every(time.Hour), 1) })
	d := &tunnel.Dialer{Resolver: local}
	require.NoError(t, inspect(t, dial(t, d, h, w.agent(t))))
	_, err := d.Dial(t.Context(), h.addr, w.agent(t))
	require.ErrorContains(t, err, "the hub may be busy")
	h.logs.wait(t, "over the admission rate")
}

func TestTooManyHandshakes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := startHub(t, w, func(c *tunnel.AcceptorConfig) { c.MaxHandshakes = 1 })
	loris, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", "127.0.0.1:"+h.port)
	require.NoError(t, err)
	// The kernel hands connections over in their order.
	_, err = (&tunnel.Dialer{Resolver: local}).Dial(t.Context(), h.addr, w.agent(t))
	require.ErrorContains(t, err, "the hub may be busy")
	require.NoError(t, loris.Close())
}

func TestAcceptorConfigIsChecked(t *testing.T) {
	t.Parallel()
	_, err := tunnel.NewAcceptor(tunnel.AcceptorConfig{})
	require.Error(t, err)
}

// proxy is a forward proxy.
type proxy struct {
	url    *url.URL
	seen   atomic.Int64
	ca     *x509.CertPool
	target string // where the hub really is
}

type proxyOptions struct {
	user, password string
	status         int // other than 200
	answer         string
	tls            *world
}

func startProxy(t *testing.T, target string, o proxyOptions) *proxy {
	t.Helper()
	ln := listen(t)
	p := &proxy{target: target, url: &url.URL{Scheme: "http"}}
	if o.tls != nil {
		cert, err := o.tls.ca.IssueHub([]string{"proxy.example.com"}, "proxy", time.Now(), time.Hour)
		require.NoError(t, err)
		ln = tls.NewListener(ln, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12})
		p.ca, p.url.Scheme = o.tls.pool, "https"
	}
	_, port, err := net.SplitHostPort(ln.Addr().String())
	require.NoError(t, err)
	p.url.Host = "proxy.example.com:" + port
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			conn, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { p.serve(conn, o) })
		}
	})
	t.Cleanup(func() {
		_ = ln.Close()
		wg.Wait()
	})
	return p
}

func (p *proxy) serve(conn net.Conn, o proxyOptions) {
	defer func() { _ = conn.Close() }()
	p.seen.Add(1)
	reader := bufio.NewReader(conn)
	req, err := http.ReadRequest(reader)
	say := func(text string) { _, _ = io.WriteString(conn, text) }
	if err != nil {
		say("HTTP/1.1 400 Bad Request\r\n\r\n")
		return
	}
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(o.user+":"+o.password))
	switch {
	case req.Method != http.MethodConnect:
		say("HTTP/1.1 405 Method Not Allowed\r\n\r\n")
		return
	case o.user != "" && req.Header.Get("Proxy-Authorization") != want:
		say("HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=\"x\"\r\nContent-Length: 0\r\n\r\n")
		return
	case o.answer != "":
		say(o.answer)
		return
	case o.status != 0:
		say("HTTP/1.1 " + http.StatusText(o.status) + "\r\n\r\n")
		return
	}
	out, err := (&net.Dialer{}).Dial("tcp", p.target)
	if err != nil {
		say("HTTP/1.1 502 Bad Gateway\r\n\r\n")
		return
	}
	defer func() { _ = out.Close() }()
	say("HTTP/1.1 200 Connection established\r\nX-Proxy: test\r\n\r\n")
	done := make(chan struct{}, 2)
	go func() { _, _ = io.Copy(out, reader); done <- struct{}{} }()
	go func() { _, _ = io.Copy(conn, out); done <- struct{}{} }()
	<-done
	_ = conn.Close()
	_ = out.Close()
	<-done
}

func TestProxy(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := startHub(t, w, nil)
	target := "127.0.0.1:" + h.port
	gone := listen(t)
	require.NoError(t, gone.Close())
	auth := proxyOptions{user: "agent", password: "p@ss:word"}
	for name, tc := range map[string]struct {
		options proxyOptions
		user    *url.Userinfo
		target  string
		edit    func(*url.URL)
		noCA    bool
		says    []string // empty: it works
	}{
		"plain":              {},
		"with a password":    {options: auth, user: url.UserPassword("agent", "p@ss:word")},
		"over TLS":           {options: proxyOptions{tls: newWorld(t)}},
		"over TLS, password": {options: proxyOptions{tls: newWorld(t), user: "a", password: "b"}, user: url.UserPassword("a", "b")},
		"password missing":   {options: auth, says: []string{"wants a user name", "proxy.credentialsFile"}},
		"password wrong":     {options: auth, user: url.UserPassword("agent", "guess"), says: []string{"refuses the user name or password", "proxy.credentialsFile"}},
		"not allowed": {
			options: proxyOptions{answer: "HTTP/1.1 403 Forbidden\r\n\r\n"}, says: []string{"does not allow CONNECT to hub.example.com", "have its owner allow"},
		},
		"cannot reach":    {target: gone.Addr().String(), says: []string{"cannot reach hub.example.com"}},
		"no proxy at all": {options: proxyOptions{answer: "SSH-2.0-OpenSSH_9.2\r\n"}, says: []string{"proxy.https"}},
		"hangs up":        {options: proxyOptions{answer: " "}, says: []string{"proxy.https"}},
		"a web page":      {options: proxyOptions{answer: "HTTP/1.1 301 Moved Permanently\r\nLocation: /\r\n\r\n"}, says: []string{"301", "forward proxy"}},
		"talks too early": {options: proxyOptions{answer: "HTTP/1.1 200 OK\r\n\r\nhello"}, says: []string{"sent data after its answer"}},
		"TLS not trusted": {options: proxyOptions{tls: newWorld(t)}, noCA: true, says: []string{"not trusted", "proxy.caFile"}},
		"no TLS there":    {edit: func(u *url.URL) { u.Scheme = "https" }, says: []string{"does not speak TLS", "http://"}},
		"SOCKS":           {edit: func(u *url.URL) { u.Scheme = "socks5" }, says: []string{"socks5", "only http and https"}},
		"unknown name":    {edit: func(u *url.URL) { u.Host = "nowhere.example.com:3128" }, says: []string{"DNS"}},
		"nobody there":    {edit: func(u *url.URL) { u.Host = strings.Replace(gone.Addr().String(), "127.0.0.1", "proxy.example.com", 1) }, says: []string{"proxy.https"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			to := target
			if tc.target != "" {
				to = tc.target
			}
			p := startProxy(t, to, tc.options)
			at := *p.url
			at.User = tc.user
			if tc.edit != nil {
				tc.edit(&at)
			}
			d := &tunnel.Dialer{Resolver: local, ProxyURL: tunnel.ProxyFromConfig(at.String(), ""), ProxyCA: p.ca, Timeout: 10 * time.Second}
			if tc.noCA {
				d.ProxyCA = nil
			}
			conn, err := d.Dial(t.Context(), h.addr, w.agent(t))
			if len(tc.says) > 0 {
				for _, part := range tc.says {
					require.ErrorContains(t, err, part)
				}
				require.NotContains(t, err.Error(), "p@ss")
				require.NotContains(t, err.Error(), "guess")
				return
			}
			require.NoError(t, err)
			session, err := tunnel.Client(conn, tunnel.Options{})
			require.NoError(t, err)
			require.NoError(t, inspect(t, session))
			require.Equal(t, int64(1), p.seen.Load())
			require.NoError(t, session.Close())
		})
	}
}

// A proxy that takes the connection and says nothing costs the dial's timeout.
func TestProxyThatHangs(t *testing.T) {
	t.Parallel()
	silent := listen(t)
	t.Cleanup(func() { _ = silent.Close() })
	w := newWorld(t)
	at := strings.Replace(silent.Addr().String(), "127.0.0.1", "proxy.example.com", 1)
	d := &tunnel.Dialer{Resolver: local, ProxyURL: tunnel.ProxyFromConfig("http://"+at, ""), Timeout: 200 * time.Millisecond}
	start := time.Now()
	_, err := d.Dial(t.Context(), hubName+":8443", w.agent(t))
	require.ErrorContains(t, err, "did not answer in time")
	require.Less(t, time.Since(start), 5*time.Second)
}

func TestProxyFromConfig(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct{ proxy, no, target, want string }{
		{"", "", "hub.example.com:8443", ""},
		{"http://p:3128", "", "hub.example.com:8443", "http://p:3128"},
		{"p:3128", "", "hub.example.com:8443", "http://p:3128"},
		{"http://p:3128", "example.com", "hub.example.com:8443", ""},
		{"http://p:3128", ".example.com", "hub.example.com:8443", ""},
		{"http://p:3128", "other.com", "hub.example.com:8443", "http://p:3128"},
		{"http://p:3128", "10.0.0.0/8", "10.1.2.3:8443", ""},
		{"http://p:3128", "*", "10.1.2.3:8443", ""},
		{"http://p:3128", "", "127.0.0.1:8443", ""},
	} {
		got, err := tunnel.ProxyFromConfig(tc.proxy, tc.no)(tc.target)
		require.NoError(t, err)
		if tc.want == "" {
			require.Nil(t, got, "%+v", tc)
		} else {
			require.Equal(t, tc.want, got.String(), "%+v", tc)
		}
	}
	_, err := tunnel.ProxyFromConfig("http://user:secret@[::1", "")("hub.example.com:8443")
	require.ErrorContains(t, err, "proxy.https")
	require.NotContains(t, err.Error(), "secret")
}
