package host

import (
	"bytes"
	"slices"
)

// instructionSets reduces the kernel's flags to those that model servers choose
// their kernels by. The names are those that package facts gives the labels of
// feature discovery, so that both sources tell the same.
//
// Flags of x86 are in arch/x86/include/asm/cpufeatures.h, those of arm64 in
// Documentation/arch/arm64/elf_hwcaps.rst.
func instructionSets(flags []byte) []string {
	var sets []string
	for flag := range bytes.FieldsSeq(flags) {
		if name := instructionSet(string(flag)); name != "" {
			sets = append(sets, name)
		}
	}
	slices.Sort(sets)
	return slices.Compact(sets)
}

func instructionSet(flag string) string {
	switch flag {
	case "sse4_2":
		return "SSE4.2"
	case "avx":
		return "AVX"
	case "avx2":
		return "AVX2"
	case "fma":
		return "FMA3"
	case "f16c":
		return "F16C"
	case "avx512f":
		return "AVX512"
	case "avx512bw":
		return "AVX512BW"
	case "avx512cd":
		return "AVX512CD"
	case "avx512dq":
		return "AVX512DQ"
	case "avx512vl":
		return "AVX512VL"
	case "avx512vbmi":
		return "AVX512VBMI"
	case "avx512_vnni", "avx_vnni":
		return "VNNI"
	case "avx512_bf16":
		return "AVX512BF16"
	case "avx512_fp16":
		return "AVX512FP16"
	case "amx_tile":
		return "AMX"
	case "amx_int8":
		return "AMXINT8"
	case "amx_bf16":
		return "AMXBF16"
	case "amx_fp16":
		return "AMXFP16"
	case "asimd":
		return "NEON"
	case "asimdhp":
		return "FP16"
	case "asimddp":
		return "DOTPROD"
	case "sve":
		return "SVE"
	case "sve2":
		return "SVE2"
	case "i8mm":
		return "I8MM"
	case "bf16":
		return "BF16"
	}
	return ""
}
