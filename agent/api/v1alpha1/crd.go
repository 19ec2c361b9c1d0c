package v1alpha1

import _ "embed" // for the CRD

//go:embed crd.yaml
var crd []byte

// CRD returns the CustomResourceDefinition in YAML.
func CRD() []byte { return append([]byte(nil), crd...) }
