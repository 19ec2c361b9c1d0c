package api

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/budecosystem/budcluster/hub/hubapi"
)

// description is the OpenAPI document in its two forms.
type description struct{ json, yaml []byte }

// describe completes and encodes the document that the routes made.
func (s *Server) describe() (description, error) {
	doc := s.huma.OpenAPI()
	schemas := doc.Components.Schemas
	schemas.Schema(reflect.TypeFor[hubapi.Problem](), true, "Problem")
	delete(schemas.Map(), "ErrorModel") // huma's own, which nobody ever gets
	delete(schemas.Map(), "ErrorDetail")
	describeStream(doc, schemas)
	var out description
	raw, err := json.Marshal(doc)
	if err != nil {
		return out, fmt.Errorf("encode openapi: %w", err)
	}
	// Through a map, so that its members are in one order.
	var plain any
	if err := json.Unmarshal(raw, &plain); err != nil {
		return out, fmt.Errorf("read openapi: %w", err)
	}
	if out.json, err = json.MarshalIndent(plain, "", "  "); err != nil {
		return out, fmt.Errorf("encode openapi: %w", err)
	}
	if out.yaml, err = doc.YAML(); err != nil {
		return out, fmt.Errorf("encode openapi: %w", err)
	}
	return out, nil
}

// describeStream says what huma cannot know: what comes in the event stream.
func describeStream(doc *huma.OpenAPI, schemas huma.Registry) {
	op := doc.Paths["/v1/events/stream"].Get
	op.Responses["200"] = &huma.Response{
		Description: "Server-sent events: id is the event's id, data an Event as JSON. Comments come at least every 15 s.",
		Content: map[string]*huma.MediaType{"text/event-stream": {
			Schema: schemas.Schema(reflect.TypeFor[hubapi.Event](), true, "Event"),
		}},
	}
	push := doc.Paths["/v1/charts"].Post
	push.RequestBody.Description = "A packed Helm chart of at most 20 MiB."
	for _, item := range doc.Paths {
		for _, op := range []*huma.Operation{item.Get, item.Put, item.Post, item.Delete} {
			if op != nil && op.Responses["401"] != nil {
				op.Responses["401"].Headers = map[string]*huma.Param{"WWW-Authenticate": {Schema: &huma.Schema{Type: huma.TypeString}}}
			}
		}
	}
}

// schemaName keeps apart what has one name in two packages: what is reported
// about a cluster, and the cluster as it is registered.
func schemaName(t reflect.Type, hint string) string {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	name := huma.DefaultSchemaNamer(t, hint)
	if strings.HasSuffix(t.PkgPath(), "internal/facts") {
		switch t.Name() {
		case "Cluster", "Node", "Device":
			return name + "Facts"
		}
	}
	return name
}
