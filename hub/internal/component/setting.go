package component

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// Settings are what a hub's configuration says of components, by the names
// that the entries give, such as NFD_NAMESPACE.
type Settings map[string]string

// With returns the catalogue with the settings applied. A setting that no entry
// knows is an error; an empty one changes nothing.
func (c *Catalogue) With(settings Settings) (*Catalogue, error) {
	out := &Catalogue{byName: maps.Clone(c.byName), order: c.order}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(settings)) {
		value := settings[name]
		if value == "" {
			continue
		}
		if err := out.set(name, value); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", clip(name), err))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return out, nil
}

// SettingNames lists the settings that the entries know.
func (c *Catalogue) SettingNames() []string {
	var names []string
	for _, entry := range c.byName {
		names = slices.AppendSeq(names, maps.Keys(entry.Settings))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (c *Catalogue) set(name, value string) error {
	known := false
	for _, entry := range c.Components() {
		field, ok := entry.Settings[name]
		if !ok {
			continue
		}
		known = true
		changed := *entry
		if err := changed.setField(field, value); err != nil {
			return err
		}
		if err := changed.validate(); err != nil {
			return err
		}
		c.byName[entry.Name] = &changed
	}
	if !known {
		return fmt.Errorf("no component knows it; known are %s", strings.Join(c.SettingNames(), ", "))
	}
	return nil
}

func (c *Component) setField(field SettingField, value string) error {
	if field == SettingNamespace {
		c.Namespace = value
		return nil
	}
	d, err := parseDuration(value)
	if err != nil {
		return err
	}
	if field == SettingTimeout {
		c.Timeout = d
		return nil
	}
	c.Ready = slices.Clone(c.Ready)
	for i := range c.Ready {
		if c.Ready[i].NodeFeatures {
			c.Ready[i].Within = d
		}
	}
	return nil
}
