//go:build !linux

package footprint

// release does nothing here.
func release() {}
