package dial

import (
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"
)

// RefusedError is a no that stays no until a human acts. Its Message is one
// sentence with the remedy.
type RefusedError struct {
	// Reason is CamelCase, the hub's or ours.
	Reason  string
	Message string
}

// Error gives reason and message.
func (r *RefusedError) Error() string { return r.Reason + ": " + r.Message }

// domain is that of the reasons that hubs attach to a final no.
const domain = "budcluster"

// Judge turns the error of a call into a *RefusedError when the hub meant it for
// good, and leaves every other error as it is: what is not permanent is
// retried. A status is final when it carries a reason of the hub's; one
// without is the hub's trouble or the network's, whatever its code.
func Judge(err error) error {
	s, ok := status.FromError(err)
	if err == nil || !ok {
		return err
	}
	for _, d := range s.Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok && info.GetDomain() == domain {
			return &RefusedError{Reason: info.GetReason(), Message: s.Message()}
		}
	}
	return err
}
