package store

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/budecosystem/budcluster/hub/internal/access"
	"github.com/budecosystem/budcluster/hub/internal/chart"
	"github.com/budecosystem/budcluster/hub/internal/cluster"
	"github.com/budecosystem/budcluster/hub/internal/enroll"
	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/hub/internal/inventory"
	"github.com/budecosystem/budcluster/hub/internal/release"
	"github.com/budecosystem/budcluster/hub/internal/store/sqlcgen"
	"github.com/budecosystem/budcluster/hub/internal/workflow"
)

// The channels on which a commit is announced. The payload is the id of the
// cluster that it is about, or empty.
const (
	ChannelEvents   = "bud_events"
	ChannelReleases = "bud_releases"
)

// The classes of advisory locks; the second key says which of a class.
const (
	lockEvents    = 0x627501
	lockInventory = 0x627502
	lockOutbox    = 0x627503
)

// Store is the database.
type Store struct {
	pool *pgxpool.Pool
	q    *sqlcgen.Queries
}

var (
	_ access.Store    = (*Store)(nil)
	_ chart.Store     = (*Store)(nil)
	_ cluster.Store   = (*Store)(nil)
	_ enroll.Store    = (*Store)(nil)
	_ event.Store     = (*Store)(nil)
	_ inventory.Store = (*Store)(nil)
	_ release.Store   = (*Store)(nil)
	_ workflow.Store  = (*Store)(nil)
)

// New makes a Store on a database that pg.Migrate has brought up to date.
func New(pool *pgxpool.Pool) *Store { return &Store{pool: pool, q: sqlcgen.New()} }

// Ping reports whether the database answers.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.pool.Ping(ctx); err != nil {
		return fmt.Errorf("reach database: %w", err)
	}
	return nil
}

// transaction is what the context of InTx carries.
type transaction struct {
	pgx.Tx
	events []event.Event
	wakes  []wake
}

type wake struct{ channel, payload string }

type transactionKey struct{}

func transactionOf(ctx context.Context) *transaction {
	tx, _ := ctx.Value(transactionKey{}).(*transaction)
	return tx
}

// db is the transaction of ctx, or else the pool.
func (s *Store) db(ctx context.Context) sqlcgen.DBTX {
	if tx := transactionOf(ctx); tx != nil {
		return tx
	}
	return s.pool
}

// maxTries bounds how often a transaction is tried that meets a deadlock.
const maxTries = 3

// InTx runs fn in a transaction, which travels in fn's context. Inside of
// another InTx it takes part in that one. If Postgres breaks a deadlock by
// ending this transaction, fn is run again in a new one.
func (s *Store) InTx(ctx context.Context, fn func(ctx context.Context) error) error {
	if transactionOf(ctx) != nil {
		return fn(ctx)
	}
	for try := 1; ; try++ {
		err := s.once(ctx, fn)
		if try == maxTries || !violates(err, deadlock, "") {
			return err
		}
	}
}

func (s *Store) once(ctx context.Context, fn func(ctx context.Context) error) (err error) {
	raw, err := s.pool.Begin(ctx)
	if err != nil {
		return fmt.Errorf("begin transaction: %w", err)
	}
	defer func() {
		if rollback := raw.Rollback(context.WithoutCancel(ctx)); rollback != nil && !errors.Is(rollback, pgx.ErrTxClosed) {
			err = errors.Join(err, fmt.Errorf("roll back: %w", rollback))
		}
	}()
	tx := &transaction{Tx: raw}
	inside := context.WithValue(ctx, transactionKey{}, tx)
	if err := fn(inside); err != nil {
		return err
	}
	if err := s.finish(inside, tx); err != nil {
		return err
	}
	if err := raw.Commit(ctx); err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	return nil
}

// finish writes what was kept for the end. The events come last: they are under
// a lock that all replicas share, until the commit.
func (s *Store) finish(ctx context.Context, tx *transaction) error {
	for _, e := range tx.events {
		w := wake{channel: ChannelEvents}
		if e.ClusterID != uuid.Nil {
			w.payload = e.ClusterID.String()
		}
		if !slices.Contains(tx.wakes, w) {
			tx.wakes = append(tx.wakes, w)
		}
	}
	for _, w := range tx.wakes { // Postgres drops repetitions
		if err := s.q.Notify(ctx, tx, sqlcgen.NotifyParams{Channel: w.channel, Payload: w.payload}); err != nil {
			return fmt.Errorf("announce on %s: %w", w.channel, err)
		}
	}
	if len(tx.events) == 0 {
		return nil
	}
	return s.insertEvents(ctx, tx.events)
}

// WakeReleases announces, with the commit of ctx's transaction, that the
// desired state of a cluster changed. It is of no use outside of InTx.
func (s *Store) WakeReleases(ctx context.Context, clusterID uuid.UUID) {
	if tx := transactionOf(ctx); tx != nil {
		tx.wakes = append(tx.wakes, wake{ChannelReleases, clusterID.String()})
	}
}

// notFound turns the absence of a row into the rule's word for it.
func notFound(err, sentinel error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return sentinel
	}
	return err
}

// violates reports whether err is Postgres's of this code and, unless that is
// empty, about this constraint.
func violates(err error, code, constraint string) bool {
	pgErr, ok := errors.AsType[*pgconn.PgError](err)
	return ok && pgErr.Code == code && (constraint == "" || pgErr.ConstraintName == constraint)
}

// The codes of errors.
const (
	deadlock            = "40P01"
	foreignKeyViolation = "23503"
	uniqueViolation     = "23505"
)

func decode[T any](raw []byte, what string) (T, error) {
	var value T
	if len(raw) == 0 {
		return value, nil
	}
	if err := json.Unmarshal(raw, &value); err != nil {
		return value, fmt.Errorf("decode %s: %w", what, err)
	}
	return value, nil
}

func encode(value any, what string) ([]byte, error) {
	raw, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", what, err)
	}
	return raw, nil
}

// optional is nil for the zero value: a filter that is not set.
func optional[T comparable](value T) *T {
	var zero T
	if value == zero {
		return nil
	}
	return &value
}

func deref[T any](p *T) T {
	if p == nil {
		var zero T
		return zero
	}
	return *p
}

// lastSeen is the renewal of an open session, or else the end of the last one.
func lastSeen(closed, open *time.Time) *time.Time {
	if open != nil {
		return open
	}
	return closed
}

func hash32(raw []byte) (hash [32]byte) {
	copy(hash[:], raw)
	return hash
}
