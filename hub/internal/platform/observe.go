package platform

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/budecosystem/budcluster/internal/id"
	"github.com/budecosystem/budcluster/internal/logkey"
)

// metrics count what the platform's services ask.
type metrics struct {
	requests *prometheus.CounterVec
	seconds  *prometheus.HistogramVec
	panics   prometheus.Counter
}

func newMetrics(to prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "budcluster_platform_requests_total", Help: "Requests of the platform's services by route, method and status.",
		}, []string{"route", "method", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "budcluster_platform_request_duration_seconds", Help: "How long requests of the platform's services took; a cancel waits for its workflow.",
			Buckets: prometheus.ExponentialBuckets(0.001, 4, 9),
		}, []string{"route", "method"}),
		panics: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "budcluster_platform_panics_total", Help: "Requests of the platform's services that met a fault of this program.",
		}),
	}
	if to == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{m.requests, m.seconds, m.panics} {
		if err := to.Register(c); err != nil {
			return nil, fmt.Errorf("register metrics of the platform's routes: %w", err)
		}
	}
	return m, nil
}

// observe stands around everything: it names the request, keeps a panic to it,
// counts and logs it.
func (s *Server) observe(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		rec := &recorder{ResponseWriter: w}
		ctx := logkey.With(r.Context(), slog.String(logkey.RequestID, id.New().String()))
		r = r.WithContext(ctx)
		s.contain(rec, r, next) //nolint:contextcheck // it is in r
		s.finish(ctx, rec, r, time.Since(start))
	})
}

// contain turns a panic into an answer.
func (s *Server) contain(w *recorder, r *http.Request, next http.Handler) {
	defer func() {
		v := recover()
		if v == nil {
			return
		}
		if err, is := v.(error); is && errors.Is(err, http.ErrAbortHandler) {
			panic(v)
		}
		s.metrics.panics.Inc()
		s.log.ErrorContext(r.Context(), "request panicked", slog.String(logkey.Error, fmt.Sprint(v)), slog.String(logkey.Stack, string(debug.Stack())))
		if w.status == 0 {
			s.write(r.Context(), w, failed(http.StatusInternalServerError, "The hub failed; its log says why."))
		}
	}()
	next.ServeHTTP(w, r)
}

func (s *Server) finish(ctx context.Context, w *recorder, r *http.Request, took time.Duration) {
	method, route, known := strings.Cut(r.Pattern, " ")
	if !known { // neither paths nor methods that nobody knows may become labels
		method, route = "any", "none"
	}
	status := w.status
	if status == 0 {
		status = http.StatusOK
	}
	s.metrics.requests.WithLabelValues(route, method, strconv.Itoa(status)).Inc()
	s.metrics.seconds.WithLabelValues(route, method).Observe(took.Seconds())
	level := slog.LevelDebug
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		level = slog.LevelInfo
	}
	s.log.LogAttrs(ctx, level, "request served", slog.String(logkey.Method, r.Method), slog.String(logkey.Path, r.URL.Path),
		slog.Int(logkey.Status, status), slog.Duration(logkey.Duration, took))
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

// Unwrap lets http.ResponseController find what is below.
func (w *recorder) Unwrap() http.ResponseWriter { return w.ResponseWriter }
