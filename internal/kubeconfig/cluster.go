package kubeconfig

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"net/netip"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// hostForm is what a name may consist of; an address of IPv6 is parsed as such.
var hostForm = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,252}[A-Za-z0-9])?$`)

// readCluster takes the server and its authority.
func (f *file) readCluster(c *Config, o Options) error {
	at := "clusters[" + clip(c.Cluster) + "]"
	entry, err := find(f.Clusters, "clusters", c.Cluster)
	if err != nil {
		return err
	}
	if entry == nil || entry.Cluster == nil {
		return refuse(at, "is what the context %q names, and it is not in the file; send what `kubectl config view --minify --flatten --raw` prints", clip(c.Context))
	}
	s, at := entry.Cluster, at+".cluster"
	c.Server, c.ServerName, c.Insecure, c.AuthorityPEM = s.Server, s.ServerName, s.Insecure, s.AuthorityData
	errs := []error{checkServer(at+".server", s.Server, o.Addresses)}
	if s.ServerName != "" && !hostForm.MatchString(s.ServerName) {
		errs = append(errs, refuse(at+".tls-server-name", "%q is not a host name; correct it", clip(s.ServerName)))
	}
	if s.ProxyURL != "" {
		errs = append(errs, refuse(at+".proxy-url", "names a proxy, and the hub goes to the API server directly; remove it, or install the agent from a machine that uses the proxy"))
	}
	if s.Authority != "" {
		errs = append(errs, refuse(at+".certificate-authority", "is a path on the machine that the file comes from; put the certificate into the file: kubectl config view --minify --flatten --raw"))
	}
	switch {
	case s.Insecure && !o.AllowInsecure:
		errs = append(errs, refuse(at+".insecure-skip-tls-verify",
			"is true, so anybody on the way could take these credentials and this cluster; put the server's authority into certificate-authority-data, or ask for the insecure way explicitly"))
	case s.Insecure && len(s.AuthorityData) > 0:
		errs = append(errs, refuse(at+".insecure-skip-tls-verify", "is true although certificate-authority-data is there; keep one of the two"))
	case len(s.AuthorityData) > 0:
		errs = append(errs, checkAuthority(at+".certificate-authority-data", s.AuthorityData, o.Now))
	}
	return errors.Join(errs...)
}

func checkServer(field, server string, allowed Addresses) error {
	if server == "" {
		return refuse(field, "is empty; give the URL of the API server, https://host:6443")
	}
	u, err := url.Parse(server)
	if err != nil || len(server) > 2048 || u.Host == "" || u.Opaque != "" {
		return refuse(field, "is not a URL; give that of the API server, https://host:6443")
	}
	switch {
	case u.User != nil:
		return refuse(field, "holds a user name; credentials belong into users")
	case u.Scheme != "https":
		return refuse(field, "%q is not https; without TLS the credentials would travel in the open", clip(u.Scheme+"://"+u.Host))
	case u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return refuse(field, "has a query or a fragment; give only https://host:port/path")
	}
	if port := u.Port(); port != "" {
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 {
			return refuse(field, "has the port %q, which is not a number from 1 to 65535", clip(port))
		}
	}
	host := u.Hostname()
	if ip, err := netip.ParseAddr(host); err == nil {
		if err := allowed.Check(ip); err != nil {
			return refuse(field, "%s", err.Error())
		}
		return nil
	}
	if !hostForm.MatchString(host) {
		return refuse(field, "has the host %q, which is neither a name nor an address", clip(host))
	}
	if strings.EqualFold(host, "localhost") || strings.HasSuffix(strings.ToLower(host), ".localhost") {
		if err := allowed.Check(netip.AddrFrom4([4]byte{127, 0, 0, 1})); err != nil {
			return refuse(field, "%s", err.Error())
		}
	}
	return nil
}

func checkAuthority(field string, text []byte, now time.Time) error {
	certs, ok := certificates(text)
	if !ok || len(certs) == 0 {
		return refuse(field, "holds no certificate in PEM; send what `kubectl config view --minify --flatten --raw` prints")
	}
	var newest time.Time
	for _, cert := range certs {
		if cert.NotAfter.After(newest) {
			newest = cert.NotAfter
		}
	}
	if now.After(newest) {
		return refuse(field, "ended at %s; take a new kubeconfig from the cluster", newest.UTC().Format(time.RFC3339))
	}
	return nil
}

// certificates decodes a PEM bundle; anything in it that is no certificate
// makes it wrong.
func certificates(text []byte) (certs []*x509.Certificate, ok bool) {
	for {
		var block *pem.Block
		block, text = pem.Decode(text)
		if block == nil {
			return certs, len(strings.TrimSpace(string(text))) == 0
		}
		if block.Type != "CERTIFICATE" {
			return nil, false
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, false
		}
		certs = append(certs, cert)
	}
}
