package agent

import (
	"crypto/x509"
	"fmt"
	"net/url"
	"os"
	"strings"
)

// readProxy completes the proxy's URL with its credentials, and reads its CA.
func readProxy(cfg ProxyConfig) (proxy string, roots *x509.CertPool, err error) {
	if cfg.HTTPS == "" {
		return "", nil, nil
	}
	u, err := url.Parse(cfg.HTTPS)
	if err != nil {
		return "", nil, fmt.Errorf("proxy.https is not a URL") // the cause would repeat the value
	}
	if cfg.CredentialsFile != "" {
		data, err := os.ReadFile(cfg.CredentialsFile)
		if err != nil {
			return "", nil, fmt.Errorf("proxy.credentialsFile: %w", err)
		}
		user, password, ok := strings.Cut(strings.TrimSpace(string(data)), ":")
		if !ok || user == "" {
			return "", nil, fmt.Errorf("proxy.credentialsFile %s does not hold user:password", cfg.CredentialsFile)
		}
		u.User = url.UserPassword(user, password)
	}
	if cfg.CAFile != "" {
		data, err := os.ReadFile(cfg.CAFile)
		if err != nil {
			return "", nil, fmt.Errorf("proxy.caFile: %w", err)
		}
		// An image without certificates of its own has no system pool.
		if roots, err = x509.SystemCertPool(); err != nil {
			roots = x509.NewCertPool()
		}
		if !roots.AppendCertsFromPEM(data) {
			return "", nil, fmt.Errorf("proxy.caFile %s holds no certificate in PEM", cfg.CAFile)
		}
	}
	return u.String(), roots, nil
}
