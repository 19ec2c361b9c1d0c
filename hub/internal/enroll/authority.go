package enroll

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"
	"time"

	"github.com/budecosystem/budcluster/internal/id"
	"github.com/budecosystem/budcluster/internal/logkey"
	"github.com/budecosystem/budcluster/internal/pki"
)

// trust is what was loaded from the table of authorities.
type trust struct {
	signer *pki.Authority
	bundle []byte // PEM of all authorities, the signer first
	pool   *x509.CertPool
}

// Authority returns the hub's certificate authority, and makes it on first
// use. Of two replicas that start at once on an empty database, one makes it
// and both use it.
func (s *Service) Authority(ctx context.Context) (*pki.Authority, error) {
	t, err := s.load(ctx)
	if err != nil {
		return nil, err
	}
	return t.signer, nil
}

// BundlePEM is the certificates of all authorities that agents are to trust;
// empty until Authority was called.
func (s *Service) BundlePEM() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.trust == nil {
		return nil
	}
	return slices.Clone(s.trust.bundle)
}

// Bundle is BundlePEM as a pool; it trusts nobody until Authority was called.
func (s *Service) Bundle() *x509.CertPool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.trust == nil {
		return x509.NewCertPool()
	}
	return s.trust.pool
}

func (s *Service) load(ctx context.Context) (*trust, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.trust != nil {
		return s.trust, nil
	}
	stored, err := s.store.AuthorityList(ctx)
	if err != nil {
		return nil, fmt.Errorf("read certificate authorities: %w", err)
	}
	if len(stored) == 0 {
		if err := s.createAuthority(ctx); err != nil {
			return nil, err
		}
		if stored, err = s.store.AuthorityList(ctx); err != nil {
			return nil, fmt.Errorf("read certificate authorities: %w", err)
		}
	}
	if s.trust, err = s.open(stored); err != nil {
		return nil, err
	}
	return s.trust, nil
}

func (s *Service) createAuthority(ctx context.Context) error {
	authority, err := pki.NewAuthority(s.trustDomain, s.now(), authorityLifetime)
	if err != nil {
		return fmt.Errorf("make certificate authority: %w", err)
	}
	key, err := authority.KeyPEM()
	if err != nil {
		return fmt.Errorf("encode key of certificate authority: %w", err)
	}
	a := SealedAuthority{ID: id.New(), CertificatePEM: authority.CertificatePEM(), CreatedAt: s.now().UTC()}
	if a.SealedKey, err = s.sealer.Seal(key, a.associated()); err != nil {
		return fmt.Errorf("seal key of certificate authority: %w", err)
	}
	if err := s.store.AuthorityInsert(ctx, a); err != nil {
		return fmt.Errorf("store certificate authority: %w", err)
	}
	return nil
}

func (s *Service) open(stored []SealedAuthority) (*trust, error) {
	t := &trust{pool: x509.NewCertPool()}
	for _, a := range stored {
		t.bundle = append(t.bundle, a.CertificatePEM...)
		if !t.pool.AppendCertsFromPEM(a.CertificatePEM) {
			return nil, fmt.Errorf("certificate of authority %s in the database cannot be read; restore the database from a backup", a.ID)
		}
	}
	first := stored[0]
	key, err := s.sealer.Unseal(first.SealedKey, first.associated())
	if err != nil {
		return nil, fmt.Errorf("open key of certificate authority %s (the folder of crypto keys must be the one it was made with): %w", first.ID, err)
	}
	if t.signer, err = pki.LoadAuthority(first.CertificatePEM, key); err != nil {
		return nil, fmt.Errorf("load certificate authority %s: %w", first.ID, err)
	}
	if got := t.signer.TrustDomain(); got != s.trustDomain {
		return nil, fmt.Errorf("trustDomain: %q is configured, and the certificate authority is of %q; every agent knows the latter, so configure that", s.trustDomain, got)
	}
	return t, nil
}

func (a SealedAuthority) associated() []byte { return []byte("authority/" + a.ID.String()) }

// HubCertificate issues what a hub replica shows to agents. names are DNS
// names and IP addresses by which agents dial it.
func (s *Service) HubCertificate(ctx context.Context, names []string, replica string) (tls.Certificate, error) {
	authority, err := s.Authority(ctx)
	if err != nil {
		return tls.Certificate{}, err
	}
	cert, err := authority.IssueHub(names, replica, s.now(), s.hubLifetime())
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("issue certificate of hub %s: %w", replica, err)
	}
	return cert, nil
}

// hubLifetime is at least a day: a hub renews by itself, and short lifetimes
// are for agents.
func (s *Service) hubLifetime() time.Duration { return max(s.lifetime, DefaultCertificateLifetime) }

// ServerCertificate is a hub replica's certificate that is renewed in time.
type ServerCertificate struct {
	service *Service
	names   []string
	replica string
	retry   time.Duration
	current atomic.Pointer[tls.Certificate]
}

// NewServerCertificate prepares the certificate of a replica; Load gets the
// first one.
func (s *Service) NewServerCertificate(names []string, replica string) *ServerCertificate {
	return &ServerCertificate{service: s, names: names, replica: cmp.Or(replica, "hub"), retry: time.Minute}
}

// Load issues a new certificate.
func (c *ServerCertificate) Load(ctx context.Context) error {
	cert, err := c.service.HubCertificate(ctx, c.names, c.replica)
	if err != nil {
		return err
	}
	c.current.Store(&cert)
	return nil
}

// Current is the newest certificate; nil before Load.
func (c *ServerCertificate) Current() *tls.Certificate { return c.current.Load() }

// Run renews the certificate at half of its life, until ctx ends.
func (c *ServerCertificate) Run(ctx context.Context) error {
	wait := c.service.hubLifetime() / 2
	for {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-timer.C:
		}
		wait = c.service.hubLifetime() / 2
		if err := c.Load(ctx); err != nil && ctx.Err() == nil {
			wait = c.retry
			c.service.log.WarnContext(ctx, "certificate of this hub was not renewed", slog.Any(logkey.Error, err), slog.Duration(logkey.RetryAfter, wait))
		}
	}
}
