// Package mirror shows clusters to the platform's other services, in their
// form: what a cluster is, has and can take now.
package mirror
