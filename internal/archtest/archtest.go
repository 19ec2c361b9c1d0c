// Package archtest holds the tests of the shape of the tree: who may import
// whom, and which package is the one door to a dangerous library. The tests
// parse the files themselves, so that go test notices a changed or new file
// and does not answer from its cache.
package archtest
