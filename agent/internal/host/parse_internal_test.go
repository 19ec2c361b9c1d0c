package host

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestParseCPUs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		list, want string
		size       int32
		bad        bool
	}{
		{list: "", want: ""},
		{list: "\n", want: ""},
		{list: "0\n", want: "0", size: 1},
		{list: "0-3,8", want: "0-3,8", size: 5},
		{list: "8,0-3", want: "0-3,8", size: 5},
		{list: "0,1,2", want: "0-2", size: 3},
		{list: "0-1,1-2", want: "0-2", size: 3},
		{list: "60-70,127-129", want: "60-70,127-129", size: 14},
		{list: "0-65535", want: "0-65535", size: 65536},
		{list: "0-65536", bad: true},
		{list: "3-1", bad: true},
		{list: "-1", bad: true},
		{list: "1-", bad: true},
		{list: "1,,2", bad: true},
		{list: "0x1", bad: true},
		{list: "0-7:2/4", bad: true},
		{list: "\x00", bad: true},
	} {
		set, err := parseCPUs([]byte(c.list))
		require.Equal(t, c.bad, err != nil, "%q", c.list)
		if c.bad {
			require.Nil(t, set)
			continue
		}
		require.Equal(t, c.want, set.String(), "%q", c.list)
		require.Equal(t, c.size, set.size(), "%q", c.list)
	}
}

func TestCPUSet(t *testing.T) {
	t.Parallel()
	set, err := parseCPUs([]byte("1,63-65,200"))
	require.NoError(t, err)
	require.Equal(t, 1, set.first())
	require.False(t, set.has(-1))
	require.False(t, set.has(1<<20))
	left := set.clone()
	other, err := parseCPUs([]byte("0-64,300"))
	require.NoError(t, err)
	left.remove(other)
	require.Equal(t, "65,200", left.String())
	require.Equal(t, "1,63-65,200", set.String(), "the clone is its own")
	left.remove(set)
	require.Equal(t, -1, left.first())
}

func TestParseSizes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"48K\n": 48 << 10, "105M": 105 << 20, "1G": 1 << 30, "512": 512} {
		got, ok := parseSize([]byte(text))
		require.True(t, ok, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "K", "0K", "-1K", "1.5M", "999999999G", "9999999999999999999999K", "48 K", "48KB"} {
		_, ok := parseSize([]byte(text))
		require.False(t, ok, text)
	}
}

func TestParseRates(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int64{"400 Gb/sec (4X NDR)\n": 400e9, "2.5 Gb/sec (1X SDR)": 25e8, "0 Gb/sec": 0} {
		got, ok := parseRate([]byte(text))
		require.True(t, ok, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "Gb/sec", "-1 Gb/sec", "NaN Gb/sec", "Inf Gb/sec", "1e300 Gb/sec", "400"} {
		_, ok := parseRate([]byte(text))
		require.False(t, ok, text)
	}
}

func TestParseLinkSpeeds(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]int32{"2.5 GT/s PCIe\n": 2500, "8 GT/s": 8000, "64.0 GT/s PCIe": 64000, "Unknown": 0, "Unknown speed": 0} {
		got, ok := parseLinkSpeed([]byte(text))
		require.True(t, ok, text)
		require.Equal(t, want, got, text)
	}
	for _, text := range []string{"", "fast", "-8 GT/s", "NaN GT/s", "+Inf GT/s", "1e9 GT/s"} {
		_, ok := parseLinkSpeed([]byte(text))
		require.False(t, ok, text)
	}
}

func TestBrandHz(t *testing.T) {
	t.Parallel()
	require.Equal(t, int64(2_100_000_000), *brandHz("Intel(R) Xeon(R) CPU @ 2.10GHz"))
	for _, model := range []string{"", "AMD EPYC 9654", "x @ GHz", "x @ NaNGHz", "x @ -1GHz", "x @ 1e9GHz", "x @ 2.1"} {
		require.Nil(t, brandHz(model), model)
	}
}

func TestARMCores(t *testing.T) {
	t.Parallel()
	vendor, core := armCore("0xc0", "0xac4")
	require.Equal(t, []string{"ampere", "Ampere-1A"}, []string{vendor, core})
	vendor, core = armCore("0x41", "0xfff")
	require.Equal(t, []string{"arm", ""}, []string{vendor, core})
	vendor, core = armCore("0x00", "0xd4f")
	require.Equal(t, []string{"", ""}, []string{vendor, core}, "a part is its implementer's")
}

