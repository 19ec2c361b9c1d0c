// Package page bounds lists: a caller names how many and where to go on, and
// gets the cursor of the next page. A cursor is the key of the last item, so
// items that come and go between two pages neither repeat nor hide others.
package page

import (
	"encoding/base64"
	"encoding/json"
	"strings"

	"github.com/budecosystem/budcluster/hub/internal/invalid"
)

// The limits of a page.
const (
	DefaultLimit = 100
	MaxLimit     = 1000
	maxCursor    = 4 << 10
)

// Page asks for part of a list. Its zero value is the first page.
type Page struct {
	Limit  int
	Cursor string
}

// Size is the number of items to return: the limit, or the default, at most
// MaxLimit.
func (p Page) Size() int {
	switch {
	case p.Limit <= 0:
		return DefaultLimit
	case p.Limit > MaxLimit:
		return MaxLimit
	default:
		return p.Limit
	}
}

// Key reads the cursor's n parts; all are empty on the first page.
func (p Page) Key(n int) ([]string, error) {
	if p.Cursor == "" {
		return make([]string, n), nil
	}
	bad := invalid.New("cursor", "%q is not one that this list gave out; leave it away to start at the first page", invalid.Clip(p.Cursor))
	if len(p.Cursor) > maxCursor {
		return nil, bad
	}
	raw, err := base64.RawURLEncoding.DecodeString(p.Cursor)
	if err != nil {
		return nil, bad
	}
	var parts []string
	if err := json.Unmarshal(raw, &parts); err != nil || len(parts) != n {
		return nil, bad
	}
	for _, part := range parts { // the database takes no U+0000 in text
		if strings.ContainsRune(part, 0) {
			return nil, bad
		}
	}
	return parts, nil
}

// Cursor makes the cursor after the item with this key.
func Cursor(key ...string) string {
	raw, err := json.Marshal(key)
	if err != nil { // strings always encode
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(raw)
}

// Cut takes items that were read one beyond the page's size and returns the
// page with the cursor of the next one, which is empty at the end.
func Cut[T any](items []T, p Page, key func(T) []string) (cut []T, next string) {
	if len(items) <= p.Size() {
		return items, ""
	}
	items = items[:p.Size()]
	return items, Cursor(key(items[len(items)-1])...)
}
