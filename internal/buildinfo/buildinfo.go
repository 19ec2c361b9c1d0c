// Package buildinfo says which build this program is.
package buildinfo

import "runtime/debug"

// version is set by the linker:
// -X github.com/budecosystem/budcluster/internal/buildinfo.version=1.2.3.
var version = "0.1.0"

// Version is the release version, without a leading v.
func Version() string { return version }

// Commit is the revision this was built from, or "unknown"; "+dirty" is
// appended when the tree had changes.
func Commit() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	commit, dirty := "unknown", ""
	for _, s := range info.Settings {
		switch {
		case s.Key == "vcs.revision":
			commit = s.Value
		case s.Key == "vcs.modified" && s.Value == "true":
			dirty = "+dirty"
		}
	}
	return commit + dirty
}
