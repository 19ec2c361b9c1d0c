// Package install is what a hub and the installer of its agent say to each
// other. The installer is the agent's own program in another role, a child
// process of the hub: it, and not the hub, holds the clients of Kubernetes and
// Helm, and the uploaded kubeconfig for as long as it is needed.
//
//	hub                                        child: budcluster-agent install
//	 Request  ───── one line of JSON ────────►  parse, dial, ask who this is
//	          ◄──── Checked, Ready ──────────   server's version, cluster's UID
//	 Order Go ───── join token, values ──────►  Helm
//	          ◄──── Installing, Installed ───
//	          ◄──── Waiting, Connected ──────   what its pod waits for
//	 Order Undo ────────────────────────────►  takes back what this run did
//	          ◄──── Undoing, Undone ─────────
//	 end of stdin ──────────────────────────►  ends
//
// Each line down is a Request (the first) or an Order, each line up a Stage.
// Failed may come at any place, and then nothing but Undo is of use.
//
// If stdin ends before Go, nothing has happened in the cluster and nothing
// does. If it ends in the middle of an installation, that is carried to its
// end: a hub that was killed and comes back waits for the agent to join, and
// an agent that is only half there would never do so.
package install

import (
	"encoding/json"

	"github.com/budecosystem/budcluster/internal/kubeconfig"
)

// Where the agent is installed when nothing else is said.
const (
	DefaultNamespace = "budcluster-system"
	DefaultRelease   = "budcluster-agent"
)

// MaxLine bounds a line: a kubeconfig and values, as JSON.
const MaxLine = 8 << 20

// Request says where the agent is to be installed, and for whom.
type Request struct {
	// Kubeconfig is the file as it was uploaded.
	Kubeconfig    string               `json:"kubeconfig"`
	AllowInsecure bool                 `json:"allowInsecure,omitempty"`
	Addresses     kubeconfig.Addresses `json:"addresses"`
	// Namespace and Release name the agent's Helm release.
	Namespace string `json:"namespace,omitempty"`
	Release   string `json:"release,omitempty"`
	Hub       Hub    `json:"hub"`
}

// Hub is who the agent will belong to.
type Hub struct {
	// Addresses are host:port of the tunnel.
	Addresses []string `json:"addresses"`
	// ServerName is the name in the hub's certificate, when it is not the host
	// of the address.
	ServerName string `json:"serverName,omitempty"`
	// Pin is the fingerprint of the hub's authority, as in its join tokens.
	Pin string `json:"pin"`
}

// Order is what the hub wants after the Request.
type Order struct {
	// Go installs.
	Go bool `json:"go,omitempty"`
	// JoinToken is what the agent enrolls with.
	JoinToken string `json:"joinToken,omitempty"`
	// Values of the agent's chart, beside hub and joinToken.
	Values json.RawMessage `json:"values,omitempty"`
	// Undo takes back what this process has done.
	Undo bool `json:"undo,omitempty"`
}

// Stage is how far an installation is.
type Stage struct {
	Stage Name `json:"stage"`
	// Server, at Checked, is the URL of the API server.
	Server string `json:"server,omitempty"`
	// ServerVersion and ClusterUID, at Ready: the latter is the UID of the
	// namespace kube-system.
	ServerVersion string `json:"serverVersion,omitempty"`
	ClusterUID    string `json:"clusterUID,omitempty"`
	// AgentVersion, at Ready, is that of an agent of this hub that is there
	// already; it would be upgraded.
	AgentVersion string `json:"agentVersion,omitempty"`
	// Reason, at Failed.
	Reason Reason `json:"reason,omitempty"`
	// Message is a sentence: at Failed and Waiting.
	Message string `json:"message,omitempty"`
	// Left, at Undone, is what could not be taken back, a sentence each.
	Left []string `json:"left,omitempty"`
}

// Name of a stage.
type Name string

// The stages, in their order.
const (
	// Checked: the kubeconfig is one that may be used.
	Checked Name = "Checked"
	// Ready: the cluster answered, and nothing speaks against installing.
	Ready Name = "Ready"
	// Installing: Helm is at work.
	Installing Name = "Installing"
	// Installed: the objects are in the cluster.
	Installed Name = "Installed"
	// Waiting: what the agent's pods wait for; comes again when it changes.
	Waiting Name = "Waiting"
	// Connected: the agent says that it reaches its hub.
	Connected Name = "Connected"
	// Undoing and Undone frame what Undo does.
	Undoing Name = "Undoing"
	Undone  Name = "Undone"
	// Failed: it went wrong, Message says how.
	Failed Name = "Failed"
)

// Reason why an installation failed.
type Reason string

// The reasons.
const (
	// Invalid: the request or the kubeconfig cannot be used.
	Invalid Reason = "Invalid"
	// Unreachable: no connection to the API server came about.
	Unreachable Reason = "Unreachable"
	// Untrusted: the server's certificate is not the one that was expected.
	Untrusted Reason = "Untrusted"
	// Unauthorized: the API server does not accept the credential.
	Unauthorized Reason = "Unauthorized"
	// Forbidden: the credential may not do what an installation needs.
	Forbidden Reason = "Forbidden"
	// NotKubernetes: what answered is no API server.
	NotKubernetes Reason = "NotKubernetes"
	// ForeignAgent: an agent of another hub is there.
	ForeignAgent Reason = "ForeignAgent"
	// NotInstalled: Helm or the API server refused the chart.
	NotInstalled Reason = "NotInstalled"
	// TimedOut: it took too long.
	TimedOut Reason = "TimedOut"
	// Broken: the installer itself is at fault.
	Broken Reason = "Broken"
)
