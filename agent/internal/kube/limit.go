package kube

import (
	"net/http"
	"net/url"

	"k8s.io/client-go/util/flowcontrol"
)

// newLimiter makes one limiter for all clients: each client that is given only
// figures makes its own, and the sum is what the API server feels.
func newLimiter(qps float32, burst int) flowcontrol.RateLimiter {
	return flowcontrol.NewTokenBucketRateLimiter(qps, burst)
}

func noProxy(*http.Request) (*url.URL, error) { return nil, nil }
