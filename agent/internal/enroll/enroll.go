package enroll

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/budecosystem/budcluster/agent/internal/dial"
	"github.com/budecosystem/budcluster/agent/internal/health"
	"github.com/budecosystem/budcluster/internal/logkey"
	"github.com/budecosystem/budcluster/internal/pki"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

// Defaults of Config.
const (
	// DefaultCall bounds one call: the hub writes two rows for it.
	DefaultCall = 30 * time.Second
	// DefaultPatience is how long a refusal holds the next attempt back.
	DefaultPatience = 5 * time.Minute
	// DefaultTokenPoll is how often the token file is looked at meanwhile; the
	// kubelet itself takes up to a minute to refresh a mounted Secret.
	DefaultTokenPoll = 10 * time.Second
)

// Hub dials one of the hub's addresses; *dial.Hub.
type Hub interface {
	Dial(ctx context.Context, config dial.TLS) (*tls.Conn, error)
}

// Notifier tells the people on site; *kube.Events.
type Notifier interface {
	Warn(ctx context.Context, reason, message string) error
	Note(ctx context.Context, reason, message string) error
}

// Config is what an Enroller needs.
type Config struct {
	Store *Store
	Hub   Hub
	// ClusterUID reads the UID of the kube-system namespace.
	ClusterUID func(ctx context.Context) (string, error)
	// TokenFile holds the join token; it is needed until the first enrollment.
	TokenFile    string
	AgentVersion string
	Board        *health.Board
	Notifier     Notifier
	Logger       *slog.Logger

	Now       func() time.Time
	Call      time.Duration
	Patience  time.Duration
	TokenPoll time.Duration
}

// Enroller gets, keeps and renews the identity.
type Enroller struct {
	cfg Config

	// known is the last identity read or written, for when the API server is
	// away, and for those who only look.
	known atomic.Pointer[Identity]

	mu sync.Mutex // guards what follows; held through a whole enrollment
	// distrusted is the generation that the hub refused, or whose hub we refuse;
	// outdated the one that the hub's clock found expired. 0: none.
	distrusted, outdated int64
	// presented is the token text that was last tried.
	presented string
	// said is the last refusal that was made known.
	said string
}

// New checks the configuration. It contacts nobody.
func New(cfg Config) (*Enroller, error) {
	cfg.Call = cmp.Or(cfg.Call, DefaultCall)
	cfg.Patience = cmp.Or(cfg.Patience, DefaultPatience)
	cfg.TokenPoll = cmp.Or(cfg.TokenPoll, DefaultTokenPoll)
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Store == nil || cfg.Hub == nil || cfg.ClusterUID == nil || cfg.Board == nil || cfg.Notifier == nil || cfg.Logger == nil {
		return nil, errors.New("enroll needs a store, a hub, the cluster's uid, a health board, a notifier and a logger")
	}
	return &Enroller{cfg: cfg}, nil
}

// Current returns an identity that is good for dialing the tunnel, enrolling
// or renewing on the join lane where needed. A *dial.RefusedError means that only a
// human can help.
func (e *Enroller) Current(ctx context.Context) (*Identity, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	i, err := e.currentLocked(ctx)
	var refusal *dial.RefusedError
	switch {
	case errors.As(err, &refusal):
		e.refusedLocked(ctx, refusal)
	case err != nil:
		e.cfg.Board.Set(health.EnrollmentPending, "no usable certificate yet: "+err.Error())
	default:
		e.said = ""
		e.cfg.Board.Clear(health.EnrollmentPending, health.EnrollmentRefused)
	}
	return i, err
}

func (e *Enroller) currentLocked(ctx context.Context) (*Identity, error) {
	r, err := e.loadLocked(ctx)
	if err != nil {
		// What we know is as good as what the Secret would say, but for a
		// renewal by another leader, and that one fences us.
		if known := e.known.Load(); known != nil && !known.Expired(e.cfg.Now()) {
			return known, nil
		}
		return nil, err
	}
	if r.Identity == nil {
		return e.joinLocked(ctx, r)
	}
	if r.Identity.Generation == e.distrusted {
		if token, ok := e.rescueLocked(ctx, r.Identity); ok {
			return e.joinWithLocked(ctx, r, token)
		}
	}
	if outdated := e.outdated == r.Identity.Generation; outdated || r.Identity.Expired(e.cfg.Now()) {
		e.outdated = 0 // one try per complaint
		return e.reviveLocked(ctx, r)
	}
	return r.Identity, nil
}

