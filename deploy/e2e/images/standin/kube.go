package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"time"
)

// object is any object of the API.
type object map[string]any

// at walks down the keys; missing is nil.
func (o object) at(keys ...string) any {
	var value any = map[string]any(o)
	for _, key := range keys {
		inner, ok := value.(map[string]any)
		if !ok {
			return nil
		}
		value = inner[key]
	}
	return value
}

func (o object) text(keys ...string) string {
	s, _ := o.at(keys...).(string)
	return s
}

func (o object) yes(keys ...string) bool {
	b, _ := o.at(keys...).(bool)
	return b
}

func (o object) number(keys ...string) float64 {
	n, _ := o.at(keys...).(float64)
	return n
}

func (o object) name() string { return o.text("metadata", "name") }

func (o object) labels() map[string]any {
	m, _ := o.at("metadata", "labels").(map[string]any)
	return m
}

func (o object) annotation(key string) string {
	s, _ := o.at("metadata", "annotations", key).(string)
	return s
}

// kube speaks with the API server as the pod's service account: a hundred
// lines, where a client library would make the image ten times as large.
type kube struct {
	base, token, namespace, node string
	client                       *http.Client
}

const account = "/var/run/secrets/kubernetes.io/serviceaccount/"

func inCluster() (*kube, error) {
	var files [3]string
	for i, name := range []string{"token", "ca.crt", "namespace"} {
		text, err := os.ReadFile(account + name)
		if err != nil {
			return nil, err
		}
		files[i] = strings.TrimSpace(string(text))
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM([]byte(files[1])) {
		return nil, errors.New("the service account has no certificate of the API server")
	}
	return &kube{
		base:  "https://" + net.JoinHostPort(os.Getenv("KUBERNETES_SERVICE_HOST"), os.Getenv("KUBERNETES_SERVICE_PORT")),
		token: files[0], namespace: files[2], node: os.Getenv("NODE_NAME"),
		client: &http.Client{Timeout: 15 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}},
	}, nil
}

// statusError is an answer that is not a success.
type statusError struct {
	code int
	what string
}

func (e *statusError) Error() string { return e.what }

func is(err error, code int) bool {
	var status *statusError
	return errors.As(err, &status) && status.code == code
}

func (k *kube) do(ctx context.Context, method, path, contentType string, body any) (object, error) {
	var in io.Reader
	if body != nil {
		raw, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		in = bytes.NewReader(raw)
	}
	request, err := http.NewRequestWithContext(ctx, method, k.base+path, in)
	if err != nil {
		return nil, err
	}
	request.Header.Set("Authorization", "Bearer "+k.token)
	request.Header.Set("Content-Type", contentType)
	response, err := k.client.Do(request)
	if err != nil {
		return nil, err
	}
	defer func() { _ = response.Body.Close() }()
	var out object
	if err := json.NewDecoder(response.Body).Decode(&out); err != nil {
		return nil, fmt.Errorf("%s %s: %s: %w", method, path, response.Status, err)
	}
	if response.StatusCode >= http.StatusBadRequest {
		return nil, &statusError{response.StatusCode, fmt.Sprintf("%s %s: %s", method, path, out.text("message"))}
	}
	return out, nil
}

func (k *kube) get(ctx context.Context, path string) (object, error) {
	return k.do(ctx, http.MethodGet, path, "application/json", nil)
}

func (k *kube) list(ctx context.Context, path string) ([]object, error) {
	out, err := k.get(ctx, path)
	if err != nil {
		return nil, err
	}
	items, _ := out["items"].([]any)
	all := make([]object, 0, len(items))
	for _, item := range items {
		if m, ok := item.(map[string]any); ok {
			all = append(all, m)
		}
	}
	return all, nil
}

// create makes an object; one that is there stays.
func (k *kube) create(ctx context.Context, path string, o object) error {
	if _, err := k.do(ctx, http.MethodPost, path, "application/json", o); err != nil && !is(err, http.StatusConflict) {
		return err
	}
	return nil
}

// apply makes an object be so.
func (k *kube) apply(ctx context.Context, path string, o object) error {
	_, err := k.do(ctx, http.MethodPatch, path+"/"+o.name()+"?force=true&fieldManager=standin", "application/apply-patch+yaml", o)
	return err
}

func (k *kube) merge(ctx context.Context, path string, patch object) error {
	_, err := k.do(ctx, http.MethodPatch, path, "application/merge-patch+json", patch)
	return err
}

func (k *kube) remove(ctx context.Context, path string) error {
	if _, err := k.do(ctx, http.MethodDelete, path, "application/json", nil); err != nil && !is(err, http.StatusNotFound) {
		return err
	}
	return nil
}

// mark makes labels or annotations of a node be so; nil takes one off. What is
// so already is not written.
func (k *kube) mark(ctx context.Context, node object, kind string, want map[string]any) error {
	have, _ := node.at("metadata", kind).(map[string]any)
	patch := map[string]any{}
	for key, value := range want {
		if now, ok := have[key]; ok != (value != nil) || ok && now != value {
			patch[key] = value
		}
	}
	if len(patch) == 0 {
		return nil
	}
	fmt.Println("node", node.name(), kind, strings.Join(slices.Sorted(maps.Keys(patch)), " "))
	return k.merge(ctx, "/api/v1/nodes/"+node.name(), object{"metadata": map[string]any{kind: patch}})
}

// lease leaves what leader election leaves.
func (k *kube) lease(ctx context.Context, name string) error {
	return k.create(ctx, "/apis/coordination.k8s.io/v1/namespaces/"+k.namespace+"/leases", object{
		"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": map[string]any{"name": name},
		"spec": map[string]any{"holderIdentity": os.Getenv("HOSTNAME"), "leaseDurationSeconds": 15},
	})
}

// Annotations of nodes by which a test says what they pretend.
const (
	annotationPCI  = "e2e.budcluster.test/pci"
	annotationGPU  = "e2e.budcluster.test/gpu"
	annotationFail = "fail.e2e.budcluster.test/"
)

// failing is the error that this node has in store for a part.
func (k *kube) failing(ctx context.Context, part string) error {
	if k.node == "" {
		return nil
	}
	node, err := k.get(ctx, "/api/v1/nodes/"+k.node)
	if err != nil {
		return nil //nolint:nilerr // a part that may not look does not fail by it
	}
	if reason := node.annotation(annotationFail + part); reason != "" {
		return errors.New(reason)
	}
	return nil
}
