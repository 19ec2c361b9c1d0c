// Package config fills a program's one configuration struct, in this order,
// each over the one before:
//
//	defaults in the struct < YAML file < environment < flags that were set
//
// A field's key is the path of its yaml (or json) tags: api.listen. From it
// follow the variable PREFIX_API_LISTEN and the flag --api-listen; words inside
// a tag part too: stateDir is PREFIX_STATE_DIR and --state-dir. A secret has no
// flag, since everybody on the machine can read a process's arguments. A key
// that no field has is an error wherever it comes from, since a setting that is
// silently ignored is worse than a program that does not start.
//
// Leaves are string, bool, int, int64, float64, time.Duration ("10s"),
// secret.String, []string and map[string]string. In variables and flags lists
// are separated by commas, and maps are k=v pairs separated by commas.
package config

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"

	"github.com/spf13/pflag"
)

// Source says where Load looks.
type Source struct {
	// File is a YAML file; empty is none.
	File string
	// Env is the environment as os.Environ gives it.
	Env []string
	// EnvPrefix begins each variable that is meant for this program, without
	// the underscore after it. Empty means no variables.
	EnvPrefix string
	// IgnoreEnv lists variables with the prefix that belong to somebody else.
	// A final * stands for any ending.
	IgnoreEnv []string
	// Flags are the flags that Register made; nil is none.
	Flags *pflag.FlagSet
}

// Error is one setting that cannot be used.
type Error struct {
	// Source is the file, "environment" or "flags".
	Source string
	// Key is the setting as that source spells it.
	Key string
	// Reason says what is wrong and what to do.
	Reason string
}

// Error is one sentence: where, which, why.
func (e *Error) Error() string { return fmt.Sprintf("%s: %s: %s", e.Source, e.Key, e.Reason) }

// Load fills cfg, a pointer to a struct that holds the defaults. It reports
// everything that is wrong at once.
func Load(cfg any, src Source) error {
	leaves, err := leavesOf(cfg)
	if err != nil {
		return err
	}
	return errors.Join(
		loadFile(leaves, src.File),
		loadEnv(leaves, src),
		loadFlags(leaves, src.Flags),
	)
}

// leaf is one field that holds a value.
type leaf struct {
	path  []string // parts of the key, e.g. api, listen
	usage string
	value reflect.Value
}

func (l leaf) key() string  { return strings.Join(l.path, ".") }
func (l leaf) flag() string { return strings.ToLower(strings.Join(l.words(), "-")) }

func (l leaf) env(prefix string) string {
	return prefix + "_" + strings.ToUpper(strings.Join(l.words(), "_"))
}

func (l leaf) words() []string {
	var words []string
	for _, part := range l.path {
		words = append(words, splitWords(part)...)
	}
	return words
}

// splitWords parts tlsCertFile into tls, Cert, File and databaseURLFile into
// database, URL, File.
func splitWords(s string) []string {
	isUpper := func(i int) bool { return i < len(s) && s[i] >= 'A' && s[i] <= 'Z' }
	isLower := func(i int) bool { return i < len(s) && !isUpper(i) }
	var words []string
	start := 0
	for i := 1; i < len(s); i++ {
		if isUpper(i) && (!isUpper(i-1) || isLower(i+1)) {
			words = append(words, s[start:i])
			start = i
		}
	}
	return append(words, s[start:])
}

func leavesOf(cfg any) ([]leaf, error) {
	v := reflect.ValueOf(cfg)
	if v.Kind() != reflect.Pointer || v.IsNil() || v.Elem().Kind() != reflect.Struct {
		return nil, fmt.Errorf("configuration must be a pointer to a struct, not %T", cfg)
	}
	return appendLeaves(nil, nil, v.Elem())
}

func appendLeaves(leaves []leaf, path []string, v reflect.Value) ([]leaf, error) {
	var err error
	for i := range v.NumField() {
		field := v.Type().Field(i)
		name, inline := tagName(field)
		if name == "-" || !field.IsExported() {
			continue
		}
		at := path
		if !inline {
			at = append(slices.Clip(path), name)
		}
		fv := v.Field(i)
		switch {
		case isLeaf(fv.Type()):
			leaves = append(leaves, leaf{path: at, usage: field.Tag.Get("usage"), value: fv})
		case fv.Kind() == reflect.Struct:
			if leaves, err = appendLeaves(leaves, at, fv); err != nil {
				return nil, err
			}
		default:
			return nil, fmt.Errorf("configuration field %s has type %s, which is none that a setting can have",
				strings.Join(at, "."), fv.Type())
		}
	}
	return leaves, nil
}

// tagName gives the key of a field; an embedded struct without a tag has none.
func tagName(field reflect.StructField) (name string, inline bool) {
	for _, tag := range []string{"yaml", "json"} {
		value, ok := field.Tag.Lookup(tag)
		if !ok {
			continue
		}
		name, options, _ := strings.Cut(value, ",")
		if strings.Contains(options, "inline") {
			return "", true
		}
		if name != "" {
			return name, false
		}
	}
	if field.Anonymous {
		return "", true
	}
	return strings.ToLower(field.Name[:1]) + field.Name[1:], false
}
