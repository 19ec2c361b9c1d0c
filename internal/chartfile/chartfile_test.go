package chartfile_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/internal/chartfile"
)

const goodYAML = "apiVersion: v2\nname: hello\nversion: 1.2.3\nappVersion: \"9\"\ndescription: says hello\n"

// entry is one member of a hand-made archive.
type entry struct {
	name string
	data string
	kind byte // tar.TypeReg when 0
}

func archive(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var out bytes.Buffer
	zw := gzip.NewWriter(&out)
	tw := tar.NewWriter(zw)
	for _, e := range entries {
		h := &tar.Header{Name: e.name, Size: int64(len(e.data)), Mode: 0o644, Typeflag: tar.TypeReg}
		if e.kind != 0 {
			h.Typeflag, h.Size, h.Linkname = e.kind, 0, "/etc/passwd"
			e.data = ""
		}
		require.NoError(t, tw.WriteHeader(h))
		_, err := tw.Write([]byte(e.data))
		require.NoError(t, err)
	}
	require.NoError(t, tw.Close())
	require.NoError(t, zw.Close())
	return out.Bytes()
}

func TestInspectTakesAChart(t *testing.T) {
	t.Parallel()
	tgz := archive(t,
		entry{name: "hello/Chart.yaml", data: goodYAML},
		entry{name: "hello/templates/a.yaml", data: "a: b"},
		entry{name: "hello/charts/sub/Chart.yaml", data: "not looked at"},
	)
	info, err := chartfile.Inspect(tgz)
	require.NoError(t, err)
	require.Equal(t, chartfile.Info{
		Name: "hello", Version: "1.2.3", AppVersion: "9", Description: "says hello",
		Digest: chartfile.Digest(tgz), Size: int64(len(tgz)),
	}, info)
	require.True(t, chartfile.IsDigest(info.Digest))
}

func TestInspectRefuses(t *testing.T) {
	t.Parallel()
	good := archive(t, entry{name: "hello/Chart.yaml", data: goodYAML}, entry{name: "hello/values.yaml", data: strings.Repeat("a: b\n", 5000)})
	with := func(yaml string) []byte { return archive(t, entry{name: "hello/Chart.yaml", data: yaml}) }
	replace := func(from, to string) []byte { return with(strings.Replace(goodYAML, from, to, 1)) }
	flipped := bytes.Clone(good)
	flipped[len(flipped)-6] ^= 0xff // in gzip's checksum

	for name, c := range map[string]struct {
		tgz  []byte
		says string
	}{
		"empty":               {nil, "no gzip"},
		"text":                {[]byte("apiVersion: v2"), "no gzip"},
		"half a header":       {[]byte{0x1f, 0x8b, 8}, "damaged"},
		"truncated":           {good[:len(good)-20], "damaged"},
		"checksum":            {flipped, "damaged"},
		"too large":           {make([]byte, chartfile.MaxSize+1), "the most is"},
		"nothing in it":       {archive(t), "no Chart.yaml"},
		"another file":        {archive(t, entry{name: "hello/values.yaml"}), "no Chart.yaml"},
		"chart at the top":    {archive(t, entry{name: "Chart.yaml", data: goodYAML}), "outside of the chart's folder"},
		"parent":              {archive(t, entry{name: "hello/../../etc/passwd"}), "points out"},
		"absolute":            {archive(t, entry{name: "hello//etc/passwd"}), "points out"},
		"drive":               {archive(t, entry{name: `hello\c:\x`}), "points out"},
		"symlink":             {archive(t, entry{name: "hello/Chart.yaml", kind: tar.TypeSymlink}), "no ordinary file"},
		"hard link":           {archive(t, entry{name: "hello/x", kind: tar.TypeLink}), "no ordinary file"},
		"device":              {archive(t, entry{name: "hello/x", kind: tar.TypeChar}), "no ordinary file"},
		"two of them":         {archive(t, entry{name: "a/Chart.yaml", data: goodYAML}, entry{name: "b/Chart.yaml", data: goodYAML}), "two Chart.yaml"},
		"large file":          {archive(t, entry{name: "hello/x", data: strings.Repeat("x", chartfile.MaxFileSize+1)}), "Helm takes at most"},
		"yaml":                {with("{"), "not valid YAML"},
		"a list":              {with("- a"), "not valid YAML"},
		"no name":             {replace("name: hello", ""), "no name"},
		"path as name":        {replace("name: hello", "name: ../x"), "not a chart's name"},
		"no version":          {replace("version: 1.2.3", ""), "no version"},
		"version":             {replace("1.2.3", "newest"), "not a semantic version"},
		"api version":         {replace("apiVersion: v2", "apiVersion: v9"), "must be v1 or v2"},
		"library":             {with(goodYAML + "type: library\n"), "library chart"},
		"type":                {with(goodYAML + "type: thing\n"), "must be application"},
		"dependency not here": {with(goodYAML + "dependencies: [{name: redis}]\n"), "helm dependency build"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := chartfile.Inspect(c.tgz)
			var refused *chartfile.Error
			require.ErrorAs(t, err, &refused)
			require.Contains(t, err.Error(), c.says)
		})
	}
}

