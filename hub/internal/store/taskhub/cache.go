package taskhub

import (
	"container/list"
	"sync"

	"github.com/dapr/durabletask-go/api/protos"
)

const defaultCacheBytes = 16 << 20

// inMemory is how many times larger an event is in memory than on the wire.
const inMemory = 6

// cache remembers the state of instances after their last turn here, so that
// the next turn need not read and decode the history. Each entry says which
// turn of which execution it is of; when the table says otherwise it is not
// used. A state is taken out for a turn and comes back after its commit, so
// nobody shares one.
type cache struct {
	mu    sync.Mutex // guards all below
	limit int
	bytes int
	byID  map[string]*list.Element
	order *list.List // of *remembered, the last used first
}

type remembered struct {
	id, execution string
	turns         int
	state         *protos.WorkflowRuntimeState
	bytes         int
}

func newCache(limit int) *cache {
	return &cache{limit: limit, byID: map[string]*list.Element{}, order: list.New()}
}

// take removes and returns the state of an instance and the size of its
// history, if it is the one asked for; nil if it is not.
func (c *cache) take(id, execution string, turns int) (*protos.WorkflowRuntimeState, int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.byID[id]
	if !ok {
		return nil, 0
	}
	r := c.remove(e)
	if r.execution != execution || r.turns != turns {
		return nil, 0
	}
	return r.state, r.bytes
}

// put remembers a state whose history has so many bytes on the wire.
func (c *cache) put(id, execution string, turns int, state *protos.WorkflowRuntimeState, bytes int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byID[id]; ok {
		c.remove(e)
	}
	c.byID[id] = c.order.PushFront(&remembered{id: id, execution: execution, turns: turns, state: state, bytes: bytes})
	c.bytes += inMemory * bytes
	for c.bytes > c.limit {
		c.remove(c.order.Back())
	}
}

func (c *cache) forget(id string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.byID[id]; ok {
		c.remove(e)
	}
}

func (c *cache) remove(e *list.Element) *remembered {
	r := c.order.Remove(e).(*remembered) //nolint:forcetypeassert // nothing else is put in
	delete(c.byID, r.id)
	c.bytes -= inMemory * r.bytes
	return r
}
