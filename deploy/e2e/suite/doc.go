// Package suite holds the end-to-end tests: the real hub, agent, command line,
// chart and image, on a real Kubernetes cluster of two nodes that package
// cluster brings up. They are ordinary tests behind the build tag e2e:
//
//	make e2e                       all of them
//	make e2e RUN='Release|Join'    those whose names match
//
// Every test says in its log what it proved, and the run ends with the figures
// that were measured. One hub and one joined agent are shared by the tests
// that need nothing special (shared); a test that revokes, expires or breaks
// things has a hub and an agent of its own, in a namespace of its own.
package suite
