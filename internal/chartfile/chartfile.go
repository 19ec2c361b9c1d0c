// Package chartfile reads and writes packed Helm charts without Helm: Pack
// turns a folder into a .tgz that is the same each time, and Inspect says what
// a .tgz that anybody may have sent is, or why Helm would not take it.
package chartfile

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"regexp"
	"strings"
	"unicode"

	"github.com/Masterminds/semver/v3"
	"sigs.k8s.io/yaml"
)

// The bounds of a chart: MaxSize is ours, the others are those of Helm's own
// loader, which would refuse at the agent what passed here.
const (
	MaxSize         = 20 << 20
	MaxUnpackedSize = 100 << 20
	MaxFileSize     = 5 << 20
	maxFiles        = 20_000
)

// Info is what a chart says of itself.
type Info struct {
	Name        string
	Version     string
	AppVersion  string
	Description string
	// Digest is "sha256:" and hex over the packed bytes.
	Digest string
	Size   int64
}

// Error says why something is no chart that can be installed.
type Error struct{ Reason string }

// Error is one sentence.
func (e *Error) Error() string { return e.Reason }

func refuse(format string, args ...any) error {
	return &Error{Reason: fmt.Sprintf(format, args...)}
}

// Digest is the name of a chart by its bytes.
func Digest(tgz []byte) string {
	sum := sha256.Sum256(tgz)
	return "sha256:" + hex.EncodeToString(sum[:])
}

var digestForm = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// IsDigest reports whether s has the form of a Digest.
func IsDigest(s string) bool { return digestForm.MatchString(s) }

// nameForm is what names a chart: also part of file names and image
// references, so nothing that means something there.
var nameForm = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._-]{0,127}$`)

// metadata is the part of Chart.yaml that matters here.
type metadata struct {
	APIVersion   string       `json:"apiVersion"`
	Name         string       `json:"name"`
	Version      string       `json:"version"`
	AppVersion   string       `json:"appVersion"`
	Description  string       `json:"description"`
	Type         string       `json:"type"`
	Dependencies []dependency `json:"dependencies"`
}

type dependency struct {
	Name string `json:"name"`
}

func parseMetadata(chartYAML []byte) (metadata, error) {
	var md metadata
	if err := yaml.Unmarshal(chartYAML, &md); err != nil {
		return md, refuse("Chart.yaml is not valid YAML (%s); correct it.", oneLine(err))
	}
	return md, md.check()
}

func (md *metadata) check() error {
	_, semverErr := semver.NewVersion(md.Version)
	switch {
	case md.Name == "":
		return refuse("Chart.yaml has no name; add one.")
	case !nameForm.MatchString(md.Name):
		return refuse("Chart.yaml's name %q is not a chart's name; use at most 128 letters, digits, '-', '_' and '.'.", clip(md.Name))
	case md.APIVersion != "v1" && md.APIVersion != "v2":
		return refuse("Chart.yaml's apiVersion is %q; it must be v1 or v2.", clip(md.APIVersion))
	case md.Version == "":
		return refuse("Chart.yaml has no version; add one such as 1.0.0.")
	case semverErr != nil:
		return refuse("Chart.yaml's version %q is not a semantic version; use one such as 1.0.0.", clip(md.Version))
	case len(md.Version) > 128:
		return refuse("Chart.yaml's version %q is too long; use at most 128 characters.", clip(md.Version))
	case md.Type == "library":
		return refuse("Chart %s is a library chart, which cannot be installed; use it as a dependency of another.", md.Name)
	case md.Type != "" && md.Type != "application":
		return refuse("Chart.yaml's type is %q; it must be application.", clip(md.Type))
	}
	return nil
}

// contents gathers what is needed to judge a chart's files as a whole.
type contents struct {
	chartYAML []byte
	subcharts map[string]bool // first path element below charts/
}

func (c *contents) add(name string, data []byte) {
	if name == "Chart.yaml" {
		c.chartYAML = data
	}
	if rest, ok := strings.CutPrefix(name, "charts/"); ok {
		sub, _, _ := strings.Cut(rest, "/")
		if c.subcharts == nil {
			c.subcharts = make(map[string]bool)
		}
		c.subcharts[sub] = true
	}
}

// info checks the whole and describes it; digest and size are the caller's.
func (c *contents) info() (Info, error) {
	if c.chartYAML == nil {
		return Info{}, refuse("There is no Chart.yaml in the chart's folder; is it a Helm chart?")
	}
	md, err := parseMetadata(c.chartYAML)
	if err != nil {
		return Info{}, err
	}
	for _, d := range md.Dependencies {
		if !c.has(d.Name) {
			return Info{}, refuse("Chart %s depends on %q, which is not in its charts/ folder; run helm dependency build first.",
				md.Name, clip(d.Name))
		}
	}
	return Info{
		Name: md.Name, Version: md.Version,
		AppVersion: printable(md.AppVersion, 128), Description: printable(md.Description, 1024),
	}, nil
}

// has reports whether a subchart is there, as a folder or packed.
func (c *contents) has(name string) bool {
	if c.subcharts[name] {
		return true
	}
	for sub := range c.subcharts {
		if strings.HasPrefix(sub, name+"-") && strings.HasSuffix(sub, ".tgz") {
			return true
		}
	}
	return false
}

// InspectDir says what the chart in a folder is.
func InspectDir(dir fs.FS) (Info, error) {
	files, err := readDir(dir)
	if err != nil {
		return Info{}, err
	}
	var c contents
	for _, f := range files {
		c.add(f.name, f.data)
	}
	return c.info()
}

// printable is s without what a terminal or a database would stumble over.
func printable(s string, most int) string {
	s = strings.Map(func(r rune) rune {
		switch {
		case unicode.IsSpace(r):
			return ' '
		case unicode.IsPrint(r):
			return r
		default:
			return -1
		}
	}, strings.ToValidUTF8(s, ""))
	s = strings.TrimSpace(s)
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most-1]) + "…"
	}
	return s
}

func clip(s string) string { return printable(s, 80) }

func oneLine(err error) string {
	if pe, ok := errors.AsType[*fs.PathError](err); ok {
		err = pe.Err
	}
	return printable(strings.Join(strings.Fields(err.Error()), " "), 300)
}

// cleanName normalises a file's path within a chart, and refuses one that
// points out of it.
func cleanName(name string) (string, error) {
	n := path.Clean(name)
	switch {
	case path.IsAbs(name), n == "..", strings.HasPrefix(n, "../"), strings.ContainsAny(n, "\\\x00"),
		len(n) > 1 && n[1] == ':':
		return "", refuse("The archive holds %q, which points out of the chart; pack it again with helm package.", clip(name))
	case n == ".":
		return "", refuse("The archive holds %q outside of the chart's folder; pack it again with helm package.", clip(name))
	}
	return n, nil
}