func FuzzCPUs(f *testing.F) {
	for _, seed := range []string{"0-3,8", "", "0", "0-65535", "3-1", "1,,", "63,64", strings.Repeat("0-65535,", 50)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, list []byte) {
		set, err := parseCPUs(list)
		if err != nil {
			return
		}
		again, err := parseCPUs([]byte(set.String()))
		require.NoError(t, err)
		require.Equal(t, set.String(), again.String())
		require.Equal(t, set.size(), again.size())
		require.LessOrEqual(t, set.size(), int32(maxCPU))
	})
}

func FuzzCPUInfo(f *testing.F) {
	f.Add([]byte("processor\t: 0\nvendor_id\t: GenuineIntel\ncpu family\t: 6\nmodel\t\t: 143\nphysical id : 0\ncore id : 1\nflags\t: avx amx_tile\n\nprocessor : 1\n"))
	f.Add([]byte("processor: 0\nFeatures: asimd sve\nCPU implementer: 0x41\nCPU part: 0xd4f\n"))
	f.Add([]byte(":\n::\nprocessor:processor:\nstepping: unknown"))
	f.Fuzz(func(t *testing.T, data []byte) {
		info, bad := parseCPUInfo(data)
		for _, n := range []int32{info.processors, info.packages, info.cores} {
			require.GreaterOrEqual(t, n, int32(0))
			require.LessOrEqual(t, n, int32(maxCPU))
		}
		require.LessOrEqual(t, len(bad), strings.Count(string(data), "\n")+1)
		require.LessOrEqual(t, len(instructionSets(info.flags)), 26)
	})
}

func FuzzSize(f *testing.F) {
	for _, seed := range []string{"48K", "1G", "", "-1", "99999999999999999999K", "0M"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if size, ok := parseSize(data); ok {
			require.Positive(t, size)
			require.LessOrEqual(t, size, int64(maxCache))
		}
	})
}

func FuzzMeminfo(f *testing.F) {
	f.Add([]byte("MemTotal:       24683620 kB\nMemFree: 1 kB\n"))
	f.Add([]byte("Node 0 MemTotal: 20408096 kB"))
	f.Add([]byte("MemTotal: " + strconv.FormatUint(1<<63, 10) + " kB"))
	f.Fuzz(func(t *testing.T, data []byte) {
		if value, ok := meminfoLine(data, "MemTotal"); ok {
			if amount, ok := parseKB(value); ok {
				require.GreaterOrEqual(t, amount, int64(0))
			}
		}
	})
}

func FuzzOSRelease(f *testing.F) {
	f.Add([]byte("ID=ubuntu\nVERSION_ID=\"24.04\"\nPRETTY_NAME='x'\n"))
	f.Add([]byte("ID=\"\\\"\nID='\nID=\"\n=\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		os := parseOSRelease(data)
		for _, text := range []string{os.ID, os.VersionID, os.Name} {
			require.NotContains(t, text, "\n")
			require.LessOrEqual(t, len(text), 256)
		}
	})
}

func FuzzRates(f *testing.F) {
	for _, seed := range []string{"400 Gb/sec (4X NDR)", "16.0 GT/s PCIe", "Unknown", "NaN Gb/sec", "x @ 2.10GHz", "0x1p-1 GT/s"} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if rate, ok := parseRate(data); ok {
			require.GreaterOrEqual(t, rate, int64(0))
		}
		if speed, ok := parseLinkSpeed(data); ok {
			require.GreaterOrEqual(t, speed, int32(0))
			require.LessOrEqual(t, speed, int32(maxMTs))
		}
		if hz := brandHz(string(data)); hz != nil {
			require.GreaterOrEqual(t, *hz, int64(0))
		}
	})
}

func FuzzPCIPlace(f *testing.F) {
	f.Add("../../devices/pci0000:00/0000:00:03.0/virtio0/net/eth0")
	f.Add("///0000:00:03.0")
	f.Add("")
	f.Fuzz(func(t *testing.T, target string) {
		if place := pciPlace(target); place != "" {
			require.Contains(t, target, place)
		}
	})
}
