package platform

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/google/uuid"
)

// The bounds of names.
const (
	maxDisplay = 255
	maxName    = 63
	// hashed is how many digits of a hash tell names apart that look alike in
	// the register.
	hashed = 8
)

// registerName makes a name for the register of one that people chose. The same
// name always gives the same, and two that differ give two: one that the
// register would take stays as it is, of any other a hash is part.
func registerName(display string) string {
	slug := slugOf(display)
	if _, err := uuid.Parse(slug); err != nil && slug == display && len(slug) <= maxName && !endsHashed(slug) {
		return slug
	}
	sum := sha256.Sum256([]byte(display))
	hash := hex.EncodeToString(sum[:])[:hashed]
	if most := maxName - hashed - 1; len(slug) > most {
		slug = strings.TrimRight(slug[:most], "-")
	}
	if slug == "" {
		slug = "cluster"
	}
	return slug + "-" + hash
}

// endsHashed: a chosen name must not look like a made one.
func endsHashed(slug string) bool {
	_, tail, found := cutLast(slug, "-")
	if !found || len(tail) != hashed {
		return false
	}
	_, err := hex.DecodeString(tail)
	return err == nil
}

func cutLast(s, sep string) (before, after string, found bool) {
	if i := strings.LastIndex(s, sep); i >= 0 {
		return s[:i], s[i+len(sep):], true
	}
	return s, "", false
}

// slugOf keeps letters and digits of ASCII and makes one dash of what is between.
func slugOf(display string) string {
	var b strings.Builder
	for _, r := range strings.ToLower(display) {
		if r < utf8.RuneSelf && (unicode.IsLower(r) || unicode.IsDigit(r)) {
			b.WriteRune(r)
		} else if b.Len() > 0 && !strings.HasSuffix(b.String(), "-") {
			b.WriteByte('-')
		}
	}
	return strings.Trim(b.String(), "-")
}

// checkDisplay says what is wrong with a name that people chose.
func checkDisplay(name string) string {
	switch {
	case strings.TrimSpace(name) == "":
		return "it is empty; give the cluster a name"
	case utf8.RuneCountInString(name) > maxDisplay:
		return "it is longer than 255 characters; shorten it"
	case !utf8.ValidString(name) || strings.ContainsFunc(name, unicode.IsControl):
		return "it holds characters that cannot be shown; use letters, digits and spaces"
	}
	return ""
}
