package tunnel

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
)

// The alerts (RFC 8446 §6) by which the peer refuses a handshake.
const (
	errAlertHandshakeFailure    tls.AlertError = 40
	errAlertBadCertificate      tls.AlertError = 42
	errAlertCertificateExpired  tls.AlertError = 45
	errAlertUnknownCA           tls.AlertError = 48
	errAlertProtocolVersion     tls.AlertError = 70
	errAlertInternalError       tls.AlertError = 80
	errAlertCertificateRequired tls.AlertError = 116
	errAlertNoProtocol          tls.AlertError = 120
)

// explain turns what the network and TLS say after the handshake into a
// sentence with the remedy. What it does not know it returns as it is.
func explain(err error) error {
	if alert, ok := remoteAlert(err); ok {
		return explainAlert(alert, err)
	}
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return fmt.Errorf("the peer closed the connection: %w", err)
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("the connection was cut, by the peer or something between: %w", err)
	case errors.Is(err, os.ErrDeadlineExceeded), errors.Is(err, syscall.ETIMEDOUT):
		return fmt.Errorf("the network took no data for too long; the connection is taken for dead: %w", err)
	default:
		return err
	}
}

// remoteAlert finds the alert in an error of crypto/tls, which wraps a type of
// its own that prints like the exported one.
func remoteAlert(err error) (tls.AlertError, bool) {
	var op *net.OpError
	if !errors.As(err, &op) || op.Op != "remote error" || op.Err == nil {
		return 0, false
	}
	for _, alert := range []tls.AlertError{
		errAlertHandshakeFailure, errAlertBadCertificate, errAlertCertificateExpired, errAlertUnknownCA,
		errAlertProtocolVersion, errAlertInternalError, errAlertCertificateRequired, errAlertNoProtocol,
	} {
		if op.Err.Error() == alert.Error() {
			return alert, true
		}
	}
	return 0, false
}

func explainAlert(alert tls.AlertError, err error) error {
	var says string
	switch alert {
	case errAlertCertificateExpired:
		says = "the hub refused this agent's certificate as expired; it is renewed within the grace time, after that join again with a new token, and check the clocks of both"
	case errAlertUnknownCA, errAlertBadCertificate:
		says = "the hub refused this agent's certificate, which is not from its authority; join again with a token of this hub"
	case errAlertCertificateRequired:
		says = "the hub wants a certificate and this agent showed none; join with a token"
	case errAlertNoProtocol:
		says = "the hub does not speak this agent's version of the tunnel; check the address, and the versions of both"
	case errAlertProtocolVersion, errAlertHandshakeFailure:
		says = "the peer refused TLS 1.3; check the address, and whether a proxy inspects TLS on the way"
	default:
		says = "the hub could not answer; its log says why"
	}
	return fmt.Errorf("%s: %w", says, err)
}

// explainDial does the same for what happens before and in the handshake with
// addr, as seen by the side that dials.
func explainDial(err error, addr string) error {
	var (
		record tls.RecordHeaderError
		dns    *net.DNSError
	)
	switch {
	case errors.As(err, &record) && string(record.RecordHeader[:4]) == "HTTP":
		return fmt.Errorf("%s answers in plain HTTP, so it is not the hub's tunnel; hub.addresses must name the tunnel's port, 8443 by default: %w", addr, err)
	case errors.As(err, &record):
		return fmt.Errorf("%s does not speak TLS, so it is not the hub's tunnel; check hub.addresses: %w", addr, err)
	case errors.As(err, &dns):
		return fmt.Errorf("the name of %s is not known; check hub.addresses and this cluster's DNS: %w", addr, err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("nothing listens at %s; check hub.addresses and that the hub runs: %w", addr, err)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return fmt.Errorf("there is no way from here to %s; check hub.addresses, or set proxy.https: %w", addr, err)
	case isTimeout(err):
		return fmt.Errorf("%s did not answer in time; allow TCP from this cluster to it, or set proxy.https: %w", addr, err)
	case errors.Is(err, io.EOF), errors.Is(err, syscall.ECONNRESET):
		return fmt.Errorf("%s closed the connection before it was secured; the hub may be busy, or something between does not allow it: %w", addr, err)
	default:
		return explain(err)
	}
}

func isTimeout(err error) bool {
	var timeout interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.As(err, &timeout) && timeout.Timeout()
}
