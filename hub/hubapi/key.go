package hubapi

import (
	"context"
	"net/http"
	"time"
)

// Role is what an API key may do.
type Role string

// The roles, from least to most.
const (
	// RoleViewer reads everything but secrets.
	RoleViewer Role = "viewer"
	// RoleOperator also creates clusters and join tokens, and changes charts
	// and releases.
	RoleOperator Role = "operator"
	// RoleAdmin also revokes and deletes clusters, and makes API keys.
	RoleAdmin Role = "admin"
)

// Key is one API key, without its text.
type Key struct {
	ID         string     `json:"id"`
	Name       string     `json:"name"`
	Role       Role       `json:"role"`
	CreatedAt  time.Time  `json:"createdAt"`
	CreatedBy  string     `json:"createdBy,omitempty"`
	LastUsedAt *time.Time `json:"lastUsedAt,omitempty" doc:"To the minute."`
	RevokedAt  *time.Time `json:"revokedAt,omitempty"`
}

// CreateKeyRequest asks for an API key.
type CreateKeyRequest struct {
	Name string `json:"name" doc:"Who or what uses it." example:"ci"`
	Role Role   `json:"role" doc:"viewer, operator or admin."`
}

// CreatedKey is a new key with its text, which is shown this once.
type CreatedKey struct {
	Key    Key    `json:"key"`
	Secret string `json:"secret" doc:"The text to present as a bearer token; shown this once."`
}

// Principal is who a request comes from.
type Principal struct {
	Name       string `json:"name"`
	Role       Role   `json:"role"`
	HubVersion string `json:"hubVersion"`
}

// Keys gives every API key, in order of creation, revoked ones included.
func (c *Client) Keys(ctx context.Context) (List[Key], error) {
	var out List[Key]
	_, err := c.do(ctx, request{method: http.MethodGet, path: []string{"api-keys"}}, &out)
	return out, err
}

// CreateKey makes an API key.
func (c *Client) CreateKey(ctx context.Context, r CreateKeyRequest) (CreatedKey, error) {
	var out CreatedKey
	_, err := c.do(ctx, request{method: http.MethodPost, path: []string{"api-keys"}, body: r}, &out)
	return out, err
}

// RevokeKey makes an API key useless.
func (c *Client) RevokeKey(ctx context.Context, id string) error {
	_, err := c.do(ctx, request{method: http.MethodDelete, path: []string{"api-keys", id}}, nil)
	return err
}

// WhoAmI says whose key this client holds.
func (c *Client) WhoAmI(ctx context.Context) (Principal, error) {
	var out Principal
	_, err := c.do(ctx, request{method: http.MethodGet, path: []string{"whoami"}}, &out)
	return out, err
}