// A few kilobytes that unpack to a gigabyte must not be unpacked.
func TestInspectStopsABomb(t *testing.T) {
	t.Parallel()
	var one bytes.Buffer // a gzip file may be the sum of several
	zw := gzip.NewWriter(&one)
	tw := tar.NewWriter(zw)
	require.NoError(t, tw.WriteHeader(&tar.Header{Name: "hello/x", Size: chartfile.MaxFileSize, Typeflag: tar.TypeReg}))
	_, err := tw.Write(make([]byte, chartfile.MaxFileSize))
	require.NoError(t, err)
	require.NoError(t, tw.Flush())
	require.NoError(t, zw.Close())
	bomb := bytes.Repeat(one.Bytes(), chartfile.MaxUnpackedSize/chartfile.MaxFileSize+1)
	require.Less(t, len(bomb), 1<<20)
	_, err = chartfile.Inspect(bomb)
	require.ErrorContains(t, err, "larger than 100 MiB")
}

func TestPackIsTheSameEachTimeAndLeavesOut(t *testing.T) {
	t.Parallel()
	dir := fstest.MapFS{
		"Chart.yaml":                   {Data: []byte(goodYAML + "dependencies: [{name: redis}, {name: pg}]\n")},
		"values.yaml":                  {Data: []byte("a: 1")},
		".helmignore":                  {Data: []byte("# comment\n*.bak\n/secret.txt\ndocs/\r\nci/x?.yaml\n")},
		"secret.txt":                   {Data: []byte("x")},
		"sub/secret.txt":               {Data: []byte("kept: anchored at the top")},
		"docs/a.md":                    {Data: []byte("x")},
		"values.yaml.bak":              {Data: []byte("x")},
		"ci/x1.yaml":                   {Data: []byte("x")},
		"ci/x22.yaml":                  {Data: []byte("x")},
		"templates/.hidden":            {Data: []byte("x")},
		"templates/a.yaml":             {Data: []byte("x")},
		"templates/_helpers.tpl":       {Data: []byte("x")},
		"charts/redis-17.0.0.tgz":      {Data: []byte("x")},
		"charts/pg/Chart.yaml":         {Data: []byte("x")},
		strings.Repeat("d/", 80) + "f": {Data: []byte("a path over 100 bytes")},
	}
	first, info, err := chartfile.Pack(dir)
	require.NoError(t, err)
	again, _, err := chartfile.Pack(dir)
	require.NoError(t, err)
	require.Equal(t, first, again)

	inspected, err := chartfile.Inspect(first)
	require.NoError(t, err)
	require.Equal(t, info, inspected)
	require.Equal(t, []string{
		"hello/Chart.yaml", "hello/.helmignore", "hello/charts/pg/Chart.yaml", "hello/charts/redis-17.0.0.tgz",
		"hello/ci/x22.yaml", "hello/" + strings.Repeat("d/", 80) + "f", "hello/sub/secret.txt",
		"hello/templates/_helpers.tpl", "hello/templates/a.yaml", "hello/values.yaml",
	}, names(t, first))
}

