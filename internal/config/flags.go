package config

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Register makes a flag for every setting of cfg, whose present values it
// shows as defaults. A field's usage tag is the flag's help. Flags do not
// write to cfg: Load does, after the file and the environment. A secret gets no
// flag, since the arguments of a process are there for everybody to read.
func Register(fs *pflag.FlagSet, cfg any) error {
	leaves, err := leavesOf(cfg)
	if err != nil {
		return err
	}
	for _, l := range leaves {
		if isSecret(l.value.Type()) {
			continue
		}
		if fs.Lookup(l.flag()) != nil {
			return fmt.Errorf("setting %s: there already is a flag --%s", l.key(), l.flag())
		}
		f := fs.VarPF(&flagValue{typ: l.value.Type(), text: format(l.value)}, l.flag(), "", l.usage)
		if l.value.Kind() == reflect.Bool {
			f.NoOptDefVal = "true"
		}
	}
	return nil
}

func loadFlags(leaves []leaf, fs *pflag.FlagSet) error {
	if fs == nil {
		return nil
	}
	var errs []error
	for _, l := range leaves {
		f := fs.Lookup(l.flag())
		if f == nil || !f.Changed {
			continue
		}
		text := f.Value.String()
		if own, ok := f.Value.(*flagValue); ok {
			text = own.text
		}
		if err := l.setText(text); err != nil {
			errs = append(errs, &Error{Source: "flags", Key: "--" + f.Name, Reason: err.Error()})
		}
	}
	return errors.Join(errs...)
}

// flagValue keeps what was given; lists and maps gather over repeated flags.
type flagValue struct {
	typ  reflect.Type
	text string
	set  bool
}

// String is what --help shows as default.
func (v *flagValue) String() string { return v.text }

// Type names the type in --help.
func (v *flagValue) Type() string { return typeName(v.typ) }

// Set takes one occurrence of the flag.
func (v *flagValue) Set(text string) error {
	if err := setText(reflect.New(v.typ).Elem(), text); err != nil {
		return err
	}
	if v.set && (v.typ.Kind() == reflect.Slice || v.typ.Kind() == reflect.Map) {
		text = v.text + "," + text
	}
	v.text, v.set = text, true
	return nil
}

// format writes a value as setText reads it.
func format(v reflect.Value) string {
	if d, ok := reflect.TypeAssert[time.Duration](v); ok {
		return d.String()
	}
	switch v.Kind() {
	case reflect.Slice:
		items := make([]string, v.Len())
		for i := range items {
			items[i] = v.Index(i).String()
		}
		return strings.Join(items, ",")
	case reflect.Map:
		pairs := map[string]string{}
		for _, key := range v.MapKeys() {
			pairs[key.String()] = v.MapIndex(key).String()
		}
		items := make([]string, 0, len(pairs))
		for _, key := range slices.Sorted(maps.Keys(pairs)) {
			items = append(items, key+"="+pairs[key])
		}
		return strings.Join(items, ",")
	default:
		return fmt.Sprint(v.Interface())
	}
}
