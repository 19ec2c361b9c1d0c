package hubapi

import (
	"context"
	"net/http"
	"time"
)

// Token lets one cluster join.
type Token struct {
	ID string `json:"id"`
	// Token is the text that the agent needs, shown once: in the answer that
	// made it.
	Token     string     `json:"token,omitempty" doc:"The text that the agent needs; only in the answer that made it."`
	UsesLeft  int        `json:"usesLeft"`
	CreatedAt time.Time  `json:"createdAt"`
	ExpiresAt time.Time  `json:"expiresAt"`
	UsedAt    *time.Time `json:"usedAt,omitempty" doc:"When it was last used."`
	RevokedAt *time.Time `json:"revokedAt,omitempty"`
	CreatedBy string     `json:"createdBy,omitempty"`
	State     TokenState `json:"state"`
}

// TokenState says whether a token can be used.
type TokenState string

// The states of a token.
const (
	TokenValid   TokenState = "Valid"
	TokenUsed    TokenState = "Used"
	TokenExpired TokenState = "Expired"
	TokenRevoked TokenState = "Revoked"
)

// CreateTokenRequest asks for a join token. The zero value gives one use and
// the hub's default lifetime.
type CreateTokenRequest struct {
	TTL  string `json:"ttl,omitempty" doc:"How long it may be used; the hub's default when absent." example:"24h"`
	Uses int    `json:"uses,omitempty" doc:"How often it may be used; 1 when absent." example:"1"`
}

// CreatedToken is a new token with the command that uses it.
type CreatedToken struct {
	JoinToken      Token  `json:"joinToken" doc:"Its token member is shown this once."`
	InstallCommand string `json:"installCommand" doc:"Run it against the cluster, once."`
}

// Tokens gives the join tokens of a cluster, oldest first, without their text.
func (c *Client) Tokens(ctx context.Context, cluster string) (List[Token], error) {
	var out List[Token]
	_, err := c.do(ctx, request{method: http.MethodGet, path: []string{"clusters", cluster, "join-tokens"}}, &out)
	return out, err
}

// CreateToken makes a join token.
func (c *Client) CreateToken(ctx context.Context, cluster string, r CreateTokenRequest) (CreatedToken, error) {
	var out CreatedToken
	_, err := c.do(ctx, request{method: http.MethodPost, path: []string{"clusters", cluster, "join-tokens"}, body: r}, &out)
	return out, err
}

// RevokeToken makes a join token useless.
func (c *Client) RevokeToken(ctx context.Context, cluster, id string) error {
	_, err := c.do(ctx, request{method: http.MethodDelete, path: []string{"clusters", cluster, "join-tokens", id}}, nil)
	return err
}
