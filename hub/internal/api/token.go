package api

import (
	"context"
	"time"

	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/internal/enroll"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
)

func (s *Server) listTokens(ctx context.Context, in *ClusterInput) (*body[hubapi.List[hubapi.Token]], error) {
	c, err := s.cfg.Clusters.Get(ctx, in.Cluster)
	if err != nil {
		return nil, err
	}
	tokens, err := s.cfg.Tokens.Tokens(ctx, c.ID)
	if err != nil {
		return nil, err
	}
	now := s.now()
	return listed(tokens, "", func(t enroll.Token) hubapi.Token { return tokenOut(t, now) }), nil
}

type createTokenInput struct {
	ClusterInput
	Body hubapi.CreateTokenRequest
	Address
}

func (s *Server) createToken(ctx context.Context, in *createTokenInput) (*body[hubapi.CreatedToken], error) {
	ttl, err := duration("ttl", in.Body.TTL)
	if err != nil {
		return nil, err
	}
	c, err := s.cfg.Clusters.Get(ctx, in.Cluster)
	if err != nil {
		return nil, err
	}
	t, text, err := s.cfg.Tokens.CreateToken(ctx, actor(ctx), c.ID, enroll.TokenOptions{TTL: ttl, Uses: in.Body.Uses})
	if err != nil {
		return nil, err
	}
	out, err := s.createdToken(t, text, in.Address)
	if err != nil {
		return nil, err
	}
	return &body[hubapi.CreatedToken]{Body: out}, nil
}

type tokenInput struct {
	ClusterInput
	ID string `path:"id"`
}

func (s *Server) revokeToken(ctx context.Context, in *tokenInput) (*struct{}, error) {
	c, err := s.cfg.Clusters.Get(ctx, in.Cluster)
	if err != nil {
		return nil, err
	}
	return nil, s.cfg.Tokens.RevokeToken(ctx, actor(ctx), c.ID, in.ID)
}

func tokenOut(t enroll.Token, now time.Time) hubapi.Token {
	return hubapi.Token{
		ID: t.ID, UsesLeft: max(t.Uses-t.Used, 0), CreatedAt: t.CreatedAt, ExpiresAt: t.ExpiresAt,
		UsedAt: t.LastUsedAt, RevokedAt: t.RevokedAt, CreatedBy: t.CreatedBy, State: hubapi.TokenState(t.State(now)),
	}
}

// duration reads a duration as Go writes it; empty is zero.
func duration(field, s string) (time.Duration, error) {
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d <= 0 {
		return 0, invalid.New(field, "%q is not a duration; use a number with a unit, such as 90s, 5m or 24h", invalid.Clip(s))
	}
	return d, nil
}
