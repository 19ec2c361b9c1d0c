package host

import (
	"bytes"
	"path"
	"strings"

	"github.com/budecosystem/budcluster/agent/internal/sysfs"
)

// OS is the distribution, in the words of os-release(5).
type OS struct {
	// ID is e.g. ubuntu, VersionID e.g. 24.04, and Name for people.
	ID        string `json:"id,omitempty"`
	VersionID string `json:"versionId,omitempty"`
	Name      string `json:"name,omitempty"`
}

// os reads /etc/os-release, else /usr/lib/os-release, as os-release(5) has it.
// The first is often a link; one that begins with / would lead out of the
// node's root into our own container, so it is followed here.
func (r *reader) os() OS {
	for _, name := range []string{"etc/os-release", "usr/lib/os-release"} {
		for range 4 { // links to links
			target := r.Link(name)
			if !path.IsAbs(target) {
				break
			}
			name = strings.TrimPrefix(path.Clean(target), "/")
		}
		if data := r.Bytes(name); data != nil {
			return parseOSRelease(data)
		}
	}
	return OS{}
}

// parseOSRelease reads assignments in the syntax of a shell, without its
// expansions, of which os-release(5) allows none. Of several the last counts.
func parseOSRelease(data []byte) OS {
	var os OS
	for line := range bytes.Lines(data) {
		key, value, ok := bytes.Cut(bytes.TrimSpace(line), []byte("="))
		if !ok {
			continue
		}
		switch string(key) {
		case "ID":
			os.ID = unquote(value)
		case "VERSION_ID":
			os.VersionID = unquote(value)
		case "PRETTY_NAME":
			os.Name = unquote(value)
		}
	}
	return os
}

// unquote takes quotes off, and in double ones the backslashes.
func unquote(value []byte) string {
	if len(value) < 2 || value[0] != value[len(value)-1] || value[0] != '"' && value[0] != '\'' {
		return sysfs.Clean(value)
	}
	inner := value[1 : len(value)-1]
	if value[0] == '\'' {
		return sysfs.Clean(inner)
	}
	plain := make([]byte, 0, len(inner))
	for i := 0; i < len(inner); i++ {
		if inner[i] == '\\' && i+1 < len(inner) {
			i++
		}
		plain = append(plain, inner[i])
	}
	return sysfs.Clean(plain)
}
