// Package sysfstest builds the /proc and /sys of nodes for tests, and breaks
// them file by file.
package sysfstest

import (
	"io/fs"
	"path"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"
)

// Tree is a node's / in memory, links included.
type Tree fstest.MapFS

// FS is the tree as a file system.
func (t Tree) FS() fs.FS { return fstest.MapFS(t) }

// File writes one line, or several.
func (t Tree) File(name, text string) {
	t[name] = &fstest.MapFile{Data: []byte(text + "\n"), Mode: 0o444}
}

// Files writes several files into a folder.
func (t Tree) Files(dir string, texts map[string]string) {
	for name, text := range texts {
		t.File(dir+"/"+name, text)
	}
}

// Link links a name to a target, which is relative to the name's folder.
func (t Tree) Link(name, target string) {
	t[name] = &fstest.MapFile{Data: []byte(target), Mode: fs.ModeSymlink | 0o777}
}

// PCI puts a device below a root port, or below none if port is empty, and
// gives its folder in /sys/devices.
func (t Tree) PCI(port, address string, texts map[string]string) string {
	dir := path.Join("devices/pci"+address[:7], port, address)
	t.Files("sys/"+dir, texts)
	t.Link("sys/bus/pci/devices/"+address, "../../../"+dir)
	return "sys/" + dir
}

// Driver gives a device of PCI its driver.
func (t Tree) Driver(dir, name string) {
	up := strings.Repeat("../", strings.Count(dir, "/"))
	t.Link(dir+"/driver", up+"bus/pci/drivers/"+name)
	t.File("sys/bus/pci/drivers/"+name+"/module/refcnt", "1")
}

// NothingChangesInSilence replaces each file of a tree by garbage of several
// kinds and reads it: no kind may make a panic, and whatever is then told
// differently is explained by a sentence that names the file. What text reports
// may hold any text, so that garbage is none there. It also takes each file
// away, which needs no sentence.
func NothingChangesInSilence(t *testing.T, tree func() Tree, text func(name string) bool, read func(fs.FS) (any, []string)) {
	t.Helper()
	intact, problems := read(tree().FS())
	require.Empty(t, problems)
	for name, file := range tree() {
		broken := tree()
		delete(broken, name)
		_, problems := read(broken.FS())
		require.Empty(t, problems, "%s is missing", name)
		if file.Mode.Type() != 0 || text(name) {
			continue
		}
		for kind, garbage := range map[string]string{
			"bytes": "\xff\xfe\x00\x80\n", "words": "no such thing: {}", "digits": strings.Repeat("9", 5000), "negative": "-999999999999", "long": strings.Repeat("0-", 1<<12),
		} {
			broken[name] = &fstest.MapFile{Data: []byte(garbage)}
			got, problems := read(broken.FS())
			if len(problems) == 0 {
				require.Equal(t, intact, got, "%s in %s is told nothing of", kind, name)
				continue
			}
			require.Contains(t, strings.Join(problems, "\n"), path.Base(name), "%s in %s", kind, name)
		}
	}
}
