package chartfile

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"time"
)

// file is one file of a chart, by its path in the chart's folder.
type file struct {
	name string
	data []byte
}

// Pack makes the .tgz of the chart in a folder, leaving out what its
// .helmignore names. The same folder gives the same bytes: the order is that
// of the names, and times and owners are left out.
func Pack(dir fs.FS) ([]byte, Info, error) {
	files, err := readDir(dir)
	if err != nil {
		return nil, Info{}, err
	}
	var c contents
	for _, f := range files {
		c.add(f.name, f.data)
	}
	info, err := c.info()
	if err != nil {
		return nil, Info{}, err
	}
	tgz, err := write(info.Name, files)
	if err != nil {
		return nil, Info{}, err
	}
	if len(tgz) > MaxSize {
		return nil, Info{}, refuse("The chart weighs %d bytes packed; the most is %d. Name what does not belong to it in .helmignore.", len(tgz), MaxSize)
	}
	info.Digest, info.Size = Digest(tgz), int64(len(tgz))
	return tgz, info, nil
}

func write(folder string, files []file) ([]byte, error) {
	var out bytes.Buffer
	zw, err := gzip.NewWriterLevel(&out, gzip.BestCompression)
	if err != nil {
		return nil, fmt.Errorf("pack chart: %w", err)
	}
	tw := tar.NewWriter(zw)
	for _, f := range files {
		err := tw.WriteHeader(&tar.Header{
			Typeflag: tar.TypeReg, Name: folder + "/" + f.name, Size: int64(len(f.data)),
			Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatPAX,
		})
		if err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.name, err)
		}
		if _, err := tw.Write(f.data); err != nil {
			return nil, fmt.Errorf("pack %s: %w", f.name, err)
		}
	}
	if err := tw.Close(); err != nil {
		return nil, fmt.Errorf("pack chart: %w", err)
	}
	if err := zw.Close(); err != nil {
		return nil, fmt.Errorf("pack chart: %w", err)
	}
	return out.Bytes(), nil
}

// readDir reads the files that belong to a chart. Chart.yaml comes first, as
// readers that stream an archive like it; the rest is in order.
func readDir(dir fs.FS) ([]file, error) {
	rules, err := readIgnore(dir)
	if err != nil {
		return nil, err
	}
	r := reader{dir: dir, rules: rules, left: MaxUnpackedSize}
	if err := fs.WalkDir(dir, ".", r.visit); err != nil {
		return nil, err
	}
	slices.SortFunc(r.files, func(a, b file) int {
		if c := boolToInt(b.name == "Chart.yaml") - boolToInt(a.name == "Chart.yaml"); c != 0 {
			return c
		}
		return strings.Compare(a.name, b.name)
	})
	return r.files, nil
}

func boolToInt(b bool) int {
	if b {
		return 1
	}
	return 0
}

type reader struct {
	dir   fs.FS
	rules []rule
	left  int64
	files []file
}

func (r *reader) visit(name string, d fs.DirEntry, err error) error {
	switch {
	case err != nil:
		return refuse("%s of the chart's folder cannot be read (%s).", clip(name), oneLine(err))
	case name == ".":
		return nil
	case ignored(r.rules, name, d.IsDir()):
		if d.IsDir() {
			return fs.SkipDir
		}
		return nil
	case d.IsDir():
		return nil
	case !d.Type().IsRegular():
		return refuse("%s is no ordinary file; replace links by what they point to, or name it in .helmignore.", clip(name))
	case strings.ContainsAny(name, "\\:\x00") || path.Clean(name) != name:
		return refuse("%q is no file name that every system takes; rename it.", clip(name))
	case len(r.files) >= maxFiles:
		return refuse("The chart's folder holds more than %d files; name what does not belong to it in .helmignore.", maxFiles)
	}
	return r.read(name, d)
}

func (r *reader) read(name string, d fs.DirEntry) error {
	if i, err := d.Info(); err == nil && i.Size() > MaxFileSize {
		return refuse("%s weighs %d bytes; Helm takes at most %d. Name it in .helmignore if it does not belong to the chart.",
			clip(name), i.Size(), MaxFileSize)
	}
	data, err := fs.ReadFile(r.dir, name)
	if err != nil {
		return refuse("%s of the chart's folder cannot be read (%s).", clip(name), oneLine(err))
	}
	if r.left -= int64(len(data)); r.left < 0 {
		return refuse("The chart's folder holds more than %d bytes; name what does not belong to it in .helmignore.", MaxUnpackedSize)
	}
	r.files = append(r.files, file{name: name, data: data})
	return nil
}
