package webhook

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/budecosystem/budcluster/hub/internal/event"
	"github.com/budecosystem/budcluster/internal/secret"
)

// The headers of Standard Webhooks.
const (
	HeaderID        = "webhook-id"
	HeaderTimestamp = "webhook-timestamp"
	HeaderSignature = "webhook-signature"
)

const (
	secretPrefix = "whsec_"
	secretBytes  = 32
	version      = "v1,"
)

// newSecret makes the key of a webhook's signatures.
func newSecret() secret.String {
	raw := make([]byte, secretBytes)
	_, _ = rand.Read(raw) // never fails: crypto/rand ends the program instead
	return secret.New(secretPrefix + base64.StdEncoding.EncodeToString(raw))
}

// Sign makes the signature of a message that is sent at a time.
func Sign(key secret.String, messageID string, at time.Time, body []byte) (string, error) {
	text, ok := strings.CutPrefix(key.Reveal(), secretPrefix)
	raw, err := base64.StdEncoding.DecodeString(text)
	if !ok || err != nil || len(raw) == 0 {
		return "", errors.New("the webhook's secret is not one of ours")
	}
	mac := hmac.New(sha256.New, raw)
	_, _ = fmt.Fprintf(mac, "%s.%d.", messageID, at.Unix()) // a hash takes everything
	_, _ = mac.Write(body)
	return version + base64.StdEncoding.EncodeToString(mac.Sum(nil)), nil
}

// Post is one message on its way to a receiver.
type Post struct {
	URL    string
	Header map[string]string
	Body   []byte
}

func signed(w *Webhook, key secret.String, messageID string, at time.Time, body []byte) (Post, error) {
	signature, err := Sign(key, messageID, at, body)
	if err != nil {
		return Post{}, err
	}
	return Post{URL: w.URL, Body: body, Header: map[string]string{
		HeaderID: messageID, HeaderTimestamp: strconv.FormatInt(at.Unix(), 10), HeaderSignature: signature,
	}}, nil
}

// messageID is that of an event: the same for each attempt.
func messageID(eventID int64) string { return "evt_" + strconv.FormatInt(eventID, 10) }

// message is the body: the envelope of Standard Webhooks around the event as
// /v1/events shows it.
type message struct {
	Type      string    `json:"type"`
	Timestamp time.Time `json:"timestamp"`
	Data      shown     `json:"data"`
}

type shown struct {
	ID        int64           `json:"id"`
	At        time.Time       `json:"at"`
	Type      string          `json:"type"`
	ClusterID string          `json:"clusterId,omitempty"`
	Subject   string          `json:"subject,omitempty"`
	Actor     string          `json:"actor,omitempty"`
	Message   string          `json:"message,omitempty"`
	Data      json.RawMessage `json:"data,omitempty"`
}

func encode(e event.Event) (json.RawMessage, error) {
	m := message{Type: string(e.Type), Timestamp: e.At, Data: shown{
		ID: e.ID, At: e.At, Type: string(e.Type), Subject: e.Subject, Actor: e.Actor, Message: e.Message, Data: e.Data,
	}}
	if e.ClusterID != uuid.Nil {
		m.Data.ClusterID = e.ClusterID.String()
	}
	body, err := json.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("encode event %d: %w", e.ID, err)
	}
	return body, nil
}
