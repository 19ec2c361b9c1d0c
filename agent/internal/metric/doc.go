// Package metric renders figures of devices as Prometheus reads them.
//
// What costs is done seldom. A Layout is made when the series change (a device
// came, a pod went): it holds each line up to the value, labels escaped and all.
// A Snapshot is a Layout with one value for each line, and is never changed
// again, so a scrape only copies lines and formats numbers: it allocates nothing
// for a series, takes no lock, and asks no device.
//
//	devices ──► Layout ──┐
//	           (seldom)  ├──► Snapshot ──► text or OpenMetrics, per scrape
//	samples ──► values ──┘
//	        (each interval)
//
// A value that is not known is NaN, and its line is left out: what a device does
// not tell is absent and never zero.
package metric
