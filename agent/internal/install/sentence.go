package install

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"strings"
	"syscall"
	"unicode"

	apierrors "k8s.io/apimachinery/pkg/api/errors"

	"github.com/budecosystem/budcluster/internal/install"
)

// failure is why it went wrong, in the words of the conversation.
type failure struct {
	reason  install.Reason
	message string
}

// Error is the message.
func (f *failure) Error() string { return f.message }

func fail(reason install.Reason, format string, args ...any) *failure {
	return &failure{reason: reason, message: fmt.Sprintf(format, args...)}
}

// contact says why a server could not be asked. Nothing that it sent is in the
// sentence: it may be any server that the hub happens to reach.
func contact(server string, err error) *failure {
	if f, ok := errors.AsType[*failure](err); ok {
		return f
	}
	if f := byAddress(server, err); f != nil {
		return f
	}
	if f := byTrust(server, err); f != nil {
		return f
	}
	return byAnswer(server, err)
}

func byAddress(server string, err error) *failure {
	var (
		address *addressError
		name    *net.DNSError
		network net.Error
	)
	switch {
	case errors.As(err, &address):
		return fail(install.Invalid, "the server %s %s", server, address.why)
	case errors.As(err, &name):
		return fail(install.Unreachable, "the server %s is not reachable: the hub finds no address for the name %q; check the name, or give the server's address", server, name.Name)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fail(install.Unreachable, "the server %s is not reachable: nothing listens there; check host and port", server)
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return fail(install.Unreachable, "the server %s is not reachable: the hub has no route to it", server)
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &network) && network.Timeout():
		return fail(install.Unreachable, "the server %s is not reachable: it did not answer in time; check that a firewall lets the hub through to it, or install the agent with helm from inside", server)
	default:
		return nil
	}
}

func byTrust(server string, err error) *failure {
	var (
		unknown  x509.UnknownAuthorityError
		wrong    x509.HostnameError
		invalid  x509.CertificateInvalidError
		verify   *tls.CertificateVerificationError
		notTLS   tls.RecordHeaderError
		refused  tls.AlertError
		redirect *redirectError
	)
	switch {
	case errors.As(err, &unknown):
		return fail(install.Untrusted, "the server %s shows a certificate of an authority that the kubeconfig does not name; take a new kubeconfig from the cluster", server)
	case errors.As(err, &wrong):
		return fail(install.Untrusted, "the server %s shows a certificate that is not for this host; use the name or address that it is for, or set tls-server-name", server)
	case errors.As(err, &invalid), errors.As(err, &verify):
		return fail(install.Untrusted, "the server %s shows a certificate that is not good any more, or is not one of a server; check the cluster's certificates", server)
	case errors.As(err, &notTLS), err != nil && strings.Contains(err.Error(), "server gave HTTP response to HTTPS client"):
		return fail(install.NotKubernetes, "the server %s does not speak TLS; check host and port", server)
	case errors.As(err, &refused):
		return fail(install.Unauthorized, "the server %s refused the TLS handshake (%s); check the client certificate of the kubeconfig", server, refused)
	case errors.As(err, &redirect):
		return fail(install.NotKubernetes, "the server %s is no API server: %s; give the URL that answers itself", server, redirect)
	default:
		return nil
	}
}

func byAnswer(server string, err error) *failure {
	var (
		status apierrors.APIStatus
		syntax *json.SyntaxError
		other  *json.UnmarshalTypeError
	)
	switch {
	case errors.As(err, &syntax), errors.As(err, &other):
		return fail(install.NotKubernetes, "the server %s does not answer as an API server does; check host, port and path", server)
	case apierrors.IsUnauthorized(err):
		return fail(install.Unauthorized, "the server %s does not accept the kubeconfig's credential (401); take a new kubeconfig from the cluster", server)
	case apierrors.IsForbidden(err):
		return fail(install.Forbidden, "the kubeconfig's user may not read the namespace kube-system of %s (403); installing the agent needs an administrator of the cluster", server)
	case errors.As(err, &status):
		return fail(install.NotKubernetes, "the server %s does not answer as an API server does (status %d); check host, port and path", server, status.Status().Code)
	default:
		return fail(install.Unreachable, "the connection to the server %s broke off; check that it is an API server, and what stands between it and the hub", server)
	}
}

// clean makes one bounded line of a foreign sentence, without the secrets.
func clean(text string, secrets []string) string {
	for _, s := range secrets {
		if s != "" {
			text = strings.ReplaceAll(text, s, "[redacted]")
		}
	}
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
	const most = 900
	if runes := []rune(text); len(runes) > most {
		text = string(runes[:most-1]) + "…"
	}
	return strings.TrimSpace(text)
}
