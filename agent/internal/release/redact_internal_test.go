package release

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Helm says "at /password: 'hunter22 x' does not match pattern …", and that
// sentence went into the status, the log, an Event and to the hub.
func TestSecretsAreHidden(t *testing.T) {
	t.Parallel()
	const pem = "-----BEGIN KEY-----\nMIIEvQIBADAN\nBgkqhkiG9w0BAQ\n-----END KEY-----\n"
	raw, err := json.Marshal(map[string]any{
		"password": "hunter22 x", "longer": "hunter22 xyz", "quoted": "a\"b\tc", "pin": 123456, "on": true, "none": nil, "tiny": "ab",
		"list": []any{map[string]any{"token": "tok-1"}}, "pem": pem,
	})
	require.NoError(t, err)
	hide := newRedactor(raw)
	for _, secret := range []string{
		"hunter22 x", "hunter22 xyz", `a"b` + "\tc", `a\"b\tc`, "123456", "tok-1", pem, "MIIEvQIBADAN",
		base64.StdEncoding.EncodeToString([]byte("hunter22 x")),
	} {
		said := hide.text("at /x: '" + secret + "' does not match")
		require.NotContains(t, said, secret)
		require.Equal(t, "at /x: '[redacted]' does not match", said)
	}
	require.Equal(t, "a long story about [redacted]…", hide.text("a long story about hunter22…"), "cut in the middle of it")
	require.Equal(t, "true ab: ready", hide.text("true ab: ready"), "what is no secret stays readable")

	cause := errors.New("no such value: tok-1")
	require.ErrorIs(t, hide.error(cause), cause)
	require.Equal(t, "no such value: [redacted]", hide.error(cause).Error())
	plain := errors.New("connection refused")
	require.Same(t, plain, hide.error(plain))
	require.NoError(t, hide.error(nil))
}

func TestNothingToHide(t *testing.T) {
	t.Parallel()
	for _, raw := range []string{"", "{}", "null", "[1]", "{"} {
		require.Equal(t, "anything", newRedactor(json.RawMessage(raw)).text("anything"))
	}
}

func FuzzSecretsAreHidden(f *testing.F) {
	f.Add("hunter2", "at /password: 'hunter2' does not match")
	f.Add("aaaa", "aaaaaaa")
	f.Fuzz(func(t *testing.T, secret, said string) {
		raw, err := json.Marshal(map[string]any{"secret": secret})
		if err != nil {
			t.Skip()
		}
		var back struct{ Secret string }
		require.NoError(t, json.Unmarshal(raw, &back))
		if len(back.Secret) < minSecret || strings.Contains(redacted, back.Secret) {
			t.Skip()
		}
		if strings.Contains(newRedactor(raw).text(said), back.Secret) {
			// Only where hiding one made another out of its surroundings.
			require.Contains(t, said, back.Secret)
			require.Contains(t, newRedactor(raw).text(said), redacted)
		}
	})
}
