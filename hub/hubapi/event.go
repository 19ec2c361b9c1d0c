package hubapi

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"time"
)

// Event is one thing that happened. IDs grow in the order in which changes
// became visible: who remembers the last one misses nothing.
type Event struct {
	ID   int64     `json:"id"`
	At   time.Time `json:"at"`
	Type string    `json:"type" doc:"noun.verb" example:"release.status"`
	// ClusterID is empty when the event is about no cluster.
	ClusterID string `json:"clusterId,omitempty"`
	Subject   string `json:"subject,omitempty" doc:"Name of the thing within the cluster: a node, a release."`
	Actor     string `json:"actor,omitempty" doc:"An API key's name, agent, or hub."`
	Message   string `json:"message,omitempty"`
	// Data is an object with the type's details.
	Data json.RawMessage `json:"data,omitempty" doc:"An object with the type's details."`
}

// EventList is one page of events. There is always a place to go on from.
type EventList struct {
	Items []Event `json:"items" nullable:"false"`
	// After is what to ask for next: the last item's id, or what was asked for
	// when there is none.
	After int64 `json:"after" doc:"Ask for this next: the last item's id, or what was asked for when there is none."`
	// Latest is the id of the newest event of all, whatever was asked for.
	Latest int64 `json:"latest" doc:"The id of the newest event of all, whatever was asked for."`
}

// EventQuery chooses events.
type EventQuery struct {
	// After leaves out events up to this id.
	After int64
	// FromNow, for Follow, leaves out all that have happened.
	FromNow bool
	Cluster string   // name or id
	Types   []string // "release.status"; any of them
	Limit   int      // 1 to 1000, default 100; not for Follow
}

func (q EventQuery) query() url.Values {
	v := url.Values{}
	setInt(v, "after", q.After)
	setInt(v, "limit", int64(q.Limit))
	setString(v, "cluster", q.Cluster)
	for _, t := range q.Types {
		v.Add("type", t)
	}
	return v
}

// Events gives one page of events, oldest first.
func (c *Client) Events(ctx context.Context, q EventQuery) (EventList, error) {
	var out EventList
	_, err := c.do(ctx, request{method: http.MethodGet, path: []string{"events"}, query: q.query()}, &out)
	return out, err
}
