//go:build cgo && linux

package nvml

import (
	"math"
	"testing"
	"unicode"
	"unicode/utf8"

	"github.com/NVIDIA/go-nvml/pkg/nvml"
	"github.com/stretchr/testify/require"

	"github.com/budecosystem/budcluster/agent/internal/gpu"
)

func TestDecode(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind nvml.ValueType
		raw  uint64
		want uint64
		ok   bool
	}{
		"unsigned int: the rest is not set": {nvml.VALUE_TYPE_UNSIGNED_INT, 0xdeadbeef_00000007, 7, true},
		"unsigned long":                     {nvml.VALUE_TYPE_UNSIGNED_LONG, 1 << 40, 1 << 40, true},
		"unsigned long long":                {nvml.VALUE_TYPE_UNSIGNED_LONG_LONG, math.MaxUint64, math.MaxUint64, true},
		"signed long long":                  {nvml.VALUE_TYPE_SIGNED_LONG_LONG, 5, 5, true},
		"negative long long":                {nvml.VALUE_TYPE_SIGNED_LONG_LONG, math.MaxUint64, 0, false},
		"signed int":                        {nvml.VALUE_TYPE_SIGNED_INT, 0xffffffff_00000005, 5, true},
		"negative int":                      {nvml.VALUE_TYPE_SIGNED_INT, 0xffffffff, 0, false},
		"unsigned short":                    {nvml.VALUE_TYPE_UNSIGNED_SHORT, 0xffff_0009, 9, true},
		"double":                            {nvml.VALUE_TYPE_DOUBLE, math.Float64bits(45.9), 45, true},
		"negative double":                   {nvml.VALUE_TYPE_DOUBLE, math.Float64bits(-1), 0, false},
		"not a number":                      {nvml.VALUE_TYPE_DOUBLE, math.Float64bits(math.NaN()), 0, false},
		"infinite":                          {nvml.VALUE_TYPE_DOUBLE, math.Float64bits(math.Inf(1)), 0, false},
		"a type that is none":               {77, 1, 0, false},
	} {
		got, ok := decode(c.kind, raw(c.raw))
		require.Equal(t, c.ok, ok, name)
		if ok {
			require.Equal(t, c.want, got, name)
		}
	}
}

// FuzzFields: whatever a driver answers, nothing panics, what is not known leaves
// no number, and what is wrong is said.
func FuzzFields(f *testing.F) {
	f.Add(uint32(82), uint32(0), uint32(1), uint64(45))
	f.Add(uint32(165), uint32(0), uint32(0), uint64(9))
	f.Add(uint32(230), uint32(3), uint32(3), uint64(1<<40))
	f.Add(uint32(83), uint32(999), uint32(5), uint64(math.MaxUint64))
	f.Add(uint32(4_000_000_000), uint32(15), uint32(8), uint64(1))
	f.Fuzz(func(t *testing.T, id, code, kind uint32, value uint64) {
		field := nvml.FieldValue{FieldId: id, NvmlReturn: code, ValueType: kind, Value: raw(value)}
		r := &reader{}
		var s gpu.Sample
		v, ok := r.field(field)
		require.False(t, ok && len(r.problems) > 0)
		if ok {
			place(&s, id, v)
			return
		}
		require.Zero(t, v)
		for _, p := range r.problems {
			require.NotEmpty(t, p.Field)
			require.NotEmpty(t, p.Reason)
		}
	})
}

// FuzzText: a text of the driver can be printed, and reading it again changes
// nothing.
func FuzzText(f *testing.F) {
	f.Add("NVIDIA H100 80GB HBM3 MIG 1g.10gb")
	f.Add("GPU-\x00\xff\x1b[31m\u202e")
	f.Add(" \u00a0 MIG  MIG ")
	f.Fuzz(func(t *testing.T, text string) {
		got := clean(text)
		require.True(t, utf8.ValidString(got))
		require.LessOrEqual(t, len(got), longestText)
		for _, c := range got {
			require.True(t, unicode.IsPrint(c))
		}
		require.Equal(t, got, clean(got))
		require.LessOrEqual(t, len(profileOf(got)), len(got))
		var info nvml.PciInfo
		for i := range min(len(text), len(info.BusId)) {
			info.BusId[i] = int8(text[i])
		}
		require.LessOrEqual(t, len(busID(info)), len(info.BusId))
	})
}
