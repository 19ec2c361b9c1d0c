package agentv1

// Version is the protocol that hub and agent speak. A hub serves agents of
// the two minor releases before it, so a new Version must leave every message
// of the older ones readable. A test fails when the descriptors change and
// this number does not.
//
// History:
//
//	1  2026-11  enroll, control stream, releases, inventory
//	2  2026-11  leftovers, probes and presence, the agent's own upgrade, retirement, claims and DNS, node events
const Version = 2