// loadLocked reads the record and sees that it belongs to this cluster.
func (e *Enroller) loadLocked(ctx context.Context) (*Record, error) {
	r, err := e.cfg.Store.Load(ctx)
	if corrupt, ok := errors.AsType[*CorruptError](err); ok {
		return nil, &dial.RefusedError{Reason: "IdentityCorrupt", Message: corrupt.Error()}
	}
	if err != nil {
		return nil, err
	}
	if r.Identity == nil {
		return r, nil
	}
	if err := e.checkCluster(ctx, r); err != nil {
		return nil, err
	}
	e.known.Store(r.Identity)
	return r, nil
}

// checkCluster refuses an identity that was restored from another cluster's
// backup: two clusters under one identity would fence each other for ever. A
// fresh token is the owner's word that this cluster is to join by itself.
func (e *Enroller) checkCluster(ctx context.Context, r *Record) error {
	uid, err := e.cfg.ClusterUID(ctx)
	if err != nil {
		return err
	}
	if r.Identity.ClusterUID == "" || r.Identity.ClusterUID == uid {
		return nil
	}
	if _, err := e.freshToken(r.Identity); err == nil {
		r.Identity = nil
		return nil
	}
	return &dial.RefusedError{Reason: "IdentityOfAnotherCluster", Message: fmt.Sprintf(
		"secret %s holds the identity of another cluster (kube-system uid %s, here it is %s), as after a restore from a backup: "+
			"create a cluster at the hub for this one and give its join token", e.cfg.Store, r.Identity.ClusterUID, uid)}
}

// Distrust says that the hub refused the identity, or that we refuse the hub.
// The identity stays; but a join token other than the one it came from will be
// used when there is one.
func (e *Enroller) Distrust(i *Identity) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.distrusted = i.Generation
}

// Outdated says that the hub's clock found the certificate expired. It may be
// ours that is slow, so the hub is believed.
func (e *Enroller) Outdated(i *Identity) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.outdated = i.Generation
}

// Trust stores the trust bundle that the hub announced.
func (e *Enroller) Trust(ctx context.Context, bundlePEM []byte) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	known := e.known.Load()
	if len(bundlePEM) == 0 || known == nil || bytes.Equal(known.BundlePEM, bundlePEM) {
		return nil
	}
	if _, err := pins(bundlePEM); err != nil {
		return fmt.Errorf("read the trust bundle that the hub announced: %w", err)
	}
	r, err := e.loadLocked(ctx)
	if err != nil {
		return err
	}
	if r.Identity == nil {
		return nil
	}
	next := *r.Identity
	next.BundlePEM = bundlePEM
	r.Identity = &next
	if err := e.cfg.Store.Save(ctx, r); err != nil {
		return err
	}
	e.known.Store(r.Identity)
	e.cfg.Logger.InfoContext(ctx, "trust bundle replaced", slog.Int64(logkey.Generation, next.Generation))
	return nil
}

// NotAfter is when the known certificate expires; zero when there is none.
func (e *Enroller) NotAfter() time.Time {
	known := e.known.Load()
	if known == nil {
		return time.Time{}
	}
	return known.NotAfter()
}

// Await holds back what was refused: it returns when the patience is over, when
// another token lies in the token file, or when ctx ends.
func (e *Enroller) Await(ctx context.Context) {
	over := time.NewTimer(e.cfg.Patience)
	defer over.Stop()
	look := time.NewTicker(e.cfg.TokenPoll)
	defer look.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-over.C:
			return
		case <-look.C:
			if text, err := e.readToken(); err == nil && text != e.lastPresented() {
				return
			}
		}
	}
}

