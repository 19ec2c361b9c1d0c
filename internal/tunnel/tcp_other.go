//go:build !linux

package tunnel

import (
	"net"
	"time"
)

// userTimeout is Linux's alone; the write deadline and the Watch remain.
func userTimeout(net.Conn, time.Duration) {}
