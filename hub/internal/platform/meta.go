package platform

import (
	"fmt"
	"html"
	"net/http"
	"strings"
	"time"

	"github.com/budecosystem/budcluster/internal/buildinfo"
)

// info is GET /.
func (s *Server) info(*http.Request) answer {
	up := s.now().Sub(s.began)
	return ok(fmt.Sprintf("Microservice: %s v%s\nDescription: the hub of BudCluster\nDeployed at: %s\nUptime: %dh:%dm:%ds", s.cfg.AppID, buildinfo.Version(),
		s.began.UTC().Format(time.DateTime), int(up.Hours()), int(up.Minutes())%60, int(up.Seconds())%60), nil)
}

// health is GET /health.
func (s *Server) health(*http.Request) answer { return ok("ack", nil) }

// openapi describes the routes, made from their table.
func (s *Server) openapi(*http.Request) answer {
	paths := map[string]map[string]any{}
	for _, r := range s.routes {
		path := strings.TrimSuffix(r.pattern, "{$}")
		if paths[path] == nil {
			paths[path] = map[string]any{}
		}
		op := map[string]any{"summary": r.about, "responses": map[string]any{"200": map[string]string{"description": "The envelope of the platform's contract"}}}
		if r.takes != nothing {
			op["requestBody"] = map[string]any{"required": true, "content": map[string]any{r.takes: map[string]any{"schema": map[string]string{"type": "object"}}}}
		}
		var params []map[string]any
		for part := range strings.SplitSeq(path, "/") {
			if name, is := strings.CutPrefix(part, "{"); is {
				params = append(params, map[string]any{"name": strings.TrimSuffix(name, "}"), "in": "path", "required": true, "schema": map[string]string{"type": "string"}})
			}
		}
		if params != nil {
			op["parameters"] = params
		}
		paths[path][strings.ToLower(r.method)] = op
	}
	return answer{http.StatusOK, map[string]any{
		"openapi": "3.1.0", "info": map[string]string{"title": s.cfg.AppID, "version": buildinfo.Version()}, "paths": paths,
	}}
}

// docs is GET /docs: the same table for people.
func (s *Server) docs(w http.ResponseWriter, _ *http.Request) answer {
	var b strings.Builder
	fmt.Fprintf(&b, "<!doctype html><html lang=en><meta charset=utf-8><title>%[1]s</title><h1>%[1]s %[2]s</h1><table>", html.EscapeString(s.cfg.AppID), html.EscapeString(buildinfo.Version()))
	for _, r := range s.routes {
		fmt.Fprintf(&b, "<tr><td>%s<td><code>%s</code><td>%s", r.method, html.EscapeString(r.pattern), html.EscapeString(r.about))
	}
	b.WriteString("</table></html>")
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Security-Policy", "default-src 'none'")
	_, _ = w.Write([]byte(b.String())) // a caller that went away needs no answer
	return answer{}
}
