package enroll

import "errors"

// The errors that callers tell apart by value.
var (
	ErrNoCluster = errors.New("no such cluster")
	ErrNoToken   = errors.New("there is no such join token; list the tokens of the cluster to see those that there are")
	// ErrNoCertificate and ErrUIDTaken are for the store to say.
	ErrNoCertificate = errors.New("no such certificate")
	ErrUIDTaken      = errors.New("cluster uid is taken")
)

// Reason is why somebody is refused, for programs.
type Reason string

// The reasons.
const (
	TokenMalformed        Reason = "TokenMalformed"
	TokenUnknown          Reason = "TokenUnknown"
	TokenExpired          Reason = "TokenExpired"
	TokenUsed             Reason = "TokenUsed"
	TokenRevoked          Reason = "TokenRevoked"
	ClusterUIDInvalid     Reason = "ClusterUIDInvalid"
	ClusterUIDMismatch    Reason = "ClusterUIDMismatch"
	CSRInvalid            Reason = "CSRInvalid"
	CertificateForeign    Reason = "CertificateForeign"
	CertificateExpired    Reason = "CertificateExpired"
	CertificateRevoked    Reason = "CertificateRevoked"
	CertificateSuperseded Reason = "CertificateSuperseded"
)

// Reasons lists every reason.
func Reasons() []Reason {
	return []Reason{
		TokenMalformed, TokenUnknown, TokenExpired, TokenUsed, TokenRevoked, ClusterUIDInvalid, ClusterUIDMismatch,
		CSRInvalid, CertificateForeign, CertificateExpired, CertificateRevoked, CertificateSuperseded,
	}
}

// RefusedError says why somebody is not let in, and what to do about it. It
// holds no secret, so it may travel to the one who was refused.
type RefusedError struct {
	Reason  Reason
	Message string
	// Other names the cluster that has the same UID already, for
	// ClusterUIDMismatch.
	Other string
}

// Error is the message.
func (e *RefusedError) Error() string { return e.Message }

func refuse(reason Reason, message string) error {
	return &RefusedError{Reason: reason, Message: message}
}
