// Package kubeconfig reads the one form of kubeconfig that a program may use
// on behalf of somebody else: everything that is needed stands in the file,
// and nothing in it makes the reader run a program, open a file or talk to a
// third party.
//
//	bytes ──► YAML, no key twice ──► current context ─┬─► cluster ──► address, authority
//	                                                  └─► user ─────► token or certificate
//	                     every doubt is a sentence: field, value, remedy
//
// It is pure and knows no Kubernetes library, so that the hub can check an
// upload before anything is contacted; the agent's installer reads the same
// bytes with the same code, so the two cannot understand different things.
//
// What somebody uploads is foreign input, and its server is an address that
// the uploader chose. Addresses says which of them may be dialed; it is asked
// here for addresses that stand in the file, and again by the dialer for those
// that a name resolves to.
//
// No error holds a value that could be a secret: of the YAML it names the line,
// of credentials only the field.
package kubeconfig

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"time"

	"sigs.k8s.io/yaml"

	"github.com/budecosystem/budcluster/internal/secret"
)

// MaxSize bounds a file; one of a fleet of clusters has some 100 KiB.
const MaxSize = 1 << 20

// Config is what is needed to talk to one cluster.
type Config struct {
	// Context, Cluster and User are the names of what was chosen.
	Context, Cluster, User string
	// Server is the URL of the API server, https always.
	Server string
	// ServerName is what its certificate must be for, when not the URL's host.
	ServerName string
	// AuthorityPEM signs the server's certificate; empty means the system's.
	AuthorityPEM []byte
	// Insecure means that the server is not authenticated at all.
	Insecure bool
	// Token, or the pair of ClientCertificatePEM and ClientKeyPEM, or both.
	Token                secret.String
	ClientCertificatePEM []byte
	ClientKeyPEM         secret.String
	// Expires is when the credential ends; zero when it does not say.
	Expires time.Time
}

// Secrets lists what must not show anywhere.
func (c *Config) Secrets() []string {
	var all []string
	for _, s := range []secret.String{c.Token, c.ClientKeyPEM} {
		if !s.IsZero() {
			all = append(all, s.Reveal())
		}
	}
	return all
}

// Options are what a file alone cannot say.
type Options struct {
	// Now judges what expires.
	Now time.Time
	// AllowInsecure accepts insecure-skip-tls-verify.
	AllowInsecure bool
	// Addresses says which servers may be dialed.
	Addresses Addresses
}

// Error refuses one field.
type Error struct {
	// Field is the path as kubectl's users know it, e.g. clusters[prod].cluster.server.
	Field string
	// Message reads on from the field: the value, and the remedy.
	Message string
}

// Error is the field and the message.
func (e *Error) Error() string { return e.Field + ": " + e.Message }

// Errors lists every Error in err's tree, in order.
func Errors(err error) []*Error {
	if one, ok := err.(*Error); ok { //nolint:errorlint // walks the tree itself
		return []*Error{one}
	}
	if many, ok := err.(interface{ Unwrap() []error }); ok {
		var all []*Error
		for _, e := range many.Unwrap() {
			all = append(all, Errors(e)...)
		}
		return all
	}
	if err == nil {
		return nil
	}
	return Errors(errors.Unwrap(err))
}

func refuse(field, format string, args ...any) error {
	return &Error{Field: field, Message: fmt.Sprintf(format, args...)}
}

// Parse reads a file and checks all of it that will be used. Its error joins
// an *Error for everything that is wrong.
func Parse(data []byte, o Options) (*Config, error) {
	f, err := decode(data)
	if err != nil {
		return nil, err
	}
	chosen, err := f.choose()
	if err != nil {
		return nil, err
	}
	c := &Config{Context: f.CurrentContext, Cluster: chosen.Cluster, User: chosen.User}
	err = errors.Join(f.readCluster(c, o), f.readUser(c, o))
	if err != nil {
		return nil, err
	}
	return c, nil
}

// lineForm finds where in the YAML a mistake is.
var lineForm = regexp.MustCompile(`line \d+`)

func decode(data []byte) (*file, error) {
	if len(data) > MaxSize {
		return nil, refuse("kubeconfig", "has %d bytes and may have %d; keep only the one cluster: kubectl config view --minify --flatten", len(data), MaxSize)
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return nil, refuse("kubeconfig", "is empty; send what `kubectl config view --minify --flatten --raw` prints")
	}
	// What the parser quotes of the file could be a secret; the line is enough.
	plain, err := yaml.YAMLToJSONStrict(data)
	if err != nil {
		at := lineForm.FindString(err.Error())
		if at == "" {
			at = "somewhere"
		}
		return nil, refuse("kubeconfig", "is not valid YAML, or has a key twice (%s); send what `kubectl config view --minify --flatten --raw` prints", at)
	}
	var f file
	dec := json.NewDecoder(bytes.NewReader(plain))
	if err := dec.Decode(&f); err != nil {
		return nil, undecodable(err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, refuse("kubeconfig", "holds more than one document; send one")
	}
	if f.Kind != "" && f.Kind != "Config" || f.APIVersion != "" && f.APIVersion != "v1" {
		return nil, refuse("kind", "%q of apiVersion %q is no kubeconfig, which is kind Config of apiVersion v1", clip(f.Kind), clip(f.APIVersion))
	}
	return &f, nil
}

// undecodable names the field of the wrong type, and not what stood there.
func undecodable(err error) error {
	if wrong, ok := errors.AsType[*json.UnmarshalTypeError](err); ok && wrong.Field != "" {
		return refuse(wrong.Field, "is not of the type that a kubeconfig has there; text that looks like a number must be quoted")
	}
	return refuse("kubeconfig", "is not a kubeconfig; send what `kubectl config view --minify --flatten --raw` prints")
}

// clip shortens a foreign value for a sentence.
func clip(s string) string {
	const most = 80
	if runes := []rune(s); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return s
}
