package chartfile

import (
	"bytes"
	"errors"
	"io/fs"
	"path"
	"strings"
)

// rule is one line of .helmignore, which looks like .gitignore and is not:
// the meaning here is that of Helm's own reader, odd negation included.
type rule struct {
	pattern string
	negate  bool
	dirOnly bool
	// whole: the pattern is matched against the path, not the last element.
	whole bool
}

func readIgnore(dir fs.FS) ([]rule, error) {
	rules := []rule{{pattern: "templates/.?*", whole: true}} // Helm's own default
	text, err := fs.ReadFile(dir, ".helmignore")
	if errors.Is(err, fs.ErrNotExist) {
		return rules, nil
	}
	if err != nil {
		return nil, refuse(".helmignore cannot be read (%s).", oneLine(err))
	}
	text = bytes.TrimPrefix(text, []byte("\xef\xbb\xbf"))
	for n, line := range strings.Split(string(text), "\n") {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		if strings.Contains(line, "**") {
			return nil, refuse(".helmignore line %d: %q holds **, which Helm does not know; name the folders instead.", n+1, clip(line))
		}
		r := parseRule(line)
		if _, err := path.Match(r.pattern, "abc"); err != nil {
			return nil, refuse(".helmignore line %d: %q is no pattern; correct it.", n+1, clip(line))
		}
		rules = append(rules, r)
	}
	return rules, nil
}

func parseRule(line string) rule {
	var r rule
	line, r.negate = strings.CutPrefix(line, "!")
	line, r.dirOnly = strings.CutSuffix(line, "/")
	r.whole = strings.Contains(line, "/")
	r.pattern = strings.TrimPrefix(line, "/")
	return r
}

func ignored(rules []rule, name string, isDir bool) bool {
	for _, r := range rules {
		if r.negate {
			if r.dirOnly && !isDir || !r.match(name) {
				return true
			}
			continue
		}
		if (!r.dirOnly || isDir) && r.match(name) {
			return true
		}
	}
	return false
}

func (r rule) match(name string) bool {
	if !r.whole {
		name = path.Base(name)
	}
	ok, err := path.Match(r.pattern, name)
	return err == nil && ok
}
