// Package daprtest gives tests a Dapr sidecar. Fake is one in this process, in
// memory, for tests of what uses the sidecar; Exercise is the suite that it
// passes as the real one does, so that what is tried with the fake holds.
package daprtest
