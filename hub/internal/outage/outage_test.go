package outage_test

import (
	"errors"
	"fmt"
	"io"
	"net"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/outage"
)

func TestOfDatabase(t *testing.T) {
	t.Parallel()
	_, refused := pgx.Connect(t.Context(), "postgres://nobody@127.0.0.1:1/none")
	require.Error(t, refused)
	for _, tt := range []struct {
		name string
		err  error
		want bool
	}{
		{"none", nil, false},
		{"nobody listens", refused, true},
		{"connection reset", &net.OpError{Op: "read", Err: errors.New("connection reset by peer")}, true},
		{"it went in the middle", fmt.Errorf("read: %w", io.ErrUnexpectedEOF), true},
		{"it stops", &pgconn.PgError{Code: "57P01"}, true},
		{"it starts", &pgconn.PgError{Code: "57P03"}, true},
		{"the connection is gone", &pgconn.PgError{Code: "08006"}, true},
		{"a statement took too long", &pgconn.PgError{Code: "57014"}, false},
		{"a duplicate", &pgconn.PgError{Code: "23505"}, false},
		{"anything else", errors.New("broken"), false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, tt.want, outage.OfDatabase(tt.err))
			require.Equal(t, tt.want, outage.OfDatabase(errors.Join(errors.New("save"), tt.err)))
		})
	}
}
