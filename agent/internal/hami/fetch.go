package hami

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"time"

	"github.com/budecosystem/budcluster/internal/run"
)

const (
	// fetchTimeout is for one endpoint, from the dial to the last byte. A monitor
	// opens and closes NVML for each answer, which takes seconds where the driver
	// is slow.
	fetchTimeout = 10 * time.Second
	// fetchAtOnce bounds the connections and the buffers.
	fetchAtOnce = 8
)

// Endpoint serves metrics.
type Endpoint struct {
	// URL is complete, e.g. http://10.1.2.3:9394/metrics.
	URL string
	// Node is the node of a monitor, and empty for the scheduler.
	Node string
}

func (e Endpoint) String() string {
	if e.Node == "" {
		return "HAMi's scheduler at " + e.URL
	}
	return fmt.Sprintf("HAMi's monitor of node %s at %s", e.Node, e.URL)
}

type job struct {
	endpoint Endpoint
	view     View
	done     bool
}

// Fetch reads endpoints, several at a time, and returns a View for each in their
// order. One that cannot be read, or not in time or not to its end, is Partial and
// says why. No redirect is followed: an exporter has no reason for one.
func Fetch(ctx context.Context, client *http.Client, endpoints []Endpoint) []View {
	direct := *client
	direct.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	jobs := make([]job, len(endpoints))
	todo := make([]*job, len(endpoints))
	for i, e := range endpoints {
		jobs[i].endpoint, todo[i] = e, &jobs[i]
	}
	err := run.Each(ctx, fetchAtOnce, todo, func(ctx context.Context, j *job) error {
		j.view, j.done = fetch(ctx, &direct, j.endpoint), true
		return nil
	})
	views := make([]View, len(jobs))
	for i, j := range jobs {
		if views[i] = j.view; !j.done { // the context ended before its turn
			views[i] = unread(j.endpoint, err)
		}
	}
	return views
}

func unread(from Endpoint, err error) View {
	return View{Partial: true, Problems: []string{fmt.Sprintf("the metrics of %s cannot be read: %v", from, err)}}
}

func fetch(ctx context.Context, client *http.Client, from Endpoint) View {
	late := fmt.Errorf("it did not answer in full within %v", fetchTimeout)
	ctx, cancel := context.WithTimeoutCause(ctx, fetchTimeout, late)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, from.URL, http.NoBody)
	if err != nil {
		return unread(from, err)
	}
	req.Header.Set("Accept", "text/plain;version=0.0.4")
	at := time.Now()
	resp, err := client.Do(req)
	if err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		return unread(from, err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return unread(from, fmt.Errorf("it answers %s", resp.Status))
	}
	if kind, _, err := mime.ParseMediaType(resp.Header.Get("Content-Type")); err != nil || kind != "text/plain" {
		return unread(from, fmt.Errorf("it answers with %s, not with Prometheus's text format", quoted(resp.Header.Get("Content-Type"))))
	}
	body := reading(func(p []byte) (int, error) {
		n, err := resp.Body.Read(p)
		if cause := context.Cause(ctx); err != nil && !errors.Is(err, io.EOF) && cause != nil {
			err = cause // whose time it was that is over
		}
		return n, err
	})
	v := Read(body, Origin{Node: from.Node, At: at})
	for i, problem := range v.Problems {
		v.Problems[i] = "the metrics of " + from.String() + ": " + problem
	}
	return v
}

// reading is a reader made of a function.
type reading func(p []byte) (int, error)

func (r reading) Read(p []byte) (int, error) { return r(p) }
