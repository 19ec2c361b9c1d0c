package enroll

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"

	"google.golang.org/grpc"

	"github.com/budecosystem/budcluster/agent/internal/dial"
	"github.com/budecosystem/budcluster/internal/logkey"
	"github.com/budecosystem/budcluster/internal/pki"
	"github.com/budecosystem/budcluster/internal/tunnel"
	agentv1 "github.com/budecosystem/budcluster/proto/agent/v1"
)

func joinClient(conn *tls.Conn) (*grpc.ClientConn, error) {
	cc, err := tunnel.JoinClientConn(conn)
	if err != nil {
		return nil, fmt.Errorf("open the join lane: %w", err)
	}
	return cc, nil
}

// joinLocked enrolls with the token in the file.
func (e *Enroller) joinLocked(ctx context.Context, r *Record) (*Identity, error) {
	token, err := e.parseToken()
	if err != nil {
		// A file that is not there yet is news when it comes.
		e.presented, _ = e.readToken()
		return nil, err
	}
	return e.joinWithLocked(ctx, r, token)
}

func (e *Enroller) joinWithLocked(ctx context.Context, r *Record, token pki.JoinToken) (*Identity, error) {
	uid, err := e.cfg.ClusterUID(ctx)
	if err != nil {
		return nil, err
	}
	csr, err := e.prepare(ctx, r)
	if err != nil {
		return nil, err
	}
	e.presented = token.Reveal()
	config := func(serverName string) (*tls.Config, error) { return pki.JoinConfig(token.Pin, serverName, nil), nil }
	m, err := e.call(ctx, config, func(ctx context.Context, c agentv1.EnrollServiceClient) (*agentv1.Identity, error) {
		resp, err := c.Enroll(ctx, &agentv1.EnrollRequest{
			Token: token.Reveal(), Csr: csr, ClusterUid: uid, AgentVersion: e.cfg.AgentVersion,
		})
		return resp.GetIdentity(), err
	})
	if err != nil {
		return nil, fmt.Errorf("enroll: %w", dial.Judge(err))
	}
	i, err := fromProto(m, r.Next, e.cfg.Now())
	if err != nil {
		return nil, fmt.Errorf("enroll: check the hub's answer: %w", err)
	}
	i.ClusterUID, i.TokenID = uid, token.ID
	if err := e.adoptLocked(ctx, r, i); err != nil {
		return nil, fmt.Errorf("enroll: %w", err)
	}
	e.cfg.Logger.InfoContext(ctx, "enrolled", slog.String(logkey.ClusterID, i.ClusterID),
		slog.String(logkey.Cluster, i.ClusterName), slog.Time(logkey.NotAfter, i.NotAfter()))
	if err := e.cfg.Notifier.Note(ctx, "Enrolled", "joined the hub as cluster "+i.ClusterName); err != nil {
		e.cfg.Logger.WarnContext(ctx, "event not recorded", slog.Any(logkey.Error, err))
	}
	return i, nil
}

// reviveLocked renews an expired certificate on the join lane, where the hub
// accepts it inside its grace window. When the hub refuses, a fresh token
// helps.
func (e *Enroller) reviveLocked(ctx context.Context, r *Record) (*Identity, error) {
	trusted, err := pins(r.Identity.BundlePEM)
	if err != nil {
		return nil, &dial.RefusedError{Reason: "IdentityCorrupt", Message: (&CorruptError{Secret: e.cfg.Store.String(), Key: keyBundle, Err: err}).Error()}
	}
	csr, err := e.prepare(ctx, r)
	if err != nil {
		return nil, err
	}
	var m *agentv1.Identity
	for _, pin := range trusted {
		config := func(serverName string) (*tls.Config, error) {
			return pki.JoinConfig(pin, serverName, &r.Identity.Certificate), nil
		}
		m, err = e.call(ctx, config, func(ctx context.Context, c agentv1.EnrollServiceClient) (*agentv1.Identity, error) {
			resp, err := c.Renew(ctx, &agentv1.RenewRequest{Csr: csr})
			return resp.GetIdentity(), err
		})
		if _, wrongPin := errors.AsType[*pki.PinError](err); !wrongPin {
			break
		}
	}
	if err == nil {
		return e.renewedLocked(ctx, r, m)
	}
	err = dial.Judge(err)
	var (
		refusal  *dial.RefusedError
		wrongPin *pki.PinError
	)
	if errors.As(err, &refusal) || errors.As(err, &wrongPin) {
		if token, none := e.freshToken(r.Identity); none == nil {
			return e.joinWithLocked(ctx, r, token)
		}
	}
	return nil, fmt.Errorf("renew the certificate that expired %s: %w", r.Identity.NotAfter().UTC().Format("2006-01-02 15:04:05Z"), err)
}

