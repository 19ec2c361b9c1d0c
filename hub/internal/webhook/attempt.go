package webhook

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/budecosystem/budcluster/internal/secret"
)

// attemptTimeout is how long a receiver may take to answer.
const attemptTimeout = 10 * time.Second

// maxError bounds what of an error is kept.
const maxError = 300

// sender makes attempts.
type sender struct {
	sealer Sealer
	poster Poster
	now    func() time.Time
}

// attempt sends d's body once and writes into d what came of it: Sent or
// Failing.
func (s sender) attempt(ctx context.Context, w Sealed, message string, d *Delivery) {
	began := time.Now()
	d.LastAt, d.Status, d.Error, d.Response = s.now().UTC(), StatusFailing, "", 0
	status, err := s.send(ctx, w, message, d.LastAt, d.Body)
	d.Took, d.Response = time.Since(began), status
	switch {
	case err != nil:
		d.Error = clip(err.Error())
	case status >= 200 && status <= 299:
		d.Status = StatusSent
	case status >= 300 && status <= 399:
		d.Error = fmt.Sprintf("the receiver answered %d; redirects are not followed, so give the address that they lead to", status)
	default:
		d.Error = fmt.Sprintf("the receiver answered %d", status)
	}
}

func (s sender) send(ctx context.Context, w Sealed, message string, at time.Time, body []byte) (int, error) {
	key, err := s.sealer.Unseal(w.Secret, associated(w.ID))
	if err != nil {
		return 0, fmt.Errorf("open the webhook's secret (was the folder of crypto keys replaced?): %w", err)
	}
	p, err := signed(&w.Webhook, secret.New(string(key)), message, at, body)
	if err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, attemptTimeout, fmt.Errorf("no answer in %s", attemptTimeout))
	defer cancel()
	return s.poster.Post(ctx, p)
}

// refused reports whether the receiver does not want this message, as opposed
// to not being able to take any now.
func (d *Delivery) refused() bool {
	switch d.Response {
	case 408, 425, 429: // timeout, too early, too many
		return false
	default:
		return d.Response >= 400 && d.Response <= 499
	}
}

// clip makes of foreign words what a column of text takes.
func clip(text string) string {
	text = strings.ReplaceAll(text, "\x00", "")
	if len(text) > maxError {
		text = text[:maxError] + "…"
	}
	return strings.ToValidUTF8(text, "")
}
