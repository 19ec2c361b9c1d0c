package dapr

import (
	"context"
	"net/http"
	"strings"
)

// Metadata is what a sidecar says of itself.
type Metadata struct {
	AppID         string         `json:"id"`
	Version       string         `json:"runtimeVersion"`
	Components    []Component    `json:"components"`
	Subscriptions []Subscription `json:"subscriptions"`
	Actors        struct {
		// Status is RUNNING once placement knows the sidecar.
		Status    string `json:"runtimeStatus"`
		HostReady bool   `json:"hostReady"`
		Placement string `json:"placement"`
	} `json:"actorRuntime"`
	Workflows struct {
		ConnectedWorkers int `json:"connectedWorkers"`
	} `json:"workflows"`
}

// Component is one that the sidecar has loaded.
type Component struct {
	Name         string   `json:"name"`
	Type         string   `json:"type"` // such as state.redis
	Version      string   `json:"version"`
	Capabilities []string `json:"capabilities"`
}

// Kind is the building block, such as state.
func (c Component) Kind() string {
	kind, _, _ := strings.Cut(c.Type, ".")
	return kind
}

// Subscription is one of this app's.
type Subscription struct {
	PubSub     string `json:"pubsubname"`
	Topic      string `json:"topic"`
	DeadLetter string `json:"deadLetterTopic"`
	Type       string `json:"type"` // DECLARATIVE, PROGRAMMATIC
}

// Metadata asks the sidecar what it is and has.
func (c *Client) Metadata(ctx context.Context) (Metadata, error) {
	r := call{doing: "read metadata", method: http.MethodGet, path: []string{"metadata"}}
	got, err := c.do(ctx, r)
	if err != nil {
		return Metadata{}, err
	}
	var m Metadata
	return m, decode(r, got, &m)
}
