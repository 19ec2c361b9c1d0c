package chartfile

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"strings"
)

// Inspect reads a packed chart and says what it is. It trusts nothing: sizes
// are counted while unpacking, and nothing is written anywhere.
func Inspect(tgz []byte) (Info, error) {
	if len(tgz) > MaxSize {
		return Info{}, refuse("The chart weighs %d bytes packed; the most is %d.", len(tgz), MaxSize)
	}
	if !bytes.HasPrefix(tgz, []byte{0x1f, 0x8b}) {
		return Info{}, refuse("This is not a packed chart: it is no gzip file; pack the chart's folder with helm package.")
	}
	zr, err := gzip.NewReader(bytes.NewReader(tgz))
	if err != nil {
		return Info{}, refuse("The chart is damaged: its gzip header cannot be read; pack and send it again.")
	}
	c, err := readArchive(&counted{r: zr, left: MaxUnpackedSize})
	if err != nil {
		return Info{}, err
	}
	info, err := c.info()
	if err != nil {
		return Info{}, err
	}
	info.Digest, info.Size = Digest(tgz), int64(len(tgz))
	return info, nil
}

func readArchive(r io.Reader) (contents, error) {
	var c contents
	tr := tar.NewReader(r)
	for n := 0; ; n++ {
		h, err := tr.Next()
		switch {
		case errors.Is(err, io.EOF):
			return c, readRest(r)
		case err != nil:
			return c, damaged(err)
		case n >= maxFiles:
			return c, refuse("The chart holds more than %d files; is something packed that does not belong to it?", maxFiles)
		}
		if err := c.addEntry(tr, h); err != nil {
			return c, err
		}
	}
}

// addEntry reads one entry of the archive.
func (c *contents) addEntry(tr *tar.Reader, h *tar.Header) error {
	switch {
	case h.FileInfo().IsDir(), h.Typeflag == tar.TypeXGlobalHeader, h.Typeflag == tar.TypeXHeader:
		return nil
	case h.Typeflag != tar.TypeReg:
		return refuse("The archive holds %q, which is no ordinary file; replace links by what they point to.", clip(h.Name))
	case h.Size > MaxFileSize:
		return refuse("File %q of the chart weighs %d bytes; Helm takes at most %d.", clip(h.Name), h.Size, MaxFileSize)
	}
	name := strings.ReplaceAll(h.Name, `\`, "/") // packed on Windows
	_, inner, ok := strings.Cut(strings.TrimPrefix(name, "./"), "/")
	if !ok {
		return refuse("The archive holds %q outside of the chart's folder; pack it again with helm package.", clip(h.Name))
	}
	inner, err := cleanName(inner)
	if err != nil {
		return err
	}
	if inner != "Chart.yaml" {
		c.add(inner, nil)
		if _, err := io.Copy(io.Discard, tr); err != nil {
			return damaged(err)
		}
		return nil
	}
	data, err := io.ReadAll(tr)
	if err != nil {
		return damaged(err)
	}
	if c.chartYAML != nil {
		return refuse("The archive holds two Chart.yaml of the same chart; pack it again with helm package.")
	}
	c.add(inner, bytes.TrimPrefix(data, []byte("\xef\xbb\xbf")))
	return nil
}

// readRest lets gzip compare its checksum, so that a truncated chart is found
// here and not in a cluster.
func readRest(r io.Reader) error {
	if _, err := io.Copy(io.Discard, r); err != nil {
		return damaged(err)
	}
	return nil
}

func damaged(err error) error {
	if e := (*Error)(nil); errors.As(err, &e) {
		return e
	}
	return refuse("The chart is damaged (%s); pack and send it again.", oneLine(err))
}

// counted refuses to give more than was allowed.
type counted struct {
	r    io.Reader
	left int64
}

// Read is io.Reader's.
func (c *counted) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	if c.left -= int64(n); c.left < 0 {
		return 0, &Error{Reason: "The chart is larger than 100 MiB when unpacked, which is the most that Helm takes."}
	}
	return n, err
}
