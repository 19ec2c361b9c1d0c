package api

import (
	"context"

	"github.com/budecosystem/budcluster/hub/hubapi"
	"github.com/budecosystem/budcluster/hub/internal/access"
	"github.com/budecosystem/budcluster/internal/buildinfo"
)

func (s *Server) whoami(ctx context.Context, _ *struct{}) (*body[hubapi.Principal], error) {
	p := principal(ctx)
	return &body[hubapi.Principal]{Body: hubapi.Principal{
		Name: p.Name, Role: hubapi.Role(p.Role), HubVersion: buildinfo.Version(),
	}}, nil
}

func (s *Server) listKeys(ctx context.Context, _ *struct{}) (*body[hubapi.List[hubapi.Key]], error) {
	keys, err := s.cfg.Access.Keys(ctx)
	if err != nil {
		return nil, err
	}
	return listed(keys, "", keyOut), nil
}

type createKeyInput struct {
	Body hubapi.CreateKeyRequest
}

func (s *Server) createKey(ctx context.Context, in *createKeyInput) (*body[hubapi.CreatedKey], error) {
	k, text, err := s.cfg.Access.CreateKey(ctx, actor(ctx), in.Body.Name, access.Role(in.Body.Role))
	if err != nil {
		return nil, err
	}
	return &body[hubapi.CreatedKey]{Body: hubapi.CreatedKey{Key: keyOut(k), Secret: text.Reveal()}}, nil
}

type keyInput struct {
	ID string `path:"id"`
}

func (s *Server) revokeKey(ctx context.Context, in *keyInput) (*struct{}, error) {
	return nil, s.cfg.Access.RevokeKey(ctx, actor(ctx), in.ID)
}

func keyOut(k access.Key) hubapi.Key {
	return hubapi.Key{
		ID: k.ID, Name: k.Name, Role: hubapi.Role(k.Role), CreatedAt: k.CreatedAt, CreatedBy: k.CreatedBy,
		LastUsedAt: k.LastUsedAt, RevokedAt: k.RevokedAt,
	}
}
