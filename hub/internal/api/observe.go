package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"regexp"
	"runtime/debug"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/internal/id"
	"github.com/budecosystem/budcluster/internal/logkey"
)

// requestKey finds the request's id in a context.
type requestKey struct{}

func requestID(ctx context.Context) string {
	id, _ := ctx.Value(requestKey{}).(string)
	return id
}

// foreignID is an id that a proxy or client gave and that is fit for our log.
var foreignID = regexp.MustCompile(`^[A-Za-z0-9._-]{1,64}$`)

// observe stands around everything: it names the request, keeps a panic to it,
// counts and logs it.
func (s *Server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := s.now()
		rec := &recorder{ResponseWriter: w}
		name := r.Header.Get("X-Request-Id")
		if !foreignID.MatchString(name) {
			name = id.New().String()
		}
		ctx := logkey.With(context.WithValue(r.Context(), requestKey{}, name), slog.String(logkey.RequestID, name))
		r = r.WithContext(ctx)
		h := rec.Header()
		h.Set("X-Request-Id", name)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Cache-Control", "no-store")

		s.guard(rec, r, next)
		s.finish(ctx, rec, r, s.now().Sub(start))
	})
}

// guard turns a panic into a problem.
func (s *Server) guard(w *recorder, r *http.Request, next http.Handler) {
	defer func() { //nolint:contextcheck // it is in r
		v := recover()
		if v == nil {
			return
		}
		if err, ok := v.(error); ok && errors.Is(err, http.ErrAbortHandler) {
			panic(v)
		}
		s.metrics.panics.Inc()
		s.log.ErrorContext(r.Context(), "request panicked", slog.String(logkey.Error, fmt.Sprint(v)), slog.String(logkey.Stack, string(debug.Stack())))
		if w.status == 0 {
			s.writeProblem(w, r, s.problem(r.Context(), &hubapi.Problem{
				Status: http.StatusInternalServerError, Code: hubapi.CodeInternal,
				Detail: "The hub could not do this because of a fault of its own; its log has the cause under this request's id.",
			}))
		}
	}()
	if query, err := url.QueryUnescape(r.URL.RawQuery); err != nil || !isText(query) || !isText(r.URL.Path) {
		s.writeProblem(w, r, s.problem(r.Context(), &hubapi.Problem{
			Status: http.StatusBadRequest, Code: hubapi.CodeMalformed,
			Detail: "The address holds bytes that are no text; correct it.",
		}))
		return
	}
	next.ServeHTTP(w, r)
}

// isText reports whether s is what the database takes as text.
func isText(s string) bool { return utf8.ValidString(s) && !strings.Contains(s, "\x00") }

func (s *Server) finish(ctx context.Context, w *recorder, r *http.Request, took time.Duration) {
	_, route, ok := strings.Cut(r.Pattern, " ")
	if !ok {
		route = "none" // unknown paths must not become label values
	}
	method := r.Method
	if r.Pattern == "/" || r.Pattern == "" {
		method = "any"
	}
	s.metrics.requests.WithLabelValues(route, method, strconv.Itoa(w.code())).Inc()
	if w.Header().Get("Content-Type") != "text/event-stream" {
		s.metrics.seconds.WithLabelValues(route, method).Observe(took.Seconds())
	}
	level := slog.LevelDebug
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		level = slog.LevelInfo
	}
	s.log.LogAttrs(ctx, level, "request served", slog.String(logkey.Method, r.Method), slog.String(logkey.Path, r.URL.Path),
		slog.Int(logkey.Status, w.code()), slog.Duration(logkey.Duration, took), slog.String(logkey.RemoteAddr, r.RemoteAddr))
}

// recorder remembers the status.
type recorder struct {
	http.ResponseWriter
	status int
}

// WriteHeader is http.ResponseWriter's.
func (w *recorder) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

// Write is http.ResponseWriter's.
func (w *recorder) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(b) //nolint:wrapcheck // net/http's own
}

// Unwrap is for http.ResponseController.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *recorder) code() int {
	if w.status == 0 {
		return http.StatusOK
	}
	return w.status
}

// metrics are the server's own.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	streams  prometheus.Gauge
	panics   prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "budcluster_api_requests_total", Help: "Requests answered, by route, method and status.",
		}, []string{"route", "method", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "budcluster_api_request_duration_seconds", Help: "Time to answer a request, event streams left out.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 10, 60},
		}, []string{"route", "method"}),
		streams: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "budcluster_api_event_streams", Help: "Event streams that are open.",
		}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "budcluster_api_panics_total", Help: "Requests that ended in a panic.",
		}),
	}
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.streams, m.panics} {
		if err := reg.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of the api: %w", err)
		}
	}
	return m, nil
}
