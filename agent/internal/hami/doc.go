// Package hami says what HAMi shares: which slices of which GPUs it has given
// away, and what is really used of them.
//
//	scheduler :9395 ─ text ─┐
//	vGPUmonitor (per node) ─┤ Fetch ─► Read ─► View ─┐
//	                        │                        ├─► Merge ─► View ─► Available
//	nodes, pods ─ annotations ────► Annotated ► View ┘
//
// A View is what one source says, or all of them together. Every fact in it
// carries who said it and when. Where several sources say the same thing the
// strongest is shown (the order of the Sources); where they differ a sentence
// says so. HAMi has two families of metric names, hami_* since 2.10 and the older
// ones behind --legacy-metrics; both are read, and a figure that both give is the
// newer one's.
//
// Three things are kept apart: what a device or slice may have at most (limit),
// what HAMi has given away of it (allocated), and what is really used (used).
// Memory is in bytes. Shares of cores are percents from 0 to 100 of what HAMi
// gives away of the device: HAMi's metrics of cores that end in _ratio are such
// percents, and its older ones and its annotations count in a unit of the device's
// own, from which they are converted. (Its hami_node_gpu_memory_allocated_ratio is
// from 0 to 1, and is not read.)
//
// Nothing that comes from outside is trusted. Text is read piece by piece, with
// bounds on bytes, lines, series, devices and slices; what cannot be right (NaN,
// absurd memory, a GPU listed twice or on two nodes, a line cut off) is dropped or
// marked, and a View's Problems say so, in a bounded number of sentences. A source
// that cannot be read in full makes the View Partial: then what it does not have
// is unknown, not gone.
//
// What this package does not do: it watches nothing, knows no Kubernetes client
// and starts nothing that outlives a call.
package hami