func (e *Enroller) lastPresented() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	// A token that was used before this process's time is not news.
	if known := e.known.Load(); e.presented == "" && known != nil {
		if token, err := e.parseToken(); err == nil && token.ID == known.TokenID {
			return token.Reveal()
		}
	}
	return e.presented
}

func (e *Enroller) readToken() (string, error) {
	data, err := os.ReadFile(e.cfg.TokenFile)
	if err != nil {
		return "", err
	}
	return strings.TrimSpace(string(data)), nil
}

// parseToken reads the join token. Every error is a refusal: the file does not
// mend itself.
func (e *Enroller) parseToken() (pki.JoinToken, error) {
	const remedy = "create a join token for this cluster at the hub and give it to the chart as joinToken, or put it into the Secret that the chart was told to use"
	text, err := e.readToken()
	if err != nil {
		return pki.JoinToken{}, &dial.RefusedError{Reason: "TokenMissing", Message: fmt.Sprintf(
			"the agent has no identity and no join token (%v): %s", err, remedy)}
	}
	token, err := pki.ParseJoinToken(text)
	if err != nil {
		return pki.JoinToken{}, &dial.RefusedError{Reason: "TokenMalformed", Message: fmt.Sprintf(
			"the join token in %s cannot be read (%v): %s", e.cfg.TokenFile, err, remedy)}
	}
	return token, nil
}

// freshToken returns the token in the file unless it is the one that the
// identity came from.
func (e *Enroller) freshToken(i *Identity) (pki.JoinToken, error) {
	token, err := e.parseToken()
	if err != nil {
		return token, err
	}
	if token.ID == i.TokenID {
		return token, errors.New("the join token is the one that was used")
	}
	return token, nil
}

// Successor reports whether a join token lies in the file that the identity did
// not come from and that was not tried yet.
func (e *Enroller) Successor(i *Identity) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	token, err := e.freshToken(i)
	return err == nil && e.presented != token.Reveal()
}

// rescueLocked looks for a token that can replace a distrusted identity. What
// lies in the file counts as tried, so that Await does not wake for it again.
func (e *Enroller) rescueLocked(ctx context.Context, i *Identity) (pki.JoinToken, bool) {
	text, err := e.readToken()
	if err != nil {
		return pki.JoinToken{}, false
	}
	tried := e.presented == text
	e.presented = text
	token, err := e.freshToken(i)
	var refusal *dial.RefusedError
	if errors.As(err, &refusal) && !tried {
		e.cfg.Logger.WarnContext(ctx, "join token not usable", slog.String(logkey.Reason, refusal.Reason), slog.String(logkey.Message, refusal.Message))
	}
	return token, err == nil
}

// refusedLocked makes a refusal known, once.
func (e *Enroller) refusedLocked(ctx context.Context, r *dial.RefusedError) {
	e.cfg.Board.Clear(health.EnrollmentPending)
	e.cfg.Board.Set(health.EnrollmentRefused, r.Error())
	if e.said == r.Error() {
		return
	}
	e.said = r.Error()
	e.cfg.Logger.ErrorContext(ctx, "enrollment refused", slog.String(logkey.Reason, r.Reason),
		slog.String(logkey.Message, r.Message), slog.Duration(logkey.RetryAfter, e.cfg.Patience))
	if err := e.cfg.Notifier.Warn(ctx, r.Reason, r.Message); err != nil {
		e.cfg.Logger.WarnContext(ctx, "event not recorded", slog.Any(logkey.Error, err))
	}
}

// call runs fn with an enrollment client on a fresh connection of the join
// lane.
func (e *Enroller) call(ctx context.Context, config dial.TLS, fn func(context.Context, agentv1.EnrollServiceClient) (*agentv1.Identity, error)) (*agentv1.Identity, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, e.cfg.Call, fmt.Errorf("no answer on the join lane in %s", e.cfg.Call))
	defer cancel()
	conn, err := e.cfg.Hub.Dial(ctx, config)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }()
	cc, err := joinClient(conn)
	if err != nil {
		return nil, err
	}
	defer func() { _ = cc.Close() }()
	return fn(ctx, agentv1.NewEnrollServiceClient(cc))
}
