package hub_test

import (
	"bytes"
	"encoding/json"
	"io"
	"mime/multipart"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/stretchr/testify/require"
)

// call is one that a service makes of the hub. In path and payload <x> stands
// for a name that only the test knows.
type call struct {
	// number is the call's in the contract, caller the service, by the function
	// in it.
	number, caller, by string
	method, path       string
	// payload is JSON; of a form, beside its file, the part with the request.
	payload, file string
	// reads is what the caller reads of the answer, for people.
	reads string
	// status is 200 when zero.
	status int
	// read reads that. It fails where the caller would.
	read func(t *testing.T, a answer)
}

// answer is a body as a caller of another language reads it.
type answer map[string]any

// at gives what is at a path of keys and indexes, which has to be there.
func (a answer) at(t *testing.T, path ...any) any {
	t.Helper()
	var v any = map[string]any(a)
	for i, step := range path {
		switch step := step.(type) {
		case string:
			object, is := v.(map[string]any)
			require.True(t, is, "%v is no object: %v", path[:i], a)
			require.Contains(t, object, step, "%v: %v", path[:i], a)
			v = object[step]
		case int:
			list, is := v.([]any)
			require.True(t, is && len(list) > step, "%v is no list with an item %d: %v", path[:i], step, a)
			v = list[step]
		}
	}
	return v
}

// has requires keys of what is at a path.
func (a answer) has(t *testing.T, path []any, keys ...string) {
	t.Helper()
	for _, key := range keys {
		a.at(t, append(append([]any{}, path...), key)...)
	}
}

// form is the call as a form with a file.
func (c call) form(t *testing.T) *http.Request {
	t.Helper()
	var body bytes.Buffer
	w := multipart.NewWriter(&body)
	require.NoError(t, w.WriteField("cluster_create_request", c.payload))
	part, err := w.CreateFormFile("configuration", "kubeconfig.yaml")
	require.NoError(t, err)
	_, err = io.WriteString(part, c.file)
	require.NoError(t, err)
	require.NoError(t, w.Close())
	r := httptest.NewRequestWithContext(t.Context(), c.method, "/"+c.path, &body)
	r.Header.Set("Content-Type", w.FormDataContentType())
	return r
}

// began is what the main service reads of an answer that began a workflow.
type began struct {
	WorkflowID string `json:"workflow_id"`
	ETA        *int   `json:"eta"`
	Steps      []struct {
		ID, Title, Description string
		Payload                *json.RawMessage
	} `json:"steps"`
}

func (b began) ids() (ids []string) {
	for _, s := range b.Steps {
		ids = append(ids, s.ID)
	}
	return ids
}
