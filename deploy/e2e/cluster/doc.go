// Package cluster brings up a real Kubernetes cluster on one Linux machine:
// without Docker, without a registry, and without touching what else runs
// there.
//
//	 root network namespace                      one private net+mount+pid+uts namespace per node
//	┌──────────────────────────────┐            ┌──────────────────────────────────────────────┐
//	│ etcd  (127.88.<slot>.1)      │            │ node (PID 1) ─ containerd ─ runc ─ pods      │
//	│ kube-apiserver 10.x.0.1:6443 │   bridge   │               ├ kubelet                      │
//	│ controller-manager scheduler ├────────────┤               └ kube-proxy                   │
//	│ kwok · the test · the hub    │  bud<slot> │ 10.x.0.11, pods 10.x.17.0/24                 │
//	└──────────────────────────────┘            └──────────────────────────────────────────────┘
//
// The binaries are compiled once from the Go module proxy and kept in the
// user's cache (see [Build]); containerd, runc, iptables and the CNI plugins
// are the distribution's. Every cluster takes a slot: its own bridge, its own
// 10.x.0.0/16 and its own loopback address, so that two clusters on a machine
// never meet.
//
// What is authoritative: the file state.json in the state folder. Everything
// is written there before it is made, so [Down] can clear up after a test that
// was killed. Unless Config.Detach is set, every process also dies with the
// one that started it. Killing a node's PID 1 takes the whole node down, as a
// power cut would; starting it again boots the same node from the same disk.
//
// What it does not do: network policies are accepted and not enforced (there
// is no CNI plugin for them here), nothing is forwarded to the outside world,
// and cgroup v2 follows the documentation but was only run on v1.
package cluster
