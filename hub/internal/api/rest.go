package api

import (
	"context"
	_ "embed"
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

// docsPage shows /openapi.json. It is one file and loads nothing from anywhere
// else, so that it works at sites without a way out.
//
//go:embed docs.html
var docsPage []byte

func serveDocs(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Content-Security-Policy", "default-src 'none'; connect-src 'self'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	_, _ = w.Write(docsPage)
}

func serveText(contentType string, text []byte) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", contentType)
		_, _ = w.Write(text)
	}
}

// serveReady says whether the hub can do its work, and if not, which part.
func (s *Server) serveReady(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	status, checks := http.StatusOK, map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(s.cfg.Ready)) {
		checks[name] = "ok"
		if err := s.cfg.Ready[name](ctx); err != nil {
			status, checks[name] = http.StatusServiceUnavailable, err.Error()
		}
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"ready": status == http.StatusOK, "checks": checks})
}

// serveUnknown answers what no route does: as a problem, and as 405 where the
// path is known by other methods.
func (s *Server) serveUnknown(w http.ResponseWriter, r *http.Request) {
	var allowed []string
	for _, method := range []string{http.MethodGet, http.MethodPost, http.MethodPut, http.MethodDelete} {
		if _, pattern := s.mux.Handler(&http.Request{Method: method, URL: r.URL, Host: r.Host}); pattern != "/" && pattern != "" {
			allowed = append(allowed, method)
		}
	}
	p := &hubapi.Problem{
		Status: http.StatusNotFound, Code: hubapi.CodeNotFound,
		Detail: "There is no such address here; /docs lists those that there are.",
	}
	if len(allowed) > 0 {
		w.Header().Set("Allow", strings.Join(allowed, ", "))
		p = &hubapi.Problem{
			Status: http.StatusMethodNotAllowed, Code: hubapi.CodeMethodNotAllowed,
			Detail: "This address does not know the method " + shortMethod(r.Method) + "; use " + strings.Join(allowed, " or ") + ".",
		}
	}
	s.writeProblem(w, r, s.problem(r.Context(), p))
}

func shortMethod(m string) string {
	if len(m) > 16 {
		return m[:16] + "…"
	}
	return m
}

func splitPath(p string) []string { return strings.Split(strings.Trim(p, "/"), "/") }
