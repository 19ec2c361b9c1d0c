package accel

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/sysfs"
)

func TestParseRAS(t *testing.T) {
	t.Parallel()
	got, ok := parseRAS([]byte("ue: 1\nce: 2\nde: 3\n"))
	require.True(t, ok)
	require.Equal(t, RAS{Uncorrectable: 1, Correctable: 2, Deferred: new(int64(3))}, got)
	for _, text := range []string{"", "ue: 1", "ce: 1\n", "ue: -1\nce: 0", "ue: 1\nce: x", "ue 1\nce 1", "Query currently inaccessible\n"} {
		_, ok := parseRAS([]byte(text))
		require.False(t, ok, text)
	}
}

func TestGFXNames(t *testing.T) {
	t.Parallel()
	for version, want := range map[uint64]string{
		90006: "gfx906", 90008: "gfx908", 90010: "gfx90a", 90402: "gfx942", 90500: "gfx950", 100302: "gfx1032", 110000: "gfx1100", 120001: "gfx1201", 0: "", 1 << 40: "",
	} {
		require.Equal(t, want, gfxName(version))
	}
}

func TestKFDPlaces(t *testing.T) {
	t.Parallel()
	require.Equal(t, "0000:c1:00.0", kfdPlace(0, 0xc100))
	require.Equal(t, "0001:0a:1f.7", kfdPlace(1, 0x30000aff), "a partition is at the place of its GPU")
}

func FuzzRAS(f *testing.F) {
	f.Add([]byte("ue: 0\nce: 0\nde: 0\n"))
	f.Add([]byte(":\nue:\nce: 9223372036854775808"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if count, ok := parseRAS(data); ok {
			require.GreaterOrEqual(t, count.Correctable, int64(0))
			require.GreaterOrEqual(t, count.Uncorrectable, int64(0))
		}
	})
}

func FuzzProperties(f *testing.F) {
	f.Add([]byte("gfx_target_version 90402\nlocation_id 3072\ndomain 0\nhive_id 18446744073709551615\nsimd_count 1\n"))
	f.Add([]byte("location_id 99999999999999999999\n \n\x00 1"))
	f.Fuzz(func(t *testing.T, data []byte) {
		p := parseProperties(data)
		require.LessOrEqual(t, len(p), strings.Count(string(data), "\n")+1)
		require.True(t, sysfs.PCIAddress(kfdPlace(p["domain"], p["location_id"])))
		gfxName(p["gfx_target_version"])
	})
}

func TestVersionOrder(t *testing.T) {
	t.Parallel()
	ordered := []string{"1.16.2", "1.17.0~rc.1", "1.17.0", "1.17.0.1", "1.17.8", "1.17.10", "1.18.0", "535.9", "535.54.03", "535.104.05", "580.65.06"}
	for i, a := range ordered {
		for j, b := range ordered {
			x, ok := parseVersion(a)
			require.True(t, ok, a)
			y, ok := parseVersion(b)
			require.True(t, ok, b)
			require.Equal(t, i < j, x.less(y), "%s < %s", a, b)
		}
	}
	release, _ := parseVersion("1.17.8")
	packaged, _ := parseVersion("v1.17.8-1")
	require.Equal(t, release, packaged)
}

func TestBadBulletins(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"advisories: [{id: a, component: driver}]":                                                                                 `bulletin "a": it has no updates`,
		"advisories: [{id: a, component: driver, updates: [{branch: 1, fixed: x}]}]":                                               `bulletin "a": fixed: "x" is not a version`,
		"advisories: [{id: a, component: driver, updates: [{branch: 1, fixed: '2.1'}]}]":                                           `bulletin "a": fixed: 2.1 is not of branch 1`,
		"advisories: [{id: a, component: driver, updates: [{branch: 1, fixed: '1.1'}]}]":                                           `bulletin "a": severity: "" is none of low, medium, high, critical`,
		"advisories: [{id: a, component: toolkit, updates: [{branch: 1, fixed: '1.1'}]}]":                                          `bulletin "a": only a driver has branches; give one update without`,
		"advisories: [{id: a, component: driver, updates: [{branch: 2, fixed: '2.1', severity: low}, {branch: 1, fixed: '1.1'}]}]": `bulletin "a": branch 1 does not follow 2; sort them`,
	} {
		_, err := parseBulletins([]byte(text))
		require.EqualError(t, err, want)
	}
	_, err := parseBulletins([]byte("advisories: [{idd: a}]"))
	require.ErrorContains(t, err, "idd")
}
