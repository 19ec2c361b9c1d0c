package kubeconfig

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/budecosystem/budcluster/internal/secret"
)

// tokenRemedy is how anybody who may use the cluster gets a credential that
// stands in the file itself.
const tokenRemedy = "make a kubeconfig with a token instead: kubectl create serviceaccount, bind it to cluster-admin for the time of the installation, and kubectl create token" //nolint:gosec // a sentence

// readUser takes the credential.
func (f *file) readUser(c *Config, o Options) error {
	at := "users[" + clip(c.User) + "]"
	entry, err := find(f.Users, "users", c.User)
	if err != nil {
		return err
	}
	if entry == nil || entry.User == nil {
		return refuse(at, "is what the context %q names, and it is not in the file; send what `kubectl config view --minify --flatten --raw` prints", clip(c.Context))
	}
	u, at := entry.User, at+".user"
	if err := u.checkForeign(at); err != nil {
		return err
	}
	c.Token = secret.New(strings.TrimSpace(u.Token))
	c.ClientCertificatePEM, c.ClientKeyPEM = u.CertificateData, secret.New(string(u.KeyData))
	hasCert, hasKey := len(u.CertificateData) > 0, len(u.KeyData) > 0
	var errs []error
	switch {
	case hasCert != hasKey:
		errs = append(errs, refuse(at, "has only one of client-certificate-data and client-key-data; both are needed"))
	case hasCert:
		end, err := checkPair(at, u, o.Now)
		c.Expires = end
		errs = append(errs, err)
	case c.Token.IsZero():
		errs = append(errs, refuse(at, "has no credential; it needs a token, or client-certificate-data with client-key-data"))
	}
	if !c.Token.IsZero() {
		end, err := checkToken(at+".token", c.Token.Reveal(), o.Now)
		if !end.IsZero() && (c.Expires.IsZero() || end.Before(c.Expires)) {
			c.Expires = end
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// checkForeign refuses every way to a credential that leads out of the file.
func (u *user) checkForeign(at string) error {
	var errs []error
	no := func(bad bool, field, format string, args ...any) {
		if bad {
			errs = append(errs, refuse(at+"."+field, format, args...))
		}
	}
	if u.Exec != nil {
		no(true, "exec", "runs %q on the machine that uses the file, and the hub runs no program of others; %s", clip(u.Exec.Command), tokenRemedy)
	}
	if u.AuthProvider != nil {
		no(true, "auth-provider", "%q fetches credentials from elsewhere, which Kubernetes itself has dropped; %s", clip(u.AuthProvider.Name), tokenRemedy)
	}
	const flatten = "is a path on the machine that the file comes from; put the content into the file: kubectl config view --minify --flatten --raw"
	no(u.TokenFile != "", "tokenFile", "is a path on the machine that the file comes from; put the token into the file as token")
	no(u.Certificate != "", "client-certificate", flatten)
	no(u.Key != "", "client-key", flatten)
	no(u.Username != "" || u.Password != "", "username", "is a login by password, which no Kubernetes since 1.19 accepts; %s", tokenRemedy)
	no(u.As != "" || u.AsUID != "" || given(u.AsGroups) || given(u.AsExtra), "as", "acts in the name of another; use a credential of the one who installs")
	return errors.Join(errs...)
}

func given(raw json.RawMessage) bool {
	text := strings.TrimSpace(string(raw))
	return text != "" && text != "null" && text != "[]" && text != "{}"
}

func checkPair(at string, u *user, now time.Time) (end time.Time, err error) {
	pair, err := tls.X509KeyPair(u.CertificateData, u.KeyData)
	if err != nil { // its text is not passed on: it may quote
		return end, refuse(at+".client-certificate-data", "and client-key-data are not a certificate and its key in PEM; send what `kubectl config view --minify --flatten --raw` prints")
	}
	leaf := pair.Leaf
	if leaf == nil {
		if leaf, err = x509.ParseCertificate(pair.Certificate[0]); err != nil {
			return end, refuse(at+".client-certificate-data", "cannot be read as a certificate; take a new kubeconfig from the cluster")
		}
	}
	return leaf.NotAfter, checkTimes(at+".client-certificate-data", leaf.NotBefore, leaf.NotAfter, now)
}

func checkTimes(field string, begin, end, now time.Time) error {
	switch {
	case !end.IsZero() && !now.Before(end):
		return refuse(field, "ended at %s; take a new kubeconfig from the cluster", end.UTC().Format(time.RFC3339))
	case now.Before(begin):
		return refuse(field, "is good from %s on only; check the clock of the hub, or wait", begin.UTC().Format(time.RFC3339))
	default:
		return nil
	}
}

// checkToken looks at what a token says of itself; most are JSON Web Tokens.
func checkToken(field, token string, now time.Time) (end time.Time, err error) {
	for _, r := range token {
		if r <= ' ' || r > '~' {
			return end, refuse(field, "holds a space, a line break or a character that no token has; copy it again")
		}
	}
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return end, nil
	}
	raw, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return end, nil //nolint:nilerr // some other kind of token
	}
	var claims struct {
		Exp *float64 `json:"exp"`
	}
	if err := json.Unmarshal(raw, &claims); err != nil || claims.Exp == nil {
		return end, nil //nolint:nilerr // some other kind of token
	}
	const endOfTime = 253402300799 // the last second of the year 9999
	if *claims.Exp < 0 || *claims.Exp > endOfTime {
		return end, nil
	}
	end = time.Unix(int64(*claims.Exp), 0).UTC()
	return end, checkTimes(field, time.Time{}, end, now)
}
