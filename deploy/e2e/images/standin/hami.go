package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// hamiScheduler holds the Lease and answers the webhook: every pod may pass as
// it is.
func hamiScheduler(ctx context.Context, k *kube, args []string) error {
	if err := k.lease(ctx, "hami-scheduler"); err != nil {
		return err
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(http.ResponseWriter, *http.Request) {})
	mux.HandleFunc("POST /webhook", func(w http.ResponseWriter, r *http.Request) {
		var review object
		if err := json.NewDecoder(r.Body).Decode(&review); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(object{
			"apiVersion": review["apiVersion"], "kind": review["kind"],
			"response": map[string]any{"uid": review.text("request", "uid"), "allowed": true},
		})
	})
	server := &http.Server{Addr: ":9443", Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	folder := strings.Join(args, "")
	if err := server.ListenAndServeTLS(folder+"/tls.crt", folder+"/tls.key"); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// hamiDevicePlugin writes what HAMi's plugin writes on its node. The resource
// itself is offered by the container beside it.
func hamiDevicePlugin(ctx context.Context, k *kube, _ []string) error {
	node, err := k.get(ctx, "/api/v1/nodes/"+k.node)
	if err != nil {
		return err
	}
	product, memory, number := gpuOf(node)
	count, err := strconv.Atoi(number)
	if err != nil {
		return err
	}
	memoryMiB, err := strconv.Atoi(memory)
	if err != nil {
		return err
	}
	devices := make([]map[string]any, count)
	for i := range devices {
		devices[i] = map[string]any{
			"id": fmt.Sprintf("GPU-%08d-0000-4000-8000-000000000000", i), "index": i, "count": 10, "devmem": memoryMiB, "devcore": 100,
			"type": "NVIDIA-" + product, "mode": "hami-core", "health": true,
		}
	}
	register, err := json.Marshal(devices)
	if err != nil {
		return err
	}
	return k.mark(ctx, node, "annotations", map[string]any{
		"hami.io/node-nvidia-register": string(register), "hami.io/node-handshake": "Reported",
	})
}

// certgen is the job that makes the webhook's certificate, and the one that
// tells the webhook whom to trust.
func certgen(ctx context.Context, k *kube, args []string) error {
	if len(args) != 4 {
		return errors.New("use certgen create|patch SECRET HOST WEBHOOK")
	}
	secrets := "/api/v1/namespaces/" + k.namespace + "/secrets"
	if args[0] == "create" {
		if _, err := k.get(ctx, secrets+"/"+args[1]); !is(err, http.StatusNotFound) {
			return err
		}
		cert, key, err := selfSigned(args[2])
		if err != nil {
			return err
		}
		return k.create(ctx, secrets, object{
			"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": args[1]},
			"data": map[string]any{"ca.crt": cert, "tls.crt": cert, "tls.key": key},
		})
	}
	secret, err := k.get(ctx, secrets+"/"+args[1])
	if err != nil {
		return err
	}
	path := "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/" + args[3]
	webhook, err := k.get(ctx, path)
	if err != nil {
		return err
	}
	hooks, _ := webhook["webhooks"].([]any)
	for _, hook := range hooks {
		if config, ok := object(hook.(map[string]any))["clientConfig"].(map[string]any); ok {
			config["caBundle"] = secret.at("data", "ca.crt")
		}
	}
	_, err = k.do(ctx, http.MethodPut, path, "application/json", webhook)
	return err
}

func selfSigned(host string) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: host}, DNSNames: []string{host},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, err
	}
	raw, err := x509.MarshalECPrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "EC PRIVATE KEY", Bytes: raw}), nil
}
