// Package charts carries the Helm charts of this repository inside the
// programs, so that a hub can hand out the agent's chart in the very version
// that it speaks to.
package charts

import (
	"embed"
	"io/fs"
)

//go:embed all:budcluster-agent all:gaudi-device-plugin
var files embed.FS

// AgentName is the name of the agent's chart and of its folder.
const AgentName = "budcluster-agent"

// FS returns all charts, one folder each.
func FS() fs.FS { return files }

// Agent returns the folder of the agent's chart.
func Agent() (fs.FS, error) { return Chart(AgentName) }

// Chart returns the folder of the chart of a name.
func Chart(name string) (fs.FS, error) {
	if _, err := fs.Stat(files, name+"/Chart.yaml"); err != nil {
		return nil, err
	}
	return fs.Sub(files, name)
}
