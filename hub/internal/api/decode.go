package api

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

// problemOfHuma rewrites what huma says of a request that does not fit its
// description: each fault a sentence that names field, value and remedy.
func problemOfHuma(e *huma.ErrorModel, op *huma.Operation) *hubapi.Problem {
	p := &hubapi.Problem{Status: e.Status}
	switch e.Status {
	case http.StatusUnprocessableEntity:
		fields := make([]hubapi.FieldError, 0, len(e.Errors))
		for _, d := range e.Errors {
			if d != nil {
				fields = append(fields, fieldOfHuma(d))
			}
		}
		return withFields(fields)
	case http.StatusBadRequest:
		p.Code, p.Detail = hubapi.CodeMalformed, malformed(e)
	case http.StatusRequestEntityTooLarge:
		p.Code, p.MaxBytes = hubapi.CodeTooLarge, op.MaxBodyBytes-1
		p.Detail = fmt.Sprintf("The body is larger than %d bytes, the most that is taken here; send less.", p.MaxBytes)
		if op.OperationID == "applyRelease" {
			p.Detail = fmt.Sprintf("The release is larger than %d bytes, the most that is taken; put large files into the chart instead of values.", p.MaxBytes)
		}
	case http.StatusUnsupportedMediaType:
		p.Code, p.Detail = hubapi.CodeUnsupportedMediaType, "The body's Content-Type is not known here; send JSON as application/json."
	case http.StatusNotAcceptable:
		p.Code, p.Detail = hubapi.CodeNotAcceptable, "The Accept header asks for what there is not; accept application/json."
	case http.StatusRequestTimeout:
		p.Code, p.Detail = hubapi.CodeTimeout, "The body did not come in time; send it again."
	default:
		p.Status, p.Code = http.StatusBadRequest, hubapi.CodeMalformed
		p.Detail = "The body could not be read to its end; send it again."
	}
	return p
}

func malformed(e *huma.ErrorModel) string {
	for _, d := range e.Errors {
		if d != nil && d.Message != "" {
			return fmt.Sprintf("The body is not JSON (%s); correct it.", strings.TrimPrefix(d.Message, "json: "))
		}
	}
	return "The request has no body; send one."
}

func fieldOfHuma(d *huma.ErrorDetail) hubapi.FieldError {
	name := d.Location
	for _, place := range []string{"body.", "query.", "path.", "header."} {
		name = strings.TrimPrefix(name, place)
	}
	f := hubapi.FieldError{Field: name, Value: shown(d)}
	expected, isExpected := strings.CutPrefix(d.Message, "expected ")
	missing, isMissing := strings.CutPrefix(d.Message, "expected required property ")
	switch {
	case isMissing:
		missing = strings.TrimSuffix(missing, " to be present")
		f.Field, f.Value = strings.TrimPrefix(strings.TrimPrefix(d.Location+"."+missing, "body."), "."), nil
		f.Message = f.Field + ": it is missing; give it."
	case d.Message == "unexpected property":
		f.Value = nil
		f.Message = name + ": it is not a field of this request; remove it or correct its spelling."
	case d.Message == "unknown query parameter":
		f.Message = name + ": it is not a parameter of this request; remove it or correct its spelling."
	case strings.HasPrefix(d.Message, "required "):
		f.Message = name + ": it is missing; give it."
	case isExpected:
		f.Message = fmt.Sprintf("%s: %s cannot be used; give %s.", name, said(f.Value), wanted(expected))
	default:
		f.Message = fmt.Sprintf("%s: %s cannot be used (%s); correct it.", name, said(f.Value), d.Message)
	}
	return f
}

// shown is the value of a fault if it is small and cannot be a secret.
func shown(d *huma.ErrorDetail) any {
	if strings.HasPrefix(d.Location, "body.secretValues") || d.Location == "body.kubeconfig" || d.Location == "body" {
		return nil
	}
	switch v := d.Value.(type) {
	case string:
		if utf8.RuneCountInString(v) > 80 {
			return string([]rune(v)[:80]) + "…"
		}
		return v
	case bool, float64, int, int64:
		return v
	default:
		return nil
	}
}

func said(v any) string {
	if v == nil {
		return "what is there"
	}
	b, err := json.Marshal(v)
	if err != nil {
		return "what is there"
	}
	return string(b)
}

// wanted makes words of huma's "expected …".
func wanted(s string) string {
	if list, ok := strings.CutPrefix(s, "value to be one of "); ok {
		return "one of " + strings.Trim(list, `"`)
	}
	for _, vowel := range []string{"array", "integer", "object"} {
		if strings.HasPrefix(s, vowel) {
			return "an " + s
		}
	}
	return "a " + s
}
