package helmtest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"slices"
	"strconv"
	"testing"
)

// Chart packs files into a chart archive. Chart.yaml is made of name and
// version unless files has one; paths are relative to the chart.
func Chart(t testing.TB, name, version string, files map[string]string) []byte {
	t.Helper()
	all := map[string]string{
		"Chart.yaml": "apiVersion: v2\nname: " + name + "\nversion: " + version + "\nappVersion: \"" + version + "-app\"\n",
	}
	maps.Copy(all, files)
	var buf bytes.Buffer
	zw := gzip.NewWriter(&buf)
	tw := tar.NewWriter(zw)
	for _, path := range slices.Sorted(maps.Keys(all)) {
		body := []byte(all[path])
		err := tw.WriteHeader(&tar.Header{Name: name + "/" + path, Mode: 0o644, Size: int64(len(body))})
		if err == nil {
			_, err = tw.Write(body)
		}
		if err != nil {
			t.Fatalf("pack chart: %v", err)
		}
	}
	if err := tw.Close(); err != nil {
		t.Fatalf("pack chart: %v", err)
	}
	if err := zw.Close(); err != nil {
		t.Fatalf("pack chart: %v", err)
	}
	return buf.Bytes()
}

// Digest of a packed chart, as the hub writes it.
func Digest(chart []byte) string {
	sum := sha256.Sum256(chart)
	return "sha256:" + hex.EncodeToString(sum[:])
}

func itoa(n int) string { return strconv.Itoa(n) }
