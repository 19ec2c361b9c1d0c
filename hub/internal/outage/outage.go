// Package outage tells errors that pass by themselves from those that do not,
// for the faces of the hub: whoever meets one is asked to try again.
package outage

import (
	"errors"
	"io"
	"net"
	"strings"
)

// OfDatabase reports whether err is PostgreSQL's absence: it cannot be reached,
// says that it stops or starts (SQLSTATE classes 57P and 08), or went in the
// middle of what it was asked, or before.
func OfDatabase(err error) bool {
	var (
		network  *net.OpError
		database interface{ SQLState() string }
		unsent   interface{ SafeToRetry() bool }
	)
	switch {
	case errors.As(err, &database):
		return strings.HasPrefix(database.SQLState(), "57P") || strings.HasPrefix(database.SQLState(), "08")
	case errors.As(err, &unsent) && unsent.SafeToRetry():
		return true
	default:
		return errors.As(err, &network) || errors.Is(err, io.ErrUnexpectedEOF)
	}
}
