package release

import (
	"sync"
	"time"
)

// sightings remembers when we first saw a lease as it is. The holder's clock
// is not trusted: only whether the lease changes.
type sightings struct {
	mu   sync.Mutex // guards last
	last map[string]sighting
}

type sighting struct {
	holder  string
	renewed time.Time
	at      time.Time
}

func newSightings() *sightings { return &sightings{last: map[string]sighting{}} }

// since returns when this state of the lease was seen first.
func (s *sightings) since(lease, holder string, renewed, now time.Time) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	if old, ok := s.last[lease]; ok && old.holder == holder && old.renewed.Equal(renewed) {
		return old.at
	}
	s.last[lease] = sighting{holder: holder, renewed: renewed, at: now}
	return now
}
