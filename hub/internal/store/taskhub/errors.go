package taskhub

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"

	"github.com/dapr/durabletask-go/api"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// notFound turns the absence of a row into the library's word for it.
func notFound(err error) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return api.ErrInstanceNotFound
	}
	return err
}

func collectStrings(rows pgx.Rows) ([]string, error) { return pgx.CollectRows(rows, pgx.RowTo[string]) }

// absent reports whether err says that the database could not be reached, was
// ending, or ended a transaction for another's sake: the same again may work.
func absent(err error) bool {
	if pgErr, ok := errors.AsType[*pgconn.PgError](err); ok {
		switch {
		case strings.HasPrefix(pgErr.Code, "08"): // connection
			return true
		case strings.HasPrefix(pgErr.Code, "57P"): // shutdown, starting up
			return true
		case pgErr.Code == "40P01", pgErr.Code == "40001", pgErr.Code == "53300": // deadlock, serialization, too many connections
			return true
		}
		return false
	}
	if _, ok := errors.AsType[*pgconn.ConnectError](err); ok {
		return true
	}
	if _, ok := errors.AsType[net.Error](err); ok {
		return true
	}
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) ||
		errors.Is(err, context.DeadlineExceeded) || pgconn.SafeToRetry(err) || strings.Contains(err.Error(), "conn closed")
}