func TestPackRefuses(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		dir  fstest.MapFS
		says string
	}{
		"no chart":   {fstest.MapFS{"a": {}}, "no Chart.yaml"},
		"dependency": {fstest.MapFS{"Chart.yaml": {Data: []byte(goodYAML + "dependencies: [{name: redis}]")}}, "helm dependency build"},
		"large file": {fstest.MapFS{"Chart.yaml": {Data: []byte(goodYAML)}, "x": {Data: make([]byte, chartfile.MaxFileSize+1)}}, ".helmignore"},
		"stars":      {fstest.MapFS{"Chart.yaml": {Data: []byte(goodYAML)}, ".helmignore": {Data: []byte("a/**")}}, "holds **"},
		"pattern":    {fstest.MapFS{"Chart.yaml": {Data: []byte(goodYAML)}, ".helmignore": {Data: []byte("[")}}, "no pattern"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, _, err := chartfile.Pack(c.dir)
			require.ErrorContains(t, err, c.says)
		})
	}
}

func names(t *testing.T, tgz []byte) []string {
	t.Helper()
	zr, err := gzip.NewReader(bytes.NewReader(tgz))
	require.NoError(t, err)
	tr := tar.NewReader(zr)
	var out []string
	for {
		h, err := tr.Next()
		if err != nil {
			return out
		}
		out = append(out, h.Name)
	}
}

// Whatever is accepted has a name and version that are safe in a file name,
// and the digest of what was given.
func FuzzInspect(f *testing.F) {
	f.Add([]byte(nil))
	f.Add([]byte{0x1f, 0x8b, 8, 0})
	f.Add(archive(f, entry{name: "hello/Chart.yaml", data: goodYAML}))
	f.Add(archive(f, entry{name: "hello/Chart.yaml", data: goodYAML + "type: library\n"}))
	f.Add(archive(f, entry{name: "../Chart.yaml", data: goodYAML}))
	f.Fuzz(func(t *testing.T, tgz []byte) { checkInspect(t, tgz) })
}

// The same over the archive's inside, which a fuzzer hardly reaches through
// gzip's checksum.
func FuzzInspectChartYAML(f *testing.F) {
	f.Add("hello/Chart.yaml", goodYAML)
	f.Add("hello\\Chart.yaml", goodYAML)
	f.Add("./a/Chart.yaml", "name: [")
	f.Fuzz(func(t *testing.T, name, chartYAML string) {
		var out bytes.Buffer
		zw := gzip.NewWriter(&out)
		tw := tar.NewWriter(zw)
		if tw.WriteHeader(&tar.Header{Name: name, Size: int64(len(chartYAML)), Typeflag: tar.TypeReg}) != nil {
			t.Skip("not a name that tar can hold")
		}
		_, err := tw.Write([]byte(chartYAML))
		require.NoError(t, err)
		require.NoError(t, tw.Close())
		require.NoError(t, zw.Close())
		checkInspect(t, out.Bytes())
	})
}

func checkInspect(t *testing.T, tgz []byte) {
	t.Helper()
	info, err := chartfile.Inspect(tgz)
	if err != nil {
		var refused *chartfile.Error
		require.ErrorAs(t, err, &refused)
		require.NotContains(t, err.Error(), "\n")
		return
	}
	require.NotContains(t, info.Name+info.Version, "/")
	require.NotContains(t, info.Name+info.Version+info.AppVersion+info.Description, "\x00")
	require.Equal(t, chartfile.Digest(tgz), info.Digest)
}
