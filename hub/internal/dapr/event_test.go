package dapr_test

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/hub/internal/dapr"
	"github.com/budecosystem/budcluster/internal/secret"
)

func TestParseEvent(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		body   string
		fields map[string]string // of Event.Fields, as JSON
		data   string            // of Event.Data
		source []string          // of Event.SourceTopic
	}{
		"data is an object":     {body: `{"type":"x","data":{"a":1,"type":"inner"}}`, fields: map[string]string{"a": "1", "type": `"inner"`}},
		"beside the attributes": {body: `{"type":"x","a":1,"payload":{"b":2}}`, fields: map[string]string{"a": "1", "payload": `{"b":2}`}},
		"both":                  {body: `{"a":1,"data":{"a":2,"b":3}}`, fields: map[string]string{"a": "1", "b": "3"}},
		"data is a list":        {body: `{"data":[1]}`, data: `[1]`},
		"data is a text":        {body: `{"data":"x"}`, data: `"x"`},
		"data is null":          {body: `{"data":null}`},
		"data is base64":        {body: `{"data_base64":"eyJhIjoxfQ=="}`, fields: map[string]string{"a": "1"}},
		"base64 of no JSON":     {body: `{"data_base64":"aGVsbG8="}`},
		"no base64":             {body: `{"data_base64":7}`},
		"one source topic":      {body: `{"source_topic":"t"}`, source: []string{"t"}},
		"two source topics":     {body: `{"source_topic":["t","","u"]}`, source: []string{"t", "u"}},
		"source topic in data":  {body: `{"data":{"source_topic":"t"}}`, fields: map[string]string{"source_topic": `"t"`}, source: []string{"t"}},
		"a topic that is none":  {body: `{"source_topic":5}`},
		"attributes of no type": {body: `{"type":5,"time":"noon","id":{}}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e, err := dapr.ParseEvent([]byte(c.body))
			require.NoError(t, err)
			got := map[string]string{}
			for field, value := range e.Fields {
				got[field] = string(value)
			}
			if c.fields == nil {
				c.fields = map[string]string{}
			}
			require.Equal(t, c.fields, got)
			require.Equal(t, c.data, string(e.Data))
			require.Equal(t, c.source, e.SourceTopic)
		})
	}
	e, err := dapr.ParseEvent([]byte(`{"id":"1","specversion":"1.0","type":"t","source":"s","subject":"u","time":"2026-01-02T03:04:05.6Z",` +
		`"topic":"o","pubsubname":"p","traceparent":"00-1"}`))
	require.NoError(t, err)
	require.Equal(t, []string{"1", "1.0", "t", "s", "u", "o", "p", "00-1"}, []string{e.ID, e.SpecVersion, e.Type, e.Source, e.Subject, e.Topic, e.PubSub, e.TraceParent})
	require.Equal(t, 2026, e.Time.Year())
	for _, body := range []string{"", "null", "[]", `"x"`, "{", `{"a":1}{`} {
		_, err := dapr.ParseEvent([]byte(body))
		require.Error(t, err, body)
	}
}

// FuzzParseEvent: whatever comes, it is read or refused, and what was read is
// JSON.
func FuzzParseEvent(f *testing.F) {
	for _, seed := range []string{`{"data":{"a":1},"source_topic":["t"]}`, `{"data_base64":"eyJhIjoxfQ==","time":"2026-01-02T03:04:05Z"}`, `{"data":"x"}`, "null", "{"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		e, err := dapr.ParseEvent(body)
		if err != nil {
			return
		}
		require.NotNil(t, e.Fields)
		for name, value := range e.Fields {
			require.True(t, json.Valid(value), name)
		}
		require.True(t, e.Data == nil || json.Valid(e.Data))
		require.NotContains(t, e.SourceTopic, "")
	})
}

func FuzzParseConfigurationUpdate(f *testing.F) {
	for _, seed := range []string{`{"id":"1","items":{"a":{"value":"1","version":"2"}}}`, `{"items":{}}`, `{"items":{"a":5}}`, "null", "{"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		values, err := dapr.ParseConfigurationUpdate(body)
		require.Equal(t, err == nil, len(values) > 0)
	})
}

func TestFromSidecar(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		want, got string // tokens
		pass      bool
	}{
		{want: "", got: "", pass: true},
		{want: "", got: "x", pass: true},
		{want: "x", got: "x", pass: true},
		{want: "x", got: "", pass: false},
		{want: "x", got: "y", pass: false},
	} {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/notifications", http.NoBody)
		if c.got != "" {
			r.Header.Set("dapr-api-token", c.got)
		}
		require.Equal(t, c.pass, dapr.FromSidecar(r, secret.New(c.want)), "%+v", c)
	}
}

func TestOutcome(t *testing.T) {
	t.Parallel()
	w := httptest.NewRecorder()
	dapr.Drop.Answer(w)
	require.JSONEq(t, `{"status":"DROP"}`, w.Body.String())
	require.Equal(t, http.StatusOK, w.Code)
}
