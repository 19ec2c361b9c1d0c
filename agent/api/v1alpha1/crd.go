package v1alpha1

import _ "embed" // for the CRD

//go:embed crd.yaml
var crd []byte //nolint:gochecknoglobals // embed needs a package variable; CRD hands out copies

// CRD returns the CustomResourceDefinition in YAML.
func CRD() []byte { return append([]byte(nil), crd...) }
