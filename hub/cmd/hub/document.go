package main

import (
	"fmt"
	"reflect"
	"strings"
	"time"

	"github.com/budecosystem/budcluster/internal/secret"
)

// document writes a configuration as YAML, each setting below the sentence
// that --help shows of it, in the order in which the struct has them.
func document(cfg any) []byte {
	var b strings.Builder
	describe(&b, reflect.ValueOf(cfg), "")
	return []byte(b.String())
}

func describe(b *strings.Builder, v reflect.Value, indent string) {
	for i := range v.NumField() {
		field, value := v.Type().Field(i), v.Field(i)
		name := field.Tag.Get("json")
		if value.Kind() == reflect.Struct && value.Type() != reflect.TypeFor[secret.String]() {
			fmt.Fprintf(b, "%s%s:\n", indent, name)
			describe(b, value, indent+"  ")
			continue
		}
		fmt.Fprintf(b, "%s# %s\n%s%s: %s\n", indent, field.Tag.Get("usage"), indent, name, scalar(value))
	}
}

func scalar(v reflect.Value) string {
	switch x := v.Interface().(type) {
	case time.Duration:
		return x.String()
	case secret.String:
		return `""`
	case string:
		return fmt.Sprintf("%q", x)
	case []string:
		return "[]"
	case map[string]string:
		return "{}"
	default:
		return fmt.Sprint(x)
	}
}
