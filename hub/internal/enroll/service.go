package enroll

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"
)

// The defaults.
const (
	DefaultTrustDomain         = "budcluster.local"
	DefaultCertificateLifetime = 24 * time.Hour
	DefaultRenewalGrace        = 30 * 24 * time.Hour
	DefaultTokenTTL            = 24 * time.Hour
	// authorityLifetime is long: no agent may be lost because nobody thought of
	// the authority.
	authorityLifetime = 10 * 365 * 24 * time.Hour
)

// The bounds of a token.
const (
	minTokenTTL  = time.Minute
	maxTokenTTL  = 90 * 24 * time.Hour
	maxTokenUses = 1000
)

// Config makes a Service. Zero durations mean the defaults.
type Config struct {
	Store  Store
	Sealer Sealer
	Logger *slog.Logger
	// Now is time.Now when nil.
	Now                 func() time.Time
	TrustDomain         string
	CertificateLifetime time.Duration
	// RenewalGrace is how long after its end a certificate can be renewed.
	RenewalGrace time.Duration
	TokenTTL     time.Duration
}

// Service is the rules of identity.
type Service struct {
	store       Store
	sealer      Sealer
	log         *slog.Logger
	now         func() time.Time
	trustDomain string
	lifetime    time.Duration
	grace       time.Duration
	tokenTTL    time.Duration

	mu    sync.Mutex // guards trust
	trust *trust     // nil until Authority has loaded it
}

// New checks cfg and makes the Service. Call Authority before the first agent
// may come.
func New(cfg Config) (*Service, error) {
	var errs []error
	if cfg.Store == nil || cfg.Sealer == nil || cfg.Logger == nil {
		errs = append(errs, errors.New("enroll: a store, a sealer and a logger are needed"))
	}
	s := &Service{
		store: cfg.Store, sealer: cfg.Sealer, log: cfg.Logger, now: cfg.Now,
		trustDomain: cmp.Or(cfg.TrustDomain, DefaultTrustDomain),
		lifetime:    cmp.Or(cfg.CertificateLifetime, DefaultCertificateLifetime),
		grace:       cmp.Or(cfg.RenewalGrace, DefaultRenewalGrace),
		tokenTTL:    cmp.Or(cfg.TokenTTL, DefaultTokenTTL),
	}
	if s.lifetime < time.Second || s.lifetime > 365*24*time.Hour {
		errs = append(errs, fmt.Errorf("certificate.lifetime: %s is out of range; use a duration from 1s to 8760h", s.lifetime))
	}
	if s.grace < 0 {
		errs = append(errs, fmt.Errorf("certificate.renewalGrace: %s is negative; use 720h or another positive duration", s.grace))
	}
	if s.tokenTTL < minTokenTTL || s.tokenTTL > maxTokenTTL {
		errs = append(errs, fmt.Errorf("token.ttl: %s is out of range; use a duration from %s to %s", s.tokenTTL, minTokenTTL, maxTokenTTL))
	}
	if s.now == nil {
		s.now = time.Now
	}
	return s, errors.Join(errs...)
}
