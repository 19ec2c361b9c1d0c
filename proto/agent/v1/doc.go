// Package agentv1 is what hub and agent say to each other. Only version.go and
// phase.go are written by hand; the rest is generated from the .proto files.
//
// Fields are only ever added, and what is unknown is ignored: a hub serves
// agents of the two minor releases before it. No message carries routing, the
// cluster or the tenant: who speaks is read from the verified certificate.
package agentv1
