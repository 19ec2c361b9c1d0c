package notify

import (
	"bytes"
	"encoding/json"
	"errors"
)

// Texts is one text or a list of them, as the platform writes subscribers and
// topics. It is encoded as it came.
type Texts struct {
	values []string
	single bool
}

// One is a single text.
func One(text string) Texts { return Texts{values: []string{text}, single: true} }

// Many is a list of texts.
func Many(texts ...string) Texts { return Texts{values: texts} }

// Values lists the texts.
func (t Texts) Values() []string { return t.values }

// IsZero reports whether there is no text at all.
func (t Texts) IsZero() bool {
	for _, text := range t.values {
		if text != "" {
			return false
		}
	}
	return true
}

// MarshalJSON gives a text, a list, or null when there is none.
func (t Texts) MarshalJSON() ([]byte, error) {
	switch {
	case t.IsZero():
		return []byte("null"), nil
	case t.single:
		return json.Marshal(t.values[0])
	default:
		return json.Marshal(t.values)
	}
}

// UnmarshalJSON takes a text, a list of texts, or null.
func (t *Texts) UnmarshalJSON(raw []byte) error {
	*t = Texts{}
	raw = bytes.TrimSpace(raw)
	if string(raw) == "null" {
		return nil
	}
	if len(raw) > 0 && raw[0] == '"' {
		t.values, t.single = []string{""}, true
		return json.Unmarshal(raw, &t.values[0])
	}
	var list []*string
	if err := json.Unmarshal(raw, &list); err != nil {
		return errors.New("it is neither a text nor a list of texts")
	}
	for _, text := range list {
		if text == nil {
			return errors.New("it is a list with a null in it")
		}
		t.values = append(t.values, *text)
	}
	return nil
}
