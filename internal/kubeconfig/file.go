package kubeconfig

import (
	"encoding/json"
	"slices"
	"strings"
)

// file is a kubeconfig as it is written. What is not here is not read: it
// neither helps nor harms.
type file struct {
	APIVersion     string          `json:"apiVersion"`
	Kind           string          `json:"kind"`
	CurrentContext string          `json:"current-context"`
	Contexts       []named[access] `json:"contexts"`
	Clusters       []named[server] `json:"clusters"`
	Users          []named[user]   `json:"users"`
}

// named is an entry of a list. Its value has a key of its own in each list, of
// which one is there.
type named[T any] struct {
	Name    string `json:"name"`
	Context *T     `json:"context"`
	Cluster *T     `json:"cluster"`
	User    *T     `json:"user"`
}

type access struct {
	Cluster string `json:"cluster"`
	User    string `json:"user"`
}

type server struct {
	Server        string `json:"server"`
	ServerName    string `json:"tls-server-name"`
	Insecure      bool   `json:"insecure-skip-tls-verify"`
	Authority     string `json:"certificate-authority"`
	AuthorityData []byte `json:"certificate-authority-data"`
	ProxyURL      string `json:"proxy-url"`
}

type user struct {
	Token           string          `json:"token"`
	TokenFile       string          `json:"tokenFile"`
	Certificate     string          `json:"client-certificate"`
	CertificateData []byte          `json:"client-certificate-data"`
	Key             string          `json:"client-key"`
	KeyData         []byte          `json:"client-key-data"`
	Username        string          `json:"username"`
	Password        string          `json:"password"`
	As              string          `json:"as"`
	AsUID           string          `json:"as-uid"`
	AsGroups        json.RawMessage `json:"as-groups"`
	AsExtra         json.RawMessage `json:"as-user-extra"`
	Exec            *struct {
		Command string `json:"command"`
	} `json:"exec"`
	AuthProvider *struct {
		Name string `json:"name"`
	} `json:"auth-provider"`
}

// choose finds the current context.
func (f *file) choose() (*access, error) {
	var names []string
	for _, c := range f.Contexts {
		names = append(names, c.Name)
	}
	switch {
	case len(f.Contexts) == 0:
		return nil, refuse("contexts", "is empty, so there is no cluster; send what `kubectl config view --minify --flatten --raw` prints")
	case f.CurrentContext == "":
		return nil, refuse("current-context", "is not set; name one of the file's contexts (%s), or send one file for each cluster", list(names))
	}
	entry, err := find(f.Contexts, "contexts", f.CurrentContext)
	if err != nil {
		return nil, err
	}
	if entry == nil {
		return nil, refuse("current-context", "%q is none of the file's contexts (%s); correct it", clip(f.CurrentContext), list(names))
	}
	at := "contexts[" + clip(f.CurrentContext) + "].context"
	if entry.Context == nil || entry.Context.Cluster == "" || entry.Context.User == "" {
		return nil, refuse(at, "must name a cluster and a user of this file")
	}
	return entry.Context, nil
}

// find looks a name up; nil is not there. Twice is an error: kubectl takes the
// first, others the last.
func find[T any](all []named[T], list, name string) (*named[T], error) {
	first := slices.IndexFunc(all, func(n named[T]) bool { return n.Name == name })
	if first < 0 {
		return nil, nil //nolint:nilnil // not there is an answer
	}
	if slices.ContainsFunc(all[first+1:], func(n named[T]) bool { return n.Name == name }) {
		return nil, refuse(list+"["+clip(name)+"]", "is there twice; keep one of them")
	}
	return &all[first], nil
}

func list(names []string) string {
	const most = 5
	var b strings.Builder
	for i, n := range names {
		if i == most {
			b.WriteString(", …")
			break
		}
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString(clip(n))
	}
	return b.String()
}
