package hami_test

import (
	"compress/gzip"
	"context"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/hami"
)

const textFormat = "text/plain; version=0.0.4; charset=utf-8"

// serve answers with the text format.
func serve(body []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", textFormat)
		_, _ = w.Write(body) // a client that is gone
	}
}

func TestFetch(t *testing.T) {
	t.Parallel()
	scheduler := recorded(t, "scheduler-2.10")
	mux := http.NewServeMux()
	mux.Handle("/scheduler", serve(scheduler))
	mux.Handle("/monitor", serve(recorded(t, "monitor-older")))
	mux.Handle("/gone", http.NotFoundHandler())
	mux.Handle("/moved", http.RedirectHandler("/scheduler", http.StatusFound))
	mux.HandleFunc("/page", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(w, "<html>")
	})
	mux.HandleFunc("/cut", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", textFormat)
		w.Header().Set("Content-Length", "100000")
		_, _ = w.Write(scheduler)
	})
	mux.HandleFunc("/packed", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", textFormat)
		w.Header().Set("Content-Encoding", "gzip")
		z := gzip.NewWriter(w)
		_, _ = z.Write(scheduler)
		_ = z.Close()
	})
	mux.HandleFunc("/endless", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", textFormat)
		line := "# " + strings.Repeat("and so on ", 5000) + "\n"
		for r.Context().Err() == nil {
			if _, err := io.WriteString(w, line); err != nil {
				return
			}
		}
	})
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	closed := httptest.NewServer(mux)
	closed.Close()

	for name, tc := range map[string]struct {
		endpoint hami.Endpoint
		devices  int
		problem  string // a regular expression
	}{
		"scheduler":      {endpoint: hami.Endpoint{URL: server.URL + "/scheduler"}, devices: 2},
		"monitor":        {endpoint: hami.Endpoint{URL: server.URL + "/monitor", Node: "n7"}, devices: 1},
		"packed":         {endpoint: hami.Endpoint{URL: server.URL + "/packed"}, devices: 2},
		"not there":      {endpoint: hami.Endpoint{URL: server.URL + "/gone"}, problem: "the metrics of HAMi's scheduler at " + server.URL + "/gone cannot be read: it answers 404 Not Found"},
		"elsewhere":      {endpoint: hami.Endpoint{URL: server.URL + "/moved"}, problem: "it answers 302 Found"},
		"something else": {endpoint: hami.Endpoint{URL: server.URL + "/page", Node: "n7"}, problem: `the metrics of HAMi's monitor of node n7 at ` + server.URL + `/page cannot be read: it answers with "text/html", not with Prometheus's text format`},
		"cut":            {endpoint: hami.Endpoint{URL: server.URL + "/cut"}, devices: 2, problem: "the text could not be read to its end: \"unexpected EOF\""},
		"endless":        {endpoint: hami.Endpoint{URL: server.URL + "/endless"}, problem: "the text is longer than 64 MiB|it did not answer in full within 10s"}, // whichever comes first
		"nobody there":   {endpoint: hami.Endpoint{URL: closed.URL + "/scheduler"}, problem: "connection refused"},
		"no address":     {endpoint: hami.Endpoint{URL: "http://[::1"}, problem: "missing '.' in host"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := time.Now()
			views := hami.Fetch(t.Context(), server.Client(), []hami.Endpoint{tc.endpoint})
			require.Len(t, views, 1)
			require.Len(t, views[0].Devices, tc.devices)
			require.Equal(t, tc.problem != "", views[0].Partial)
			if tc.problem != "" {
				require.Len(t, views[0].Problems, 1)
				require.Regexp(t, tc.problem, views[0].Problems[0])
				return
			}
			require.Empty(t, views[0].Problems)
			require.False(t, views[0].Devices[0].Index.At.Before(before))
			if tc.endpoint.Node != "" {
				require.Equal(t, tc.endpoint.Node, views[0].Devices[0].Node)
			}
		})
	}
}

func TestFetchKeepsTheOrder(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		serve([]byte(limitOf+strings.Replace(onA, "GPU-a", "GPU-"+r.URL.Path[1:], 1)+"8.589934592e+10\n"))(w, r)
	}))
	defer server.Close()
	var endpoints []hami.Endpoint
	for at := range 50 {
		endpoints = append(endpoints, hami.Endpoint{URL: server.URL + "/" + strconv.Itoa(at)})
	}
	views := hami.Fetch(t.Context(), server.Client(), endpoints)
	require.Len(t, views, 50)
	for at, v := range views {
		require.Len(t, v.Devices, 1, v.Problems)
		require.Equal(t, "GPU-"+strconv.Itoa(at), v.Devices[0].UUID)
	}
}

// pipes is a listener and the dialer of it, for a bubble.
type pipes chan net.Conn

func (p pipes) Accept() (net.Conn, error) {
	if conn, ok := <-p; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}
func (p pipes) Close() error   { return nil }
func (p pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

func (p pipes) dial(context.Context, string, string) (net.Conn, error) {
	near, far := net.Pipe()
	p <- far
	return near, nil
}

// hanging runs f with a client of servers that hang where their path says.
func hanging(t *testing.T, f func(t *testing.T, client *http.Client)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		listener := make(pipes)
		server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", textFormat)
			if r.URL.Path == "/half" {
				_, _ = io.WriteString(w, limitOf+onA+"8.589934592e+10\n"+limitOf+onB)
				_ = http.NewResponseController(w).Flush()
			}
			if r.URL.Path != "/well" {
				<-r.Context().Done()
				return
			}
			_, _ = io.WriteString(w, limitOf+onA+"8.589934592e+10\n")
		})}
		served := make(chan struct{})
		go func() {
			defer close(served)
			_ = server.Serve(listener)
		}()
		transport := &http.Transport{DialContext: listener.dial, DisableKeepAlives: true}
		f(t, &http.Client{Transport: transport})
		close(listener)
		<-served
		_ = server.Close()
	})
}

func TestFetchWaitsForNobody(t *testing.T) {
	t.Parallel()
	hanging(t, func(t *testing.T, client *http.Client) {
		began := time.Now()
		views := hami.Fetch(t.Context(), client, []hami.Endpoint{{URL: "http://hami/silent"}, {URL: "http://hami/half", Node: "n1"}, {URL: "http://hami/well"}})
		require.Equal(t, 10*time.Second, time.Since(began))
		require.Equal(t, []string{"the metrics of HAMi's scheduler at http://hami/silent cannot be read: it did not answer in full within 10s"}, views[0].Problems)
		require.Len(t, views[1].Devices, 1, "what came is used")
		require.Equal(t, []string{`the metrics of HAMi's monitor of node n1 at http://hami/half: the text could not be read to its end: "it did not answer in full within 10s"`}, views[1].Problems)
		require.True(t, views[0].Partial && views[1].Partial)
		require.False(t, views[2].Partial)
		require.Len(t, views[2].Devices, 1)
	})
}

func TestFetchEndsWithItsContext(t *testing.T) {
	t.Parallel()
	hanging(t, func(t *testing.T, client *http.Client) {
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		began := time.Now()
		endpoints := make([]hami.Endpoint, 20)
		for i := range endpoints {
			endpoints[i].URL = "http://hami/silent"
		}
		views := hami.Fetch(ctx, client, endpoints)
		require.Equal(t, time.Second, time.Since(began))
		for _, v := range views {
			require.True(t, v.Partial)
			require.Equal(t, []string{"the metrics of HAMi's scheduler at http://hami/silent cannot be read: context canceled"}, v.Problems)
		}
	})
}
