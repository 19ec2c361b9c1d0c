package dapr

import (
	"context"
	"fmt"
	"net/http"

	"github.com/budecosystem/budcluster/internal/secret"
)

// Secrets reads all that a secret store lets this app see. A store may keep
// several values under one name; one that keeps a single value gives it the
// name's own.
func (c *Client) Secrets(ctx context.Context, store string) (map[string]map[string]secret.String, error) {
	r := call{doing: "read secret store " + store, method: http.MethodGet, path: []string{"secrets", store, "bulk"}}
	all := map[string]map[string]secret.String{}
	got, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	return all, decode(r, got, &all)
}

// Secret reads one secret, nil if there is none of the name.
func (c *Client) Secret(ctx context.Context, store, name string) (map[string]secret.String, error) {
	r := call{doing: fmt.Sprintf("read secret %s of store %s", name, store), method: http.MethodGet, path: []string{"secrets", store, name}}
	got, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	var values map[string]secret.String
	return values, decode(r, got, &values)
}
