package pki

import (
	"crypto/x509"
	"errors"
	"fmt"
	"strings"
	"time"
)

// ErrExpired is matched by the errors about a certificate that is out of its
// time.
var ErrExpired = errors.New("certificate is out of its time")

// ErrForeign is matched by the errors about a certificate that no authority of
// ours signed.
var ErrForeign = errors.New("certificate is not from our authority")

// PinError means that nobody in the presented chain has the pinned key.
type PinError struct {
	// Want is the pin of the token; Got that of the last certificate shown.
	Want, Got string
	// Issuer is who signed what was shown.
	Issuer string
}

// Error names the issuer that was seen.
func (e *PinError) Error() string {
	return fmt.Sprintf("the hub's authority is not the one of the join token: the token pins %s, the certificate shown was issued by %q with pin %s; "+
		"if that is a proxy that inspects TLS, exempt the hub's address from inspection, else make a new token at this hub",
		short(e.Want), e.Issuer, short(e.Got))
}

// Is makes it an ErrForeign.
func (e *PinError) Is(target error) bool { return target == ErrForeign }

// NameError means that the certificate is a hub's, but not for the name dialed.
type NameError struct {
	Want      string
	Presented []string
}

// Error names both.
func (e *NameError) Error() string {
	return fmt.Sprintf("the hub's certificate is for %s, not for %q; dial one of these (hub.addresses, hub.serverName) or add the name to tunnel.names at the hub",
		strings.Join(e.Presented, ", "), e.Want)
}

// ForeignError means that the chain does not lead to an authority of ours.
type ForeignError struct {
	// Whose says whose certificate it was: hub or cluster.
	Whose Kind
	// Issuer is who signed it.
	Issuer string
	// Err is what the verification said.
	Err error
}

// Error names the issuer that was seen.
func (e *ForeignError) Error() string {
	if e.Whose == KindHub {
		return fmt.Sprintf("the certificate shown was issued by %q, not by the hub's authority; "+
			"if that is a proxy that inspects TLS, exempt the hub's address from inspection, else join again with a token of this hub: %v", e.Issuer, e.Err)
	}
	return fmt.Sprintf("the agent's certificate was issued by %q, not by this hub's authority; join the cluster again with a token of this hub: %v", e.Issuer, e.Err)
}

// Is makes it an ErrForeign.
func (e *ForeignError) Is(target error) bool { return target == ErrForeign }

// Unwrap gives the verification's error.
func (e *ForeignError) Unwrap() error { return e.Err }

// TimeError means that a certificate is expired, or not valid yet.
type TimeError struct {
	Whose               Kind
	NotBefore, NotAfter time.Time
	Now                 time.Time
}

// Error shows both clocks.
func (e *TimeError) Error() string {
	whose, remedy := "the agent's", "renew it, or join the cluster again with a new token"
	if e.Whose == KindHub {
		whose, remedy = "the hub's", "check this machine's clock; if it is right, restart the hub"
	}
	if e.Now.Before(e.NotBefore) {
		return fmt.Sprintf("%s certificate is not valid before %s and the clock here says %s; set the clock right", whose, stamp(e.NotBefore), stamp(e.Now))
	}
	return fmt.Sprintf("%s certificate expired at %s and the clock here says %s; %s", whose, stamp(e.NotAfter), stamp(e.Now), remedy)
}

// Is makes it an ErrExpired.
func (e *TimeError) Is(target error) bool { return target == ErrExpired }

// KindError means that a good certificate is used where another kind belongs.
type KindError struct{ Want, Got Kind }

// Error names both kinds.
func (e *KindError) Error() string {
	return fmt.Sprintf("the certificate shown is that of a %s where that of a %s belongs; check which address is dialed", e.Got, e.Want)
}

func short(pin string) string {
	const enough = 16
	if len(pin) <= enough {
		return pin
	}
	return pin[:enough] + "…"
}

// issuerOf names who signed a certificate, however odd its fields are.
func issuerOf(cert *x509.Certificate) string {
	name := cert.Issuer.CommonName
	if org := strings.Join(cert.Issuer.Organization, ", "); org != "" && !strings.Contains(name, org) {
		name = strings.TrimPrefix(name+", "+org, ", ")
	}
	if name == "" {
		name = cert.Issuer.String()
	}
	const enough = 120
	return name[:min(len(name), enough)]
}