// Renew gets the next certificate over the tunnel.
func (e *Enroller) Renew(ctx context.Context, cc grpc.ClientConnInterface) (*Identity, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	r, err := e.loadLocked(ctx)
	if err != nil {
		return nil, err
	}
	if r.Identity == nil {
		return nil, errors.New("there is no identity to renew")
	}
	csr, err := e.prepare(ctx, r)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, e.cfg.Call, fmt.Errorf("no answer to renewal in %s", e.cfg.Call))
	defer cancel()
	resp, err := agentv1.NewEnrollServiceClient(cc).Renew(ctx, &agentv1.RenewRequest{Csr: csr})
	if err != nil {
		return nil, fmt.Errorf("renew certificate: %w", dial.Judge(err))
	}
	return e.renewedLocked(ctx, r, resp.GetIdentity())
}

func (e *Enroller) renewedLocked(ctx context.Context, r *Record, m *agentv1.Identity) (*Identity, error) {
	old := r.Identity
	i, err := fromProto(m, r.Next, e.cfg.Now())
	switch {
	case err != nil:
		return nil, fmt.Errorf("renew certificate: check the hub's answer: %w", err)
	case i.ClusterID != old.ClusterID:
		return nil, fmt.Errorf("renew certificate: the hub answered with one for cluster %s, and we are %s", i.ClusterID, old.ClusterID)
	case i.Generation < old.Generation:
		return nil, fmt.Errorf("renew certificate: the hub answered with generation %d, and ours is %d", i.Generation, old.Generation)
	}
	i.ClusterUID, i.TokenID = old.ClusterUID, old.TokenID
	if err := e.adoptLocked(ctx, r, i); err != nil {
		return nil, fmt.Errorf("renew certificate: %w", err)
	}
	e.cfg.Logger.InfoContext(ctx, "certificate renewed", slog.Int64(logkey.Generation, i.Generation), slog.Time(logkey.NotAfter, i.NotAfter()))
	return i, nil
}

// prepare sees that the next key is stored, and makes a request for it.
func (e *Enroller) prepare(ctx context.Context, r *Record) (csr []byte, err error) {
	if r.Next == nil {
		if r.Next, err = pki.NewKey(); err != nil {
			return nil, fmt.Errorf("make key: %w", err)
		}
		if err := e.cfg.Store.Save(ctx, r); err != nil {
			return nil, err
		}
	}
	csr, err = pki.NewCSR(r.Next)
	if err != nil {
		return nil, fmt.Errorf("make certificate request: %w", err)
	}
	return csr, nil
}

// adoptLocked stores a new identity. It counts from the moment it is stored:
// one that is only in memory would be lost at a crash, together with the right
// to ask for the next.
func (e *Enroller) adoptLocked(ctx context.Context, r *Record, i *Identity) error {
	if err := e.cfg.Store.Save(ctx, &Record{Identity: i, version: r.version}); err != nil {
		return err
	}
	e.known.Store(i)
	e.distrusted, e.outdated = 0, 0
	return nil
}

// pins are those of the CA certificates in a bundle.
func pins(bundlePEM []byte) ([]string, error) {
	certs, err := pki.DecodeCertificates(bundlePEM)
	if err != nil {
		return nil, err
	}
	out := make([]string, 0, len(certs))
	for _, c := range certs {
		out = append(out, pki.Pin(c))
	}
	return out, nil
}
