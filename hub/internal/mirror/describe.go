package mirror

import (
	"encoding/json"
	"fmt"

	"github.com/google/uuid"
)

// described is the result of a registration in the platform's form.
type described struct {
	ID    uuid.UUID `json:"id"`
	Name  string    `json:"name"`
	Nodes []Node    `json:"nodes"`
}

// statusResult is the result of a change of status.
type statusResult struct {
	ClusterID uuid.UUID `json:"cluster_id"`
	Status    State     `json:"status"`
	NodeInfo  Entry     `json:"node_info"`
}

func encode(what string, value any) (json.RawMessage, error) {
	raw, err := json.Marshal(value)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", what, err)
	}
	return raw, nil
}
