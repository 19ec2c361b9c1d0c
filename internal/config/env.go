package config

import (
	"errors"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// serviceLink matches the variables that Kubernetes sets for each Service of a
// pod's namespace: a Service named like our prefix must not stop the program.
var serviceLink = regexp.MustCompile(`_(SERVICE_HOST|SERVICE_PORT(_[A-Z0-9_]+)?|PORT(_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)?)$`)

func loadEnv(leaves []leaf, src Source) error {
	if src.EnvPrefix == "" {
		return nil
	}
	byName := map[string]leaf{}
	for _, l := range leaves {
		byName[l.env(src.EnvPrefix)] = l
	}
	var errs []error
	for _, entry := range src.Env {
		name, value, _ := strings.Cut(entry, "=")
		if !strings.HasPrefix(name, src.EnvPrefix+"_") {
			continue
		}
		if l, ok := byName[name]; ok {
			if err := l.setText(value); err != nil {
				errs = append(errs, &Error{Source: "environment", Key: name, Reason: err.Error()})
			}
			continue
		}
		if ignored(name, src.IgnoreEnv) || serviceLink.MatchString(name) {
			continue
		}
		errs = append(errs, &Error{
			Source: "environment", Key: name,
			Reason: "there is no such setting; " + nearest(name, slices.Sorted(maps.Keys(byName))),
		})
	}
	return errors.Join(errs...)
}

func ignored(name string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if prefix, ok := strings.CutSuffix(p, "*"); ok {
			return strings.HasPrefix(name, prefix)
		}
		return name == p
	})
}
