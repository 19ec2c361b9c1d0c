// Package pair runs the real hub and the real agent in one process: between
// them their own tunnel over a socket, behind the hub a PostgreSQL, before the
// agent a Kubernetes API server with its etcd and nothing else. No image, no
// node and no container is needed; what depends on those is proven in
// deploy/e2e.
//
//	hubapi.Client ─► hub ◄══ tunnel ══ agent ─► kube-apiserver ◄─ the test, who plays
//	                  │                                            kubelet and people on site
//	               PostgreSQL
//
// There is nothing here but tests. They need the folder of etcd and
// kube-apiserver in KUBE_BIN_DIR, which `make cluster-build` makes.
package pair
