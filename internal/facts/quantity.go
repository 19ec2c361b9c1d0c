package facts

import (
	"errors"
	"fmt"
	"maps"
	"math"
	"math/big"
	"slices"
	"strconv"
	"strings"
)

// The names of Kubernetes's own resources.
const (
	resourceCPU       = "cpu"
	resourceMemory    = "memory"
	resourceEphemeral = "ephemeral-storage"
	resourcePods      = "pods"
)

// maxQuantity bounds what is worth parsing; Kubernetes writes far less.
const maxQuantity = 64

// ParseQuantity reads a Kubernetes quantity such as 500m, 64Gi, 1.5 or 2e3, in
// units of 1/scale (1 for bytes and pieces, 1000 for thousandths of a core),
// rounded up. Amounts beyond int64 become the largest.
func ParseQuantity(s string, scale int64) (int64, error) {
	if s == "" || len(s) > maxQuantity {
		return 0, fmt.Errorf("quantity %q is not a number with a unit", clip(s))
	}
	digits := strings.TrimLeft(s, "+-")
	end := strings.IndexFunc(digits, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if end < 0 {
		end = len(digits)
	}
	amount, ok := new(big.Rat).SetString(digits[:end])
	if !ok || len(s)-len(digits) > 1 {
		return 0, fmt.Errorf("quantity %q is not a number with a unit", clip(s))
	}
	unit, err := multiplier(digits[end:])
	if err != nil {
		return 0, fmt.Errorf("quantity %q: %w", clip(s), err)
	}
	amount.Mul(amount, unit)
	amount.Mul(amount, new(big.Rat).SetInt64(scale))
	if s[0] == '-' && amount.Sign() > 0 {
		return 0, fmt.Errorf("quantity %q is negative", clip(s))
	}
	up := new(big.Int).Add(amount.Num(), new(big.Int).Sub(amount.Denom(), big.NewInt(1)))
	up.Quo(up, amount.Denom())
	if !up.IsInt64() {
		return math.MaxInt64, nil
	}
	return up.Int64(), nil
}

func multiplier(unit string) (*big.Rat, error) {
	const binary, decimal = "KMGTPE", "kMGTPE"
	one := big.NewInt(1)
	switch unit {
	case "":
		return new(big.Rat).SetInt(one), nil
	case "n":
		return big.NewRat(1, 1e9), nil
	case "u":
		return big.NewRat(1, 1e6), nil
	case "m":
		return big.NewRat(1, 1e3), nil
	}
	if i := strings.Index(binary, unit[:1]); i >= 0 && len(unit) == 2 && unit[1] == 'i' {
		return new(big.Rat).SetInt(one.Lsh(one, uint(10*(i+1)))), nil
	}
	if i := strings.Index(decimal, unit); i >= 0 && len(unit) == 1 {
		return new(big.Rat).SetInt(one.Exp(big.NewInt(1000), big.NewInt(int64(i+1)), nil)), nil
	}
	if unit[0] == 'e' || unit[0] == 'E' {
		const most = 30
		exponent, err := strconv.Atoi(unit[1:])
		if err != nil || exponent < -most || exponent > most {
			return nil, errors.New("the exponent is no number or absurd")
		}
		power := one.Exp(big.NewInt(10), big.NewInt(int64(max(exponent, -exponent))), nil)
		if exponent < 0 {
			return new(big.Rat).SetFrac(big.NewInt(1), power), nil
		}
		return new(big.Rat).SetInt(power), nil
	}
	return nil, fmt.Errorf("unit %q is unknown", unit)
}

// ResourcesFrom reads a resource list as Kubernetes has it. What cannot be read
// is left out and told of; zero amounts of extended resources are kept, since
// they say that a device plugin is there.
func ResourcesFrom(list map[string]string) (Resources, []string) {
	var r Resources
	var problems []string
	for _, name := range slices.Sorted(maps.Keys(list)) {
		scale := int64(1)
		if name == resourceCPU {
			scale = 1000
		}
		amount, err := ParseQuantity(list[name], scale)
		if err != nil {
			problems = append(problems, fmt.Sprintf("resource %s is not counted: %v", clip(name), err))
			continue
		}
		switch name {
		case resourceCPU:
			r.CPUMillis = amount
		case resourceMemory:
			r.MemoryBytes = amount
		case resourceEphemeral:
			r.EphemeralBytes = amount
		case resourcePods:
			r.Pods = amount
		default:
			if strings.HasPrefix(name, "hugepages-") && amount == 0 {
				continue
			}
			if r.Extended == nil {
				r.Extended = map[string]int64{}
			}
			r.Extended[name] = amount
		}
	}
	return r, problems
}

// FormatBytes writes an amount for people, in binary units: 79.6 GiB.
func FormatBytes(n int64) string {
	const step = 1024
	if n > -step && n < step {
		return strconv.FormatInt(n, 10) + " B"
	}
	value, unit := float64(n), -1
	for math.Abs(value) >= step && unit < 5 {
		value /= step
		unit++
	}
	return strings.TrimSuffix(strconv.FormatFloat(value, 'f', 1, 64), ".0") + " " + "KMGTPE"[unit:unit+1] + "iB"
}

// FormatCPU writes thousandths of a core for people: 3.5 or 250m.
func FormatCPU(millis int64) string {
	switch {
	case millis%1000 == 0:
		return strconv.FormatInt(millis/1000, 10)
	case millis%100 == 0:
		return strconv.FormatFloat(float64(millis)/1000, 'f', 1, 64)
	default:
		return strconv.FormatInt(millis, 10) + "m"
	}
}

// clip shortens a foreign text for a sentence.
func clip(s string) string {
	return clipTo(clean(s), 64)
}
