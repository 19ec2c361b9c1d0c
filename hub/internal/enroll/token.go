package enroll

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/invalid"
	"github.com/budecosystem/budcluster/internal/id"
	"github.com/budecosystem/budcluster/internal/pki"
	"github.com/budecosystem/budcluster/internal/secret"
)

// CreateToken makes a join token for the cluster. Its text is returned once
// and kept nowhere.
func (s *Service) CreateToken(ctx context.Context, actor string, clusterID uuid.UUID, o TokenOptions) (Token, secret.String, error) {
	ttl, uses := cmp.Or(o.TTL, s.tokenTTL), cmp.Or(o.Uses, 1)
	var errs []error
	if ttl < minTokenTTL || ttl > maxTokenTTL {
		errs = append(errs, invalid.New("ttl", "%s is out of range; use a duration from %s to %s", ttl, minTokenTTL, maxTokenTTL))
	}
	if uses < 1 || uses > maxTokenUses {
		errs = append(errs, invalid.New("uses", "%d is out of range; use a number from 1 to %d", uses, maxTokenUses))
	}
	if err := errors.Join(errs...); err != nil {
		return Token{}, secret.String{}, err
	}
	authority, err := s.Authority(ctx)
	if err != nil {
		return Token{}, secret.String{}, err
	}
	join, err := pki.NewJoinToken(authority.Pin())
	if err != nil {
		return Token{}, secret.String{}, fmt.Errorf("make join token: %w", err)
	}
	now := s.now().UTC()
	t := Token{ID: join.ID, ClusterID: clusterID, Uses: uses, CreatedAt: now, CreatedBy: actor, ExpiresAt: now.Add(ttl)}
	err = s.store.InTx(ctx, func(ctx context.Context) error {
		if err := s.store.TokenInsert(ctx, t, join.Hash()); err != nil {
			return err
		}
		return s.store.AppendEvents(ctx, event.Event{
			At: now, Type: event.TokenCreated, ClusterID: clusterID, Subject: t.ID, Actor: actor,
			Message: fmt.Sprintf("join token %s was created, for %d use(s) until %s", t.ID, uses, t.ExpiresAt.Format(time.RFC3339)),
		})
	})
	if err != nil {
		return Token{}, secret.String{}, fmt.Errorf("create join token for cluster %s: %w", clusterID, err)
	}
	return t, secret.New(join.Reveal()), nil
}

// Tokens lists the cluster's tokens in order of creation, without secrets.
func (s *Service) Tokens(ctx context.Context, clusterID uuid.UUID) ([]Token, error) {
	tokens, err := s.store.TokenList(ctx, clusterID)
	if err != nil {
		return nil, fmt.Errorf("list join tokens of cluster %s: %w", clusterID, err)
	}
	return tokens, nil
}

// RevokeToken makes a token useless. Certificates that were issued for it stay
// good. To revoke again changes nothing.
func (s *Service) RevokeToken(ctx context.Context, actor string, clusterID uuid.UUID, tokenID string) error {
	if _, err := id.Parse(tokenID); err != nil {
		return ErrNoToken
	}
	err := s.store.InTx(ctx, func(ctx context.Context) error {
		t, _, err := s.store.TokenByID(ctx, tokenID, true)
		if err != nil {
			return err
		}
		if t.ClusterID != clusterID {
			return ErrNoToken
		}
		if t.RevokedAt != nil {
			return nil
		}
		now := s.now().UTC()
		if err := s.store.TokenRevoke(ctx, clusterID, tokenID, now); err != nil {
			return err
		}
		return s.store.AppendEvents(ctx, event.Event{
			At: now, Type: event.TokenRevoked, ClusterID: clusterID, Subject: tokenID, Actor: actor,
			Message: "join token " + tokenID + " was revoked",
		})
	})
	if err != nil {
		return fmt.Errorf("revoke join token %s: %w", tokenID, err)
	}
	return nil
}
