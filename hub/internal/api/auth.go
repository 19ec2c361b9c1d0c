package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/danielgtaylor/huma/v2"
	"github.com/danielgtaylor/huma/v2/adapters/humago"

	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/internal/access"
)

// principalKey finds in a request's context who it comes from.
type principalKey struct{}

// authorise lets a request pass that shows a key of the role or above.
func (s *Server) authorise(need access.Role) func(huma.Context, func(huma.Context)) {
	return func(hc huma.Context, next func(huma.Context)) {
		r, w := humago.Unwrap(hc)
		p, err := s.authenticate(r)
		if err == nil && !p.Role.Allows(need) {
			err = &hubapi.Problem{
				Status: http.StatusForbidden, Code: hubapi.CodeForbidden,
				Detail: fmt.Sprintf("API key %q has the role %s, and this needs %s; use a key with that role.", p.Name, p.Role, need),
			}
		}
		if err != nil {
			s.writeProblem(w, r, s.problem(r.Context(), err))
			return
		}
		next(huma.WithValue(hc, principalKey{}, p))
	}
}

func (s *Server) authenticate(r *http.Request) (access.Principal, error) {
	values := r.Header.Values("Authorization")
	if len(values) == 0 {
		return access.Principal{}, unauthenticated("There is no API key; send it as the header Authorization: Bearer <key>.")
	}
	scheme, key, _ := strings.Cut(values[0], " ")
	key = strings.TrimSpace(key)
	if len(values) > 1 || !strings.EqualFold(scheme, "Bearer") || key == "" || len(key) > 512 {
		return access.Principal{}, unauthenticated("The Authorization header is not that of an API key; send one header of the form Authorization: Bearer <key>.")
	}
	p, err := s.cfg.Access.Authenticate(r.Context(), key)
	if errors.Is(err, access.ErrDenied) {
		return access.Principal{}, unauthenticated("The API key is not valid; it may have been revoked. Ask an administrator for a new one.")
	}
	if err != nil {
		return access.Principal{}, fmt.Errorf("authenticate: %w", err)
	}
	return p, nil
}

func unauthenticated(detail string) *hubapi.Problem {
	return &hubapi.Problem{Status: http.StatusUnauthorized, Code: hubapi.CodeUnauthenticated, Detail: detail}
}

// principal is who a request comes from; authorise put it there.
func principal(ctx context.Context) access.Principal {
	p, _ := ctx.Value(principalKey{}).(access.Principal)
	return p
}

func actor(ctx context.Context) string { return principal(ctx).Name }
